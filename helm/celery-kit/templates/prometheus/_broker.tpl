{{- /* Where the bundled Prometheus finds each RabbitMQ node; empty if it cannot. */ -}}
{{- define "celery-kit.brokerTarget" -}}
{{- $given := .Values.rabbitmq.external.metricsUrl -}}
{{- $url := urlParse $given -}}
{{- $host := regexReplaceAll ":[0-9]+$" $url.host "" -}}
{{- if .Values.rabbitmq.enabled -}}
dns_sd_configs:
  - {names: [{{ include "celery-kit.name" (list . "rabbitmq-headless") }}], type: A, port: 15692, refresh_interval: 5s}
{{- else if $given -}}
{{- if eq $url.scheme "https" -}}
scheme: https
tls_config:
  server_name: {{ $host }}
{{ end -}}
{{- if regexMatch "^[0-9.]+$|]$" $host -}}
static_configs:
  - targets: ["{{ $host }}:{{ include "celery-kit.urlPort" $given }}"]
{{- else -}}
dns_sd_configs:
  - {names: [{{ $host }}], type: A, port: {{ include "celery-kit.urlPort" $given }}, refresh_interval: 5s}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.brokerMetricsPath" -}}
{{- (urlParse (.Values.rabbitmq.enabled | ternary "" .Values.rabbitmq.external.metricsUrl)).path | trimSuffix "/" -}}/metrics
{{- end -}}
