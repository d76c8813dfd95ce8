use super::{Browser, Node, PATIENCE, Upstream};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What every agent of these tests has as its key, so that leaks are found by one search.
pub(crate) const API_KEY: &str = "fastgpt-testkey0123456789";
pub(crate) const APP_ID: &str = "6700aa00bb11cc22dd33ee10";

/// One entry of the agents file.
#[derive(Clone, Debug)]
pub(crate) struct Agent(Value);

impl Agent {
    /// A FastGPT app behind `upstream`.
    pub(crate) fn of(id: &str, upstream: &Upstream) -> Self {
        Self::at(id, &upstream.endpoint())
    }

    pub(crate) fn at(id: &str, endpoint: &str) -> Self {
        Self(json!({
            "id": id, "name": format!("Agent {id}"), "provider": "fastgpt", "endpoint": endpoint,
            "apiKey": API_KEY, "appId": APP_ID,
        }))
    }

    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }

    /// The text of an agents file.
    pub(crate) fn file(agents: &[Self]) -> String {
        json!({ "agents": agents.iter().map(|agent| &agent.0).collect::<Vec<_>>() }).to_string()
    }
}

/// A node's home: its configuration and its state, which outlive its processes.
pub(crate) struct Home {
    dir: TempDir,
}

/// What a command that has ended said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new(agents: &[Agent]) -> Self {
        let home = Self { dir: tempfile::tempdir().expect("a temporary directory") };
        home.put("agents.json", Agent::file(agents));
        home.configure("");
        home
    }

    /// Replaces the configuration: a free port, the state and the agents file of this home, and `more`. The store's
    /// budget on the chat path is generous: a machine that builds beside the tests must not fail them. Requests are not
    /// limited unless `more` says so: a test is one client, and may be a crowd.
    pub(crate) fn configure(&self, more: &str) {
        let (state, agents) = (self.state(), self.path("agents.json"));
        let (state, agents) = (state.display(), agents.display());
        let unlimited = "limits.api_requests_max = 0\nlimits.chat_requests_max = 0\n";
        let unlimited = if more.contains("limits.api_requests_max") { "" } else { unlimited };
        self.put(
            "llmchat.toml",
            format!(
                "server.listen = \"127.0.0.1:0\"\nnode.state_dir = '{state}'\nagents.file = '{agents}'\n\
                 log.level = \"info,llmchat=trace\"\nstore.chat_budget_ms = 5000\n{unlimited}{more}"
            ),
        );
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the node keeps what it must not lose.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let mut file = File::create(self.path(name)).expect("the home is writable");
        file.write_all(bytes.as_ref()).expect("the home has room");
    }

    /// `llmchat` with this home's configuration and nothing of ours in its environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_llmchat"));
        command.args(arguments).arg("--config").arg(self.path("llmchat.toml"));
        command.env_clear().env("NO_COLOR", "1").current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    /// Starts a node and waits until it is ready.
    pub(crate) fn start(&self) -> Node {
        Self::started(self.command(&["serve"]))
    }

    /// Starts what is made of [`Home::command`], and waits until it is ready.
    pub(crate) fn started(command: Command) -> Node {
        let node = Node::spawn(command);
        let ready = Browser::new(node.address()).get("/health/ready");
        assert_eq!(ready.status, 200, "{}", node.log());
        node
    }

    /// Starts a node that may refuse to; `None` when it has.
    pub(crate) fn try_start(&self) -> Option<Node> {
        Node::try_spawn(self.command(&["serve"])).ok()
    }

    /// Runs a command to its end, which must come by itself.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Self::ran(self.command(arguments))
    }

    /// Runs what is made of [`Home::command`] to its end.
    pub(crate) fn ran(command: Command) -> Ran {
        Node::run(command, PATIENCE)
    }

    /// Every file of the state, with its bytes.
    pub(crate) fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        walk(&self.state(), &mut files);
        files
    }
}

fn walk(dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).expect("the state is a directory") {
        let entry = entry.expect("the state can be listed");
        let kind = entry.file_type().expect("the state can be looked at");
        if kind.is_dir() {
            walk(&entry.path(), files);
        } else if kind.is_file() {
            let bytes = fs::read(entry.path()).expect("the state is ours");
            files.push((entry.path(), bytes));
        }
    }
}
