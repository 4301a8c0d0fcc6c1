{{- /* What the advice about a pool bears by itself, from (list . POOL), as JSON: a Prometheus may know other releases too. */ -}}
{{- define "celery-kit.adviceLabels" -}}
{{- $root := index . 0 -}}
{{- $name := (index . 1).name -}}
{{- dict "scale_target" $name "deployment" (include "celery-kit.poolName" (list $root $name)) "deployment_namespace" $root.Release.Namespace | toJson -}}
{{- end -}}

{{- /* What KEDA asks Prometheus about a pool, from (list . POOL). Where a series is missing or there twice, the answer is none, which holds. */ -}}
{{- define "celery-kit.scalerQuery" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $matchers := list -}}
{{- if $pool.autoscaled -}}
{{- range $label, $value := include "celery-kit.adviceLabels" . | fromJson -}}
{{- $matchers = append $matchers (printf "%s=%q" $label $value) -}}
{{- end -}}
max(autoscaler_desired_replicas{ {{- join "," $matchers -}} })
{{- else -}}
{{- $queues := list -}}
{{- range $pool.queues }}{{ $queues = append $queues (regexQuoteMeta .) }}{{ end -}}
{{- $matchers = list (printf "vhost=%s,queue=~%s" (include "celery-kit.vhost" $root | toRawJson) (join "|" $queues | toRawJson)) -}}
{{- range $label, $value := include "celery-kit.brokerLabels" $root | fromJson -}}
{{- $matchers = append $matchers (printf "%s=%s" $label (toRawJson $value)) -}}
{{- end -}}
{{- $series := printf "rabbitmq_detailed_queue_messages{%s}" (join "," $matchers) -}}
sum({{ $series }}) and count({{ $series }}) == {{ len $pool.queues }}
{{- end -}}
{{- end -}}

{{- /*
How an HPA, also that of KEDA, moves: the advice is smooth already and is followed at once. Else down to the most
that was needed within the window, once in a cooldown; the limits are those of Kubernetes.
*/ -}}
{{- define "celery-kit.scalerBehavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Pods, value: {{ int .autoscale.maxWorkers }}, periodSeconds: 15}
scaleDown:
  stabilizationWindowSeconds: {{ .autoscaled | ternary 0 (min 3600 (ceil .downWindow)) }}
  policies:
    - {type: Percent, value: 100, periodSeconds: {{ .autoscaled | ternary 15 (max 1 (min 1800 (ceil .autoscale.cooldownSeconds))) }}}
{{- end -}}
