{{- define "hustings.voters" -}}
{{- range $i, $_ := .Values.nodes.voter.certificates -}}
{{ if $i }},{{ end }}{{ $.Release.Name }}-voter-{{ $i }}.{{ template "hustings.domain" $ }}:{{ $.Values.port }}
{{- end -}}
{{- end -}}

{{- define "hustings.domain" -}}
{{ .Release.Name }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end -}}
