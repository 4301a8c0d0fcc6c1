{{- /* Where the stores are: the release's own or the user's. */ -}}
{{- define "celery-kit.rabbitmqSecret" -}}
{{- if .Values.rabbitmq.enabled -}}
{{- .Values.rabbitmq.auth.existingSecret | default (include "celery-kit.name" (list . "rabbitmq")) -}}
{{- else -}}
{{- .Values.rabbitmq.external.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.vhost" -}}
{{- .Values.rabbitmq.enabled | ternary "/" .Values.rabbitmq.external.vhost -}}
{{- end -}}

{{- define "celery-kit.brokerUrl" -}}
{{- $vhost := include "celery-kit.vhost" . | urlquery | replace "+" "%20" -}}
{{- if .Values.rabbitmq.enabled -}}
amqp://{{ include "celery-kit.name" (list . "rabbitmq") }}:5672/{{ $vhost }}
{{- else -}}
amqp://{{ .Values.rabbitmq.external.host }}:{{ .Values.rabbitmq.external.port }}/{{ $vhost }}
{{- end -}}
{{- end -}}

{{- define "celery-kit.managementUrl" -}}
{{- if .Values.rabbitmq.enabled -}}
http://{{ include "celery-kit.name" (list . "rabbitmq") }}:15672
{{- else -}}
{{- .Values.rabbitmq.external.managementUrl | trimSuffix "/" -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.mysqlSecret" -}}
{{- if .Values.mysql.enabled -}}
{{- .Values.mysql.auth.existingSecret | default (include "celery-kit.name" (list . "mysql")) -}}
{{- else -}}
{{- .Values.mysql.external.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.databaseUrl" -}}
{{- if .Values.mysql.enabled -}}
mysql://{{ include "celery-kit.name" (list . "mysql") }}:3306/{{ .Values.mysql.database }}
{{- else -}}
mysql://{{ .Values.mysql.external.host }}:{{ .Values.mysql.external.port }}/{{ .Values.mysql.external.database }}
{{- end -}}
{{- end -}}

{{- define "celery-kit.prometheusUrl" -}}
{{- .Values.autoscaler.prometheusUrl | default (printf "http://%s:9090" (include "celery-kit.name" (list . "prometheus"))) -}}
{{- end -}}

{{- /* A variable from a key of a Secret, from (list VARIABLE SECRET KEY). */ -}}
{{- define "celery-kit.secretVariable" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end -}}

{{- define "celery-kit.databaseVariables" -}}
- name: CELERYKIT_DATABASE_URL
  value: {{ include "celery-kit.databaseUrl" . }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_DATABASE_USERNAME" (include "celery-kit.mysqlSecret" .) "username") }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_DATABASE_PASSWORD" (include "celery-kit.mysqlSecret" .) "password") }}
{{- end -}}

{{- /* The variables of every program that speaks Celery. */ -}}
{{- define "celery-kit.storeVariables" -}}
- name: CELERYKIT_BROKER_URL
  value: {{ include "celery-kit.brokerUrl" . }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_BROKER_USERNAME" (include "celery-kit.rabbitmqSecret" .) "username") }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_BROKER_PASSWORD" (include "celery-kit.rabbitmqSecret" .) "password") }}
{{ include "celery-kit.databaseVariables" . }}
{{- end -}}

{{- /* The init container that waits for the database and brings its tables up to date, from (list . IMAGE RESOURCES). */ -}}
{{- define "celery-kit.schemaContainer" -}}
- name: schema {{- include "celery-kit.container" (list (index . 0) (index . 1)) | nindent 2 }}
  command: [python, -m, celerykit.schema, upgrade, --wait=600]
  env: {{- include "celery-kit.databaseVariables" (index . 0) | nindent 4 }}
  resources: {{- toYaml (index . 2) | nindent 4 }}
{{- end -}}
