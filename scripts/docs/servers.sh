# shellcheck shell=bash
# shellcheck disable=SC2154 # sessions.py sets $files and $servers.
# Functions for the hidden commands of sessions: what a reader does at another place, and the servers that a reader has already.
# $servers is a folder for their data, and $files has what goes on in the background: its output and the id of its process.

# Waits until a command succeeds, for at most a minute.
until_it_succeeds() {
    local tries
    for tries in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    echo "after $tries attempts this does not succeed: $*" >&2
    return 1
}

# Waits until what goes on under this name has printed a text.
until_it_prints() {
    until_it_succeeds grep "$2" "$files/$1.out"
}

# Presses Ctrl-C where something goes on.
ctrl_c() {
    local group
    group=$(<"$files/$1.pid")
    kill -INT -- "-$group"
    until_it_succeeds eval "! kill -0 -- -$group"
}

# Ends what goes on at once, as the kernel does when memory is short.
kill_9() {
    local group
    group=$(<"$files/$1.pid")
    kill -9 -- "-$group"
    until_it_succeeds eval "! kill -0 -- -$group"
}

# A cluster on which the resource `shop` is Ready, and the programs, as a reader of a page about operations has them.
have_a_resource() {
    eval "$(make kind-up)"
    cargo build --locked --quiet --workspace --bins
    PATH=$(cd "${CARGO_TARGET_DIR:-target}/debug" && pwd):$PATH
    kubectl apply -f samples/minimal.yaml
    until_it_succeeds is_ready shop
}

# Whether an EventAggregator is Ready as its spec is now.
is_ready() {
    local generation observed status ready='.status.conditions[?(@.type=="Ready")]'
    read -r generation observed status < <(kubectl get eventaggregator "$1" \
        -o jsonpath="{.metadata.generation} {$ready.observedGeneration} {$ready.status}")
    [[ $generation == "$observed" && $status == True ]]
}

start_redis() {
    mkdir -p "$servers/redis"
    redis-server --dir "$servers/redis" --appendonly yes --appendfsync always --maxmemory 256mb --maxmemory-policy noeviction \
        --save '' >"$servers/redis.log" 2>&1 &
    until_it_succeeds redis-cli ping
}

# PostgreSQL refuses to run as root.
as_postgres() {
    if [[ $(id -u) == 0 ]]; then setpriv --reuid postgres --regid postgres --clear-groups "$@"; else "$@"; fi
}

postgres_bin() {
    local folders=(/usr/lib/postgresql/*/bin)
    echo "${SLUICE_PG_BIN:-${folders[-1]}}"
}

# The database `events` of the user `user`. The first call makes it.
start_postgres() {
    local data=$servers/postgres/data bin
    bin=$(postgres_bin)
    if [[ ! -e $data ]]; then
        mkdir -p "$servers/postgres"
        chmod 711 "$servers" "$servers/.."
        if [[ $(id -u) == 0 ]]; then chown postgres "$servers/postgres"; fi
        as_postgres "$bin/initdb" --auth trust --username user --encoding UTF8 --no-sync -D "$data" >"$servers/initdb.log" 2>&1
    fi
    as_postgres "$bin/postgres" -D "$data" -c "unix_socket_directories=$servers/postgres" >>"$servers/postgres.log" 2>&1 &
    until_it_succeeds psql -h localhost -U user -d postgres -c 'SELECT 1'
    if ! psql -h localhost -U user -d events -c 'SELECT 1' >/dev/null 2>&1; then createdb -h localhost -U user events; fi
}

# As `systemctl stop postgresql` does.
stop_postgres() {
    local process
    process=$(head -n 1 "$servers/postgres/data/postmaster.pid")
    kill -INT "$process"
    until_it_succeeds eval "! kill -0 $process"
}
