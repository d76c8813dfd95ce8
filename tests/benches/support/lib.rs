//! What every bench needs: a directory on a real disk, a node, and a way to look at numbers.

#![expect(clippy::disallowed_methods, reason = "a bench reads the clock and its files are thrown away")]

mod disk;
mod node;
mod process;
mod table;
pub mod wire;

pub use disk::Disk;
pub use node::{Node, PATIENCE, binary};
pub use process::{HEAD, PART, PART_UPSTREAM, Process, chunk, serve, word};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use table::{Checks, micros, millis, say};

/// The one app that the agents of a bench stand for.
const APP_ID: &str = "6700aa00bb11cc22dd33ee10";

/// A directory of the bench's own, removed with it. Below the build's, because the system's
/// temporary one may be memory, where a sync of the disk costs nothing.
pub struct Dir(PathBuf);

impl Dir {
    /// Makes it, below where the bench was built.
    pub fn make() -> Self {
        let beside = std::env::current_exe().expect("a process knows its file");
        let dir = beside.with_file_name(format!("llmchat-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("make the bench's directory");
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the agents file: FastGPT apps by id, each at a path of the `upstream`.
    pub fn agents(&self, upstream: SocketAddr, agents: &[(&str, &str)]) {
        let entries: Vec<String> = agents
            .iter()
            .map(|(id, path)| {
                format!(
                    r#"{{"id":"{id}","name":"Bench","provider":"fastgpt","endpoint":"http://{upstream}{path}","apiKey":"fastgpt-bench","appId":"{APP_ID}"}}"#
                )
            })
            .collect();
        let text = format!(r#"{{"agents":[{}]}}"#, entries.join(","));
        fs::write(self.agents_file(), text).expect("write the agents file");
    }

    fn agents_file(&self) -> PathBuf {
        self.0.join("agents.json")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The value that `percent` of all are not above.
pub fn quantile(values: &mut [Duration], percent: usize) -> Duration {
    values.sort_unstable();
    values[(values.len() - 1) * percent / 100]
}

/// Of so many KiB, in units of a million bytes.
pub fn megabytes(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).expect("below 4 TiB")) * 1024.0 / 1e6
}
