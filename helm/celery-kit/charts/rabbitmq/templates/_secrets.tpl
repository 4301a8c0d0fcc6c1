{{- /* The Secret of the certificate; in the kit, cert-manager makes one of this name if none is given. */ -}}
{{- define "rabbitmq.tlsSecret" -}}
{{- if and .Chart.IsRoot (not .Values.tls.existingSecret) -}}
{{- fail "tls.existingSecret: is required where tls.enabled is true" -}}
{{- end -}}
{{- .Values.tls.existingSecret | default (include "rabbitmq.name" (list . "rabbitmq-tls")) -}}
{{- end -}}

{{- /* Refuse values that RabbitMQ would not know, from (list . DATA), the latter what the cluster has. */ -}}
{{- define "rabbitmq.secretChecks" -}}
{{- $root := index . 0 -}}
{{- $data := index . 1 -}}
{{- $prefix := $root.Chart.IsRoot | ternary "" "rabbitmq." -}}
{{- if eq $root.Values.auth.username "guest" -}}
{{- fail (printf "%sauth.username: must not be guest, whom RabbitMQ lets in from within its pod only" $prefix) -}}
{{- end -}}
{{- range $value, $key := dict "username" "username" "password" "password" -}}
{{- $given := get $root.Values.auth $value -}}
{{- if and $given (hasKey $data $key) (ne (b64enc $given) (get $data $key)) -}}
{{- fail (printf "%sauth.%s: is not what the Secret %s has, which RabbitMQ's data were made with, so that nobody could log in. Leave it empty, or change it in RabbitMQ and in the Secret first, as docs/operations.md tells; where the data are gone as well, delete the Secret" $prefix $value (include "rabbitmq.secretName" $root)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "rabbitmq.secretName" -}}
{{- .Values.auth.existingSecret | default (include "rabbitmq.name" (list . "rabbitmq")) -}}
{{- end -}}
