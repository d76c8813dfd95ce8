#!/usr/bin/env bash
# The demo as a person meets it: starts the binary, pastes the curl line that it prints, and checks
# that the answer streams to a durable end and that Ctrl-C leaves nothing behind.
# Usage: tests/smoke.sh target/release/llmchat
set -euo pipefail
binary=$1
work=$(mktemp -d)
TMPDIR=$work "$binary" demo >"$work/out" 2>"$work/err" &
demo=$!
trap 'kill "$demo" 2>/dev/null || true; rm -rf "$work"' EXIT

for _ in $(seq 100); do
  grep -q 'Ctrl-C' "$work/out" && break
  kill -0 "$demo" || { cat "$work/err"; exit 1; }
  sleep 0.1
done
url=$(sed -n 's/^Chat at  //p' "$work/out")
paste=$(sed -n 's/^or with  //p' "$work/out")
# Into a file: a grep that has seen enough would break curl's pipe.
curl --silent --fail --retry 20 --retry-connrefused --retry-delay 1 --output "$work/page" "$url/"
grep -q '<title>LLMChat' "$work/page" || { echo "no page"; exit 1; }
bash -c "${paste/curl -N/curl -sSN --max-time 60}" >"$work/answer"
grep -q '^event: chunk' "$work/answer" || { cat "$work/answer"; exit 1; }
grep -q '"persisted":true' <(tail -n 3 "$work/answer") || { cat "$work/answer"; exit 1; }
kill -INT "$demo"
wait "$demo" || { echo "the demo exits with $?"; cat "$work/err"; exit 1; }
left=$(find "$work" -name 'llmchat-demo-*')
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
echo "the demo answers, keeps its chat, and leaves nothing behind"
