{{- define "grafana.secretName" -}}
{{- .Values.auth.existingSecret | default (include "grafana.name" (list . "grafana")) -}}
{{- end -}}

{{- define "grafana.datasource" -}}
apiVersion: 1
prune: true
{{- /* alone there is no release's own */}}
{{- with .Values.prometheusUrl | default (.Chart.IsRoot | ternary "" (printf "http://%s:9090" (include "grafana.name" (list . "prometheus")))) }}
datasources:
  - name: Prometheus
    uid: prometheus
    type: prometheus
    access: proxy
    url: {{ . }}
    isDefault: true
    jsonData:
      timeInterval: 5s
{{- end }}
{{ end -}}
