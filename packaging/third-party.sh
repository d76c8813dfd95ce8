#!/usr/bin/env bash
# Writes THIRD_PARTY.md: every crate that is compiled into the binary, with its version and licence.
# `packaging/third-party.sh --check` fails when the file is not what it would write.
set -euo pipefail
cd "$(dirname "$0")/.."

list() {
  cat <<'HEAD'
# Third-party code in the binary

Made by `packaging/third-party.sh` from the licences that the crates declare. SQLite (in `libsqlite3-sys`) is in the
public domain; AWS-LC (in `aws-lc-sys`) is ISC, Apache-2.0 and OpenSSL licensed; the root certificates in
`webpki-roots` are Mozilla's. The GNU C library is linked in statically, under the LGPL 2.1 or later: whoever wants the
binary with another one builds it with that, by `packaging/build.sh` and from the same source.

| crate | version | licence |
|---|---|---|
HEAD
  cargo tree --locked --edges normal --target x86_64-unknown-linux-gnu --prefix none --format '{p}|{l}' |
    sed -E 's/ \(proc-macro\)//; s/ \(\*\)$//; s/^([^ ]+) v([^ |]+)[^|]*\|/| \1 | \2 | /; s/$/ |/' |
    grep -v '^| llmchat |' | sort -u
}

if [ "${1-}" = --check ]; then
  diff <(list) THIRD_PARTY.md && echo "THIRD_PARTY.md is true"
else
  list >THIRD_PARTY.md
fi
