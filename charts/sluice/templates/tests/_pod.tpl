{{/* What the pods of `helm test` share. Their images have no shell: they run our own programs. */}}
{{- define "sluice.testHook" -}}
helm.sh/hook: test
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* Not the operator's, by which policies let it in and Services select it. */}}
{{- define "sluice.testLabels" -}}
{{- toYaml (merge (dict "app.kubernetes.io/name" "sluice-test" "app.kubernetes.io/component" "test") (include "sluice.labels" . | fromYaml)) }}
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
