# For machines that reach an image registry: the ordinary node image and tools, and the official images of
# Redis and PostgreSQL.
# shellcheck shell=bash

# Changed together: a node image is made for one release of kind.
ordinary_node=kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a
kind_module=sigs.k8s.io/kind@v0.30.0
helm_module=helm.sh/helm/v3/cmd/helm@v3.19.0

# Succeeds if the ordinary node image exists here or can be pulled. Without a registry the pull fails within
# seconds, and the next run tries again.
ordinary() { exists "$ordinary_node" || timeout 15m docker pull -q "$ordinary_node" > "$logs/pull.log" 2>&1; }

ordinary_everything() {
  node_image=$ordinary_node base_image=debian:trixie-slim
  ordinary_tools
  local image
  for image in "$redis_image" "$postgres_image"; do
    exists "$image" || phase "pulling $image" timeout 10m docker pull -q "$image"
  done
}

# Tools on the path are used as they are. Otherwise kind and Helm are built, and kubectl is taken from the
# node image.
ordinary_tools() {
  command -v kind > /dev/null || phase 'building kind' go_install "$kind_module"
  command -v helm > /dev/null || phase 'building helm' go_install "$helm_module"
  command -v kubectl > /dev/null || phase 'taking kubectl from the node image' node_kubectl
}

go_install() { GOBIN=$bin CGO_ENABLED=0 timeout 20m go install -ldflags '-s -w' "$1"; }

node_kubectl() {
  docker run --rm --network none --entrypoint cat "$ordinary_node" /usr/bin/kubectl > "$bin/kubectl.new"
  chmod 755 "$bin/kubectl.new" && mv "$bin/kubectl.new" "$bin/kubectl"
}
