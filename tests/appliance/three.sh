# Three machines as in the README's chapter on pairs: two nodes and a witness, set up by its commands, and what happens to
# them. Each has a simulated FastGPT of its own, so that one that is cut off could answer, if it dared to.
declare -A address=([a]=10.99.0.11 [b]=10.99.0.12 [w]=10.99.0.20)
goes_on_within=8000
reinits=20

three_machines() {
  section "three machines"
  local began=$SECONDS
  stands_up "$1"
  power_off
  cable_pulled
  rebooted
  witness_stopped
  copied_anew
  simulators stop # From here on an answer can only be one that was kept.
  check "of $(wc -l <"$work/pair.ledger") promised answers none is lost, at either address" ledger_is_whole
  echo "        three machines: $((SECONDS - began)) s"
}

url() { echo "http://${address[$1]}:3001"; }

now_ms() { local now=${EPOCHREALTIME/[.,]/}; echo $((now / 1000)); }

is_primary() { curl -sf --max-time 2 -o /dev/null "$(url "$1")/health/primary"; }

# READY is said by a node that hears everybody: two are in sync, and the witness votes.
is_ready() { contains "$(machine "$1" llmchat status)" "failover: READY"; }

stands_up() {
  local name
  for name in a b w; do
    machine_boot "$name" "$home/root" "${address[$name]}"
    cp "$1" "$work/$name/root/package.deb"
  done
  check "the package is installed on three" installs_on_three
  configure_node a
  configure_node b
  begins_as_a_pair
  gets_its_witness
}

installs_on_three() {
  local name jobs=()
  for name in a b w; do
    machine "$name" apt-get install -y --no-install-recommends /root/package.deb &
    jobs+=($!)
  done
  for name in "${jobs[@]}"; do wait "$name" || return 1; done
}

configure_node() {
  machine "$1" sed -i 's/^listen = .*/listen = "0.0.0.0:3001"/' /etc/llmchat/llmchat.toml
  agents_json 127.0.0.1:9100 '${FASTGPT_KEY}' | machine_write "$1" /etc/llmchat/agents.json
  environment | machine_write "$1" /etc/llmchat/environment
  printf '%s\n' '[Service]' 'ExecStart=/usr/bin/llmchat fastgpt-sim --listen 127.0.0.1:9100 --first-token 20 --pace 20' \
    '[Install]' 'WantedBy=multi-user.target' | machine_write "$1" /etc/systemd/system/sim.service
  machine "$1" systemctl enable --now --quiet sim
  machine "$1" systemctl restart llmchat
  within 15 curl -sf --max-time 2 "$(url "$1")/health" >/dev/null
}

simulators() { machine a systemctl "$1" sim && machine b systemctl "$1" sim; }

# The token is the only word after `join` in what is printed.
token() { sed -n 's/.*llmchat join \([^ ]*\) .*/\1/p'; }

begins_as_a_pair() {
  local token
  token=$(machine a llmchat init --address "${address[a]}:7443" --node a | token)
  check "init on a, join on b" machine b llmchat join "$token" --address "${address[b]}:7443" --node b
  check "in sync" within 60 contains_in_sync a
  check "without a witness status says: no automatic failover" contains "$(machine a llmchat status)" "no automatic failover"
}

contains_in_sync() { contains "$(machine "$1" llmchat status)" "RPO now: 0 (in sync)"; }

gets_its_witness() {
  local token
  token=$(machine a llmchat invite --witness | token)
  machine w systemctl disable --now --quiet llmchat
  check "the witness's unit starts" machine w systemctl enable --now --quiet llmchat-witness
  check "invite --witness on a, join on w" machine w llmchat join "$token" --address "${address[w]}:7443"
  check "failover is READY" within 30 is_ready a
  machine a llmchat status
  check "the witness has no chats and no secrets" equal "$(machine w sh -c \
    'find /var/lib/llmchat-witness -name "llmchat.db*" -o -name journal -o -name cluster-secrets')" ""
  check "its unit is fenced in: systemd-analyze security is 2.0 at most" \
    machine w systemd-analyze security --no-pager --threshold=20 llmchat-witness.service
  check "systemd-analyze verify says nothing of it" equal \
    "$(machine w systemd-analyze verify /usr/lib/systemd/system/llmchat-witness.service 2>&1)" ""
  # One visitor, known by the same cookie at either address.
  introduce "$(url a)" "$work/pair.a.jar"
  sed "s/${address[a]}/${address[b]}/" "$work/pair.a.jar" >"$work/pair.b.jar"
}

# keeps NODE CHAT TURN: a question at a node's address, whose answer goes into the ledger.
keeps() {
  local answer
  answer=$(ask "$(url "$1")" "$work/pair.$1.jar" "$2" "$3" "question $3 of $2") || { echo "curl: $?: $answer"; return 1; }
  # One that broke off, as its simulator went down with the machine, is kept as that, and asked anew.
  { is_kept <<<"$answer" && ! grep -q '^event: error' <<<"$answer"; } || { echo "$answer"; return 1; }
  printf '%s\t%s\t%s\n' "$2" "$3" "$(words <<<"$answer")" >>"$work/pair.ledger"
}

ledger_is_whole() {
  local chat turn answer node
  while IFS=$'\t' read -r chat turn answer; do
    for node in a b; do
      replays "$(url "$node")" "$work/pair.$node.jar" "$chat" "$turn" "question $turn of $chat" "$answer" || return 1
    done
  done <"$work/pair.ledger"
}

# goes_on WHAT NODE SINCE: people ask at NODE until they are answered, and what they are told is kept.
goes_on() {
  local turn=0 took said
  until said=$(keeps "$2" "$1" "$turn" 2>&1) || [ $(($(now_ms) - $3)) -gt 30000 ]; do
    turn=$((turn + 1))
  done
  took=$(($(now_ms) - $3))
  check "$1: chat goes on at $2 after $took ms ($goes_on_within at most)" goes_on_in_time "$took" "$said"
  # A machine that shuts down in order may have answered through the other one until then.
  check "$1: $2 is the primary" within 10 is_primary "$2"
}

goes_on_in_time() { [ "$1" -le "$goes_on_within" ] || { echo "$2"; return 1; }; }

power_off() {
  check "before the faults: chat is kept at a" keeps a before 1
  local since
  since=$(now_ms)
  machine_power_cut a
  goes_on power-off b "$since"
  machine_start a "${address[a]}"
  check "power-off: a boots, and is in sync by itself" within 60 is_ready a
}

cable_pulled() {
  local since asking
  check "cable: b, the primary, keeps what is asked on its own loopback" asks_inside b
  since=$(now_ms)
  ip link set vb-b down
  asks_on_inside b 6 >"$work/inside" 2>&1 &
  asking=$!
  goes_on cable a "$since"
  wait "$asking" || true
  check "cable: b was asked on" grep -q . "$work/inside"
  check "cable: and acknowledges nothing" fails grep '"persisted":true' "$work/inside"
  ip link set vb-b up
  check "cable: plugged in, b is in sync by itself" within 60 is_ready b
  check "cable: a is still the primary" is_primary a
}

# A stream inside of a machine, whose network nobody needs.
inside() {
  local body='{"agentId":"helpdesk","stream":true,"detail":true,"messages":[{"role":"user","content":"hello"}]}'
  machine "$1" curl -sN --max-time "$2" -H 'content-type: application/json' -d "$body" \
    http://127.0.0.1:3001/api/chat/completions
}

asks_inside() { inside "$1" 10 | is_kept; }

# asks_on_inside NODE SECONDS: one question after the other.
asks_on_inside() {
  local until=$((SECONDS + $2))
  while [ "$SECONDS" -lt "$until" ]; do
    inside "$1" 3 || echo "curl: $?"
    sleep 0.1
  done
}

rebooted() {
  local since
  check "reboot: chat is kept at a" keeps a reboot before
  since=$(now_ms)
  machine a systemctl reboot || true
  goes_on reboot b "$since"
  machine_ends a
  machine_start a "${address[a]}"
  check "reboot: a is in sync by itself" within 60 is_ready a
  check "history says why: of the witness, and of who was elected" history_says_why
}

history_says_why() {
  contains "$(machine w llmchat history)" "votes for a in epoch" && contains "$(machine w llmchat history)" "votes for b in epoch" &&
    contains "$(machine b llmchat history)" "elected in epoch"
}

witness_stopped() {
  local before
  before=$(machine b llmchat status | head -n 1)
  machine w systemctl stop llmchat-witness
  check "witness stopped: chat is kept at both" keeps_at_both
  check "witness stopped: status says so" within 15 contains_away
  check "witness stopped: the log says so" within 15 logs_once "the witness is away"
  check "witness stopped: the metrics say so" within 15 metrics_say "llmchat_witness_up 0" "llmchat_failover_ready 0"
  check "witness stopped: nothing else has changed" equal "$(machine b llmchat status | head -n 1)" "$before"
  machine w systemctl start llmchat-witness
  check "witness started: failover is READY" within 15 is_ready b
  check "witness started: the log says so" within 15 logs_once "the witness is back"
  check "witness started: the metrics say so" within 15 metrics_say "llmchat_witness_up 1" "llmchat_failover_ready 1"
}

keeps_at_both() { keeps a witness a && keeps b witness b; }

contains_away() { contains "$(machine b llmchat status)" "the witness is away"; }

metrics_say() {
  local said line
  said=$(curl -sf --max-time 5 "$(url b)/metrics") || return 1
  for line in "$@"; do contains "$said" "$line" || return 1; done
}

logs_once() { equal "$(machine b journalctl -u llmchat -o cat | grep -c "$1")" 1; }

# A node that is copied anew begins again in its process: to systemd nothing has happened. That commits wait for it at once
# each time, and not later each time, is a test's setting.
copied_anew() {
  local name number before begun
  for name in a b; do
    machine "$name" mkdir -p /etc/systemd/system/llmchat.service.d
    printf '%s\n' '[Service]' 'Environment=LLMCHAT__CLUSTER__STABLE_MS=0' |
      machine_write "$name" /etc/systemd/system/llmchat.service.d/stable.conf
    machine "$name" systemctl daemon-reload
    machine "$name" systemctl restart llmchat
    within 60 is_ready "$name" >/dev/null
  done
  local standby=a
  ! is_primary a || standby=b
  before=$(machine "$standby" systemctl show llmchat -p MainPID -p NRestarts)
  begun=$(begins "$standby")
  : >"$work/substates"
  for number in $(seq "$reinits"); do
    machine "$standby" llmchat reinit >/dev/null || break
    within 60 is_anew "$standby" $((begun + number)) >/dev/null || break
  done
  check "reinit $reinits times: each came to its end" equal "$number" "$reinits"
  check "reinit: in sync again" within 60 is_ready "$standby"
  check "reinit: the unit was running all the time" equal "$(sort -u "$work/substates")" running
  check "reinit: by the same process" equal "$(machine "$standby" systemctl show llmchat -p MainPID -p NRestarts)" "$before"
}

begins() { machine "$1" journalctl -u llmchat -o cat | grep -c "the node begins again, as what it has become" || true; }

# is_anew NODE TIMES: it has begun again so often, and is in sync. Looks at the unit each time that it asks.
is_anew() {
  machine "$1" systemctl show llmchat --value -p SubState >>"$work/substates"
  [ "$(begins "$1")" -ge "$2" ] && is_ready "$1"
}
