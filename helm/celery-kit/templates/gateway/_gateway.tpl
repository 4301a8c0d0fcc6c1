{{- define "celery-kit.catalogue" -}}
{{- dict "tasks" .Values.gateway.catalogue | toYaml -}}
{{- end -}}
