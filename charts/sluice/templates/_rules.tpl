{{/*
The permissions of the operator in the namespaces whose resources it reconciles, each with its reason. They are
the same for the ClusterRole and for the Roles of single namespaces.
*/}}
{{- define "sluice.rules" -}}
# The resources that it reconciles. Only users create, change and delete them.
- apiGroups: [sluice.dev]
  resources: [eventaggregators]
  verbs: [list, watch]
# It writes only the status of the resources.
- apiGroups: [sluice.dev]
  resources: [eventaggregators/status]
  verbs: [patch]
# Redis, PostgreSQL, aggregators and publishers. Server-side apply of an object that does not exist needs
# create. Objects are deleted when the resource no longer needs them.
- apiGroups: [apps]
  resources: [statefulsets, deployments]
  verbs: [get, list, watch, create, patch, delete]
# The DNS names by which the components find each other, their configuration, and their accounts.
- apiGroups: [""]
  resources: [services, configmaps, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
# Backups of PostgreSQL.
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [get, list, watch, create, patch, delete]
# The Jobs of backups tell what they stored. A restore and an upgrade of PostgreSQL are Jobs that the operator creates and
# never changes; Kubernetes removes them. The operator deletes that of an upgrade that is given up.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, delete]
# The connections that are allowed between pods.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# A node drain may evict one pod of each component at a time.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# A password is generated once, by create. Patch adds or removes its owner reference, which decides whether it
# is deleted with its resource. Secrets to which a resource refers are read and watched, because the pods that
# use one are replaced when it changes. Their names are not known here, so the rule covers all Secrets. The
# operator deletes none. With `secretSelector` it names labels in each list and watch, and needs no get.
- apiGroups: [""]
  resources: [secrets]
  verbs: [{{ if not .Values.secretSelector }}get, {{ end }}list, watch, create, patch]
# A volume grows when its claim is patched. Kubernetes creates the claims for the StatefulSets. Patch also adds or
# removes the owner reference, which decides whether a claim is deleted with its resource. Get finds a claim whose
# labels somebody removed. Delete removes the volume that an upgrade of PostgreSQL has not filled, and those of former
# major versions where a resource asks for that.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, patch, delete]
# The conditions report the reason for which a pod does not start.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# The operator creates one for the publishers where a resource asks for it, and does not scale what one of somebody
# else scales.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# The ways in which clients outside the cluster reach the publishers.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
# The same for routes of the Gateway API.
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
# How Prometheus finds the programs, and their alerts.
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors, prometheusrules]
  verbs: [get, list, watch, create, patch, delete]
# A PostgreSQL that CloudNativePG runs. Patch also adds or removes the owner reference, which decides whether it is deleted
# with its resource. The operator deletes none.
- apiGroups: [postgresql.cnpg.io]
  resources: [clusters]
  verbs: [get, list, watch, create, patch]
# The schedule of its backups, which is deleted when the resource has none any more.
- apiGroups: [postgresql.cnpg.io]
  resources: [scheduledbackups]
  verbs: [get, list, watch, create, patch, delete]
# Events about changes and errors of a resource. Patch increases the count of a repeated event.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
