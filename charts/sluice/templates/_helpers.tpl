{{/* Name of the chart, or the one that replaces it. */}}
{{- define "sluice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/*
Name of the chart's objects: the name of the release and the name of the chart, or the name of the release
alone if it contains the name of the chart.
*/}}
{{- define "sluice.fullname" -}}
{{- $name := include "sluice.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Namespace of the chart's objects. */}}
{{- define "sluice.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/*
Name of cluster-scoped objects, and of objects in the namespaces that the operator reconciles. It contains the
namespace of the release, because releases in different namespaces can have the same name.
*/}}
{{- define "sluice.clusterName" -}}
{{- printf "%s-%s" (include "sluice.namespace" .) (include "sluice.fullname" .) }}
{{- end }}

{{- define "sluice.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "sluice.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/*
Labels that select the operator's pods. They must not change while the release exists, because the selector of
a Deployment is immutable. The NetworkPolicies of resources allow connections from pods with this name.
*/}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "sluice.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "sluice" }}
{{- toYaml (merge (include "sluice.selector" . | fromYaml) $own .Values.labels) }}
{{- end }}

{{/*
The field `annotations` of an object's metadata: (list . OWN). The object's own annotations override those of
the value `annotations`.
*/}}
{{- define "sluice.annotations" -}}
{{- with merge (dict) (index . 1) (index . 0).Values.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
{{- end }}
{{- end }}

{{/* Reference of an image: (list . IMAGE). */}}
{{- define "sluice.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 }}
{{- with $root.Values.imageRegistry }}{{ trimSuffix "/" . }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}
{{- else }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- end }}
{{- end }}

{{/* Security context of every pod of the chart. The default is what the Pod Security level `restricted` requires. */}}
{{- define "sluice.podSecurityContext" -}}
{{- toYaml .Values.podSecurityContext }}
{{- if .Values.fixedUserIds }}
{{- range $field := list "runAsUser" "runAsGroup" }}
{{- if not (hasKey $.Values.podSecurityContext $field) }}
{{ $field }}: 65532
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "sluice.containerSecurityContext" -}}
{{- toYaml .Values.containerSecurityContext }}
{{- end }}
