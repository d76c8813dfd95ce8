#!/usr/bin/env bash
# Builds the static binary and the package, and says where they are: target/package/llmchat and llmchat_*.deb.
# Needs cargo and a C compiler; installs cargo-deb below target/ when it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/env.sh
target=${CARGO_TARGET_DIR:-target}
version=3.8.0
cargo_deb=$target/tools/bin/cargo-deb

if ! "$cargo_deb" --version 2>/dev/null | grep -qx "cargo-deb $version"; then
  # It runs once a package: a build without optimisation is ready sooner. It is for the machine that builds, not static.
  env -u CARGO_BUILD_TARGET -u RUSTFLAGS cargo install --locked --debug --root "$target/tools" --version "$version" cargo-deb
fi
cargo build --locked --release
out=target/package
rm -rf "$out"
mkdir -p "$out"
cp "$target/$CARGO_BUILD_TARGET/release/llmchat" "$out/"
"$cargo_deb" --no-build --locked --target "$CARGO_BUILD_TARGET" --output "$out/"
ls -l "$out"
