{{/*
What the operator may do where it looks after resources, and why. The same for a ClusterRole and
for the Roles of single namespaces.
*/}}
{{- define "sluice.rules" -}}
# The resources it reconciles. Never created or deleted by it.
- apiGroups: [sluice.dev]
  resources: [eventaggregators]
  verbs: [get, list, watch]
# What it found out goes into the status alone.
- apiGroups: [sluice.dev]
  resources: [eventaggregators/status]
  verbs: [get, patch]
# The replicas that autoscaling by backlog asks for.
- apiGroups: [sluice.dev]
  resources: [eventaggregators/scale]
  verbs: [get, patch]
# Redis, Postgres and aggregators; recreated, leaving their pods, when a volume has grown.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# The publisher.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# How the parts find each other, and their settings.
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# Generated passwords, made once; those that a resource refers to are read. A changed one rolls the
# pods that use it. Deleted with the resource when it says so.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch, delete]
# Claims grow with the resource's storage, and go with it when it says so.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch, delete]
# Why a pod does not start, for the conditions of the status.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
# One replica at a time in a drain.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Who may reach whom.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Somebody else's autoscaler on the resource: the operator's own then stands back.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
# What it did and what went wrong, on the resource.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
