{{- /* The collector's pod. Takes root and loop (whether it stays up). */ -}}
{{- define "tickwatch.collectorPod" -}}
{{- $values := .root.Values.collector -}}
{{- $env := list (dict "name" "TICKWATCH_CONFIG" "value" "/etc/tickwatch/tickwatch.yaml") -}}
{{- if not .loop -}}
{{- /* The Job's name ends with the minute for which the run was scheduled, however late the pod starts. */ -}}
{{- $field := dict "fieldRef" (dict "fieldPath" "metadata.labels['batch.kubernetes.io/job-name']") -}}
{{- $env = append $env (dict "name" "TICKWATCH_COLLECTOR__JOB_NAME" "valueFrom" $field) -}}
{{- /* Of how many shards a Job consists is said in the Job itself: the ConfigMap may be a later one's already. */ -}}
{{- $env = append $env (dict "name" "TICKWATCH_COLLECTOR__SHARDS" "value" (toString $values.shards)) -}}
{{- end -}}
metadata:
  labels:
    {{- include "tickwatch.labels" (dict "root" .root "role" "collector") | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: collector
    {{- if .loop }}
    checksum/config: {{ include (print .root.Template.BasePath "/configmap.yaml") .root | sha256sum }}
    {{- end }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tickwatch.serviceAccountName" (dict "root" .root "role" "collector") }}
  automountServiceAccountToken: {{ .root.Values.customResources.markets }}
  enableServiceLinks: false
  {{- if not .loop }}
  restartPolicy: Never
  {{- end }}
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- include "tickwatch.imagePullSecrets" .root | nindent 2 }}
  securityContext:
    {{- include "tickwatch.podSecurityContext" .root | nindent 4 }}
  {{- include "tickwatch.scheduling" $values | nindent 2 }}
  containers:
    - name: collector
      {{- include "tickwatch.image" .root | nindent 6 }}
      args: [collect{{ if .loop }}, --loop{{ end }}]
      env:
        {{- include "tickwatch.env" (dict "env" $env "extra" $values.extraEnv) | nindent 8 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        {{- include "tickwatch.securityContext" .root | nindent 8 }}
      volumeMounts:
        {{- include "tickwatch.volumeMounts" . | nindent 8 }}
  volumes:
    {{- include "tickwatch.volumes" . | nindent 4 }}
{{- end -}}
