# Starts PostgreSQL in the folder $PGDATA, made on the first start, with the password of the Secret.
set -eu
umask 077

# The first process of a container ignores SIGTERM unless it says what to do, and a shell acts on it
# only between commands or while it waits: whatever may take long runs beside it. What is cut short
# here the next start makes anew.
child=
trap 'if [ -n "$child" ]; then kill "$child" 2>/dev/null; fi; exit 143' TERM
beside() {
  "$@" <&3 3<&- &
  child=$!
  wait "$child"
  child=
}

major=$(postgres --version | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
if [ "$major" != "$POSTGRES_MAJOR" ]; then
  echo "the image has PostgreSQL $major, and postgres.managed.version asks for $POSTGRES_MAJOR" >&2
  exit 1
fi

# Descriptor 3 is SQL, a statement a line. There is no server yet, so nobody can connect meanwhile.
sql() { beside postgres --single -D "$1" -c exit_on_error=on -c log_min_error_statement=panic postgres >/dev/null; }

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Made beside and moved: a start that was cut short leaves nothing that looks complete.
  rm -rf "$PGDATA.new"
  # The C locale sorts the same whatever the image's library: an index outlives an upgrade of it.
  beside initdb -D "$PGDATA.new" --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
    --data-checksums --encoding=UTF8 --locale=C 3</dev/null
  sql "$PGDATA.new" 3<<'SQL'
CREATE ROLE sluice LOGIN
CREATE DATABASE sluice OWNER sluice
SQL
  if [ -d "$PGDATA" ]; then rmdir "$PGDATA"; fi
  mv "$PGDATA.new" "$PGDATA"
fi

# Mounting a volume may have given the group access, which PostgreSQL refuses.
chmod 0700 "$PGDATA"

# At every start, so that changing the Secret changes the password.
quoted=$(printf %s "$POSTGRES_PASSWORD" | sed "s/'/''/g")
sql "$PGDATA" 3<<EOF
ALTER ROLE sluice PASSWORD '$quoted'
EOF

exec postgres -D "$PGDATA" -c config_file=/etc/sluice/postgresql.conf
