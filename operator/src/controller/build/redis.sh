# Starts Redis. The password goes in by standard input: arguments can be read by every process.
set -eu
exec redis-server - <<EOF
$(cat /etc/sluice/redis.conf)
requirepass $REDIS_PASSWORD
EOF
