{{- /* The Secret of a component, from (list . COMPONENT): the user's or the release's. */ -}}
{{- define "celery-kit.secretName" -}}
{{- (index (index . 0).Values (index . 1)).auth.existingSecret | default (include "celery-kit.name" .) -}}
{{- end -}}

{{- /* The values without which secrets would be random, as JSON: neither given nor in the cluster, nor in a Secret of the user's. */ -}}
{{- define "celery-kit.missingSecrets" -}}
{{- $keys := dict
  "rabbitmq" (dict "password" "password" "erlangCookie" "erlang-cookie")
  "mysql" (dict "password" "password" "rootPassword" "root-password" "exporterPassword" "exporter-password")
  "gateway" (dict "apiKey" "api-key")
  "worker" (dict "drainToken" "drain-token")
  "flower" (dict "password" "password")
  "grafana" (dict "password" "admin-password") -}}
{{- $missing := list -}}
{{- range $component, $needed := $keys -}}
{{- $values := index $.Values $component -}}
{{- $runs := dig "enabled" true $values -}}
{{- if and $runs (dig "enabled" true $values.auth) (not $values.auth.existingSecret) -}}
{{- $data := (lookup "v1" "Secret" $.Release.Namespace (include "celery-kit.name" (list $ $component))).data | default dict -}}
{{- range $value, $key := $needed -}}
{{- if not (or (get $values.auth $value) (get $data $key)) -}}
{{- $missing = append $missing (printf "%s.auth.%s" $component $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $missing -}}
{{- end -}}

{{- define "celery-kit.secretsChecks" -}}
{{- if eq .Values.secrets.onMissing "fail" -}}
{{- with include "celery-kit.missingSecrets" . | fromJsonArray -}}
{{- fail (printf "secrets.onMissing: is fail, and neither values nor the cluster have %s: give them, or name a Secret of yours as existingSecret beside them" (join ", " .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* No variable twice in a container: some tools drop one of them, and others refuse both. */ -}}
{{- define "celery-kit.variableChecks" -}}
{{- range $component := list "gateway" "worker" "autoscaler" "flower" -}}
{{- range include (printf "%s/%s/deployment.yaml" $.Template.BasePath $component) $ | splitList "\n---\n" -}}
{{- range dig "spec" "template" "spec" "containers" list (fromYaml .) -}}
{{- $known := list -}}
{{- range .env -}}
{{- if has .name $known -}}
{{- fail (printf "%s.extraEnv: %s is a variable that the chart sets itself: use the key of %s that it comes from" $component .name $component) -}}
{{- end -}}
{{- $known = append $known .name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
