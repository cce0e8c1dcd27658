# The cluster itself: whose it is, its nodes, and the images in them.
# Sourced after `name` is set; `create` also needs `workers` and `node_image`, which `up` sets.
# shellcheck shell=bash
# shellcheck disable=SC2154 # `down` and `load` source this file too and need neither of the two.

kubeconfig=$work/$name.kubeconfig
# How long to wait until a cluster that exists is Ready (again), in seconds.
patience=${SLUICE_KIND_WAIT:-300}

# Prints the names of the cluster's nodes, also of those that do not run. kind finds them by the same label.
nodes() { docker ps --all --filter "label=io.x-k8s.kind.cluster=$name" --format '{{.Names}}' | sort; }
kube() { kubectl --kubeconfig "$kubeconfig" "$@"; }

# ---- whose cluster it is ----
# A cluster is started or removed only if it was created from this folder. Each node has a mount that says so,
# from the moment it exists and also while it does not run. The folder that is mounted is empty: what counts is
# where it is mounted, which the container engine knows even after `cargo clean`.
mark=/kind/created-by-sluice
own_mark=$mark/$(key -- "$work")
# A file in the control plane. It is written when the cluster is complete, so a cluster without it is what an
# interrupted `up` left.
complete=/kind/complete

# Prints where the mark of a node is mounted, and the folder that the node was created from. Prints nothing if
# these scripts did not create the node.
mark_of() {
  docker inspect -f '{{range .Mounts}}{{printf "%s %s\n" .Destination .Source}}{{end}}' "$1" | grep "^$mark/" || true
}

# Fails unless all nodes of the cluster were created from this folder. It succeeds if there is no node.
only_ours() {
  local node found
  for node in $(nodes); do
    found=$(mark_of "$node")
    [[ $found != "$own_mark "* ]] || continue
    if [[ -z $found ]]; then
      say "There is a kind cluster \"$name\" that was not created by \"make kind-up\". It is left as it is."
    else
      found=${found#* }
      say "There is a kind cluster \"$name\" that was created from another folder, ${found%/created/*}. It is left as it is."
    fi
    say "Choose another name for the cluster of the tests: KIND_CLUSTER=NAME, for example make kind-up KIND_CLUSTER=$name-tests"
    fail "If nobody needs the cluster \"$name\" any more, remove it yourself: kind delete cluster --name $name"
  done
}

# Succeeds if the cluster has been complete once. `docker cp` also reads from a container that does not run.
is_complete() { docker cp "$name-control-plane:$complete" - > /dev/null 2>&1; }

# Succeeds if the nodes were built here, because no registry could be reached.
is_offline() { [[ $(docker inspect -f '{{.Config.Image}}' "$name-control-plane") == "$ours"/* ]]; }

# Prints the version of Kubernetes in the nodes, such as v1.34.4. Each node image has it in this file.
version() { docker cp "$name-control-plane:/kind/version" - 2> /dev/null | tar -xO 2> /dev/null || true; }

# ---- creation and removal ----

create() {
  local i mount
  mkdir -p "$work/created/$name"
  mount=$(printf '    extraMounts: [{hostPath: "%s", containerPath: %s, readOnly: true}]' "$work/created/$name" "$own_mark")
  {
    printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n  - role: control-plane\n%s\n' "$mount"
    for ((i = 0; i < workers; i++)); do printf '  - role: worker\n%s\n' "$mount"; done
  } > "$work/$name.yaml"
  timeout 10m kind create cluster --name "$name" --image "$node_image" --config "$work/$name.yaml" --kubeconfig "$kubeconfig"
}

# Waits until a new cluster is Ready, and marks it as complete.
settle() {
  eventually 180 is_ready
  kube wait --for=condition=Available deployments --all --all-namespaces --timeout=180s
  local node
  for node in $(nodes); do address_of "$node" | docker exec -i "$node" sh -c "cat > $address_file"; done
  docker exec "$name-control-plane" touch "$complete"
}

# Starts the nodes of a cluster that do not run, for example since the machine was restarted. Kubernetes reaches a node
# at the address that it had when it was created. The container engine gives its lowest free addresses in the order in
# which containers start, so the nodes are started in the order of their addresses, all of them if one has another.
start() {
  local node all address recorded=()
  mapfile -t all < <(nodes)
  for node in "${all[@]}"; do
    # `docker cp` also reads from a container that does not run. A cluster of before this file was written has none.
    address=$(docker cp "$node:$address_file" - 2> /dev/null | tar -xO 2> /dev/null || true)
    recorded+=("${address:--} $node")
  done
  mapfile -t all < <(printf '%s\n' "${recorded[@]}" | sort -V)
  has_moved "${all[@]}" && docker stop -t 20 "${all[@]#* }"
  for node in "${all[@]#* }"; do
    [[ $(docker inspect -f '{{.State.Running}}' "$node") == true ]] || docker start "$node"
  done
  ! has_moved "${all[@]}" || {
    echo "The nodes of cluster \"$name\" have other addresses than before, and cannot reach each other."
    echo "Create it again: make kind-down KIND_CLUSTER=$name, and make kind-up KIND_CLUSTER=$name"
    return 1
  }
}

address_file=/kind/address

# Prints the address of a node that runs.
address_of() { docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1"; }

# has_moved 'ADDRESS NODE'…: succeeds if a node that runs has another address than this.
has_moved() {
  local each now
  for each in "$@"; do
    now=$(address_of "${each#* }")
    [[ ${each% *} == - || -z $now || $now == "${each% *}" ]] || return 0
  done
  return 1
}

# Puts the program that enforces NetworkPolicies into each node. A test starts it (policies.yaml).
arm() {
  local node sum
  sum=$(sha256sum < "$bin/policies")
  for node in $(nodes); do
    [[ $(docker exec -i "$node" sh -c 'sha256sum < /usr/local/sbin/policies' 2> /dev/null) == "$sum" ]] \
      || docker cp -L "$bin/policies" "$node:/usr/local/sbin/policies"
  done
}

# Writes the kubeconfig, which `cargo clean` removes although the cluster stays.
write_kubeconfig() {
  kind get kubeconfig --name "$name" > "$kubeconfig.new"
  chmod 600 "$kubeconfig.new"
  mv "$kubeconfig.new" "$kubeconfig"
}

# Succeeds if all nodes are running and Ready.
is_ready() {
  local all ready
  mapfile -t all < <(nodes)
  [[ $(docker inspect -f '{{.State.Running}}' "${all[@]}" | sort -u) == true ]] || return 1
  ready=$(kube get nodes --request-timeout=5s -o 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}' 2> /dev/null) || return 1
  [[ $(tr ' ' '\n' <<< "$ready" | grep -cx True) == "${#all[@]}" ]]
}

# Waits for a cluster that exists. One that does not become Ready is left as it is, for somebody to look at.
await() {
  eventually "$patience" is_ready && return
  kube get nodes --request-timeout=5s || true
  echo "The cluster \"$name\" is not Ready after $patience s. It is left as it is. To look at it:"
  echo "  KUBECONFIG='$kubeconfig' kubectl get nodes,pods --all-namespaces"
  echo "To remove it, so that the next \"make kind-up\" creates it again: make kind-down KIND_CLUSTER=$name"
  return 1
}

# Succeeds if the API server is ready and reports all nodes as Ready.
serves() {
  kube get --raw /readyz --request-timeout=5s > /dev/null 2>&1 && kube wait --for=condition=Ready nodes --all --timeout=5s
}

# Removes the cluster as `kind delete cluster` does, which may not be installed any more. The caller has
# checked that the cluster is ours.
remove() {
  local all
  mapfile -t all < <(nodes)
  ((${#all[@]} == 0)) || timeout 2m docker rm --force --volumes "${all[@]}"
  rm -rf "$kubeconfig" "$work/$name.yaml" "$work/created/$name"
}

# ---- images ----

# load IMAGES…: loads images into the nodes that do not have them in their present state. In a node, each
# image is labelled with its id in the container engine, because the same name may later mean another image.
load() {
  local node image id tar=$work/load-$name.tar lacking=() behind=()
  for node in $(nodes); do
    local holds
    holds=$(docker exec "$node" ctr -n k8s.io images ls)
    for image in "$@"; do
      id=$(docker image inspect -f '{{.Id}}' "$image") || return 1
      grep -qF "$loaded_label=$id" < <(grep -F "/$image " <<< "$holds") || { lacking+=("$image") && behind+=("$node"); }
    done
  done
  ((${#behind[@]})) || { echo 'nothing to load'; return; }
  mapfile -t lacking < <(printf '%s\n' "${lacking[@]}" | sort -u)
  mapfile -t behind < <(printf '%s\n' "${behind[@]}" | sort -u)
  save "$tar" "${lacking[@]}"
  local jobs=() job
  for node in "${behind[@]}"; do import "$node" "$tar" "${lacking[@]}" & jobs+=($!); done
  for job in "${jobs[@]}"; do wait "$job"; done
  rm -f "$tar"
}

loaded_label=sluice.kind/id

# The platform of the nodes, such as linux/amd64. An engine that keeps its images in containerd's store may
# know of an image's other platforms without having their content. So only this platform is saved and
# imported. Engines before API 1.48 (Docker 28) cannot select a platform, nor can older versions of ctr.
platform() { docker version -f '{{.Server.Os}}/{{.Server.Arch}}'; }

save() {
  local tar=$1
  shift
  timeout 5m docker save --platform "$(platform)" -o "$tar" "$@" || timeout 5m docker save -o "$tar" "$@"
}

import() {
  local node=$1 tar=$2 image full
  shift 2
  local import=(timeout 5m docker exec -i "$node" ctr -n k8s.io images import --no-unpack)
  "${import[@]}" --platform "$(platform)" - < "$tar" || "${import[@]}" - < "$tar"
  for image in "$@"; do
    full=$(docker exec "$node" ctr -n k8s.io images ls -q | grep -E "^docker.io/(library/)?$image\$")
    docker exec "$node" ctr -n k8s.io images label "$full" "$loaded_label=$(docker image inspect -f '{{.Id}}' "$image")"
  done
}
