{{- /* Whom pods of this release may call, as egress rules. The first three take the values of networkPolicy. */ -}}

{{- define "tickwatch.dnsEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end -}}

{{- define "tickwatch.apiServerEgress" -}}
- ports:
    {{- range .apiServerPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with .apiServer }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "tickwatch.internetEgress" -}}
- to:
    {{- toYaml .internet | nindent 4 }}
  ports:
    - {protocol: TCP, port: 443}
    - {protocol: TCP, port: 80}
{{- end -}}

{{- /* To this release's query service and alerter. Takes the root. */ -}}
{{- define "tickwatch.serversEgress" -}}
- to:
    - podSelector:
        matchLabels:
          {{- include "tickwatch.selectorLabels" (dict "root" . "role" "query") | nindent 10 }}
  ports:
    - {protocol: TCP, port: 50051}
{{- if .Values.alerter.enabled }}
- to:
    - podSelector:
        matchLabels:
          {{- include "tickwatch.selectorLabels" (dict "root" . "role" "alerter") | nindent 10 }}
  ports:
    - {protocol: TCP, port: 50052}
{{- end }}
{{- end -}}
