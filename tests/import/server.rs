//! A PostgreSQL of this test's own.

use crate::support::{PATIENCE, now};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use tempfile::TempDir;

/// Of the one user there is, so that a leak is found by a search for it.
pub(crate) const PASSWORD: &str = "hush-0123456789";
const USER: &str = "old";
/// Who owns a server where the tests run as root: PostgreSQL does not run as root.
const ROOTLESS: [(&str, u32); 2] = [("postgres", 0), ("nobody", 65_534)];

pub(crate) struct Postgres {
    child: Child,
    dir: TempDir,
    port: u16,
}

/// Where PostgreSQL's programs are.
fn programs() -> PathBuf {
    let mut dirs: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|dirs| dirs.flatten().map(|dir| dir.path().join("bin")).collect())
        .unwrap_or_default();
    dirs.sort();
    dirs.reverse();
    dirs.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let has_all = |dir: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| dir.join(name).exists());
    dirs.into_iter().find(has_all).expect(
        "these tests need a PostgreSQL: install it (Debian: apt-get install postgresql), or put initdb, postgres and psql \
         of one into PATH",
    )
}

/// The numbers of a user and their group who own a server; `None` where the tests do not run as root.
fn owner() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = ROOTLESS.iter().find_map(|(name, number)| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name));
        let numbers = line.and_then(|line| {
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        });
        numbers.or(if *number > 0 { Some((*number, *number)) } else { None })
    });
    Some(found.expect("nobody is there in any case"))
}

fn run(mut command: Command) {
    let ran = command.stdin(Stdio::null()).output().expect("the program is there");
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

impl Postgres {
    /// An empty server.
    pub(crate) fn start() -> Self {
        Self::started(|_| ())
    }

    /// The same with what `prepare` has put into its directory: with `server.crt` there it speaks TLS.
    pub(crate) fn started(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        prepare(dir.path());
        write_secret(&dir.path().join("password"), PASSWORD);
        if let Some((user, group)) = owner() {
            chown(dir.path(), Some(user), Some(group)).expect("it is ours");
            for entry in fs::read_dir(dir.path()).expect("it is ours").flatten() {
                chown(entry.path(), Some(user), Some(group)).expect("it is ours");
            }
        }
        let data = dir.path().join("data");
        let mut initdb = Self::program("initdb", dir.path());
        initdb.arg("-D").arg(&data).args([
            "-U",
            USER,
            "-A",
            "scram-sha-256",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale",
            "C",
        ]);
        initdb.arg("--pwfile").arg(dir.path().join("password"));
        run(initdb);
        // Given by the kernel a moment ago, which gives others to those who come meanwhile.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
        let mut postgres = Self::program("postgres", dir.path());
        postgres.arg("-D").arg(&data).arg("-k").arg(dir.path());
        for setting in ["listen_addresses=127.0.0.1", "fsync=off", "max_connections=10", "shared_buffers=16MB"] {
            postgres.args(["-c", setting]);
        }
        postgres.args(["-c", &format!("port={port}")]);
        postgres.args(["-c", "timezone=UTC"]);
        let certificate = dir.path().join("server.crt");
        if certificate.exists() {
            // By the network nobody gets in without TLS.
            let rules = "hostssl all all all scram-sha-256\nlocal all all scram-sha-256\n";
            let mut file = fs::File::create(data.join("pg_hba.conf")).expect("the directory is there");
            file.write_all(rules.as_bytes()).expect("there is room");
            postgres.args(["-c", "ssl=on", "-c", &format!("ssl_cert_file={}", certificate.display())]);
            postgres.args(["-c", &format!("ssl_key_file={}", dir.path().join("server.key").display())]);
        }
        let mut child = postgres.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program is there");
        let log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            let mut said = String::new();
            for line in log.lines().map_while(Result::ok) {
                if line.contains("ready to accept connections") {
                    let _ = ready.send(Ok(()));
                }
                said.push_str(&line);
                said.push('\n');
            }
            let _ = ready.send(Err(said));
        });
        let server = Self { child, dir, port };
        match is_ready.recv_timeout(PATIENCE) {
            Ok(Ok(())) => server,
            other => panic!("PostgreSQL does not start: {other:?}"),
        }
    }

    fn program(name: &str, dir: &Path) -> Command {
        let mut command = Command::new(programs().join(name));
        command.current_dir(dir).env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        command
    }

    /// Where it listens, without a password.
    pub(crate) fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// By its socket.
    pub(crate) fn socket_url(&self) -> String {
        format!("postgresql:///postgres?user={USER}&host={}&port={}", self.dir.path().display(), self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements; the rows of the last, their columns parted by `|`.
    #[track_caller]
    pub(crate) fn sql(&self, statements: &str) -> Vec<String> {
        let mut psql = Self::program("psql", self.dir.path());
        psql.arg("-h").arg(self.dir.path()).args(["-p", &self.port.to_string(), "-U", USER, "-d", "postgres"]);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).env("PGPASSWORD", PASSWORD);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("psql");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let text = statements.to_owned();
        let writer = thread::spawn(move || stdin.write_all(text.as_bytes()));
        let ran = child.wait_with_output().expect("psql is ours");
        let _ = writer.join();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("UTF-8").lines().map(ToOwned::to_owned).collect()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT, so that its own processes end too and it leaves nothing behind in shared memory.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::QUIT);
        let by = now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && now() < by {
            thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that listens on `port` of this machine.
pub(crate) fn url_of(port: u16, password: Option<&str>, sslmode: &str) -> String {
    let password = password.map(|password| format!(":{password}")).unwrap_or_default();
    format!("postgres://{USER}{password}@localhost:{port}/postgres?sslmode={sslmode}")
}

/// Writes a file that only its owner reads.
pub(crate) fn write_secret(path: &Path, text: &str) {
    let mut file = fs::File::create(path).expect("the directory is ours");
    file.set_permissions(fs::Permissions::from_mode(0o600)).expect("the file is ours");
    file.write_all(text.as_bytes()).expect("there is room");
}
