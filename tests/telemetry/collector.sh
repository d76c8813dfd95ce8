#!/usr/bin/env bash
# Somebody else's collector in place of ours: rotel, a real one, which prints what it decoded. Over gRPC and over
# HTTP, packed and not, its totals must be those of /metrics; also after it was killed and after it was frozen, while
# chats went on.
#
# Usage: tests/telemetry/collector.sh BINARY            e.g. target/release/llmchat
#        tests/telemetry/collector.sh BINARY --around COMMAND...
#
# The second form is for measuring: it prints the address of a node that pushes every second, runs COMMAND with
# LLMCHAT_URL in its environment while the collector is well, again while it is frozen, and again while it is dead,
# so that a load driver's figures of the three can be compared; all that LLMCHAT_ROUNDS times (1), in turn, as the
# store and the machine change meanwhile.
#
# Needs Python 3.11 and its package index. Everything goes below target/.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "$1")
shift
venv=target/rotel
python=${PYTHON:-python3.11}
[ -x "$venv/bin/pip" ] || "$python" -m venv --clear "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check 'rotel==0.0.1a15'
rotel=$(echo "$venv"/lib/python3*/site-packages/rotel/rotel-agent)
work=$(mktemp -d)
node= collector= sim=
cleanup() {
  for child in $node $collector $sim; do kill -KILL "$child" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "FAILED: $*"
  tail -n 20 "$work"/*.err || true
  exit 1
}

# until SECONDS COMMAND...: asks again until it says yes.
until_true() {
  local by=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$by" ] || return 1
    sleep 0.1
  done
}

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

collect() {
  # Its output is a file of each life: a new one knows nothing of what the last one was told.
  lives=$((lives + 1))
  "$rotel" start --otlp-grpc-endpoint "127.0.0.1:$grpc" --otlp-http-endpoint "127.0.0.1:$http" --exporter blackhole \
    --debug-log metrics --debug-log-verbosity detailed >"$work/collector.$lives" 2>"$work/collector.err" &
  collector=$!
  until_true 20 bash -c "exec 3<>/dev/tcp/127.0.0.1/$grpc" || fail "the collector does not listen"
}

# serve PROTOCOL PORT COMPRESSION
serve() {
  : >"$work/node.err" # Else the line of the node before is found.
  env -i PATH="$PATH" LLMCHAT__SERVER__LISTEN=127.0.0.1:0 LLMCHAT__NODE__STATE_DIR="$work/state.${1%%/*}.$3" \
    LLMCHAT__LIMITS__API_REQUESTS_MAX=0 LLMCHAT__LIMITS__CHAT_REQUESTS_MAX=0 \
    LLMCHAT__AGENTS__FILE="$work/agents.json" OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:$2" \
    OTEL_EXPORTER_OTLP_PROTOCOL="$1" OTEL_EXPORTER_OTLP_COMPRESSION="$3" OTEL_METRIC_EXPORT_INTERVAL=1000 \
    OTEL_EXPORTER_OTLP_TIMEOUT=1000 "$binary" serve --config /dev/null 2>"$work/node.err" &
  node=$!
  until_true 20 grep -q 'listening on' "$work/node.err" || fail "the node does not listen"
  url=$(sed -n 's/.*listening on \(http:[^ ]*\).*/\1/p' "$work/node.err")
}

chat() {
  local body='{"agentId":"a","stream":false,"messages":[{"role":"user","content":"hi"}]}'
  for _ in $(seq "$1"); do
    curl --silent --show-error --fail-with-body --max-time 5 -H 'content-type: application/json' -d "$body" \
      "$url/api/chat/completions" >"$work/answer" 2>&1 || fail "a chat was not answered: $(cat "$work/answer")"
  done
}

same() { curl --silent --fail "$url/metrics" | "$python" tests/telemetry/totals.py "$work/collector.$lives" "$1"; }

stop() {
  kill -TERM "$1"
  wait "$1" || fail "process $1 exits with $?"
}

lives=0 grpc=$(free_port) http=$(free_port)
"$binary" fastgpt-sim --first-token 5 --pace 1 >"$work/sim.out" 2>"$work/sim.err" &
sim=$!
until_true 20 grep -q '^endpoint' "$work/sim.out" || fail "the simulated FastGPT does not start"
endpoint=$(sed -n 's/^endpoint \([^,]*\),.*/\1/p' "$work/sim.out")
cat >"$work/agents.json" <<JSON
{"agents": [{"id": "a", "name": "A", "provider": "fastgpt", "endpoint": "$endpoint", "apiKey": "fastgpt-simulated",
  "appId": "6700aa00bb11cc22dd33ee10"}]}
JSON

if [ "${1-}" = --around ]; then
  shift
  collect
  serve grpc "$grpc" none
  export LLMCHAT_URL=$url
  for round in $(seq "${LLMCHAT_ROUNDS:-1}"); do
    echo "== round $round: the collector is well"
    "$@"
    kill -STOP "$collector"
    echo "== round $round: the collector is frozen"
    "$@"
    kill -KILL "$collector"
    wait "$collector" 2>/dev/null || true
    echo "== round $round: the collector is dead"
    "$@"
    collect
    until_true 20 same 0 || { same 0; fail "the totals differ after the collector's return"; }
  done
  echo "== the collector is back, with every total"
  stop "$node"
  exit
fi

for transport in "grpc $grpc none" "grpc $grpc gzip" "http/protobuf $http none" "http/protobuf $http gzip"; do
  read -r protocol port compression <<<"$transport"
  collect
  serve "$protocol" "$port" "$compression"
  chat 5
  until_true 20 same 5 || { same 5; fail "$transport: the totals differ"; }
  kill -KILL "$collector"
  wait "$collector" 2>/dev/null || true
  chat 3
  until_true 20 grep -q 'metrics do not reach the collector' "$work/node.err" || fail "$transport: no word of the loss"
  collect
  until_true 20 same 8 || { same 8; fail "$transport: the totals differ after its death"; }
  kill -STOP "$collector"
  chat 3
  until_true 20 grep -q 'no answer within' "$work/node.err" || fail "$transport: no word of the silence"
  chat 3
  kill -CONT "$collector"
  until_true 20 same 14 || { same 14; fail "$transport: the totals differ after its frost"; }
  chat 2
  stop "$node"
  node=
  # The page is gone with the node; what it said last is what it had counted: 16 chats.
  until_true 20 "$python" tests/telemetry/totals.py "$work/collector.$lives" 16 </dev/null || fail "$transport: the last export is missing"
  kill -KILL "$collector"
  wait "$collector" 2>/dev/null || true
  collector=
  echo "$transport: the same totals, also after its death and its frost"
done
