# For machines that reach an image registry: the ordinary node image and tools, and the official images of
# Redis and PostgreSQL.
# shellcheck shell=bash
# shellcheck disable=SC2154 # versions.sh sets the node image; scripts/images needs none.

# Changed together with the node images in versions.sh: a node image is made for one release of kind. Older
# releases of kind do not know how containerd is configured in it.
oldest_kind=0.30
oldest_helm=3.17 # docs/install.md asks for it
kind_module=sigs.k8s.io/kind@v0.30.0
helm_module=helm.sh/helm/v3/cmd/helm@v3.19.0

# Succeeds if the ordinary node image exists here or can be pulled. Without a registry the pull fails within
# seconds, and the next run tries again.
ordinary() { exists "$ordinary_node" || timeout 15m docker pull -q "$ordinary_node" > "$logs/pull.log" 2>&1; }

ordinary_everything() {
  # shellcheck disable=SC2034 # Used by `create` in cluster.sh.
  node_image=$ordinary_node
  ordinary_beside
  check_inotify
}

# Gets what a cluster that exists needs beside its nodes: the tools, and the images of the backends, which
# `docker system prune` may have removed.
ordinary_beside() {
  ordinary_tools
  local image
  for image in "$redis_image" "$postgres_image"; do
    exists "$image" || phase "pulling $image" timeout 10m docker pull -q "$image"
  done
}

# Tools on the path are used if they are new enough. Otherwise kind and Helm are built, and kubectl is taken
# from the node image.
ordinary_tools() {
  has_tool kind "$oldest_kind" kind version || own_tool kind "$oldest_kind" "$kind_module"
  has_tool helm "$oldest_helm" helm version --short || own_tool helm "$oldest_helm" "$helm_module"
  command -v kubectl > /dev/null || phase 'taking kubectl from the node image' node_kubectl
}

# has_tool NAME OLDEST COMMAND…: succeeds if the tool is on the path and the version that the command prints is
# not older than OLDEST.
has_tool() {
  local name=$1 oldest=$2 version
  shift 2
  command -v "$name" > /dev/null || return 1
  version=$("$@" 2> /dev/null | grep -oE 'v[0-9]+\.[0-9]+' | head -n 1 | tr -d v)
  [[ -n $version && $(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1) == "$oldest" ]] && return
  say "$(command -v "$name") has version ${version:-unknown}; $name $oldest or later is needed"
  return 1
}

own_tool() {
  command -v go > /dev/null || fail "install $1 $2 or later, or Go, with which it is built here"
  phase "building $1" go_install "$3"
}

# Each node runs systemd, a kubelet and containerd, which all watch files. The default of many distributions,
# 128, is too low for three nodes: pods then fail with "too many open files".
check_inotify() {
  local setting=fs.inotify.max_user_instances now wanted=512
  now=$(cat "/proc/sys/${setting//.//}" 2> /dev/null) || return 0
  ((now >= wanted)) || say "$setting is $now. If nodes do not become Ready: sudo sysctl $setting=$wanted fs.inotify.max_user_watches=524288"
}

go_install() { GOBIN=$bin CGO_ENABLED=0 timeout 20m go install -ldflags '-s -w' "$1"; }

node_kubectl() {
  docker run --rm --network none --entrypoint cat "$ordinary_node" /usr/bin/kubectl > "$bin/kubectl.new"
  chmod 755 "$bin/kubectl.new" && mv "$bin/kubectl.new" "$bin/kubectl"
}
