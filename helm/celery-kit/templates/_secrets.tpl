{{- /* The Secret of a component, from (list . COMPONENT): the user's or the release's. */ -}}
{{- define "celery-kit.secretName" -}}
{{- (index (index . 0).Values (index . 1)).auth.existingSecret | default (include "celery-kit.name" .) -}}
{{- end -}}
