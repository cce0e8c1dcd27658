# Starts Redis with TLS, and has it read a renewed certificate. The password goes in by standard input: arguments can be
# read by every process.
set -eu
files=/etc/sluice-tls/server

# The first process of a container ignores SIGTERM unless it says what to do.
server=
stopping=
trap 'stopping=1; if [ -n "$server" ]; then kill -TERM "$server" 2>/dev/null || true; fi' TERM

digest() {
  cat "$files/tls.crt" "$files/tls.key" | sha256sum
}

# Kubernetes replaces the files of the mounted Secret. A pair that does not match is refused, and the former one is used on.
renew() {
  used=$1
  refused=
  while sleep 5; do
    now=$(digest) || continue
    if [ "$now" = "$used" ]; then continue; fi
    answer=$(redis-cli --tls --insecure config set tls-cert-file "$files/tls.crt" tls-key-file "$files/tls.key" 2>&1) || true
    if [ "$answer" = OK ]; then
      used=$now
      echo "new connections use the renewed certificate"
    elif [ "$now" != "$refused" ]; then
      refused=$now
      echo "Redis does not take the renewed certificate, trying again: $answer" >&2
    fi
  done
}

started_with=$(digest)
redis-server - <<EOF &
$(cat /etc/sluice/redis.conf)
requirepass $REDIS_PASSWORD
EOF
server=$!
if [ -n "$stopping" ]; then kill -TERM "$server"; fi
renew "$started_with" &
renewing=$!

# A signal ends the waiting, and not the server.
while :; do
  code=0
  wait "$server" || code=$?
  if kill -0 "$server" 2>/dev/null; then continue; fi
  kill "$renewing" 2>/dev/null || true
  exit "$code"
done
