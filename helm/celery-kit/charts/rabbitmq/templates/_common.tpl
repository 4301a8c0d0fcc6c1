{{- /* What each chart of the kit has under its own prefix, so that a subchart works alone; a test keeps the copies equal. */ -}}

{{- /* An object's name, from (list . COMPONENT [LIMIT]): a hash takes the place of what is cut off a long one. */ -}}
{{- define "rabbitmq.name" -}}
{{- $name := printf "%s-%s" (index . 0).Release.Name (index . 1) -}}
{{- $limit := 63 -}}
{{- if gt (len .) 2 }}{{ $limit = index . 2 }}{{ end -}}
{{- if gt (len $name) $limit -}}
{{- printf "%s-%s" ($name | trunc (int (sub $limit 9)) | trimSuffix "-") ($name | sha256sum | trunc 8) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{- /* What selects a component's pods, from (list . COMPONENT). Pods have just these: more would restart them with each version. */ -}}
{{- define "rabbitmq.selector" -}}
app.kubernetes.io/name: celery-kit
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* The labels of an object, from (list . COMPONENT). */ -}}
{{- define "rabbitmq.labels" -}}
{{- $chart := (index . 0).Chart -}}
{{ include "rabbitmq.selector" . }}
app.kubernetes.io/version: {{ $chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
app.kubernetes.io/part-of: celery-kit
helm.sh/chart: {{ printf "%s-%s" $chart.Name $chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* The labels of a component's pods, from (list . COMPONENT VALUES): what selects them, and the user's. */ -}}
{{- define "rabbitmq.podLabels" -}}
{{ include "rabbitmq.selector" . }}
{{- range $key, $value := (index . 2).podLabels }}
{{- if regexMatch "^(app\\.kubernetes\\.io/(name|instance|component)|celery-kit/.*)$" $key }}
{{- fail (printf "podLabels of %s: %q is what its pods are selected by, and cannot be set" (index $ 1) $key) }}
{{- end }}
{{ quote $key }}: {{ quote $value }}
{{- end }}
{{- end -}}

{{- /* A pod's own keys, from (list . UID VALUES): where the component's values say which nodes take it. */ -}}
{{- define "rabbitmq.pod" -}}
{{- $id := index . 1 -}}
{{- $values := index . 2 -}}
{{- /* links would set variables: those of a release `celerykit` look like settings */ -}}
enableServiceLinks: false
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with get $values $key }}
{{ toYaml (dict $key .) }}
{{- end }}
{{- end }}
{{- with (index . 0).Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ quote . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $id }}
  runAsGroup: {{ $id }}
  fsGroup: {{ $id }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- /* A container's image and how little it may do, from (list . IMAGE [UID]). */ -}}
{{- define "rabbitmq.container" -}}
{{- $image := index . 1 -}}
{{- $path := compact (list ((index . 0).Values.global.imageRegistry | default $image.registry) $image.repository) | join "/" -}}
image: {{ empty $image.digest | ternary (printf "%s:%s" $path (toString ($image.tag | default (index . 0).Chart.AppVersion))) (printf "%s@%s" $path $image.digest) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  {{- if gt (len .) 2 }}
  runAsUser: {{ index . 2 }}
  runAsGroup: {{ index . 2 }}
  {{- end }}
{{- end -}}

{{- /* A value of a Secret in base64, from (list GIVEN DATA KEY): what is given, else what the cluster has, else a random one. */ -}}
{{- define "rabbitmq.secret" -}}
{{- $found := get (index . 1) (index . 2) -}}
{{- if index . 0 -}}
{{- index . 0 | b64enc | quote -}}
{{- else -}}
{{- $found | default (randAlphaNum 32 | b64enc) | quote -}}
{{- end -}}
{{- end -}}
