# Sourced by whoever builds the release: one static build is the package, and what demo, machines and benches run.
# Without a named target the flags would reach build scripts and macros too, which cannot be static.
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu
# A static program finds no `getrandom` by name and would read /dev/urandom, which an empty root does not have: the
# system call is named instead.
export RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'
