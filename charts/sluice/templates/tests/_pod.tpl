{{/*
The common parts of the pods of `helm test`. The pods run our own programs, because the images have no shell.
*/}}
{{- define "sluice.testHook" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/*
The name differs from that of the operator's pods, because Services select the operator by it and NetworkPolicies
allow its connections by it.
*/}}
{{- define "sluice.testSelector" -}}
app.kubernetes.io/name: sluice-test
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}

{{- define "sluice.testLabels" -}}
{{- toYaml (merge (include "sluice.testSelector" . | fromYaml) (include "sluice.labels" . | fromYaml)) }}
{{- end }}

{{- define "sluice.testPod" -}}
activeDeadlineSeconds: 120
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "sluice.podSecurityContext" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sluice.testContainer" -}}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "sluice.containerSecurityContext" . | nindent 2 }}
{{- end }}
