{{- /* Whom pods of this release may call, as egress rules. Each takes the values of networkPolicy. */ -}}

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
