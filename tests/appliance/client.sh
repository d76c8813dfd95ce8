# People with curl, and the FastGPT behind the service. The simulator runs on the bridge: it outlives the machines.
simulator=10.99.0.254:9100
simulator_pid=

simulator_start() {
  "$binary" fastgpt-sim --listen "$simulator" --first-token 20 --pace 20 >"$work/simulator.log" 2>&1 &
  simulator_pid=$!
  within 10 curl -sf --max-time 2 "http://$simulator/sim/stats" >/dev/null
}

simulator_stop() {
  kill "$simulator_pid"
  wait "$simulator_pid" 2>/dev/null || true
}

agents_json() {
  echo '{"agents": [{"id": "helpdesk", "name": "Helpdesk", "provider": "fastgpt",
    "endpoint": "http://'"$1"'/api/v1/chat/completions", "apiKey": "'"$2"'", "appId": "6700aa00bb11cc22dd33ee10"}]}'
}

# What the service has in its environment. It does not limit requests, as everybody here has one address.
environment() {
  printf '%s\n' FASTGPT_KEY=fastgpt-simulated LLMCHAT__LIMITS__API_REQUESTS_MAX=0 LLMCHAT__LIMITS__CHAT_REQUESTS_MAX=0
}

# introduce URL JAR: a first chat, empty and refused, which brings the cookie.
introduce() {
  curl -s -o /dev/null --max-time 10 ${cacert:+--cacert "$cacert"} -c "$2" -H 'content-type: application/json' \
    -d '{"agentId":"helpdesk","messages":[]}' "$1/api/chat/completions" && grep -q llmchat_visitor "$2"
}

# ask URL JAR CHAT TURN TEXT: streams an answer to standard output.
ask() {
  local body='{"agentId":"helpdesk","stream":true,"detail":true,"chatId":"'$3'","responseChatItemId":"'$4'",
    "messages":[{"role":"user","content":"'$5'"}]}'
  curl -sN --fail-with-body --max-time 30 ${cacert:+--cacert "$cacert"} -b "$2" -H 'content-type: application/json' -d "$body" \
    "$1/api/chat/completions"
}

# The words of a streamed answer, whatever pieces it came in.
words() { sed -n '/^event: chunk/{n;s/^data: .*"content":"\(\([^"\\]\|\\.\)*\)".*/\1/p}' | tr -d '\n'; }

is_kept() { tail -n 3 | grep -q '"persisted":true'; }

# chats URL JAR CHAT TURN TEXT: asks, and requires a durable end.
chats() {
  local answer
  answer=$(ask "$@") || { echo "curl: $?"; return 1; }
  is_kept <<<"$answer" || { echo "$answer"; return 1; }
}
