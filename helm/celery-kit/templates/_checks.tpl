{{- /* What a schema cannot say: the keys that must fit each other. */ -}}
{{- define "celery-kit.checks" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) -}}
{{- fail (printf "the release's name %q must begin with a letter and have no dots: Services are named by it" .Release.Name) -}}
{{- end -}}
{{- if contains ":" .Values.flower.auth.username -}}
{{- fail "flower.auth.username: must not hold a colon" -}}
{{- end -}}
{{- include "celery-kit.secretsChecks" . -}}
{{- include "celery-kit.tlsChecks" . -}}
{{- include "celery-kit.variableChecks" . -}}
{{- range $store := list "rabbitmq" "mysql" -}}
{{- with index $.Values $store -}}
{{- range $key := list "host" "existingSecret" -}}
{{- if not (or (index $.Values $store).enabled (get (index $.Values $store).external $key)) -}}
{{- fail (printf "%s.external.%s: is required where %s.enabled is false" $store $key $store) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $pools := include "celery-kit.pools" . | fromJson -}}
{{- $asked := false -}}
{{- range $pools -}}
{{- $asked = or $asked .autoscaled (eq .scaler "keda") -}}
{{- end -}}
{{- if and $asked (not (or .Values.prometheus.enabled .Values.autoscaler.prometheusUrl)) -}}
{{- fail "autoscaler.prometheusUrl: is required where prometheus.enabled is false; or set autoscaler.mode to off" -}}
{{- end -}}
{{- if and $asked (not .Values.rabbitmq.enabled) (not .Values.rabbitmq.external.metricsUrl) (not .Values.autoscaler.prometheusUrl) -}}
{{- fail "rabbitmq.external.metricsUrl: is required where rabbitmq.enabled is false, or the release's own Prometheus does not know your broker's queues; or set autoscaler.prometheusUrl to one that does, or autoscaler.mode to off" -}}
{{- end -}}
{{- include "celery-kit.monitoringChecks" . -}}
{{- include "celery-kit.demoChecks" . -}}
{{- range $name, $pool := $pools -}}
{{- $where := printf "worker.pools.%s" $name -}}
{{- range $other, $its := $pools -}}
{{- range $queue := ternary $pool.queues list (and (ne $name $other) (ne $pool.scaler "")) -}}
{{- if has $queue $its.queues -}}
{{- fail (printf "%s.queues: %q is a queue of the pool %s too; its backlog can call for workers of one pool only" $where $queue $other) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $pool.queues -}}
{{- if regexMatch "^(gw\\.|amq\\.|celery_delayed_)|\\.dl[qx]$" . -}}
{{- fail (printf "%s.queues: %q holds no tasks for workers: names may not begin with gw., amq. or celery_delayed_, nor end in .dlq or .dlx" $where .) -}}
{{- end -}}
{{- end -}}
{{- $limit := int $pool.taskTimeLimitSeconds -}}
{{- if lt (int $pool.terminationGracePeriodSeconds) (add $limit 30 | int) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds: %d is too short for a task to end: it must be at least 30 above taskTimeLimitSeconds, which is %d" $where (int $pool.terminationGracePeriodSeconds) $limit) -}}
{{- end -}}
{{- if and $.Values.rabbitmq.enabled (lt (int $.Values.rabbitmq.consumerTimeoutSeconds) (add $limit 60 | int)) -}}
{{- fail (printf "rabbitmq.consumerTimeoutSeconds: %d must be at least 60 above %s.taskTimeLimitSeconds, which is %d, or the broker gives a running task to another worker" (int $.Values.rabbitmq.consumerTimeoutSeconds) $where $limit) -}}
{{- end -}}
{{- if and $pool.maxTasksPerChild (ne $pool.poolType "prefork") -}}
{{- fail (printf "%s.maxTasksPerChild: must be 0 with poolType %s: only prefork has children" $where $pool.poolType) -}}
{{- end -}}
{{- if and (eq $pool.profile "fast") (eq $pool.poolType "gevent") -}}
{{- fail (printf "%s.profile: must be durable with poolType gevent: fast is for short tasks" $where) -}}
{{- end -}}
{{- if and (eq $pool.scaler "hpa") (lt (int $pool.autoscale.minWorkers) 1) -}}
{{- fail (printf "%s.autoscale.minWorkers: must be at least 1 with scaler hpa" $where) -}}
{{- end -}}
{{- if and (eq $pool.scaler "hpa") (not $pool.autoscaled) -}}
{{- range $pool.queues -}}
{{- if not (regexMatch "^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$" .) -}}
{{- fail (printf "%s.queues: %q is no value of a label, by which an HPA finds its metric: set autoscaler.mode to advise" $where .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $pool.autoscale -}}
{{- if gt .minWorkers .maxWorkers -}}
{{- fail (printf "%s.autoscale.minWorkers: %v must not be above maxWorkers, which is %v" $where .minWorkers .maxWorkers) -}}
{{- end -}}
{{- if ge .downThreshold .upThreshold -}}
{{- fail (printf "%s.autoscale.downThreshold: %v must be below upThreshold, which is %v" $where .downThreshold .upThreshold) -}}
{{- end -}}
{{- if le .metricMaxAgeSeconds $.Values.autoscaler.tickSeconds -}}
{{- fail (printf "%s.autoscale.metricMaxAgeSeconds: %v must be above autoscaler.tickSeconds, which is %v" $where .metricMaxAgeSeconds $.Values.autoscaler.tickSeconds) -}}
{{- end -}}
{{- if and $pool.autoscaled (le .metricMaxAgeSeconds $.Values.monitoring.intervalSeconds) -}}
{{- fail (printf "%s.autoscale.metricMaxAgeSeconds: %v must be above monitoring.intervalSeconds, which is %v" $where .metricMaxAgeSeconds $.Values.monitoring.intervalSeconds) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
