{{- /* What cert-manager shall make for a store, from (list . STORE). */ -}}
{{- define "celery-kit.certificate" -}}
{{- $root := index . 0 -}}
{{- $store := index . 1 -}}
{{- $values := index $root.Values $store -}}
{{- $host := include "celery-kit.name" . -}}
{{- if and $values.enabled $values.tls.enabled (not $values.tls.existingSecret) -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $host }}
  labels: {{- include "celery-kit.labels" . | nindent 4 }}
spec:
  secretName: {{ include "celery-kit.tlsSecret" . }}
  dnsNames:
    - {{ $host }}
    - {{ $host }}.{{ $root.Release.Namespace }}
    - {{ $host }}.{{ $root.Release.Namespace }}.svc
  usages: [digital signature, key encipherment, server auth]
  privateKey:
    rotationPolicy: Always
  issuerRef: {{- toYaml $root.Values.certManager.issuerRef | nindent 4 }}
{{- end -}}
{{- end -}}
