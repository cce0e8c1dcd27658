# The cluster itself: its network with a firewall rule, its nodes, and the images in them.
# Sourced after `name` is set; `stands` and `create` also need `workers` and `node_image`, which `up` sets.
# shellcheck shell=bash
# shellcheck disable=SC2154 # `down` and `load` source this file too and need neither of the two.

network=kind-$name
bridge=kind-$(key -- "$name" | cut -c1-8)
kubeconfig=$work/$name.kubeconfig
export KIND_EXPERIMENTAL_DOCKER_NETWORK=$network

kind_quietly() { kind "$@" 2> /dev/null; }
nodes() { kind_quietly get nodes --name "$name" | grep -x "$name-.*" || true; }
kube() { kubectl --kubeconfig "$kubeconfig" "$@"; }

# Adds a firewall rule that keeps the nodes' packets in the nodes' network. Addresses of pods and Services
# exist only inside the nodes, and until kube-proxy has written its rules, packets to them take the default
# route out of the machine.
fence() {
  docker network inspect "$network" > /dev/null 2>&1 \
    || docker network create -o "com.docker.network.bridge.name=$bridge" "$network" > /dev/null
  local rule=(DOCKER-USER -i "$bridge" ! -o "$bridge" -j REJECT)
  as_root iptables -C "${rule[@]}" 2> /dev/null && return
  as_root iptables -I "${rule[@]}" 2> /dev/null || say 'no firewall rule around the nodes: it needs root and a container engine on this machine'
}

unfence() {
  while as_root iptables -D DOCKER-USER -i "$bridge" ! -o "$bridge" -j REJECT 2> /dev/null; do :; done
  docker network rm "$network" > /dev/null 2>&1 || true
}

# Succeeds if all nodes exist, are running and Ready.
stands() {
  local all ready
  mapfile -t all < <(nodes)
  ((${#all[@]} == workers + 1)) && [[ -s $kubeconfig ]] || return 1
  [[ $(docker inspect -f '{{.State.Running}}' "${all[@]}" | sort -u) == true ]] || return 1
  ready=$(kube get nodes --request-timeout=5s -o 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}' 2> /dev/null) || return 1
  [[ $(tr ' ' '\n' <<< "$ready" | grep -cx True) == "${#all[@]}" ]]
}

# Succeeds if the API server is ready and reports all nodes as Ready.
serves() {
  kube get --raw /readyz --request-timeout=5s > /dev/null 2>&1 && kube wait --for=condition=Ready nodes --all --timeout=5s
}

create() {
  local i
  {
    printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n  - role: control-plane\n'
    for ((i = 0; i < workers; i++)); do echo '  - role: worker'; done
  } > "$work/$name.yaml"
  timeout 10m kind create cluster --name "$name" --image "$node_image" --config "$work/$name.yaml" --kubeconfig "$kubeconfig"
}

settle() {
  eventually 180 stands
  kube wait --for=condition=Available deployments --all --all-namespaces --timeout=180s
}

remove() {
  timeout 2m kind delete cluster --name "$name" --kubeconfig "$kubeconfig"
  rm -f "$kubeconfig" "$work/$name.yaml"
}

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
  timeout 5m docker save -o "$tar" "${lacking[@]}"
  local jobs=() job
  for node in "${behind[@]}"; do import "$node" "$tar" "${lacking[@]}" & jobs+=($!); done
  for job in "${jobs[@]}"; do wait "$job"; done
  rm -f "$tar"
}

loaded_label=sluice.kind/id

import() {
  local node=$1 tar=$2 image full
  shift 2
  timeout 5m docker exec -i "$node" ctr -n k8s.io images import --no-unpack - < "$tar"
  for image in "$@"; do
    full=$(docker exec "$node" ctr -n k8s.io images ls -q | grep -E "^docker.io/(library/)?$image\$")
    docker exec "$node" ctr -n k8s.io images label "$full" "$loaded_label=$(docker image inspect -f '{{.Id}}' "$image")"
  done
}
