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

# The folder of this script, with the configuration of the server.
config=$(dirname "$0")

# Descriptor 3 is SQL, a statement a line. There is no server yet, so nobody can connect meanwhile. The configuration
# is that of the server: this process may have to recover after a crash, within the same memory and without huge pages.
sql() {
  beside postgres --single -D "$1" -c "config_file=$config/postgresql.conf" -c exit_on_error=on \
    -c log_min_error_statement=panic postgres >/dev/null
}

# On a node with huge pages that the pod may not use, a process that tries to use them is killed (SIGBUS).
without_huge_pages() {
  if [ "$major" -ge 16 ]; then
    beside initdb --set huge_pages=off "$@"
  else
    # initdb of 15 has no such option. It copies a sample of the configuration from its folder.
    share=${TMPDIR:-/tmp}/share
    rm -rf "$share"
    cp -rL "$(pg_config --sharedir)" "$share"
    sed -i 's/^#huge_pages = try/huge_pages = off/' "$share/postgresql.conf.sample"
    beside initdb -L "$share" "$@"
  fi
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # Made beside and moved: a start that was cut short leaves nothing that looks complete.
  rm -rf "$PGDATA.new"
  # The C locale sorts the same whatever the image's library: an index outlives an upgrade of it.
  without_huge_pages -D "$PGDATA.new" --username=postgres --auth-local=trust --auth-host=scram-sha-256 \
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

exec postgres -D "$PGDATA" -c "config_file=$config/postgresql.conf"
