{{- define "grafana.secretName" -}}
{{- .Values.auth.existingSecret | default (include "grafana.name" (list . "grafana")) -}}
{{- end -}}

{{- define "grafana.datasource" -}}
apiVersion: 1
prune: true
datasources:
  - name: Prometheus
    uid: prometheus
    type: prometheus
    access: proxy
    url: {{ .Values.prometheusUrl | default (printf "http://%s:9090" (include "grafana.name" (list . "prometheus"))) }}
    isDefault: true
    jsonData:
      timeInterval: 5s
{{ end -}}
