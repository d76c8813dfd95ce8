# The binary by itself: it needs nothing of the system that it runs on.
binary_alone() {
  section "the binary alone"
  check "ldd says that it is linked statically" is_static
  empty_root
}

is_static() {
  local said
  said=$(ldd "$binary" 2>&1) || true
  [[ $said =~ (statically linked|not a dynamic executable) ]] || { echo "$said"; return 1; }
}

# A root with the binary, its configuration and nothing else: no libraries, no /etc, no /proc, no /dev, no resolver.
empty_root() {
  local root=$work/empty url=https://127.0.0.1:8443
  cacert=$work/cert.pem
  mkdir -p "$root"
  mkdir -m 0700 "$root/state"
  cp "$binary" "$root/llmchat"
  certificate "$work" IP:127.0.0.1
  cp "$work/cert.pem" "$work/key.pem" "$root/"
  agents_json 127.0.0.1:9100 fastgpt-simulated >"$root/agents.json"
  printf '%s\n' 'server.listen = "127.0.0.1:8443"' 'server.tls = { cert = "/cert.pem", key = "/key.pem" }' \
    'node.state_dir = "/state"' 'agents.file = "/agents.json"' >"$root/llmchat.toml"
  chroot "$root" /llmchat fastgpt-sim --listen 127.0.0.1:9100 --pace 5 >"$work/empty-sim.log" 2>&1 &
  local sim=$!
  chroot "$root" /llmchat serve --config /llmchat.toml 2>"$work/empty.log" &
  local node=$!
  check "in an empty root it starts and answers over TLS" within 15 curl -sf --max-time 5 --cacert "$cacert" "$url/health"
  check "a chat over TLS from there is kept" chats_as_new "$url" "$work/empty.jar" chat turn "hello"
  check "the certificate is checked: without its authority there is no connection" fails curl -sf --max-time 5 "$url/health"
  kill "$node" || cat "$work/empty.log"
  within 20 has_ended "$node" || kill -9 "$node"
  local code=0
  wait "$node" || code=$?
  check "and it stops cleanly" equal "$code" 0
  kill "$sim"
  wait "$sim" 2>/dev/null || true
  cacert=
}

chats_as_new() { introduce "$1" "$2" && chats "$@"; }

has_ended() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:.*Z' "/proc/$1/status"; }

# certificate DIR ADDRESS: cert.pem and key.pem of its own.
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=llmchat \
    -addext "subjectAltName=$2" -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
}
