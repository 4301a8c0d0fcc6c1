{{- define "rabbitmq.secretName" -}}
{{- .Values.auth.existingSecret | default (include "rabbitmq.name" (list . "rabbitmq")) -}}
{{- end -}}
