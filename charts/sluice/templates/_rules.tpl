{{/*
What the operator may do where it looks after resources, and why. The same for a ClusterRole and
for the Roles of single namespaces.
*/}}
{{- define "sluice.rules" -}}
# The resources that it reconciles. Users make, change and remove them; it does not.
- apiGroups: [sluice.dev]
  resources: [eventaggregators]
  verbs: [list, watch]
# What it found out goes into their status alone.
- apiGroups: [sluice.dev]
  resources: [eventaggregators/status]
  verbs: [patch]
# Redis, PostgreSQL, aggregators and publishers. Server-side apply of what is missing needs create.
# A set is deleted, without its pods, to be made anew when its volumes grow; the others when a
# resource no longer wants them.
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [get, list, watch, create, patch, delete]
# Where the parts find each other, how they are set up, and who they are.
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# Who may reach whom.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# Drains take one pod of a part at a time.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# Passwords are made once, by create; patch changes whether they go with their resource. Those that
# a resource refers to are read, and watched, since a changed one rolls the pods that use it: their
# names are not known here. None is deleted.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, patch]
# Volumes grow by their claims. The sets make the claims, and keep or delete them.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch]
# Why a pod does not start, for the conditions.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Autoscaling stands back where somebody else's autoscaler scales the resource.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list]
# What changed and what went wrong, told on the resource; repeated ones are counted up by patch.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
