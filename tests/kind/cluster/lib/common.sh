# What every script here stands on: where things are kept, how time is told, how a thing is keyed.
# Sourced after `here` (the folder of the scripts) is set. Standard output is left to results.
# shellcheck shell=bash

root=$(cd "$here/../../.." && pwd)
work=${SLUICE_KIND_DIR:-$root/target/kind} # everything that is made, apart from packages, is below
bin=$work/bin
store=$work/store
logs=$work/logs
mkdir -p "$bin" "$store" "$logs"
export PATH=$bin:$PATH

# What the operator starts when a resource names no image, and so what a cluster must hold.
redis_image=redis:8
postgres_image=postgres:17

say() { printf '%(%T)T %s\n' -1 "$*" >&2; }
fail() { say "$*"; exit 1; }

# phase WHAT COMMAND…: runs it and says how long it took; its output goes to a log of its own, whose
# end is shown when it fails.
phase() {
  local what=$1 began=$EPOCHSECONDS log took
  log=$logs/${what//[^A-Za-z0-9]/-}.log
  shift
  say "$what …"
  # In the background, since `set -e` does not reach what runs inside a condition.
  "$@" > "$log" 2>&1 &
  if ! wait $!; then
    tail -n 30 "$log" >&2
    fail "$what: failed after $((EPOCHSECONDS - began)) s, see $log"
  fi
  took=$((EPOCHSECONDS - began))
  say "$what: $took s"
  printf '%5d s  %s\n' "$took" "$what" >> "$logs/phases"
}

# key FILES… -- WORDS…: the checksum of what a thing is made of, files by name (below here) and content.
key() {
  local files=()
  while [[ $# -gt 0 && $1 != -- ]]; do files+=("$1") && shift; done
  {
    [[ ${#files[@]} -eq 0 ]] || (cd "$here" && find "${files[@]}" -type f -print0 | sort -z | xargs -0 sha256sum)
    printf '%s\n' "$@"
  } | sha256sum | cut -c1-12
}

# eventually SECONDS COMMAND…: repeats it until it succeeds, or fails when the time is over.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.3
  done
}

# An interrupt does not reach background jobs: it is passed on.
descendants() { local child; for child in $(pgrep -P "$1"); do descendants "$child" && echo "$child"; done; }
stop_all() { local all; mapfile -t all < <(descendants $$) && kill "${all[@]}" 2> /dev/null; exit "$1"; }
trap 'stop_all 130' INT TERM

# at_once COMMANDS…: each runs beside the others; the first that fails ends them all.
at_once() {
  local command
  for command in "$@"; do $command & done
  for command in "$@"; do wait -n || { say 'giving up'; stop_all 1; }; done
}

# Root, or a way to become it, for the few things that need it.
as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi; }

# One at a time: two that build the same thing, or start the same engine, would spoil it.
alone() {
  exec 9> "$work/lock"
  flock -w 3600 9 || fail 'another run holds the lock for an hour'
}
