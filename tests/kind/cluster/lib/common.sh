# Shared by all scripts here: folders, messages with the time, checksums as names, waiting.
# Sourced after `here` (the folder of the scripts) is set. Messages go to standard error: standard output
# is for results.
# shellcheck shell=bash

# macOS has an older bash, and not the other two: `brew install bash coreutils flock` installs them.
if ((BASH_VERSINFO[0] < 5)) || ! command -v flock > /dev/null || ! command -v timeout > /dev/null; then
  echo "these scripts need bash 5 or later (this is $BASH_VERSION) and the commands flock and timeout" >&2
  exit 2
fi

root=$(cd "$here/../../.." && pwd)
work=${SLUICE_KIND_DIR:-$root/target/kind} # holds everything that is made, except for installed packages
mkdir -p "$work"
work=$(cd "$work" && pwd -P)
bin=$work/bin
store=$work/store
logs=$work/logs
mkdir -p "$bin" "$store" "$logs"
export PATH=$bin:$PATH

# Repository name of the images that are made here because no registry can be reached.
# shellcheck disable=SC2034 # Used by the scripts that source this file.
ours=sluice-kind
# The images that the operator uses when a resource names none, so the cluster must have them.
# shellcheck disable=SC2034
redis_image=redis:8
# shellcheck disable=SC2034
postgres_image=postgres:17

say() { printf '%(%T)T %s\n' -1 "$*" >&2; }
fail() { say "$*"; exit 1; }

# phase WHAT COMMAND…: runs the command and says how long it took. Its output goes to a log file of its
# own; when the command fails, the end of that file is shown.
phase() {
  local what=$1 began=$EPOCHSECONDS log took
  log=$logs/${what//[^A-Za-z0-9]/-}.log
  shift
  say "$what …"
  # In the background, because `set -e` has no effect in a command that is part of a condition.
  "$@" > "$log" 2>&1 &
  if ! wait $!; then
    tail -n 30 "$log" >&2
    fail "$what: failed after $((EPOCHSECONDS - began)) s, see $log"
  fi
  took=$((EPOCHSECONDS - began))
  say "$what: $took s"
  printf '%5d s  %s\n' "$took" "$what" >> "$logs/phases"
}

# key FILES… -- WORDS…: prints a checksum over files (names below `here`, and contents) and words. It names
# a thing by everything that it is made of, so that it is made again when any of it changes.
key() {
  local files=()
  while [[ $# -gt 0 && $1 != -- ]]; do files+=("$1") && shift; done
  {
    [[ ${#files[@]} -eq 0 ]] || (cd "$here" && find "${files[@]}" -type f -print0 | sort -z | xargs -0 sha256sum)
    printf '%s\n' "$@"
  } | sha256sum | cut -c1-12
}

# eventually SECONDS COMMAND…: repeats the command until it succeeds; fails when the time is over.
eventually() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.3
  done
}

# An interrupt does not reach background jobs, so it is passed on to all descendants.
descendants() { local child; for child in $(pgrep -P "$1"); do descendants "$child" && echo "$child"; done; }
stop_all() { local all; mapfile -t all < <(descendants $$) && kill "${all[@]}" 2> /dev/null; exit "$1"; }
trap 'stop_all 130' INT TERM

# at_once COMMANDS…: runs the commands in parallel; the first one that fails ends all of them.
at_once() {
  local command
  for command in "$@"; do $command & done
  for command in "$@"; do wait -n || { say 'giving up'; stop_all 1; }; done
}

# Runs a command as root: directly, or by sudo if that needs no password.
as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo -n "$@"; fi; }

# Takes the lock, so that two runs never build the same thing or start the same engine at the same time.
alone() {
  exec 9> "$work/lock"
  flock -w 3600 9 || fail 'another run has held the lock for an hour'
}
