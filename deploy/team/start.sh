#!/bin/sh
# Starts what a team's Dagster consists of: code server, daemon, webserver. All bind to 127.0.0.1; put a proxy that
# knows your people in front of the webserver. When one of them ends, or this script is told to, all end.
#   needs   POSEFACTORY_PG_URL, POSEFACTORY_STORE=r2://…, R2_ENDPOINT_URL, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY, R2_BUCKET
#   may     DAGSTER_HOME (default ./.dagster_team), PORT (default 3000), CODE_PORT (default 4266)
set -eu
cd "$(dirname "$0")/../.."
BIN=${BIN:-.venv/bin}
DAGSTER_HOME=${DAGSTER_HOME:-$PWD/.dagster_team}
PORT=${PORT:-3000}
CODE_PORT=${CODE_PORT:-4266}
export DAGSTER_HOME
for name in POSEFACTORY_PG_URL POSEFACTORY_STORE R2_ENDPOINT_URL R2_ACCESS_KEY_ID R2_SECRET_ACCESS_KEY R2_BUCKET; do
  eval "value=\${$name:-}"
  [ -n "$value" ] || { echo "$name is not set; see deploy/team/README.md"; exit 2; }
done
"$BIN/python" -c 'import dagster_postgres' 2>/dev/null || { echo "dagster-postgres is missing: $BIN/python -m pip install -c constraints.txt '.[team]'"; exit 2; }
# Dagster's compute logs use the AWS names; R2 does not take every checksum that boto3 would add.
export AWS_ACCESS_KEY_ID="$R2_ACCESS_KEY_ID" AWS_SECRET_ACCESS_KEY="$R2_SECRET_ACCESS_KEY"
export AWS_REQUEST_CHECKSUM_CALCULATION=when_required AWS_RESPONSE_CHECKSUM_VALIDATION=when_required
mkdir -p "$DAGSTER_HOME"
[ -e "$DAGSTER_HOME/dagster.yaml" ] || cp deploy/team/dagster.yaml "$DAGSTER_HOME/dagster.yaml"  # yours to change
sed "s/4266/$CODE_PORT/" deploy/team/workspace.yaml > "$DAGSTER_HOME/workspace.yaml"

pids=""
alive() { for pid in $pids; do kill -0 "$pid" 2>/dev/null && return 0; done; return 1; }
stop() {
  trap - INT TERM EXIT
  kill $pids 2>/dev/null || true
  for _ in $(seq 30); do alive || return 0; sleep 0.5; done
  kill -9 $pids 2>/dev/null || true
}
trap stop INT TERM EXIT
"$BIN/dagster" api grpc -m posefactory_dagster.definitions -h 127.0.0.1 -p "$CODE_PORT" --location-name posefactory & pids="$pids $!"
sleep 5
"$BIN/dagster-daemon" run -w "$DAGSTER_HOME/workspace.yaml" & pids="$pids $!"
"$BIN/python" -m posefactory_dagster.webserver -h 127.0.0.1 -p "$PORT" -w "$DAGSTER_HOME/workspace.yaml" & pids="$pids $!"
while :; do
  for pid in $pids; do kill -0 "$pid" 2>/dev/null || { echo "a part of it ended; stopping the rest"; exit 1; }; done
  sleep 2
done
