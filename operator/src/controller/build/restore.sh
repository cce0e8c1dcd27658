# Restores the dump that the container beside writes into the pipe, in one transaction: until its end the schema is what
# it was before, and the former one is kept beside under the name SCHEMA_old.
set -eu
export PGOPTIONS='-c client_min_messages=warning'

ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 -c "$1"; }
say() { echo "$*" | tee "${TERMINATION_LOG:-/dev/termination-log}" >&2; }
# Whoever writes into the pipe waits for a reader.
drain() { timeout 600 cat "$SHARED/dump" >/dev/null 2>&1 || true; }
refuse() {
  say "$*"
  timeout 5 head -c 1 "$SHARED/dump" >/dev/null 2>&1 || true
  exit 1
}
# Prints a field of the manifest of the backup.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([A-Za-z0-9_.:-]*\).*/\1/p" "$SHARED/manifest"; }
wait_for() {
  waited=0
  until [ -s "$SHARED/$1" ]; do
    if [ "$waited" -ge 600 ]; then
      echo "the container that fetches the backup has not written $1 after 10 minutes" >&2
      return 1
    fi
    waited=$((waited + 1))
    sleep 1
  done
}

mkfifo -m 0660 "$SHARED/dump"
wait_for ready
# The other container has failed, and says why.
if [ "$(cat "$SHARED/ready")" != ready ]; then exit 1; fi
waited=0
# A server that recovers after a crash may take this long.
until pg_isready -q; do
  if [ "$waited" -ge 1800 ]; then refuse "PostgreSQL does not answer"; fi
  waited=$((waited + 2))
  sleep 2
done

name=$(field name)
from=$(field schema)
began=$(field began)
needed=$(field database_bytes)
if [ -z "$from" ] || [ -z "$needed" ]; then refuse "the manifest of the backup cannot be read"; fi
is_there=$(ask "SELECT to_regnamespace('\"$SCHEMA\"') IS NOT NULL")
marked=$(ask "SELECT coalesce(obj_description(to_regnamespace('\"$SCHEMA\"'), 'pg_namespace'), '') = '$MARK'")
if [ "$marked" = t ]; then
  say "the backup $name was restored already"
  drain
  exit 0
fi
if [ "$MODE" = new ] && [ "$is_there" = t ]; then
  say "nothing was restored: the volume has events already, which a new resource must not replace"
  drain
  exit 0
fi
major=$(psql --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
if [ "$(field postgres)" -gt "$major" ]; then
  refuse "the backup $name is of PostgreSQL $(field postgres), and this server is older"
fi

# What is there stays until the transaction ends, and the write-ahead log is on the same volume.
used=$(ask "SELECT pg_database_size(current_database()) + 2 * pg_size_bytes(current_setting('max_wal_size'))")
if [ $((used + needed + needed / 10)) -gt "$VOLUME_BYTES" ]; then
  refuse "the backup $name needs $((needed / 1048576)) MiB besides the $((used / 1048576)) MiB of what is there and the log:" \
    "raise spec.postgres.managed.storage.size"
fi

# Without the last COMMIT, whatever the reason, the server rolls back. psql ends at the first error.
errors=$SHARED/errors
{
  echo 'BEGIN;'
  if [ "$is_there" = t ]; then
    echo "DROP SCHEMA IF EXISTS \"${SCHEMA}_old\" CASCADE;"
    echo "ALTER SCHEMA \"$SCHEMA\" RENAME TO \"${SCHEMA}_old\";"
  fi
  # Not by the name of the pipe: pg_restore opens a file twice.
  if pg_restore --exit-on-error --no-owner --no-privileges --file=- <"$SHARED/dump" && wait_for status &&
    [ "$(cat "$SHARED/status")" = 0 ]; then
    if [ "$from" != "$SCHEMA" ]; then echo "ALTER SCHEMA \"$from\" RENAME TO \"$SCHEMA\";"; fi
    echo "COMMENT ON SCHEMA \"$SCHEMA\" IS '$MARK';"
    echo 'COMMIT;'
  else
    echo 'ROLLBACK;'
  fi
} 2>>"$errors" | psql -X -q -o /dev/null -v ON_ERROR_STOP=1 2>>"$errors" || true
cat "$errors" >&2
if [ "$(ask "SELECT coalesce(obj_description(to_regnamespace('\"$SCHEMA\"'), 'pg_namespace'), '') = '$MARK'")" != t ]; then
  refuse "the backup $name could not be restored, and what was there has stayed: $(grep -m 1 . "$errors")"
fi
ask "SET client_min_messages = error; ANALYZE" || true
say "the backup $name is restored, with what was stored until $began"
