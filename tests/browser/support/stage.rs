use crate::process::Process;
use serde_json::json;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const API_KEY: &str = "fastgpt-simulated";
const APP_ID: &str = "6700aa00bb11cc22dd33ee10";

/// A node with its page, and a FastGPT behind it that does what a question tells it to (`llmchat fastgpt-sim --help`).
pub struct Stage {
    /// Where the page is.
    pub url: String,
    dir: TempDir,
    _processes: [Process; 2],
}

impl Stage {
    /// With an agent for each id and name.
    pub fn with_agents(agents: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (sim, address) = Process::start(
            Command::new(binary()).args(["fastgpt-sim", "--first-token", "0", "--pace", "0"]).env_clear(),
            |line| line.strip_prefix("http://").map(ToOwned::to_owned),
        );
        let agents: Vec<_> = agents
            .iter()
            .map(|(id, name)| {
                json!({
                    "id": id, "name": name, "provider": "fastgpt", "apiKey": API_KEY, "appId": APP_ID,
                    "endpoint": format!("http://{address}/api/v1/chat/completions"),
                })
            })
            .collect();
        let (file, config) = (dir.path().join("agents.json"), dir.path().join("llmchat.toml"));
        fs::write(&file, json!({ "agents": agents }).to_string()).expect("it is ours");
        let (state, agents) = (dir.path().join("state"), file.display());
        // A machine that builds beside the tests must not fail them.
        let settings = format!(
            "server.listen = \"127.0.0.1:0\"\nnode.state_dir = '{}'\nagents.file = '{agents}'\n\
             breaker.failures_to_open = 2\nstore.chat_budget_ms = 5000\n\
             limits.api_requests_max = 0\nlimits.chat_requests_max = 0\n",
            state.display()
        );
        fs::write(&config, settings).expect("it is ours");
        let (node, url) = Process::start(
            Command::new(binary()).args(["serve", "--config"]).arg(&config).env_clear().env("NO_COLOR", "1"),
            |line| line.split_once("listening on ").map(|(_, url)| url.trim().to_owned()),
        );
        Self { url, dir, _processes: [node, sim] }
    }

    /// With the one agent `demo`.
    pub fn new() -> Self {
        Self::with_agents(&[("demo", "Demo")])
    }

    /// Name and password of the administrator that the first start has made.
    pub fn admin(&self) -> (String, String) {
        let text = fs::read_to_string(self.dir.path().join("state/admin-password")).expect("the first start writes it");
        let (name, password) = text.trim_end().split_once('\n').expect("two lines");
        (name.to_owned(), password.to_owned())
    }

    /// A file that a person may attach.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes).expect("it is ours");
        path
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

/// The binary that is tested.
fn binary() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it is two floors below the root");
    env::var_os("LLMCHAT_BINARY").map_or_else(|| root.join("target/package/llmchat"), PathBuf::from)
}
