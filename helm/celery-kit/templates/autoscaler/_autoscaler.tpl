{{- /* What the autoscaler reads at its start only; the rest of its file it reads again when it changes. */ -}}
{{- define "celery-kit.autoscalerFixed" -}}
{{- $deployments := dict -}}
{{- range include "celery-kit.autoscaledPools" . | fromJsonArray -}}
{{- $_ := set $deployments . (include "celery-kit.poolName" (list $ .)) -}}
{{- end -}}
mode: {{ include "celery-kit.autoscalerMode" . }}
prometheusUrl: {{ include "celery-kit.prometheusUrl" . }}
{{- with include "celery-kit.brokerLabels" . | fromJson }}
prometheusLabels: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "celery-kit.workerLabels" . | fromJson }}
workerLabels: {{- toYaml . | nindent 2 }}
{{- end }}
actuator:
  kind: kubernetes
  namespace: {{ .Release.Namespace | quote }}
  lease: {{ include "celery-kit.name" (list . "autoscaler") }}
  workerPort: 8001
  deployments: {{- toYaml $deployments | nindent 4 }}
{{- end -}}

{{- define "celery-kit.autoscalerPools" -}}
{{- $pools := dict -}}
{{- range $name, $pool := include "celery-kit.pools" . | fromJson -}}
{{- if .autoscaled -}}
{{- $keys := pick $pool "queues" "concurrency" "poolType" -}}
{{- $_ := set $keys "vhost" (include "celery-kit.vhost" $) -}}
{{- $_ := set $keys "autoscale" (omit $pool.autoscale "enabled" "scaler") -}}
{{- $_ := set $pools $name $keys -}}
{{- end -}}
{{- end -}}
tickSeconds: {{ .Values.autoscaler.tickSeconds }}
worker:
  pools: {{- toYaml $pools | nindent 4 }}
{{- end -}}
