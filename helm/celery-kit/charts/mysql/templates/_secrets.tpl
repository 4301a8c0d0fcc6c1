{{- define "mysql.secretName" -}}
{{- .Values.auth.existingSecret | default (include "mysql.name" (list . "mysql")) -}}
{{- end -}}

{{- /* A variable from a key of the Secret, from (list . VARIABLE KEY). */ -}}
{{- define "mysql.secretVariable" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ include "mysql.secretName" (index . 0) }}
      key: {{ index . 2 }}
{{- end -}}
