//! Tells the program which commit it was built from, for `--version`, and when that was.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    let version = std::env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    println!("cargo::rustc-env=LLMCHAT_VERSION={version} ({commit})");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rustc-env=LLMCHAT_BUILT={}", built());
}

/// Seconds since 1970, of the source where that is known, so that one source makes one binary: a clock that is right is
/// after it.
fn built() -> u64 {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok();
    let committed = || commit().and_then(|_| git(&["log", "-1", "--format=%ct"]));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    told.or_else(committed).and_then(|seconds| seconds.parse().ok()).unwrap_or_else(now)
}

/// The checked-out commit; `None` in an unpacked archive, without git, or inside somebody else's repository.
fn commit() -> Option<String> {
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    // What a commit, a checkout or a rebase touches, and nothing more: a file that is not there would make every
    // build run this again, and other branches' files would make their commits rebuild ours.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", "logs/HEAD", "packed-refs", branch.as_str()].iter().filter(|name| !name.is_empty()) {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).is_file()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=7", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
