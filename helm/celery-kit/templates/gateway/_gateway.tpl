{{- /* Whether clients may call the example task task.echo: "true" or nothing. */ -}}
{{- define "celery-kit.echoes" -}}
{{- with .Values.gateway.catalogue -}}
{{- if dig "task.echo" "allowed" (hasKey . "task.echo") . }}true{{ end -}}
{{- else -}}
true
{{- end -}}
{{- end -}}

{{- define "celery-kit.catalogue" -}}
{{- dict "tasks" .Values.gateway.catalogue | toYaml -}}
{{- end -}}
