# The plug is pulled while people chat: whatever one of them saw end with "persisted":true is there afterwards.
power_cut_cycles=3
people=6

power_cuts() {
  section "power cuts"
  mkdir -p "$work/people"
  local cycle
  for cycle in $(seq "$power_cut_cycles"); do
    one_power_cut "$cycle"
  done
  simulator_stop # From here on an answer can only be one that was kept.
  check "of $(promised) promised answers none is lost" all_replayed
  simulator_start
}

one_power_cut() {
  local url=http://10.99.0.1:3001 person clients=() before
  before=$(promised)
  for person in $(seq "$people"); do
    talks "$url" "$1" "$person" &
    clients+=($!)
  done
  check "cut $1: people chat" within 60 has_promised $((before + 20))
  machine_power_cut one
  wait "${clients[@]}" || true
  check "cut $1: somebody was in the middle of an answer" grep -q . "$work"/people/torn.*
  rm -f "$work"/people/torn.*
  machine_start one 10.99.0.1
  check "cut $1: the service is there again by itself" within 30 curl -sf --max-time 2 "$url/health/ready"
  check "cut $1: a new chat is kept" chats_as_new "$url" "$work/after.jar" "after-$1" turn "hello"
}

promised() { find "$work/people" -name '*.ledger' -exec cat {} + | wc -l; }

has_promised() { [ "$(promised)" -ge "$1" ]; }

# talks URL CYCLE PERSON: one question after the other until nobody answers; every promise becomes a line of the ledger.
talks() {
  local me=$work/people/$3 chat=c$2 number text answer
  [ -e "$me.jar" ] || introduce "$1" "$me.jar"
  for number in $(seq 1000); do
    text="person $3 cut $2 question $number"
    answer=$(ask "$1" "$me.jar" "$chat" "t$number" "$text") || { [ -z "$answer" ] || echo "$text" >"$me.torn"; break; }
    if is_kept <<<"$answer"; then
      printf '%s\t%s\t%s\t%s\n' "$chat" "t$number" "$text" "$(words <<<"$answer")" >>"$me.ledger"
    fi
  done
  [ ! -e "$me.torn" ] || mv "$me.torn" "$work/people/torn.$3"
}

all_replayed() {
  local person chat turn text answer
  for person in $(seq "$people"); do
    while IFS=$'\t' read -r chat turn text answer; do
      replays http://10.99.0.1:3001 "$work/people/$person.jar" "$chat" "$turn" "$text" "$answer" || return 1
    done <"$work/people/$person.ledger"
  done
}

# replays URL JAR CHAT TURN TEXT ANSWER: the question is repeated, and the same words come.
replays() {
  local again
  [ -n "$6" ] || { echo "nothing was answered in the first place"; return 1; }
  again=$(ask "$1" "$2" "$3" "$4" "$5") || { echo "$3/$4: curl: $?: $again"; return 1; }
  is_kept <<<"$again" && equal "$(words <<<"$again")" "$6"
}
