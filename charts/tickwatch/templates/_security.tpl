{{- /* Who may call query and alerter, and how this release's own clients show who they are. */ -}}

{{- /* "true" where the servers ask who calls, else nothing. */ -}}
{{- define "tickwatch.secured" -}}
{{- if .Values.security.tls.existingSecret -}}true{{- end -}}
{{- end -}}

{{- /* "true" where callers show tokens, static ones or those of service accounts. */ -}}
{{- define "tickwatch.asksForTokens" -}}
{{- if or .Values.security.tokens.existingSecret .Values.security.serviceAccounts.enabled -}}true{{- end -}}
{{- end -}}

{{- /* The settings below `server`, as YAML. */ -}}
{{- define "tickwatch.serverSettings" -}}
{{- $security := .Values.security -}}
{{- $folder := "/run/secrets/tickwatch/server" -}}
{{- $server := dict -}}
{{- if include "tickwatch.secured" . -}}
{{- $tls := dict "certificate_file" (print $folder "/tls.crt") "key_file" (print $folder "/tls.key") -}}
{{- with $security.clientCertificates -}}
{{- if .caSecret -}}
{{- $_ := set $tls "client_ca_file" (print $folder "/client-ca.crt") -}}
{{- $_ := set $tls "client_admins" .admins -}}
{{- end -}}
{{- end -}}
{{- $_ := set $server "tls" $tls -}}
{{- if $security.tokens.existingSecret -}}
{{- $_ := set $server "tokens_file" (print $folder "/tokens.yaml") -}}
{{- end -}}
{{- with $security.serviceAccounts -}}
{{- if .enabled -}}
{{- $own := printf "%s/%s" $.Release.Namespace (include "tickwatch.serviceAccountName" (dict "root" $ "role" "")) -}}
{{- $_ := set $server "service_accounts" (dict "audience" .audience "readers" (append .readers $own | uniq) "admins" .admins) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- $_ := set $server "insecure" true -}}
{{- end -}}
{{- /* Streams are calls too. The product's own limit is kept where it leaves room for others. */ -}}
{{- $streams := max (int .Values.query.maxStreams) (int .Values.alerter.maxStreams) -}}
{{- if and (not (dig "server" "max_calls" "" .Values.settings)) (gt (int (mul 2 $streams)) 8192) -}}
{{- $_ := set $server "max_calls" (int (mul 2 $streams)) -}}
{{- end -}}
{{- toYaml $server -}}
{{- end -}}

{{- /* What the gateway shows to the servers, as YAML; its own token only where it reads for those who have none. */ -}}
{{- define "tickwatch.gatewayCredentials" -}}
{{- $folder := "/run/secrets/tickwatch/client" -}}
{{- $credentials := dict "tls" true -}}
{{- if .Values.security.tls.caKey -}}
{{- $_ := set $credentials "ca_file" (print $folder "/ca.crt") -}}
{{- end -}}
{{- if .Values.security.clientCertificates.caSecret -}}
{{- $_ := set $credentials "certificate_file" (print $folder "/tls.crt") -}}
{{- $_ := set $credentials "key_file" (print $folder "/tls.key") -}}
{{- end -}}
{{- if and .Values.gateway.anonymous (include "tickwatch.asksForTokens" .) -}}
{{- $_ := set $credentials "token_file" (print $folder "/token") -}}
{{- end -}}
{{- toYaml $credentials -}}
{{- end -}}

{{- /* The variables by which a command of ours knows the same, as YAML. */ -}}
{{- define "tickwatch.clientVariables" -}}
{{- $folder := "/run/secrets/tickwatch/client" -}}
- {name: TICKWATCH_TLS, value: "true"}
{{- if .Values.security.tls.caKey }}
- {name: TICKWATCH_CA, value: {{ $folder }}/ca.crt}
{{- end }}
{{- if .Values.security.clientCertificates.caSecret }}
- {name: TICKWATCH_CERT, value: {{ $folder }}/tls.crt}
- {name: TICKWATCH_KEY, value: {{ $folder }}/tls.key}
{{- end }}
{{- if include "tickwatch.asksForTokens" . }}
- {name: TICKWATCH_TOKEN_FILE, value: {{ $folder }}/token}
{{- end }}
{{- end -}}

{{- /* The files of a server. They are projected, so that what is renewed arrives without a restart. */ -}}
{{- define "tickwatch.serverVolume" -}}
{{- $security := .Values.security -}}
- name: server
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ $security.tls.existingSecret }}
          items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
      {{- with $security.clientCertificates.caSecret }}
      - secret:
          name: {{ . }}
          items: [{key: ca.crt, path: client-ca.crt}]
      {{- end }}
      {{- with $security.tokens }}
      {{- if .existingSecret }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .key }}, path: tokens.yaml}]
      {{- end }}
      {{- end }}
{{- end -}}

{{- /* The files of a client of the servers; never the servers' key. Takes root and withToken. */ -}}
{{- define "tickwatch.clientVolume" -}}
{{- $security := .root.Values.security -}}
- name: client
  projected:
    defaultMode: 0440
    sources:
      {{- with $security.tls }}
      {{- if .caKey }}
      - secret:
          name: {{ .existingSecret }}
          items: [{key: {{ .caKey }}, path: ca.crt}]
      {{- end }}
      {{- end }}
      {{- with $security.clientCertificates }}
      {{- if .caSecret }}
      - secret:
          name: {{ .ownSecret }}
          items: [{key: tls.crt, path: tls.crt}, {key: tls.key, path: tls.key}]
      {{- end }}
      {{- end }}
      {{- if not .withToken }}
      {{- else if $security.serviceAccounts.enabled }}
      - serviceAccountToken: {path: token, audience: {{ $security.serviceAccounts.audience | quote }}, expirationSeconds: 3600}
      {{- else if $security.tokens.existingSecret }}
      - secret:
          name: {{ $security.tokens.existingSecret }}
          items: [{key: {{ $security.tokens.ownKey }}, path: token}]
      {{- end }}
{{- end -}}

{{- /* What does not fit together. */ -}}
{{- define "tickwatch.securityChecks" -}}
{{- $security := .Values.security -}}
{{- $certificates := $security.clientCertificates -}}
{{- $tokens := include "tickwatch.asksForTokens" . -}}
{{- if not $security.tls.existingSecret -}}
{{- range $value, $set := dict "security.tokens.existingSecret" $security.tokens.existingSecret "security.serviceAccounts.enabled" $security.serviceAccounts.enabled "security.clientCertificates.caSecret" $certificates.caSecret -}}
{{- if $set -}}
{{- fail (printf "%s needs security.tls.existingSecret: without TLS tokens go in plain text, and nobody shows a certificate. Set it to a Secret with tls.crt, tls.key and ca.crt." $value) -}}
{{- end -}}
{{- end -}}
{{- else if not (or $tokens $certificates.caSecret) -}}
{{- fail "security.tls.existingSecret alone encrypts, and asks nobody who calls. Set one of security.serviceAccounts.enabled=true, security.tokens.existingSecret, security.clientCertificates.caSecret." -}}
{{- end -}}
{{- if and $certificates.caSecret (not $certificates.ownSecret) -}}
{{- fail "security.clientCertificates.caSecret needs security.clientCertificates.ownSecret: a Secret with tls.crt and tls.key that these authorities have signed, which helm test and the gateway show." -}}
{{- end -}}
{{- if and $certificates.admins (or $tokens (not $certificates.caSecret)) -}}
{{- fail "security.clientCertificates.admins holds where clients' certificates are asked for and tokens are not; elsewhere the token decides, or nobody shows a certificate." -}}
{{- end -}}
{{- if and .Values.gateway.enabled $certificates.caSecret (not $tokens) (not .Values.gateway.anonymous) -}}
{{- fail "The gateway hands on tokens, and cannot hand on certificates: all who reach it would read as the gateway. Say so by gateway.anonymous=true, or ask for tokens too (security.serviceAccounts.enabled=true or security.tokens.existingSecret)." -}}
{{- end -}}
{{- range $key := list "tls" "tokens_file" "service_accounts" "insecure" -}}
{{- if hasKey (dig "server" dict $.Values.settings) $key -}}
{{- fail (printf "settings.server.%s is the chart's own: set what is below security." $key) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "credentials" "insecure" -}}
{{- if hasKey (dig "gateway" dict $.Values.settings) $key -}}
{{- fail (printf "settings.gateway.%s is the chart's own: set gateway.anonymous, and what is below security." $key) -}}
{{- end -}}
{{- end -}}
{{- with dig "server" "max_calls" "" .Values.settings -}}
{{- range $role := list "query" "alerter" -}}
{{- $streams := int (index $.Values $role).maxStreams -}}
{{- if ge $streams (int $.Values.settings.server.max_calls) -}}
{{- fail (printf "settings.server.max_calls (%d) must be above %s.maxStreams (%d): streams are calls too, and others need room." (int $.Values.settings.server.max_calls) $role $streams) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
