{{- /* The Secret of the certificate; in the kit, cert-manager makes one of this name if none is given. */ -}}
{{- define "mysql.tlsSecret" -}}
{{- if and .Chart.IsRoot (not .Values.tls.existingSecret) -}}
{{- fail "tls.existingSecret: is required where tls.enabled is true" -}}
{{- end -}}
{{- .Values.tls.existingSecret | default (include "mysql.name" (list . "mysql-tls")) -}}
{{- end -}}

{{- /* Refuse values that MySQL would not know, from (list . DATA), the latter what the cluster has. */ -}}
{{- define "mysql.secretChecks" -}}
{{- $root := index . 0 -}}
{{- $data := index . 1 -}}
{{- $prefix := $root.Chart.IsRoot | ternary "" "mysql." -}}
{{- if has $root.Values.auth.username (list "root" "exporter") -}}
{{- fail (printf "%sauth.username: must not be %s, which is a user of the chart's own" $prefix $root.Values.auth.username) -}}
{{- end -}}
{{- range $key := list "password" "rootPassword" -}}
{{- if regexMatch "['\\\\[:cntrl:]]" (get $root.Values.auth $key) -}}
{{- fail (printf "%sauth.%s: must not hold a ', a \\ or a line break: the image of MySQL would not start with it" $prefix $key) -}}
{{- end -}}
{{- end -}}
{{- range $value, $key := dict "username" "username" "password" "password" "rootPassword" "root-password" -}}
{{- $given := get $root.Values.auth $value -}}
{{- if and $given (hasKey $data $key) (ne (b64enc $given) (get $data $key)) -}}
{{- fail (printf "%sauth.%s: is not what the Secret %s has, which MySQL's data were made with, so that nobody could log in. Leave it empty, or change it in MySQL and in the Secret first, as docs/operations.md tells; where the data are gone as well, delete the Secret" $prefix $value (include "mysql.secretName" $root)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mysql.secretName" -}}
{{- .Values.auth.existingSecret | default (include "mysql.name" (list . "mysql")) -}}
{{- end -}}

{{- /* A variable from a key of the Secret, from (list . VARIABLE KEY). */ -}}
{{- define "mysql.secretVariable" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ include "mysql.secretName" (index . 0) | quote }}
      key: {{ index . 2 }}
{{- end -}}
