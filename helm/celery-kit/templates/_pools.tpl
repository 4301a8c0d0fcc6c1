{{- /* The pools as JSON, by name, each with what it does not say itself filled in from `worker`. */ -}}
{{- define "celery-kit.pools" -}}
{{- $pools := dict -}}
{{- range $name, $own := .Values.worker.pools -}}
{{- $pool := mergeOverwrite (deepCopy (omit $.Values.worker "auth" "pools")) (deepCopy $own) -}}
{{- $_ := set $pool "name" $name -}}
{{- $_ := set $pool "autoscaled" (and $.Values.autoscaler.enabled $pool.autoscale.enabled) -}}
{{- if not $pool.terminationGracePeriodSeconds -}}
{{- $_ := set $pool "terminationGracePeriodSeconds" (add $pool.taskTimeLimitSeconds 60) -}}
{{- end -}}
{{- $_ := set $pools $name $pool -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{- /* The names of the pools that the autoscaler owns, as JSON. */ -}}
{{- define "celery-kit.autoscaledPools" -}}
{{- $names := list -}}
{{- range $name, $pool := include "celery-kit.pools" . | fromJson -}}
{{- if $pool.autoscaled }}{{ $names = append $names $name }}{{ end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- /* The name of a pool's objects, from (list . POOL). */ -}}
{{- define "celery-kit.poolName" -}}
{{- include "celery-kit.name" (list (index . 0) (printf "worker-%s" (index . 1))) -}}
{{- end -}}
