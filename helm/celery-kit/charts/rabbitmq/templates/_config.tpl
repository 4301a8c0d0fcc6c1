{{- /* A quantity of Kubernetes in bytes, from (list . KEY QUANTITY). A large number of a values file would be text as 1e+09. */ -}}
{{- define "rabbitmq.bytes" -}}
{{- $quantity := kindIs "string" (index . 2) | ternary (index . 2) (index . 2 | int64 | toString) -}}
{{- $number := regexFind "^[0-9.]+" $quantity -}}
{{- $unit := trimPrefix $number $quantity -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- if or (not $number) (not (hasKey $units $unit)) -}}
{{- fail (printf "%s%s: %q is no number of bytes; known units are k, M, G, T, Ki, Mi, Gi and Ti" ((index . 0).Chart.IsRoot | ternary "" "rabbitmq.") (index . 1) $quantity) -}}
{{- end -}}
{{- mulf (float64 $number) (get $units $unit | float64) | floor | int64 -}}
{{- end -}}

{{- /* The disk must take what memory holds: publishers wait when less is free. Half of a small volume, at most. */ -}}
{{- define "rabbitmq.diskFreeLimit" -}}
{{- $memory := include "rabbitmq.bytes" (list . "resources.limits.memory" .Values.resources.limits.memory) | int64 -}}
{{- if .Values.persistence.enabled -}}
{{- min $memory (div (include "rabbitmq.bytes" (list . "persistence.size" .Values.persistence.size) | int64) 2) -}}
{{- else -}}
{{- $memory -}}
{{- end -}}
{{- end -}}

{{- define "rabbitmq.amqpPort" -}}
{{- .Values.tls.enabled | ternary 5671 5672 -}}
{{- end -}}

{{- define "rabbitmq.managementPort" -}}
{{- .Values.tls.enabled | ternary 15671 15672 -}}
{{- end -}}

{{- /* The files and versions of a listener with TLS, from its prefix. */ -}}
{{- define "rabbitmq.tlsOptions" -}}
{{ . }}.cacertfile = /etc/tls/ca.crt
{{ . }}.certfile = /etc/tls/tls.crt
{{ . }}.keyfile = /etc/tls/tls.key
{{ . }}.versions.1 = tlsv1.3
{{ . }}.versions.2 = tlsv1.2
{{- end -}}

{{- define "rabbitmq.config" -}}
consumer_timeout = {{ mul .Values.consumerTimeoutSeconds 1000 }}
# absolute, as a share of the node's memory says nothing in a container
vm_memory_high_watermark.absolute = {{ mulf (include "rabbitmq.bytes" (list . "resources.limits.memory" .Values.resources.limits.memory) | float64) 0.6 | floor | int64 }}
disk_free_limit.absolute = {{ include "rabbitmq.diskFreeLimit" . }}
# quorum queues hold up to this much in memory before it goes to segments
raft.wal_max_size_bytes = 33554432
log.console = true
# who has the login of the programs may watch the broker, and not rule it
default_user_tags.monitoring = true
prometheus.return_per_object_metrics = false
{{- if gt (int .Values.replicas) 1 }}
# the first pod forms the cluster, and the others join it by its name: nobody is asked, so no right is needed
cluster_formation.peer_discovery_backend = k8s
cluster_formation.target_cluster_size_hint = {{ .Values.replicas }}
# a queue that was declared while a node was away grows when that is back
quorum_queue.continuous_membership_reconciliation.enabled = true
quorum_queue.continuous_membership_reconciliation.interval = 60000
quorum_queue.continuous_membership_reconciliation.target_group_size = {{ .Values.replicas }}
{{- end }}
{{- if .Values.tls.enabled }}
# nothing but TLS; a client may show a certificate, and logs in by its password all the same
listeners.tcp = none
listeners.ssl.default = {{ include "rabbitmq.amqpPort" . }}
{{ include "rabbitmq.tlsOptions" "ssl_options" }}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
management.ssl.port = {{ include "rabbitmq.managementPort" . }}
{{ include "rabbitmq.tlsOptions" "management.ssl" }}
{{- end }}
{{- with .Values.extraConfig }}
{{ . | trim }}
{{- end }}
{{ end -}}
