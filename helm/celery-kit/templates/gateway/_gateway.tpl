{{- /* Whether clients may call the example task task.echo: "true" or nothing. */ -}}
{{- define "celery-kit.echoes" -}}
{{- with .Values.gateway.catalogue -}}
{{- if dig "task.echo" "allowed" (hasKey . "task.echo") . }}true{{ end -}}
{{- else -}}
true
{{- end -}}
{{- end -}}

{{- /* Who may call, from (list KEY GIVEN DATA): `default` with the key, and whoever was added to the Secret by hand. */ -}}
{{- define "celery-kit.apiKeys" -}}
{{- $key := index . 0 -}}
{{- $data := index . 2 -}}
{{- $known := get $data "api-keys" | b64dec -}}
{{- $default := printf "default:%s" (sha256sum $key) -}}
{{- if not $known -}}
{{- $default -}}
{{- else if index . 1 -}}
{{- $old := printf "default:%s" (get $data "api-key" | b64dec | sha256sum) -}}
{{- prepend (without (splitList "," $known) $old $default) $default | join "," -}}
{{- else -}}
{{- $known -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.catalogue" -}}
{{- dict "tasks" .Values.gateway.catalogue | toYaml -}}
{{- end -}}
