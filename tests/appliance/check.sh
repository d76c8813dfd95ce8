# What a test says, and how it waits.
passed=0
failed=0

section() { printf '\n-- %s\n' "$1"; }

# check SENTENCE COMMAND...: the sentence is true when the command succeeds; otherwise what it said is shown.
check() {
  local sentence=$1 said
  shift
  if said=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok      $sentence"
  else
    failed=$((failed + 1))
    echo "FAILED  $sentence"
    printf '%s\n' "$said" | tail -n 40 | sed 's/^/          /'
  fi
}

# within SECONDS COMMAND...: tries until it succeeds; a condition, never a guess. Shows the last try when it does not.
within() {
  local until=$((SECONDS + $1)) said
  shift
  while ! said=$("$@" 2>&1); do
    [ "$SECONDS" -lt "$until" ] || { echo "not in time: $*: $said"; return 1; }
    sleep 0.1
  done
  printf '%s' "$said"
}

equal() { [ "$1" = "$2" ] || { echo "expected: $2"; echo "found:    $1"; return 1; }; }

contains() { [[ $1 == *"$2"* ]] || { echo "not found: $2"; echo "in: $1"; return 1; }; }

fails() { if "$@"; then echo "it succeeded: $*"; return 1; fi; }

summary() {
  printf '\n%s passed, %s failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
}
