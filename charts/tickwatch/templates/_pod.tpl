{{- /* What every pod of this chart has in common, whichever role it plays. */ -}}

{{- define "tickwatch.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tickwatch.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "tickwatch.imagePullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* Where a pod may run. Takes the role's values. */ -}}
{{- define "tickwatch.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "tickwatch.topologySpread" -}}
topologySpreadConstraints:
  {{- with .values.topologySpreadConstraints }}
  {{- toYaml . | nindent 2 }}
  {{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tickwatch.selectorLabels" . | nindent 8 }}
  {{- end }}
{{- end -}}

{{- /*
Environment variables, each name once: server-side apply refuses a list with a name twice. Takes a list of maps
(`env`), of which later ones replace earlier ones of the same name, and the user's list (`extra`), which replaces all.
*/ -}}
{{- define "tickwatch.env" -}}
{{- $chosen := dict -}}
{{- range concat .env (default (list) .extra) -}}
{{- $_ := set $chosen .name . -}}
{{- end -}}
{{- range $name := keys $chosen | sortAlpha }}
- {{ get $chosen $name | toYaml | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{- /*
The settings, the store's token for who calls the store, and what a server or a client of servers needs where they ask
who calls. Each takes root, storeless, service (of a server) and client.
*/ -}}
{{- define "tickwatch.volumeMounts" -}}
- {name: config, mountPath: /etc/tickwatch, readOnly: true}
{{- if not .storeless }}
- {name: store-token, mountPath: /run/secrets/tickwatch/store, readOnly: true}
{{- end }}
{{- if include "tickwatch.secured" .root }}
{{- if .service }}
- {name: server, mountPath: /run/secrets/tickwatch/server, readOnly: true}
{{- else if .client }}
- {name: client, mountPath: /run/secrets/tickwatch/client, readOnly: true}
{{- end }}
{{- end }}
{{- end -}}

{{- define "tickwatch.volumes" -}}
- name: config
  configMap:
    name: {{ include "tickwatch.fullname" .root }}
{{- if not .storeless }}
- name: store-token
  secret:
    secretName: {{ include "tickwatch.tokenSecret" .root }}
    defaultMode: 0440
    items:
      - key: {{ include "tickwatch.tokenKey" .root }}
        path: token
{{- end }}
{{- if include "tickwatch.secured" .root }}
{{- if .service }}
{{ include "tickwatch.serverVolume" .root }}
{{- else if .client }}
{{ include "tickwatch.clientVolume" (dict "root" .root "withToken" .root.Values.gateway.anonymous) }}
{{- end }}
{{- end }}
{{- end -}}

{{- /*
What a probe calls: of a gRPC server the port for health alone, which neither TLS nor a full server closes to it. Takes a
role as below, and asks: liveness or readiness.
*/ -}}
{{- define "tickwatch.probe" -}}
{{- if .service -}}
grpc: {port: 50061, service: {{ ternary "liveness" .service (eq .asks "liveness") }}}
{{- else -}}
httpGet: {port: {{ .portName }}, path: {{ ternary "/healthz" "/readyz" (eq .asks "liveness") }}}
{{- end -}}
{{- end -}}

{{- /*
The pod of a role that serves. Takes root, role, values, port, portName, env, and service, its gRPC name, where it serves
gRPC. With callsApiServer it has a token for the API server; with storeless it has none for the store; with client it
calls the servers.
*/ -}}
{{- define "tickwatch.serverPod" -}}
metadata:
  labels:
    {{- include "tickwatch.labels" . | nindent 4 }}
    {{- with .values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .role }}
    checksum/config: {{ include (print .root.Template.BasePath "/configmap.yaml") .root | sha256sum }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "tickwatch.serviceAccountName" . }}
  automountServiceAccountToken: {{ default false .callsApiServer }}
  # Variables such as TICKWATCH_QUERY_PORT, which links would set, read like settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .values.terminationGracePeriodSeconds }}
  {{- include "tickwatch.imagePullSecrets" .root | nindent 2 }}
  securityContext:
    {{- include "tickwatch.podSecurityContext" .root | nindent 4 }}
  {{- include "tickwatch.topologySpread" . | nindent 2 }}
  {{- include "tickwatch.scheduling" .values | nindent 2 }}
  containers:
    - name: {{ .role }}
      {{- include "tickwatch.image" .root | nindent 6 }}
      args: [{{ .role }}]
      env:
        {{- include "tickwatch.env" (dict "env" .env "extra" .values.extraEnv) | nindent 8 }}
      ports:
        - {name: {{ .portName }}, containerPort: {{ .port }}}
        {{- if .service }}
        - {name: health, containerPort: 50061}
        {{- end }}
        {{- if .root.Values.metrics.enabled }}
        - {name: metrics, containerPort: 9464}
        {{- end }}
      # Readiness follows what the role depends on, liveness the process alone: no store that is away gets pods killed.
      startupProbe:
        {{- include "tickwatch.probe" (set . "asks" "liveness") | nindent 8 }}
        periodSeconds: 1
        failureThreshold: 60
      readinessProbe:
        {{- include "tickwatch.probe" (set . "asks" "readiness") | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 2
      livenessProbe:
        {{- include "tickwatch.probe" (set . "asks" "liveness") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      resources:
        {{- toYaml .values.resources | nindent 8 }}
      securityContext:
        {{- include "tickwatch.securityContext" .root | nindent 8 }}
      volumeMounts:
        {{- include "tickwatch.volumeMounts" . | nindent 8 }}
  volumes:
    {{- include "tickwatch.volumes" . | nindent 4 }}
{{- end -}}

{{- define "tickwatch.appProtocol" -}}
{{- if not .service -}}http{{- else -}}{{ ternary "https" "kubernetes.io/h2c" (eq (include "tickwatch.secured" .root) "true") }}{{- end -}}
{{- end -}}

{{- /* The two Services of a role that serves: one address, and one that names every pod. */ -}}
{{- define "tickwatch.services" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "tickwatch.metadata" (dict "root" .root "role" .role "name" .name "annotations" .values.service.annotations) | nindent 2 }}
spec:
  type: {{ .values.service.type }}
  selector:
    {{- include "tickwatch.selectorLabels" . | nindent 4 }}
  ports:
    - {name: {{ .portName }}, port: {{ .values.service.port }}, targetPort: {{ .portName }}, appProtocol: {{ include "tickwatch.appProtocol" . }}}
---
# Names every pod: for clients that balance by themselves, and for Prometheus.
apiVersion: v1
kind: Service
metadata:
  {{- include "tickwatch.metadata" (dict "root" .root "role" .role "name" (printf "%s-headless" .name) "labels" (dict "tickwatch.dev/service" "headless")) | nindent 2 }}
spec:
  clusterIP: None
  selector:
    {{- include "tickwatch.selectorLabels" . | nindent 4 }}
  ports:
    - {name: {{ .portName }}, port: {{ .port }}, targetPort: {{ .portName }}, appProtocol: {{ include "tickwatch.appProtocol" . }}}
    {{- if .root.Values.metrics.enabled }}
    - {name: metrics, port: 9464, targetPort: metrics}
    {{- end }}
{{- end -}}

{{- define "tickwatch.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "tickwatch.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.pdb.maxUnavailable }}
  # Pods that are not ready, as all are while the store is away, keep no node from being drained.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "tickwatch.selectorLabels" . | nindent 6 }}
{{- end -}}
