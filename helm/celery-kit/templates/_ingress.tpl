{{- /* The Ingress of a component, from (list . COMPONENT PATH). */ -}}
{{- define "celery-kit.ingress" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $name := include "celery-kit.name" (list $root $component) -}}
{{- with (index $root.Values $component).ingress -}}
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ $name }}
  labels: {{- include "celery-kit.labels" (list $root $component) | nindent 4 }}
  {{- with merge (dict) .annotations (include "celery-kit.issuerAnnotations" (list $root .) | fromYaml) }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .className }}
  ingressClassName: {{ quote . }}
  {{- end }}
  rules:
    - http:
        paths:
          - path: {{ index $ 2 }}
            pathType: Prefix
            backend:
              service:
                name: {{ $name }}
                port:
                  name: http
      {{- with .host }}
      host: {{ . | quote }}
      {{- end }}
  {{- if .tls.enabled }}
  tls:
    - hosts: [{{ .host | quote }}]
      secretName: {{ .tls.secretName | default (include "celery-kit.name" (list $root (printf "%s-tls" $component))) | quote }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- /* What has cert-manager make the certificate of an Ingress, from (list . INGRESS): nothing if that has one, or says itself who does. */ -}}
{{- define "celery-kit.issuerAnnotations" -}}
{{- $ingress := index . 1 -}}
{{- with (index . 0).Values.certManager.issuerRef -}}
{{- if and .name $ingress.tls.enabled (not $ingress.tls.secretName) (not (include "celery-kit.annotated" $ingress)) -}}
cert-manager.io/issuer: {{ quote .name }}
cert-manager.io/issuer-kind: {{ quote .kind }}
cert-manager.io/issuer-group: {{ quote .group }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Whether the annotations of an Ingress say who makes its certificate: "true" or nothing. */ -}}
{{- define "celery-kit.annotated" -}}
{{- range $key, $_ := .annotations -}}
{{- if has $key (list "cert-manager.io/issuer" "cert-manager.io/cluster-issuer") }}true{{ end -}}
{{- end -}}
{{- end -}}
