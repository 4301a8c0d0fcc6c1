{{- /* What the autoscaler does. YAML reads a bare `off` as false. */ -}}
{{- define "celery-kit.autoscalerMode" -}}
{{- if and .Values.autoscaler.mode (ne (get .Values.autoscaler "enabled" | toString) "false") -}}
{{- .Values.autoscaler.mode -}}
{{- else -}}
off
{{- end -}}
{{- end -}}

{{- /*
The pools as JSON, by name, each with what it does not say itself filled in from `worker`, and with
  autoscaled   whether the autoscaler knows it: to set its number, or to tell others what to set
  scaler       what sets its number: autoscaler, keda, hpa, or nothing where the chart does
  downWindow   seconds that KEDA or an HPA looks back before it takes workers away, if nobody advises it
*/ -}}
{{- define "celery-kit.pools" -}}
{{- $mode := include "celery-kit.autoscalerMode" . -}}
{{- $pools := dict -}}
{{- range $name, $own := .Values.worker.pools -}}
{{- $pool := mergeOverwrite (deepCopy (omit $.Values.worker "auth" "pools")) (deepCopy $own) -}}
{{- /* null takes an amount of `worker` away; Kubernetes would read it as 0 */ -}}
{{- range $amounts := $pool.resources -}}
{{- range $resource, $amount := $amounts -}}
{{- if kindIs "invalid" $amount }}{{ $_ := unset $amounts $resource }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $pool "name" $name -}}
{{- $ours := eq $pool.autoscale.scaler "autoscaler" -}}
{{- $_ := set $pool "autoscaled" (and $pool.autoscale.enabled (ne $mode "off") (or $ours (eq $mode "advise"))) -}}
{{- $_ := set $pool "scaler" (and $pool.autoscale.enabled (not (and $ours (eq $mode "off"))) | ternary $pool.autoscale.scaler "") -}}
{{- /* Helm 3 keeps a null, Helm 4 does not */ -}}
{{- $window := index $pool.autoscale "downWindowSeconds" -}}
{{- if kindIs "invalid" $window }}{{ $_ := unset $pool.autoscale "downWindowSeconds" }}{{ end -}}
{{- $_ := set $pool "downWindow" (kindIs "invalid" $window | ternary 60 $window) -}}
{{- if not $pool.terminationGracePeriodSeconds -}}
{{- $_ := set $pool "terminationGracePeriodSeconds" (add $pool.taskTimeLimitSeconds 60) -}}
{{- end -}}
{{- $_ := set $pools $name $pool -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{- /* The names of the pools that the autoscaler knows, as JSON. */ -}}
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

{{- /* The labels of a pool's objects, from (list . POOL). */ -}}
{{- define "celery-kit.poolLabels" -}}
{{ include "celery-kit.labels" (list (index . 0) "worker") }}
celery-kit/pool: {{ index . 1 | quote }}
{{- end -}}

{{- /* What selects a pool's pods, from (list . POOL). */ -}}
{{- define "celery-kit.poolSelector" -}}
{{ include "celery-kit.selector" (list (index . 0) "worker") }}
celery-kit/pool: {{ index . 1 | quote }}
{{- end -}}
