# PostgreSQL refuses a private key that belongs to others, so it gets a copy. Kubernetes replaces the files of the mounted
# Secret, maybe while they are copied, so the copies are compared with them.
files=/etc/sluice-tls/server
copies=/var/run/postgresql/tls
mkdir -p "$copies"
copy() {
  cat "$files/tls.crt" >"$copies/next.crt" && cat "$files/tls.key" >"$copies/next.key" || return 1
  copied=$(cat "$copies/next.crt" "$copies/next.key" | sha256sum)
  if [ "$copied" != "$(digest)" ]; then return 1; fi
  mv "$copies/next.crt" "$copies/tls.crt" && mv "$copies/next.key" "$copies/tls.key"
}
digest() {
  cat "$files/tls.crt" "$files/tls.key" | sha256sum
}

# A pair that does not match is refused by the server, which uses the former one on.
renew() {
  used=$2
  while sleep 5; do
    now=$(digest) || continue
    if [ "$now" != "$used" ] && copy; then
      used=$copied
      kill -HUP "$1"
      echo "new connections use the renewed certificate"
    fi
  done
}

until copy; do sleep 1; done
# The server is not the first process of the container, because it takes an end of a process that it does not know for the
# crash of one of its own.
stopping=
child=
trap 'stopping=1; if [ -n "$child" ]; then kill -TERM "$child" 2>/dev/null || true; fi' TERM
postgres -D "$PGDATA" -c "config_file=${config:?}/postgresql.conf" &
child=$!
if [ -n "$stopping" ]; then kill -TERM "$child"; fi
renew "$child" "$copied" &
renewing=$!

# A signal ends the waiting, and not the server.
while :; do
  code=0
  wait "$child" || code=$?
  if kill -0 "$child" 2>/dev/null; then continue; fi
  kill "$renewing" 2>/dev/null || true
  exit "$code"
done
