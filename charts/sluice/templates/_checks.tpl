{{/*
Refuses values that contradict each other or cannot work together, each by its name. values.schema.json refuses what is
wrong on its own.
*/}}
{{- define "sluice.checks" -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled: only one of them can be true, because Prometheus would count everything twice" }}
{{- end }}
{{- if and .Values.networkPolicy.enabled .Values.hostNetwork }}
{{- fail "networkPolicy.enabled and hostNetwork: only one of them can be true, because NetworkPolicies do not apply to pods in the network of their node" }}
{{- end }}
{{- if and (eq .Values.dnsPolicy "None") (not .Values.dnsConfig.nameservers) }}
{{- fail "dnsPolicy=None needs dnsConfig.nameservers" }}
{{- end }}
{{- if and .Values.hostNetwork (eq .Values.dnsPolicy "ClusterFirst") }}
{{- fail "dnsPolicy=ClusterFirst has no effect with hostNetwork, and the operator would not find the Services of resources: leave it empty, or set ClusterFirstWithHostNet" }}
{{- end }}
{{- range $field := list "runAsUser" "runAsGroup" }}
{{- if and (not $.Values.fixedUserIds) (hasKey $.Values.podSecurityContext $field) }}
{{- fail (printf "podSecurityContext.%s and fixedUserIds=false: the cluster assigns user ids, or the chart sets them" $field) }}
{{- end }}
{{- end }}
{{- if and (not .Values.automountServiceAccountToken) (not .Values.volumes) }}
{{- fail "automountServiceAccountToken=false needs a token in volumes, because the operator cannot use the API server without one" }}
{{- end }}
{{- $volumes := list }}
{{- range .Values.volumes }}{{ $volumes = append $volumes .name }}{{ end }}
{{- range .Values.volumeMounts }}
{{- if not (has .name $volumes) }}
{{- fail (printf "volumeMounts: there is no volume %s in volumes" .name) }}
{{- end }}
{{- end }}
{{- with .Values.strategy }}
{{- if and (eq .type "RollingUpdate") (has (toString .rollingUpdate.maxSurge) (list "0" "0%")) (has (toString .rollingUpdate.maxUnavailable) (list "0" "0%")) }}
{{- fail "strategy.rollingUpdate: maxSurge and maxUnavailable cannot both be 0, because no pod could be replaced" }}
{{- end }}
{{- end }}
{{- if and (eq .Values.metrics.ipFamilyPolicy "SingleStack") (gt (len .Values.metrics.ipFamilies) 1) }}
{{- fail "metrics.ipFamilyPolicy=SingleStack allows only one of metrics.ipFamilies" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if or (has .name (list "SLUICE_LISTEN" "SLUICE_LOG" "SLUICE_IDENTITY" "SLUICE_OPERATOR_NAMESPACE" "SLUICE_LEASE_NAME" "SLUICE_NAMESPACES" "SLUICE_FIXED_USER_IDS" "SLUICE_RUNBOOK_URL")) (hasPrefix "SLUICE_IMAGE_" .name) }}
{{- fail (printf "extraEnv: the chart sets %s; another value sets it (charts/sluice/templates/deployment.yaml)" .name) }}
{{- end }}
{{- end }}
{{- end }}
