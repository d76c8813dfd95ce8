# The package: what it holds, and what dpkg does with it.

package_file() {
  section "the package"
  lintian --allow-root --tag-display-limit 0 "$1" || true # What it only warns of is shown.
  check "lintian finds no error" lintian --allow-root --fail-on error "$1"
  check "and nothing is hidden from it" fails test -e "$work/unpacked/usr/share/lintian"
  check "it wants no library of the system" equal "$(dpkg-deb -f "$1" Depends)" systemd
}

package_installs() {
  section "installation, without internet"
  cp "$1" "$work/one/root/package.deb"
  check "apt installs it from the file" machine one apt-get install -y --no-install-recommends /root/package.deb
  check "it is active, by its own word (Type=notify)" is_active
  check "it will be after the next boot" machine one systemctl is-enabled llmchat
  check "it answers on loopback only" answers_on_loopback_only
  check "state, configuration and keys are closed to others" modes_are
  check "check-config finds nothing wrong in what is shipped" machine one llmchat check-config
}

is_active() {
  within 20 machine one systemctl is-active llmchat
  equal "$(property Type) $(property StatusText)" "notify serving"
}

property() { machine one systemctl show llmchat --value -p "$1"; }

answers_on_loopback_only() {
  machine one curl -sf --max-time 5 http://127.0.0.1:3001/health | grep -q '"status":"healthy"' || return 1
  fails curl -sf --max-time 2 http://10.99.0.1:3001/health
}

modes_are() {
  equal "$(machine one stat -c '%n %U:%G %a' /etc/llmchat /etc/llmchat/agents.json /etc/llmchat/environment \
    /var/lib/llmchat /var/lib/llmchat/llmchat.db /run/llmchat /run/llmchat/control.sock)" \
    "/etc/llmchat root:llmchat 750
/etc/llmchat/agents.json root:llmchat 640
/etc/llmchat/environment root:root 600
/var/lib/llmchat llmchat:llmchat 700
/var/lib/llmchat/llmchat.db llmchat:llmchat 600
/run/llmchat llmchat:llmchat 750
/run/llmchat/control.sock llmchat:llmchat 660"
}

package_upgrades() {
  section "reinstallation and upgrade"
  local url=http://10.99.0.1:3001 jar=$work/upgrade.jar answer before
  introduce "$url" "$jar"
  answer=$(ask "$url" "$jar" upgrade turn "keep me" | words)
  simulator_stop # From here on an answer can only be one that was kept.
  before=$(property MainPID)
  check "the same package again: installs" machine one dpkg -i /root/package.deb
  check "a new process serves" serves_anew "$before"
  check "the answer is still there" replays "$url" "$jar" upgrade turn "keep me" "$answer"
  newer "$1" "$work/one/root/newer.deb"
  before=$(property MainPID)
  check "a newer version: installs, and asks nothing" machine one dpkg -i /root/newer.deb
  check "a new process serves" serves_anew "$before"
  check "the operator's edits are still there" \
    machine one grep -q 'listen = "0.0.0.0:3001"' /etc/llmchat/llmchat.toml
  check "the answer is still there" replays "$url" "$jar" upgrade turn "keep me" "$answer"
  check "remove: goes" machine one apt-get remove -y llmchat
  check "nothing runs, and no program is left" no_process_no_program
  check "chats and configuration stay" machine one test -s /var/lib/llmchat/llmchat.db -a -s /etc/llmchat/agents.json
  check "installed again after that: installs" machine one dpkg -i /root/newer.deb
  check "it is active" is_active
  check "the answer is still there" replays "$url" "$jar" upgrade turn "keep me" "$answer"
}

serves_anew() {
  is_active || return 1
  [ "$(property MainPID)" != "$1" ] || { echo "process $1 was not restarted"; return 1; }
}

# newer DEB TO: the same package under a higher version.
newer() {
  rm -rf "$work/newer"
  dpkg-deb -R "$1" "$work/newer"
  sed -i 's/^Version: .*/&+newer/' "$work/newer/DEBIAN/control"
  dpkg-deb --root-owner-group -b "$work/newer" "$2" >/dev/null
}

package_leaves() {
  section "purge"
  check "purge: goes" machine one apt-get purge -y llmchat
  check "no file of it is left" equal "$(machine one find / -xdev -name '*llmchat*' -not -path '/proc/*')" ""
  check "its user stays, without a login" contains "$(machine one getent passwd llmchat)" nologin
}

no_process_no_program() {
  fails machine one systemctl is-active llmchat && fails machine one test -e /usr/bin/llmchat &&
    fails machine one sh -c 'grep -lx llmchat /proc/[0-9]*/comm'
}
