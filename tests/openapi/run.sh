#!/usr/bin/env bash
# Asks a running node whatever its own document allows and much that it does not, as an administrator, as a user and as
# nobody, and fails where an answer is a 500 or is not in the document: a status, a type or a shape.
# Usage: tests/openapi/run.sh BINARY [EXAMPLES [SEED]]
# 10 examples for each operation take about three minutes on two cores; 200 of them are for a night.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=$(realpath "$1") examples=${2-10} seed=${3-20260101}
here=tests/openapi
venv=${CARGO_TARGET_DIR:-target}/openapi

if ! cmp -s "$here/requirements.txt" "$venv/installed"; then
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed"
fi
venv=$(realpath "$venv")

work=$(mktemp -d)
pids=()
end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" || true; done
  rm -rf "$work"
}
trap end EXIT

# What FILE says by the sed expression EXPRESSION, once it does.
said() {
  local pid=$1 file=$2 expression=$3 found
  for _ in $(seq 300); do
    found=$(sed -n "$expression" "$file" | head -n 1)
    if [ -n "$found" ]; then echo "$found"; return; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  cat "$file" >&2
  return 1
}

"$binary" fastgpt-sim --first-token 0 --pace 0 >"$work/sim" 2>&1 &
pids+=($!)
sim=$(said "${pids[0]}" "$work/sim" 's|^\(http://[0-9.:]*\)$|\1|p')
cat >"$work/agents.json" <<EOF
{"agents": [{"id": "assistant", "name": "Simulated", "provider": "fastgpt", "endpoint": "$sim",
  "apiKey": "fastgpt-simulated", "appId": "6700aa00bb11cc22dd33ee10"}]}
EOF
# The simulator stands in for every upstream that an agent may be given: nothing of this leaves the machine.
env -i PATH="$PATH" LLMCHAT__SERVER__LISTEN=127.0.0.1:0 LLMCHAT__CLUSTER__LISTEN=127.0.0.1:0 \
  LLMCHAT__NODE__STATE_DIR="$work/state" LLMCHAT__AGENTS__FILE="$work/agents.json" LLMCHAT__UPSTREAM__PROXY="$sim" \
  LLMCHAT__LIMITS__API_REQUESTS_MAX=0 LLMCHAT__LIMITS__CHAT_REQUESTS_MAX=0 LLMCHAT__LIMITS__LOGIN_FAILURES_MAX=0 \
  LLMCHAT__STORE__CHAT_BUDGET_MS=5000 LLMCHAT__LOG__LEVEL=warn,llmchat::http=info,llmchat::app=info \
  "$binary" serve >"$work/node" 2>&1 &
pids+=($!)
node=$(said "${pids[1]}" "$work/node" 's|.*listening on \(http://[0-9.:]*\).*|\1|p')

post() { curl --silent --show-error --fail -H 'content-type: application/json' "$@"; }
token() {
  post "$node/api/auth/login" -d "{\"username\": \"$1\", \"password\": \"$2\"}" | sed 's/.*"token":"\([^"]*\)".*/\1/'
}
mapfile -t admin <"$work/state/admin-password"
first=$(token "${admin[0]}" "${admin[1]}")
post -o /dev/null "$node/api/admin/users" -H "authorization: Bearer $first" -d '{"username": "user", "password": "Aa1!aaaa"}'

# The document's examples speak of this chat.
question='{"agentId": "assistant", "chatId": "session_1", "responseChatItemId": "turn_1",
  "messages": [{"role": "user", "content": "What is new?"}]}'

checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks+=,response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance
# These may end the login that everything else is asked with: they come last, with one of their own.
ends='postAuthLogout|postAuthChangePassword|putAdminUsersId|deleteAdminUsersId|postAdminUsersIdResetPassword|postAdminUsersIdErase'

found=0
ask() {
  local who=$1
  shift
  echo "-- as $who"
  (cd "$work" && "$venv/bin/schemathesis" --config-file "$OLDPWD/$here/schemathesis.toml" run "$node/api/docs/openapi.json" \
    --checks "$checks" --phases examples,coverage,fuzzing --max-examples "$examples" --seed "$seed" \
    --generation-database none --request-timeout 30 --warnings off --no-color "$@") || found=1
}
OLDPWD=$PWD
# The login lives on, or most of what was asked was refused at the door.
alive() {
  curl --silent --fail -o /dev/null "$node/api/auth/verify" -H "authorization: Bearer $1" || { echo "the login has ended"; found=1; }
}

second=$(token user 'Aa1!aaaa')
for token in "$first" "$second"; do
  post -o /dev/null "$node/api/chat/completions" -H "authorization: Bearer $token" -d "$question"
done
ask "an administrator" -H "Authorization: Bearer $first" --exclude-operation-id-regex "^($ends)\$"
alive "$first"
ask "a user" -H "Authorization: Bearer $second" --exclude-operation-id-regex "^($ends)\$"
alive "$second"
ask nobody
ask "an administrator who may lose the login" -H "Authorization: Bearer $(token "${admin[0]}" "${admin[1]}")" \
  --include-operation-id-regex "^($ends)\$"
curl --silent --fail -o /dev/null "$node/health" || { echo "the node is not well"; found=1; }
if grep -n "panicked" "$work/node"; then found=1; fi
exit "$found"
