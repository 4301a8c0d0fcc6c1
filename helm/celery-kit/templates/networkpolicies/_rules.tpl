{{- /* Pieces of NetworkPolicies. A rule without peers would let in everybody, so each comes whole, or is empty. */ -}}

{{- /* Whether a component has pods in this release, from (list . COMPONENT); empty if it has none. */ -}}
{{- define "celery-kit.runs" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- if has $component (list "gateway" "test") -}}
true
{{- else if eq $component "worker" -}}
{{- if include "celery-kit.pools" $root | fromJson }}true{{ end -}}
{{- else if eq $component "autoscaler" -}}
{{- if include "celery-kit.autoscaledPools" $root | fromJsonArray }}true{{ end -}}
{{- else if (get $root.Values $component | default dict).enabled -}}
true
{{- end -}}
{{- end -}}

{{- /* A rule, from (list "from"|"to" PEERS PORT…); without peers it is for every address. */ -}}
{{- define "celery-kit.rule" -}}
{{- $ports := list -}}
{{- range $port := slice . 2 -}}
{{- $ports = append $ports (dict "protocol" "TCP" "port" (int $port)) -}}
{{- end -}}
{{- $rule := dict "ports" $ports -}}
{{- if index . 1 }}{{ $_ := set $rule (index . 0) (index . 1) }}{{ end -}}
{{- toYaml (list $rule) -}}
{{- end -}}

{{- /* A rule between components of the release, from (list . "from"|"to" COMPONENTS PORT…). */ -}}
{{- define "celery-kit.edge" -}}
{{- $root := index . 0 -}}
{{- $peers := list -}}
{{- range $component := index . 2 -}}
{{- if include "celery-kit.runs" (list $root $component) -}}
{{- $selector := include "celery-kit.selector" (list $root $component) | fromYaml -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" $selector)) -}}
{{- end -}}
{{- end -}}
{{- if $peers -}}
{{- include "celery-kit.rule" (concat (list (index . 1) $peers) (slice . 3)) -}}
{{- end -}}
{{- end -}}

{{- /* The rule for whoever else may come in, from (list . NAME OTHERWISE PORT…): those of networkPolicy.clients.NAME, and if these are none, OTHERWISE: "everybody", "pods" of any namespace, or nobody. */ -}}
{{- define "celery-kit.clients" -}}
{{- $peers := get (index . 0).Values.networkPolicy.clients (index . 1) -}}
{{- if and (not $peers) (eq (index . 2) "pods") }}{{ $peers = list (dict "namespaceSelector" dict) }}{{ end -}}
{{- if or $peers (eq (index . 2) "everybody") -}}
{{- include "celery-kit.rule" (concat (list "from" $peers) (slice . 3)) -}}
{{- end -}}
{{- end -}}

{{- /* The rules for a server of the user's, from (list . NAME PORT…): those of networkPolicy.servers.NAME, or any address. A policy sees a pod's port, which the Service in front of it may not have: pods are reached at any. */ -}}
{{- define "celery-kit.server" -}}
{{- $addresses := list -}}
{{- $pods := list -}}
{{- range get (index . 0).Values.networkPolicy.servers (index . 1) -}}
{{- if .ipBlock }}{{ $addresses = append $addresses . }}{{ else }}{{ $pods = append $pods . }}{{ end -}}
{{- end -}}
{{- $rules := list -}}
{{- if or $addresses (not $pods) -}}
{{- $rules = append $rules (include "celery-kit.rule" (concat (list "to" $addresses) (slice . 2))) -}}
{{- end -}}
{{- if $pods }}{{ $rules = append $rules (toYaml (list (dict "to" $pods))) }}{{ end -}}
{{- join "\n" $rules -}}
{{- end -}}

{{- /* The rule for a Prometheus of the user's, from (list . PORT…). */ -}}
{{- define "celery-kit.scrapers" -}}
{{- $otherwise := (index . 0).Values.prometheus.enabled | ternary "nobody" "pods" -}}
{{- include "celery-kit.clients" (concat (list (index . 0) "metrics" $otherwise) (slice . 1)) -}}
{{- end -}}

{{- /* The port that a URL names, else that of its scheme. */ -}}
{{- define "celery-kit.urlPort" -}}
{{- $url := urlParse . -}}
{{- regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (eq $url.scheme "https" | ternary "443" "80") -}}
{{- end -}}

{{- /* To a store at a port, from (list . STORE PORT): the release's own or the user's. */ -}}
{{- define "celery-kit.toStore" -}}
{{- if (index (index . 0).Values (index . 1)).enabled -}}
{{- include "celery-kit.edge" (list (index . 0) "to" (list (index . 1)) (index . 2)) -}}
{{- else -}}
{{- include "celery-kit.server" . -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.toBroker" -}}
{{- include "celery-kit.toStore" (list . "rabbitmq" (include "celery-kit.urlPort" (include "celery-kit.brokerUrl" .))) -}}
{{- end -}}

{{- define "celery-kit.toManagement" -}}
{{- with include "celery-kit.managementUrl" . -}}
{{- include "celery-kit.toStore" (list $ "rabbitmq" (include "celery-kit.urlPort" .)) -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.toBrokersMetrics" -}}
{{- if .Values.rabbitmq.enabled -}}
{{- include "celery-kit.edge" (list . "to" (list "rabbitmq") 15692) -}}
{{- else -}}
{{- with .Values.rabbitmq.external.metricsUrl -}}
{{- include "celery-kit.server" (list $ "rabbitmq" (include "celery-kit.urlPort" .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.toDatabase" -}}
{{- include "celery-kit.toStore" (list . "mysql" (include "celery-kit.urlPort" (include "celery-kit.databaseUrl" .))) -}}
{{- end -}}

{{- /* To Prometheus, from (list . URL); the release's own if the URL is empty. */ -}}
{{- define "celery-kit.toPrometheus" -}}
{{- if index . 1 -}}
{{- include "celery-kit.server" (list (index . 0) "prometheus" (include "celery-kit.urlPort" (index . 1))) -}}
{{- else -}}
{{- include "celery-kit.edge" (list (index . 0) "to" (list "prometheus") 9090) -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.toApiServer" -}}
{{- include "celery-kit.rule" (concat (list "to" .Values.networkPolicy.servers.apiServer) .Values.networkPolicy.apiServerPorts) -}}
{{- end -}}

{{- /* The policy of a component, from (list . COMPONENT INGRESS EGRESS), two lists of rules, of which some may be empty. */ -}}
{{- define "celery-kit.networkPolicy" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $extra := get $root.Values.networkPolicy.extraEgress $component -}}
{{- if and $root.Values.networkPolicy.enabled (include "celery-kit.runs" (list $root $component)) -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "celery-kit.name" (list $root $component) }}
  labels: {{- include "celery-kit.labels" (list $root $component) | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "celery-kit.selector" (list $root $component) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- with compact (index . 2) }}
  ingress: {{- join "\n" . | nindent 4 }}
  {{- end }}
  {{- with compact (append (index . 3) (empty $extra | ternary "" (toYaml $extra))) }}
  egress: {{- join "\n" . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
