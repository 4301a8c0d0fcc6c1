{{- /* The components that have metrics and rules, as JSON: what is off is not missed. */ -}}
{{- define "celery-kit.monitored" -}}
{{- $parts := list -}}
{{- range list "gateway" "worker" "autoscaler" "flower" -}}
{{- if include "celery-kit.runs" (list $ .) }}{{ $parts = append $parts . }}{{ end -}}
{{- end -}}
{{- if or .Values.rabbitmq.enabled .Values.rabbitmq.external.metricsUrl }}{{ $parts = append $parts "rabbitmq" }}{{ end -}}
{{- if and .Values.mysql.enabled .Values.mysql.exporter.enabled }}{{ $parts = append $parts "mysql" }}{{ end -}}
{{- toJson $parts -}}
{{- end -}}

{{- /* The files of rules about what there is, as JSON, by component; those of `prometheus` are about its targets. */ -}}
{{- define "celery-kit.rules" -}}
{{- $files := dict -}}
{{- range append (include "celery-kit.monitored" . | fromJsonArray) "prometheus" -}}
{{- $path := printf "files/rules/%s.yaml" . -}}
{{- with $.Files.Get $path }}{{ $_ := set $files (base $path | trimSuffix ".yaml") $path }}{{ end -}}
{{- end -}}
{{- toJson $files -}}
{{- end -}}

{{- /* A file of rules, from (list . PATH). In a shared Prometheus the autoscaler of another release must not hide that ours is absent. */ -}}
{{- define "celery-kit.rulesText" -}}
{{- $root := index . 0 -}}
{{- $page := "docs/runbook.md" -}}
{{- $text := $root.Files.Get (index . 1) | replace $page ($root.Values.monitoring.runbookUrl | default $page) -}}
{{- if eq $root.Values.monitoring.mode "operator" -}}
{{- $deployments := list -}}
{{- range include "celery-kit.autoscaledPools" $root | fromJsonArray -}}
{{- $deployments = append $deployments (include "celery-kit.poolName" (list $root .)) -}}
{{- end -}}
{{- $own := printf "deployment=~%q,deployment_namespace=%q" (join "|" $deployments) $root.Release.Namespace -}}
{{- $text = replace "absent(autoscaler_desired_replicas)" (printf "absent(autoscaler_desired_replicas{%s})" $own) $text -}}
{{- end -}}
{{- $text -}}
{{- end -}}

{{- /* Labels of what the operator of the user's Prometheus, or their Grafana, is to find, from (list . COMPONENT [MORE]). */ -}}
{{- define "celery-kit.monitorLabels" -}}
{{- $own := include "celery-kit.labels" (list (index . 0) (index . 1)) | fromYaml -}}
{{- if gt (len .) 2 }}{{ $own = merge (index . 2) $own }}{{ end -}}
{{- merge (deepCopy (index . 0).Values.monitoring.labels) $own | toYaml -}}
{{- end -}}

{{- /* What is read where, from (list . JOB PORT [PATH]): the job's name is what rules and dashboards look for. */ -}}
{{- define "celery-kit.endpoint" -}}
{{- $interval := int (index . 0).Values.monitoring.intervalSeconds -}}
port: {{ index . 2 }}
{{- if gt (len .) 3 }}
path: {{ index . 3 }}
{{- end }}
interval: {{ $interval }}s
scrapeTimeout: {{ max 1 (sub $interval 1) }}s
relabelings:
  - {targetLabel: job, replacement: {{ index . 1 }}}
{{- end -}}

{{- /* Labels by which a shared Prometheus tells this release's broker from others, as JSON. */ -}}
{{- define "celery-kit.brokerLabels" -}}
{{- $labels := deepCopy .Values.autoscaler.prometheusLabels -}}
{{- if and (eq .Values.monitoring.mode "operator") .Values.rabbitmq.enabled -}}
{{- $labels = merge $labels (dict "job" "kit-rabbitmq" "namespace" .Release.Namespace "service" (include "celery-kit.name" (list . "rabbitmq-headless"))) -}}
{{- end -}}
{{- toJson $labels -}}
{{- end -}}

{{- /* Labels by which a shared Prometheus tells this release's workers from others, as JSON. */ -}}
{{- define "celery-kit.workerLabels" -}}
{{- $labels := deepCopy .Values.autoscaler.workerLabels -}}
{{- if eq .Values.monitoring.mode "operator" -}}
{{- $labels = merge $labels (dict "job" "kit-worker" "namespace" .Release.Namespace "release" .Release.Name) -}}
{{- end -}}
{{- toJson $labels -}}
{{- end -}}

{{- /* What is read of each queue. Prometheus refuses all of RabbitMQ 4.0.0 to 4.0.2 with the last, and a broker elsewhere may be one. */ -}}
{{- define "celery-kit.brokerFamilies" -}}
[queue_coarse_metrics, queue_consumer_count, queue_delivery_metrics{{ if .Values.rabbitmq.enabled }}, queue_exchange_metrics{{ end }}]
{{- end -}}

{{- define "celery-kit.monitoringChecks" -}}
{{- $mode := .Values.monitoring.mode -}}
{{- range list "prometheus" "grafana" -}}
{{- if and (ne $mode "bundled") (index $.Values .).enabled -}}
{{- fail (printf "%s.enabled: must be false where monitoring.mode is %s" . $mode) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.grafana.enabled (not .Values.prometheus.enabled) (not .Values.grafana.prometheusUrl) -}}
{{- fail "grafana.prometheusUrl: is required where prometheus.enabled is false; or set grafana.enabled to false" -}}
{{- end -}}
{{- end -}}
