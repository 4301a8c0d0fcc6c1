{{- /*
Keys that have changed their name: what to use instead, by path. A deprecated key still works, and the notes warn of it;
a removed one fails. values.schema.json keeps both, marked `deprecated`, so that these words are said and not only
that there is no such key; values.yaml has neither.
*/ -}}
{{- define "celery-kit.deprecatedKeys" -}}
autoscaler.enabled: 'autoscaler.mode: "off" for false, act for true'
{{- end -}}

{{- define "celery-kit.removedKeys" -}}
{}
{{- end -}}

{{- /* Those of the keys that these values have, as a JSON map, from (list . KEYS). */ -}}
{{- define "celery-kit.givenKeys" -}}
{{- $values := (index . 0).Values -}}
{{- $given := dict -}}
{{- range $path, $instead := index . 1 | fromYaml -}}
{{- $here := $values -}}
{{- $is := true -}}
{{- range splitList "." $path -}}
{{- $is = and $is (kindIs "map" $here) (hasKey $here .) -}}
{{- if $is }}{{ $here = index $here . }}{{ end -}}
{{- end -}}
{{- if $is }}{{ $_ := set $given $path $instead }}{{ end -}}
{{- end -}}
{{- toJson $given -}}
{{- end -}}

{{- define "celery-kit.removed" -}}
{{- range $path, $instead := include "celery-kit.givenKeys" (list . (include "celery-kit.removedKeys" .)) | fromJson -}}
{{- fail (printf "%s: was removed; use %s" $path $instead) -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.deprecated" -}}
{{- range $path, $instead := include "celery-kit.givenKeys" (list . (include "celery-kit.deprecatedKeys" .)) | fromJson }}

DEPRECATED: {{ $path }} will be removed; use {{ $instead }}.
{{- end -}}
{{- end -}}
