# The service as an operator handles it.

service_runs() {
  section "the service"
  local url=http://10.99.0.1:3001 jar=$work/service.jar
  configure
  check "systemctl restart takes the new configuration" machine one systemctl restart llmchat
  check "it answers in the network" within 10 curl -sf --max-time 2 "$url/health"
  check "a chat with the simulated FastGPT is kept" chats_as_new "$url" "$jar" chat turn "hello"
  check "its key came from the environment file" fails machine one grep -q fastgpt-simulated /etc/llmchat/agents.json
  check "journald has what it said" contains "$(machine one journalctl -u llmchat -o cat)" "listening on http://0.0.0.0:3001"
  check "no file limit, system call or watchdog troubled it" machine one sh -c \
    "journalctl -u llmchat -o cat >/root/journal && test -s /root/journal && ! grep -E 'WARN|ERROR' /root/journal"
  control_socket
  check "root's offline commands leave a state that the service can use" offline_and_back
  tls
  clean_stop "$url" "$jar"
}

# What the README tells an operator to do.
configure() {
  machine one sed -i 's/^listen = .*/listen = "0.0.0.0:3001"/' /etc/llmchat/llmchat.toml
  agents_json "$simulator" '${FASTGPT_KEY}' | machine_write one /etc/llmchat/agents.json
  environment | machine_write one /etc/llmchat/environment
}

control_socket() {
  check "root lists the agents through the control socket" contains "$(machine one llmchat agents list)" helpdesk
  check "root tests an agent through it" machine one llmchat agents test helpdesk
  machine one useradd --no-create-home --groups llmchat ann
  machine one useradd --no-create-home stranger
  check "a member of the group does, too" contains "$(as ann llmchat agents list 2>&1)" helpdesk
  local socket=/run/llmchat/control.sock
  check "and can at the socket itself" as ann curl -sf --max-time 5 --unix-socket "$socket" http://control/agents
  check "which a stranger cannot" fails as stranger curl -sf --max-time 5 --unix-socket "$socket" http://control/agents
}

as() { local user=$1; shift; machine one setpriv --reuid "$user" --regid "$user" --init-groups "$@"; }

offline_and_back() {
  machine one systemctl stop llmchat && machine one llmchat agents list && machine one systemctl start llmchat &&
    within 10 curl -sf --max-time 2 http://10.99.0.1:3001/health
}

tls() {
  local url=https://10.99.0.1
  certificate "$work" IP:10.99.0.1
  cacert=$work/cert.pem
  machine_write one /etc/llmchat/cert.pem <"$work/cert.pem"
  machine_write one /etc/llmchat/key.pem <"$work/key.pem"
  machine one chown root:llmchat /etc/llmchat/key.pem
  machine one chmod 640 /etc/llmchat/key.pem
  machine one mkdir -p /run/systemd/system/llmchat.service.d
  printf '%s\n' '[Service]' 'Environment=LLMCHAT__SERVER__LISTEN=0.0.0.0:443' \
    'Environment=LLMCHAT__SERVER__TLS__CERT=/etc/llmchat/cert.pem LLMCHAT__SERVER__TLS__KEY=/etc/llmchat/key.pem' |
    machine_write one /run/systemd/system/llmchat.service.d/tls.conf
  machine one systemctl daemon-reload
  check "port 443 with TLS is opened without being root" machine one systemctl restart llmchat
  check "a chat over TLS is kept" chats_as_new "$url" "$work/tls.jar" tls turn "hello"
  certificate "$work" IP:10.99.0.1
  machine_write one /etc/llmchat/cert.pem <"$work/cert.pem"
  machine one tee /etc/llmchat/key.pem <"$work/key.pem" >/dev/null
  check "the new certificate is not yet served" fails curl -sf --max-time 5 --cacert "$cacert" "$url/health"
  check "systemctl reload" machine one systemctl reload llmchat
  check "serves the new certificate" within 10 curl -sf --max-time 5 --cacert "$cacert" "$url/health"
  cacert=
  machine one rm -r /run/systemd/system/llmchat.service.d
  machine one systemctl daemon-reload
  machine one systemctl restart llmchat
}

# A stop while an answer is under way.
clean_stop() {
  ask "$1" "$2" stop turn "sim:pieces=60" >"$work/stopping" &
  local client=$!
  within 10 grep -q '^event: chunk' "$work/stopping"
  check "a stop in the middle of an answer" machine one systemctl stop llmchat
  wait "$client" || true
  check "lets the answer end, kept" is_kept <"$work/stopping"
  check "is a success in systemd's words" equal "$(property Result) $(property ExecMainStatus)" "success 0"
  check "and it starts again" machine one systemctl start llmchat
}

service_guards() {
  section "what guards the service"
  machine one systemd-analyze security --no-pager llmchat.service | tail -n 1 || true
  check "systemd-analyze security is 2.0 at most" machine one systemd-analyze security --no-pager --threshold=20 llmchat.service
  check "systemd-analyze verify says nothing" equal \
    "$(machine one systemd-analyze verify /usr/lib/systemd/system/llmchat.service 2>&1)" ""
  killed
  frozen
  misconfigured
}

killed() {
  local before
  before=$(property MainPID)
  machine one sh -c "kill -9 $before"
  check "killed, it is started again" serves_anew_within "$before" 10
}

serves_anew_within() {
  within "$2" serves_anew "$1" && within 5 curl -sSf --max-time 2 http://10.99.0.1:3001/health && return
  machine one journalctl -u llmchat -n 20
  return 1
}

# A stopped process cannot prove that it lives. The watchdog's time is shortened: the test is of the word, not of time.
frozen() {
  machine one mkdir -p /run/systemd/system/llmchat.service.d
  printf '%s\n' '[Service]' 'WatchdogSec=6' 'TimeoutAbortSec=2' |
    machine_write one /run/systemd/system/llmchat.service.d/watchdog.conf
  machine one systemctl daemon-reload
  machine one systemctl restart llmchat
  local before
  before=$(property MainPID)
  machine one sh -c "kill -STOP $before"
  check "frozen, it is missed by the watchdog and started again" serves_anew_within "$before" 30
  check "because of the watchdog, says the journal" contains "$(machine one journalctl -u llmchat -o cat)" "Watchdog timeout"
  machine one rm -r /run/systemd/system/llmchat.service.d
  machine one systemctl daemon-reload
}

misconfigured() {
  machine one cp /etc/llmchat/llmchat.toml /root/good.toml
  echo 'colour = "blue"' | machine one tee -a /etc/llmchat/llmchat.toml >/dev/null
  machine one systemctl restart llmchat || true
  check "a wrong configuration is not tried again and again" within 10 failed_for_good
  check "and the journal names the key" contains "$(machine one journalctl -u llmchat -o cat)" colour
  machine one cp /root/good.toml /etc/llmchat/llmchat.toml
  check "with the right one it starts" machine one systemctl start llmchat
}

failed_for_good() { equal "$(property SubState) $(property ExecMainStatus) $(property NRestarts)" "failed 64 0"; }
