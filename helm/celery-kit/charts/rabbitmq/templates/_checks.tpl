{{- /* What a schema cannot say. */ -}}
{{- define "rabbitmq.checks" -}}
{{- $replicas := int .Values.replicas -}}
{{- $prefix := .Chart.IsRoot | ternary "" "rabbitmq." -}}
{{- if gt $replicas 1 -}}
{{- if not .Values.persistence.enabled -}}
{{- fail (printf "%spersistence.enabled: must be true with %d replicas: the first node, once its data is gone, would form a cluster of its own" $prefix $replicas) -}}
{{- end -}}
{{- if .Values.persistence.existingClaim -}}
{{- fail (printf "%spersistence.existingClaim: must be empty with %d replicas: each node needs a volume of its own" $prefix $replicas) -}}
{{- end -}}
{{- end -}}
{{- $found := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "rabbitmq.name" (list . "rabbitmq" 52)) -}}
{{- if $found -}}
{{- if gt (int $found.spec.replicas) $replicas -}}
{{- fail (printf "%sreplicas: %d is fewer than there are, which is %d: the nodes that stay would wait for the others for ever; move the tasks to a new release instead" $prefix $replicas (int $found.spec.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
