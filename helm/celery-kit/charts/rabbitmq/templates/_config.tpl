{{- /* A quantity of Kubernetes in bytes. */ -}}
{{- define "rabbitmq.bytes" -}}
{{- $number := regexFind "^[0-9.]+" (toString .) -}}
{{- $unit := trimPrefix $number (toString .) -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (float64 $number) (get $units $unit | float64) | floor | int64 -}}
{{- end -}}

{{- /* The disk must take what memory holds: publishers wait when less is free. Half of a small volume, at most. */ -}}
{{- define "rabbitmq.diskFreeLimit" -}}
{{- $memory := include "rabbitmq.bytes" .Values.resources.limits.memory | int64 -}}
{{- if .Values.persistence.enabled -}}
{{- min $memory (div (include "rabbitmq.bytes" .Values.persistence.size | int64) 2) -}}
{{- else -}}
{{- $memory -}}
{{- end -}}
{{- end -}}

{{- define "rabbitmq.config" -}}
consumer_timeout = {{ mul .Values.consumerTimeoutSeconds 1000 }}
# absolute, as a share of the node's memory says nothing in a container
vm_memory_high_watermark.absolute = {{ mulf (include "rabbitmq.bytes" .Values.resources.limits.memory | float64) 0.6 | floor | int64 }}
disk_free_limit.absolute = {{ include "rabbitmq.diskFreeLimit" . }}
# quorum queues hold up to this much in memory before it goes to segments
raft.wal_max_size_bytes = 33554432
log.console = true
prometheus.return_per_object_metrics = false
{{- with .Values.extraConfig }}
{{ . | trim }}
{{- end }}
{{ end -}}
