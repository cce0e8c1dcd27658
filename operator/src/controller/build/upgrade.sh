# Copies the schema from the PostgreSQL that serves (PGHOST) to a newer one (NEXT), in one transaction, and compares all
# rows. Nothing is written to the former one. No aggregator runs meanwhile, and the tables are locked against writes in
# case one does.
set -eu
export PGOPTIONS='-c client_min_messages=warning -c statement_timeout=0'
# Rows are compared as text, which depends on it.
export PGTZ=UTC
# What is refused to wait longer than this for, in seconds.
patience=600

say() { echo "$*" | tee "${TERMINATION_LOG:-/dev/termination-log}" >&2; }
refuse() {
  say "$*"
  exit 1
}
ask() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
old() { "$@"; }
# The name in the certificate of the new server is that of the former one, whose place it takes. So it is connected to by
# its address.
new() (
  export PGHOSTADDR="$address"
  "$@"
)
until_true() {
  waited=0
  until "$@"; do
    if [ "$waited" -ge "$patience" ]; then return 1; fi
    waited=$((waited + 1))
    sleep 1
  done
}
resolve() {
  address=$(getent ahosts "$NEXT" | awk '{ print $1; exit }')
  [ -n "$address" ]
}

until_true resolve || refuse "$NEXT has no address"
until_true pg_isready -q || refuse "PostgreSQL $FROM does not answer"
until_true new pg_isready -q || refuse "PostgreSQL $TO does not answer"
major() { echo $(($("$1" ask -c 'SHOW server_version_num') / 10000)); }
if [ "$(major old)" != "$FROM" ]; then refuse "the server that serves is PostgreSQL $(major old), and not $FROM"; fi
if [ "$(major new)" != "$TO" ]; then refuse "the new server is PostgreSQL $(major new), and not $TO"; fi
began=$(date +%s)

# A session of its own keeps the locks until its input ends. What else is connected as this role is ended first: the
# aggregators have stopped, so it can only be a process that Kubernetes has lost sight of.
errors=$SHARED/errors
mkfifo -m 0600 "$SHARED/hold"
ask -o /dev/null <"$SHARED/hold" 2>>"$errors" &
holder=$!
exec 4>"$SHARED/hold"
cat >&4 <<EOF2
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
  WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid();
BEGIN;
SET LOCAL lock_timeout = '60s';
SELECT format('LOCK TABLE %I.%I IN SHARE MODE', nspname, relname) FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
  WHERE nspname = '$SCHEMA' AND relkind IN ('r', 'p') ORDER BY relname \gexec
\\! echo locked >"$SHARED/held"
EOF2
is_locked() { [ -s "$SHARED/held" ] || ! kill -0 "$holder" 2>/dev/null; }
until_true is_locked || refuse "the tables of PostgreSQL $FROM cannot be locked: $(tail -n 1 "$errors")"
if [ ! -s "$SHARED/held" ]; then refuse "the tables of PostgreSQL $FROM cannot be locked: $(tail -n 1 "$errors")"; fi

if [ "$(ask -c "SELECT to_regnamespace('\"$SCHEMA\"') IS NOT NULL")" != t ]; then
  refuse "PostgreSQL $FROM has no schema $SCHEMA: nothing was stored yet"
fi

# Prints a line for each table, with the number of its rows and the sum of a hash of each row, for each sequence and for
# each index. The order of rows does not matter.
sums() {
  {
    echo "SELECT format('SELECT %L, count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM %I.%I AS t', relname,"
    echo "  nspname, relname) FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace"
    echo "  WHERE nspname = '$SCHEMA' AND relkind = 'r' ORDER BY relname \\gexec"
    echo "SELECT 'sequence', sequencename, last_value FROM pg_sequences WHERE schemaname = '$SCHEMA' ORDER BY sequencename;"
    echo "SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = '$SCHEMA' ORDER BY indexname;"
    echo "SELECT 'comment', coalesce(obj_description(to_regnamespace('\"$SCHEMA\"'), 'pg_namespace'), '');"
  } | "$1" ask
}

# The rows of the former server are summed up while they are copied: they cannot change.
sums old >"$SHARED/sums-old" 2>>"$errors" &
summing=$!
{
  echo 'BEGIN;'
  # An interrupted copy, which nothing has used.
  echo "DROP SCHEMA IF EXISTS \"$SCHEMA\" CASCADE;"
  if pg_dump --no-password --lock-wait-timeout=60s --no-owner --no-privileges --schema="$SCHEMA"; then
    echo 'COMMIT;'
  else
    echo 'ROLLBACK;'
  fi
} 2>>"$errors" | new ask -o /dev/null 2>>"$errors" || true
copied=$(date +%s)
if [ "$(new ask -c "SELECT to_regnamespace('\"$SCHEMA\"') IS NOT NULL")" != t ]; then
  refuse "the rows cannot be copied to PostgreSQL $TO: $(grep -m 1 . "$errors")"
fi
new ask -c 'SET client_min_messages = error; ANALYZE' >/dev/null 2>&1 &
analyzing=$!
sums new >"$SHARED/sums-new" 2>>"$errors" || refuse "the rows of PostgreSQL $TO cannot be read: $(tail -n 1 "$errors")"
wait "$summing" || refuse "the rows of PostgreSQL $FROM cannot be read: $(tail -n 1 "$errors")"
wait "$analyzing" || true
if ! cmp -s "$SHARED/sums-old" "$SHARED/sums-new"; then
  diff "$SHARED/sums-old" "$SHARED/sums-new" >&2 || true
  refuse "PostgreSQL $TO does not have the same rows as $FROM: $(diff "$SHARED/sums-old" "$SHARED/sums-new" | sed -n 2p)"
fi
wrong=$(new ask -c "SELECT count(*) FROM \"$SCHEMA\".counters WHERE received <> unique_processed + duplicate_dropped")
if [ "$wrong" != 0 ]; then refuse "$wrong counters do not add up"; fi

# The locks were there all the time only if their session still is.
printf 'COMMIT;\n\\! echo released >"%s"\n' "$SHARED/held" >&4
exec 4>&-
wait "$holder" || refuse "the session that locked the tables has ended: $(tail -n 1 "$errors")"
if ! grep -q released "$SHARED/held"; then refuse "the session that locked the tables has ended"; fi
rows=$(awk -F '|' '$1 == "events" { print $2 }' "$SHARED/sums-new")
size=$(new ask -c "SELECT pg_size_pretty(pg_database_size(current_database()))")
ended=$(date +%s)
say "PostgreSQL $TO has the $rows events of PostgreSQL $FROM, $size, each row compared: copied in $((copied - began)) s," \
  "compared in $((ended - copied)) s"
