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

{{- /* Whether a store speaks nothing but TLS, from (list . STORE): "true" or nothing. */ -}}
{{- define "celery-kit.tls" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- if ($store.enabled | ternary $store $store.external).tls.enabled }}true{{ end -}}
{{- end -}}

{{- /* The Secret with a store's certificate, which cert-manager makes unless it is given, from (list . STORE). */ -}}
{{- define "celery-kit.tlsSecret" -}}
{{- $store := index . 1 -}}
{{- (index (index . 0).Values $store).tls.existingSecret | default (include "celery-kit.name" (list (index . 0) (printf "%s-tls" $store))) -}}
{{- end -}}

{{- /* The Secret whose ca.crt the clients of a store trust, from (list . STORE); empty for the system's CAs. */ -}}
{{- define "celery-kit.caSecret" -}}
{{- $store := index (index . 0).Values (index . 1) -}}
{{- if include "celery-kit.tls" . -}}
{{- if $store.enabled -}}
{{- include "celery-kit.tlsSecret" . -}}
{{- else -}}
{{- $store.external.tls.caSecret -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.caFile" -}}
/etc/tls/{{ . }}/ca.crt
{{- end -}}

{{- /* The volumes of the CAs that clients of stores trust, from (list . STORE…); empty if there is none. */ -}}
{{- define "celery-kit.storeVolumes" -}}
{{- $volumes := list -}}
{{- range $store := rest . -}}
{{- with include "celery-kit.caSecret" (list (index $ 0) $store) -}}
{{- $items := list (dict "key" "ca.crt" "path" "ca.crt") -}}
{{- $volumes = append $volumes (dict "name" (printf "%s-ca" $store) "secret" (dict "secretName" . "items" $items)) -}}
{{- end -}}
{{- end -}}
{{- with $volumes }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- /* Where these volumes are mounted, from (list . STORE…). */ -}}
{{- define "celery-kit.storeMounts" -}}
{{- $mounts := list -}}
{{- range $store := rest . -}}
{{- if include "celery-kit.caSecret" (list (index $ 0) $store) -}}
{{- $mounts = append $mounts (dict "name" (printf "%s-ca" $store) "mountPath" (include "celery-kit.caFile" $store | dir) "readOnly" true) -}}
{{- end -}}
{{- end -}}
{{- with $mounts }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{- define "celery-kit.brokerUrl" -}}
{{- $vhost := include "celery-kit.vhost" . | urlquery | replace "+" "%20" -}}
{{- $tls := include "celery-kit.tls" (list . "rabbitmq") -}}
{{- $port := empty $tls | ternary 5672 5671 -}}
{{- empty $tls | ternary "amqp" "amqps" -}}
{{- if .Values.rabbitmq.enabled -}}
://{{ include "celery-kit.name" (list . "rabbitmq") }}:{{ $port }}/{{ $vhost }}
{{- else -}}
://{{ .Values.rabbitmq.external.host }}:{{ .Values.rabbitmq.external.port | default $port }}/{{ $vhost }}
{{- end -}}
{{- end -}}

{{- define "celery-kit.managementUrl" -}}
{{- if .Values.rabbitmq.enabled -}}
{{- $tls := include "celery-kit.tls" (list . "rabbitmq") -}}
{{ empty $tls | ternary "http" "https" }}://{{ include "celery-kit.name" (list . "rabbitmq") }}:{{ empty $tls | ternary 15672 15671 }}
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
{{- include "celery-kit.tls" (list . "mysql") | empty | ternary "mysql" "mysqls" -}}
{{- if .Values.mysql.enabled -}}
://{{ include "celery-kit.name" (list . "mysql") }}:3306/{{ .Values.mysql.database }}
{{- else -}}
://{{ .Values.mysql.external.host }}:{{ .Values.mysql.external.port }}/{{ .Values.mysql.external.database }}
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
      name: {{ index . 1 | quote }}
      key: {{ index . 2 }}
{{- end -}}

{{- define "celery-kit.databaseVariables" -}}
- name: CELERYKIT_DATABASE_URL
  value: {{ include "celery-kit.databaseUrl" . }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_DATABASE_USERNAME" (include "celery-kit.mysqlSecret" .) "username") }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_DATABASE_PASSWORD" (include "celery-kit.mysqlSecret" .) "password") }}
{{- if include "celery-kit.caSecret" (list . "mysql") }}
- name: CELERYKIT_DATABASE_CA_FILE
  value: {{ include "celery-kit.caFile" "mysql" }}
{{- end }}
{{- end -}}

{{- define "celery-kit.brokerVariables" -}}
- name: CELERYKIT_BROKER_URL
  value: {{ include "celery-kit.brokerUrl" . }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_BROKER_USERNAME" (include "celery-kit.rabbitmqSecret" .) "username") }}
{{ include "celery-kit.secretVariable" (list "CELERYKIT_BROKER_PASSWORD" (include "celery-kit.rabbitmqSecret" .) "password") }}
{{- if include "celery-kit.caSecret" (list . "rabbitmq") }}
- name: CELERYKIT_BROKER_CA_FILE
  value: {{ include "celery-kit.caFile" "rabbitmq" }}
{{- end }}
{{- end -}}

{{- /* The variables of a program that sends or runs tasks. */ -}}
{{- define "celery-kit.storeVariables" -}}
{{ include "celery-kit.brokerVariables" . }}
{{ include "celery-kit.databaseVariables" . }}
{{- end -}}

{{- /* The init container that waits for the database and brings its tables up to date, from (list . IMAGE RESOURCES). */ -}}
{{- define "celery-kit.schemaContainer" -}}
- name: schema {{- include "celery-kit.container" (list (index . 0) (index . 1)) | nindent 2 }}
  command: [python, -m, celerykit.schema, upgrade, --wait=600]
  env: {{- include "celery-kit.databaseVariables" (index . 0) | nindent 4 }}
  resources: {{- toYaml (index . 2) | nindent 4 }}
  {{- with include "celery-kit.storeMounts" (list (index . 0) "mysql") }}
  volumeMounts: {{- . | nindent 4 }}
  {{- end }}
{{- end -}}
