# The network of a cluster whose nodes were built here, with a firewall rule that keeps the nodes' packets in it.
# Such a machine reaches no registry, so no pod needs anything from outside. Addresses of pods and Services exist
# only inside the nodes, and until kube-proxy has written its rules, packets to them take the default route out
# of the machine. A cluster of the ordinary node images has kind's own network and no rule.
# Sourced after `name` is set.
# shellcheck shell=bash

network=kind-$name
bridge=kind-$(key -- "$name" | cut -c1-8)
rule=(DOCKER-USER -i "$bridge" ! -o "$bridge" -j REJECT)

# Succeeds if the network exists and was created by `fence`, which names the bridge.
has_network() {
  [[ $(docker network inspect -f '{{index .Options "com.docker.network.bridge.name"}}' "$network" 2> /dev/null) == "$bridge" ]]
}

fence() {
  export KIND_EXPERIMENTAL_DOCKER_NETWORK=$network
  has_network || docker network create -o "com.docker.network.bridge.name=$bridge" "$network" > /dev/null
  as_root iptables -C "${rule[@]}" 2> /dev/null && return
  as_root iptables -I "${rule[@]}" 2> /dev/null || say 'no firewall rule around the nodes: it needs root and a container engine on this machine'
}

unfence() {
  has_network || return 0
  while as_root iptables -D "${rule[@]}" 2> /dev/null; do :; done
  docker network rm "$network" > /dev/null
}
