{{- /* Whoever is to speak TLS has a certificate, or somebody who makes it. */ -}}
{{- define "celery-kit.tlsChecks" -}}
{{- range $store := list "rabbitmq" "mysql" -}}
{{- $values := index $.Values $store -}}
{{- if and $values.enabled $values.tls.enabled (not (or $values.tls.existingSecret $.Values.certManager.issuerRef.name)) -}}
{{- fail (printf "%s.tls.existingSecret: is required where %s.tls.enabled is true, unless certManager.issuerRef.name says who makes the certificate" $store $store) -}}
{{- end -}}
{{- if and $values.external.tls.caSecret (not $values.external.tls.enabled) -}}
{{- fail (printf "%s.external.tls.caSecret: is of no use unless %s.external.tls.enabled is true" $store $store) -}}
{{- end -}}
{{- end -}}
{{- range $component := list "gateway" "flower" "grafana" -}}
{{- $ingress := (index $.Values $component).ingress -}}
{{- if and $ingress.enabled $ingress.tls.enabled -}}
{{- if not $ingress.host -}}
{{- fail (printf "%s.ingress.host: is required where %s.ingress.tls.enabled is true" $component $component) -}}
{{- end -}}
{{- if not (or $ingress.tls.secretName $.Values.certManager.issuerRef.name (include "celery-kit.annotated" $ingress)) -}}
{{- fail (printf "%s.ingress.tls.secretName: is required where %s.ingress.tls.enabled is true, unless certManager.issuerRef.name, or an annotation cert-manager.io/issuer or cert-manager.io/cluster-issuer, says who makes the certificate" $component $component) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
