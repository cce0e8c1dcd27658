# Dumps the schema into the pipe that the container beside reads, and notes how pg_dump has ended.
set -eu

mkfifo -m 0660 "$SHARED/dump"
waited=0
until [ -s "$SHARED/ready" ]; do
  if [ "$waited" -ge 600 ]; then
    echo "the container that stores the backup is not ready after 10 minutes" >&2
    exit 1
  fi
  waited=$((waited + 1))
  sleep 1
done
# The other container has failed, and says why.
if [ "$(cat "$SHARED/ready")" != ready ]; then exit 1; fi

status=0
pg_dump --format=custom --no-password --lock-wait-timeout=60s --schema="$SCHEMA" >"$SHARED/dump" || status=$?
echo "$status" >"$SHARED/status"
exit "$status"
