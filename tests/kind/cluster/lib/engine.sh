# The container engine: the one that is running already, or one that is started here where there is none.
# shellcheck shell=bash

engine_dir=$work/engine
answers() { timeout 10 docker info > /dev/null 2>&1; }
exists() { docker image inspect "$1" > /dev/null 2>&1; }

# Prints the process id of the engine that `engine_start` started. The command line is compared, because the
# recorded process id may belong to another program by now.
engine_pid() {
  local pid
  pid=$(cat "$engine_dir/pid" 2> /dev/null) || return 1
  tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null | grep -qF "$engine_dir/daemon.json" && echo "$pid"
}

engine() {
  answers && return
  command -v dockerd > /dev/null || phase 'installing a container engine' install_packages docker.io iptables jq
  phase 'starting a container engine' engine_start
}

# Debian starts a service as soon as it is installed, unless this file forbids it.
install_packages() {
  local policy=/usr/sbin/policy-rc.d ours=
  if [[ $(id -u) != 0 ]] || ! command -v apt-get > /dev/null; then
    echo "missing: $*. As root on Debian or Ubuntu they are installed; elsewhere start a container engine first."
    return 1
  fi
  if [[ ! -e $policy ]]; then
    ours=1
    printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod 755 "$policy"
  fi
  local status=0
  { timeout 5m apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 10m apt-get install -y -qq --no-install-recommends "$@"; } || status=$?
  [[ -z $ours ]] || rm -f "$policy"
  [[ ! -d /run/systemd/system || " $* " != *' docker.io '* ]] || systemctl disable -q docker.service docker.socket containerd.service || true
  return $status
}

engine_start() {
  [[ $(id -u) == 0 ]] || { echo 'no container engine answers, and only root can start one'; return 1; }
  mkdir -p "$engine_dir"
  iptables-save > "$engine_dir/iptables.before"
  cat /proc/sys/net/ipv4/ip_forward > "$engine_dir/ip_forward.before"
  # `docker run --privileged`, which kind uses, asks for every capability. Where the host itself lacks
  # CAP_SYS_RESOURCE (bit 24), a wrapper around runc removes it from the request.
  local lacking=$(((0x$(sed -n 's/^CapBnd:\s*//p' /proc/self/status) >> 24 & 1) == 0)) runtime='{}'
  ((lacking == 0)) || runtime=$(printf '{"default-runtime":"capless","runtimes":{"capless":{"path":"%s"}}}' "$here/runc-capless")
  jq --arg data "$engine_dir/data" '. + {"data-root": $data}' <<< "$runtime" > "$engine_dir/daemon.json"
  # File descriptor 9 is the lock: the engine must not inherit it, or it would hold the lock while it runs.
  setsid dockerd --config-file "$engine_dir/daemon.json" > "$engine_dir/log" 2>&1 < /dev/null 9>&- &
  echo $! > "$engine_dir/pid"
  eventually 60 answers || { tail -n 20 "$engine_dir/log"; return 1; }
}

# Stops the engine if `engine_start` started it, and restores the network settings of the machine.
engine_stop() {
  local pid
  pid=$(engine_pid) || return 0
  kill -TERM "$pid"
  eventually 60 engine_gone "$pid" || kill -KILL "$pid"
  rm -f "$engine_dir/pid"
  ip link delete docker0 2> /dev/null || true
  iptables-save | grep -vE 'DOCKER|docker0' | iptables-restore
  local policy
  policy=$(sed -n 's/^:FORWARD \([A-Z]*\) .*/\1/p' "$engine_dir/iptables.before" | tail -n 1)
  iptables -P FORWARD "${policy:-ACCEPT}"
  cat "$engine_dir/ip_forward.before" > /proc/sys/net/ipv4/ip_forward
}

engine_gone() { ! kill -0 "$1" 2> /dev/null; }
