{{- /* Names, labels, images: what every object shares. */ -}}

{{- define "tickwatch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 41 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 41 characters, because a CronJob's name may have 52 and the longest suffix has 11. */ -}}
{{- define "tickwatch.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 41 | trimSuffix "-" -}}
{{- else if contains (include "tickwatch.name" .) .Release.Name -}}
{{- .Release.Name | trunc 41 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tickwatch.name" .) | trunc 41 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Each role that has rights of its own has an identity of its own. Takes root, and role where it is such a role. */ -}}
{{- define "tickwatch.serviceAccountName" -}}
{{- $values := .root.Values.serviceAccount -}}
{{- if $values.create -}}
{{- $name := default (include "tickwatch.fullname" .root) $values.name -}}
{{- ternary (printf "%s-%s" $name .role) $name (has .role (list "collector" "query" "alerter")) -}}
{{- else -}}
{{- default "default" $values.name -}}
{{- end -}}
{{- end -}}

{{- /* What selects a role's pods. Never changes, because selectors are immutable. Takes (dict "root" $ "role" ROLE). */ -}}
{{- define "tickwatch.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tickwatch.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end -}}

{{- define "tickwatch.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "tickwatch.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tickwatch
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Metadata of an object. Takes root, role, name, and optionally labels and annotations of its own. */ -}}
{{- define "tickwatch.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "tickwatch.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default (dict) .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* An image's reference. Takes root and image. */ -}}
{{- define "tickwatch.imageReference" -}}
{{- $registry := default .root.Values.global.imageRegistry .image.registry -}}
{{- $name := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne $registry "") -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "tickwatch.image" -}}
image: {{ include "tickwatch.imageReference" (dict "root" . "image" .Values.image) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "tickwatch.storeUrl" -}}
{{- if .Values.influxdb.enabled -}}
influxdb+http://{{ include "tickwatch.fullname" . }}-influxdb:8086/{{ .Values.influxdb.org }}/{{ .Values.influxdb.bucket }}
{{- else -}}
{{- .Values.store.url -}}
{{- end -}}
{{- end -}}

{{- /* The Secret with the store's token, and the token's key. */ -}}
{{- define "tickwatch.tokenSecret" -}}
{{- if .Values.influxdb.enabled -}}
{{- default (printf "%s-influxdb-auth" (include "tickwatch.fullname" .)) .Values.influxdb.existingSecret -}}
{{- else -}}
{{- .Values.store.existingSecret.name -}}
{{- end -}}
{{- end -}}

{{- define "tickwatch.tokenKey" -}}
{{- ternary "token" .Values.store.existingSecret.key .Values.influxdb.enabled -}}
{{- end -}}

{{- /* What the schema cannot say in words that help. Included once. */ -}}
{{- define "tickwatch.checks" -}}
{{- if and (not .Values.influxdb.enabled) (not .Values.store.url) -}}
{{- fail "There is no store. Set store.url to an InfluxDB 2 of yours (influxdb+https://HOST/ORG/BUCKET) and store.existingSecret.name to the Secret with its token; or set influxdb.enabled=true for a small one to try out." -}}
{{- end -}}
{{- if and .Values.influxdb.enabled .Values.store.url -}}
{{- fail "There are two stores: influxdb.enabled=true and store.url. Keep one of them." -}}
{{- end -}}
{{- if and .Values.store.url (not .Values.store.existingSecret.name) -}}
{{- fail "store.url needs a token. Make a Secret (kubectl create secret generic NAME --from-literal=token=…) and set store.existingSecret.name=NAME." -}}
{{- end -}}
{{- range $role := list "query" "alerter" "gateway" -}}
{{- $values := index $.Values $role -}}
{{- if lt (int $values.terminationGracePeriodSeconds) (int (add $values.drainSeconds 15)) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds (%d) must be at least %s.drainSeconds plus 15 (%d), or open calls are cut." $role (int $values.terminationGracePeriodSeconds) $role (int (add $values.drainSeconds 15))) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.query.autoscaling.enabled (gt (int .Values.query.autoscaling.minReplicas) (int .Values.query.autoscaling.maxReplicas)) -}}
{{- fail "query.autoscaling.minReplicas is above query.autoscaling.maxReplicas." -}}
{{- end -}}
{{- if and .Values.gateway.ingress.enabled (not .Values.gateway.ingress.host) -}}
{{- fail "gateway.ingress.enabled=true needs gateway.ingress.host." -}}
{{- end -}}
{{- if and .Values.gateway.httpRoute.enabled (not .Values.gateway.httpRoute.parentRefs) -}}
{{- fail "gateway.httpRoute.enabled=true needs gateway.httpRoute.parentRefs: the Gateway that the route belongs to." -}}
{{- end -}}
{{- include "tickwatch.securityChecks" . -}}
{{- end -}}
