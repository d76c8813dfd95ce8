//! What every operator's command does with `--dry-run` and `--json`, and the codes that it exits with.

use crate::cluster::{Cluster, free};
use crate::question;
use crate::support::{Agent, Home, Ran, Upstream};
use crate::witness::Witness;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// A command on a node, without `--dry-run`; and what it says where it is refused.
struct Case<'a>(usize, &'a [&'a str], Option<&'a str>);

/// The register as both nodes have stored it, what they are, and every file of theirs.
#[derive(PartialEq)]
struct Picture {
    says: Vec<Value>,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Picture {
    /// What moves by itself is left out: times, and files that readers write to.
    fn of(cluster: &Cluster) -> Self {
        let (mut says, mut files) = (Vec::new(), Vec::new());
        for node in (0..2).filter(|node| cluster.nodes[*node].is_some()) {
            let mut status = cluster.status(node).expect("it answers");
            for node in status["nodes"].as_array_mut().expect("a list") {
                node["lag"] = Value::Null;
                node["applyLagMs"] = Value::Null;
                node["scrubbedAt"] = Value::Null;
            }
            says.push(status);
            says.push(serde_json::from_str(&cluster.does(node, &["history", "--json"])).expect("JSON"));
            let all = cluster.homes[node].files().into_iter();
            files.extend(all.filter(|(path, _)| !path.ends_with("llmchat.db-shm")));
        }
        Self { says, files }
    }

    #[track_caller]
    fn is_left(&self, cluster: &Cluster, by: &[&str]) {
        let now = Self::of(cluster);
        assert_eq!(now.says, self.says, "{by:?}");
        let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&now.files), names(&self.files), "{by:?}");
        for ((path, before), (_, after)) in self.files.iter().zip(&now.files) {
            assert!(before == after, "{by:?} has changed {}", path.display());
        }
    }
}

/// What `runs` brings, which leaves everything as it was. A chat of just now is indexed a second later: what moves by
/// itself is over by the next try, and what the command does is done each time.
#[track_caller]
fn leaving(cluster: &Cluster, command: &[&str], runs: impl Fn() -> [Ran; 2]) -> [Ran; 2] {
    for _ in 0..2 {
        let before = Picture::of(cluster);
        let ran = runs();
        if Picture::of(cluster) == before {
            return ran;
        }
    }
    let before = Picture::of(cluster);
    let ran = runs();
    before.is_left(cluster, command);
    ran
}

fn run(home: &Home, command: &[&str], more: &[&str]) -> Ran {
    home.run(&[command, more].concat())
}

/// The error that a script reads.
#[track_caller]
fn error(ran: &Ran) -> Value {
    let last = ran.stderr.lines().last().unwrap_or_default();
    let error: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {}", ran.stderr));
    assert_eq!(error["exitCode"].as_i64(), ran.code.map(Into::into), "{error}");
    error
}

#[track_caller]
fn answer(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("no JSON: {}", ran.stdout))
}

/// Runs a command dry: it says what the command would say, and leaves everything as it was. One that is refused is run in
/// earnest too: it is refused in the same words.
#[track_caller]
fn look(cluster: &Cluster, Case(node, command, refused): &Case<'_>) {
    let home = &cluster.homes[*node];
    let [dry, scripted] = leaving(cluster, command, || {
        [run(home, command, &["--dry-run"]), run(home, command, &["--dry-run", "--json"])]
    });
    let Some(words) = refused else {
        assert!(dry.code == Some(0) && !dry.stdout.contains("llmchat1."), "{command:?}: {}{}", dry.stdout, dry.stderr);
        assert_eq!(answer(&scripted)["dryRun"], true, "{command:?}");
        return;
    };
    let [real, told] = leaving(cluster, command, || [run(home, command, &[]), run(home, command, &["--json"])]);
    assert!(dry.stderr.contains(words), "{command:?}: {}{}", dry.stdout, dry.stderr);
    // What is no token and no name is not to be given again; everything else is for the cluster to say.
    let code = if ["no token", "a node's name is"].contains(words) { 64 } else { 1 };
    for ran in [&dry, &real, &scripted, &told] {
        assert!(ran.code == Some(code) && ran.stdout.is_empty(), "{command:?}: {}{}", ran.stdout, ran.stderr);
    }
    let plain = |ran: &Ran| ran.stderr.lines().last().map(ToOwned::to_owned);
    assert_eq!(plain(&dry), plain(&real), "{command:?}");
    assert_eq!(error(&scripted), error(&told), "{command:?}");
    assert_eq!(plain(&dry), error(&told)["error"].as_str().map(|error| format!("llmchat: {error}")));
}

#[track_caller]
fn look_at_all(cluster: &Cluster, cases: &[Case<'_>]) {
    for case in cases {
        look(cluster, case);
    }
}

/// Goal: while a pair is made, no dry run makes a part of it, uses a token up or makes one worthless, or says that a command
/// would succeed that would not.
#[test]
fn a_dry_run_of_what_makes_a_pair_makes_nothing() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::apart(&upstream);
    let (a, b) = (cluster.peer_address(0).to_string(), cluster.peer_address(1).to_string());
    let init = ["init", "--address", &a, "--node", "a"];
    let join = |token| ["join", token, "--address", &b, "--node", "b"];
    let in_the_way = TcpListener::bind(cluster.peer_address(0)).expect("it is free");
    look(&cluster, &Case(0, &init, Some("see cluster.listen")));
    drop(in_the_way);
    look_at_all(
        &cluster,
        &[
            Case(0, &init, None),
            Case(0, &["init", "--address", &a, "--node", "no name"], Some("a node's name is")),
            Case(0, &["invite"], Some("`llmchat init` makes one")),
            Case(0, &["switchover"], Some("there is no other node")),
            Case(0, &["failover", "--force", "--accept-loss"], Some("is the primary already")),
            Case(0, &["pause"], None),
            Case(0, &["resume"], None),
            Case(0, &["resume", "--alone"], Some("is the primary already")),
            Case(0, &["reinit"], Some("only a standby")),
            Case(0, &["member", "replace", "b"], Some("there is no other node")),
            Case(0, &["member", "move", "b", "--address", &b], Some("no node is called b")),
            Case(0, &["verify"], None),
            Case(1, &join("llmchat1.nonsense"), Some("no token")),
        ],
    );
    let first = cluster.init("max-availability");
    let token = answer(&run(&cluster.homes[0], &init, &["--json"]))["token"].as_str().expect("a token").to_owned();
    let discard = [&join(&token)[..], &["--discard"]].concat();
    look_at_all(
        &cluster,
        &[
            Case(0, &init, None),
            Case(0, &["invite"], None),
            Case(0, &join(&token), Some("this node has made that token")),
            Case(0, &discard, Some("this node has made that token")),
            Case(1, &join(&first), Some("the token was used")),
            Case(1, &join(&token), None),
            Case(1, &["join", &token, "--address", &b, "--node", "no name"], Some("a node's name is")),
            Case(1, &["join", &token, "--address", &b, "--node", "a"], Some("a is the name of the node")),
        ],
    );
    assert_eq!(cluster.browser(1).chat(&question("hi", "c", "t", false)).answer(), "an answer");
    look(&cluster, &Case(1, &join(&token), Some("--discard")));
    look(&cluster, &Case(1, &discard, None));
    let joined = answer(&run(&cluster.homes[1], &discard, &["--json"]));
    assert_eq!(joined, json!({ "member": 2, "cluster": "llmchat", "dryRun": false }));
    cluster.in_sync();
}

/// A pair, and the token that its second node has joined with.
fn pair(upstream: &Upstream) -> (Cluster, String) {
    let cluster = Cluster::apart(upstream);
    let token = cluster.init("max-availability");
    assert_eq!(cluster.join(&token).code, Some(0));
    cluster.in_sync();
    cluster.alike();
    (cluster, token)
}

/// Goal: no dry run on either node of a pair changes the register, a role or a file; each is refused where the command is,
/// in the same words; and what it says could be done can be.
#[test]
fn a_dry_run_in_a_pair_changes_nothing_and_is_refused_as_the_command_is() {
    let upstream = Upstream::saying("an answer");
    let (mut cluster, token) = pair(&upstream);
    let (a, b) = (cluster.peer_address(0).to_string(), cluster.peer_address(1).to_string());
    let (forced, moved) = (["failover", "--force", "--accept-loss"], ["member", "move", "b", "--address", &b]);
    let of_a = |dir: &str| cluster.homes[0].path(dir).to_str().expect("UTF-8").to_owned();
    let [backup, nowhere, inside] = ["backup", "nowhere/backup", "state/backup"].map(of_a);
    let elsewhere = Some("not the primary; ask the one that is: a, at");
    look_at_all(
        &cluster,
        &[
            Case(0, &["init", "--address", &a], Some("one of two already")),
            Case(1, &["init", "--address", &b], Some("one of two already")),
            Case(0, &["invite"], Some("`llmchat member replace b`")),
            Case(0, &["invite", "--witness"], None),
            Case(0, &["member", "remove", "w"], Some("there is no witness; `llmchat invite --witness`")),
            Case(0, &["member", "remove", "b"], Some("`llmchat member replace b`")),
            Case(1, &["invite"], elsewhere),
            Case(1, &["join", &token, "--address", &b], Some("one of a pair already")),
            Case(1, &["join", "llmchat1.AAAA", "--address", &b], Some("no token")),
            Case(0, &["switchover"], None),
            Case(1, &["switchover"], Some("the primary hands over")),
            Case(0, &forced, Some("is the primary already")),
            Case(1, &forced, Some("loses nothing")),
            Case(0, &["pause"], None),
            Case(1, &["pause"], elsewhere),
            Case(0, &["resume"], None),
            Case(1, &["resume"], elsewhere),
            Case(0, &["resume", "--alone"], Some("is the primary already")),
            Case(1, &["resume", "--alone"], Some("was not the primary before")),
            Case(0, &["reinit"], Some("only a standby")),
            Case(1, &["reinit"], None),
            Case(0, &["member", "replace", "b"], Some("stop it first")),
            Case(0, &["member", "replace", "c"], Some("is not the other node")),
            Case(1, &["member", "replace", "a"], elsewhere),
            Case(0, &moved, None),
            Case(0, &["member", "move", "b", "--address", &a], Some("another node is reached at")),
            Case(1, &moved, elsewhere),
            Case(0, &["verify", "--deep"], None),
            Case(1, &["verify", "--deep"], None),
            Case(0, &["backup", "now", &backup], None),
            Case(1, &["backup", "now", &backup], None),
            Case(0, &["backup", "now", &nowhere], Some("is not there")),
            Case(0, &["backup", "now", &inside], Some("in the node's state directory")),
        ],
    );
    assert!(!cluster.homes[0].path("backup").exists() && !cluster.homes[0].state().join("backup").exists());
    for command in [&["pause"][..], &["resume"], &moved, &["switchover"]] {
        let changed = answer(&run(&cluster.homes[0], command, &["--json"]));
        assert!(changed["dryRun"] == false && changed["version"].is_u64(), "{command:?}: {changed}");
    }
    cluster.in_sync();
    assert_eq!(answer(&run(&cluster.homes[0], &["reinit"], &["--json"]))["primary"], "b");
    cluster.in_sync();
    cluster.alike();
    cluster.kill(1);
    cluster.wait("cut off", |cluster| cluster.status(0).is_some_and(|status| status["inSync"] == false));
    let named = [&forced[..], &["--off", "b"]].concat();
    look_at_all(&cluster, &[Case(0, &named, None), Case(0, &["reinit"], Some("last whole copy"))]);
    cluster.kill(0);
    cluster.start(1);
    cluster.node(1).wait_logged("it waits, or goes on alone");
    look_at_all(
        &cluster,
        &[
            Case(1, &["resume", "--alone"], None),
            Case(1, &forced, Some("has not begun")),
            Case(1, &["invite"], Some("does not lead yet")),
        ],
    );
    assert_eq!(answer(&run(&cluster.homes[1], &["resume", "--alone"], &["--json"]))["primary"], "b");
}

/// Goal: a script knows from the code and one line what has become of what it has asked for.
#[test]
fn a_script_is_told_by_code_and_json_what_has_become_of_its_order() {
    let home = Home::new(&[]);
    let wrong = home.run(&["switchover", "--nonsense", "--json"]);
    assert!(wrong.code == Some(64) && error(&wrong)["error"].as_str().is_some_and(|text| text.contains("--nonsense")));
    let address = home.run(&["init", "--address", "nowhere", "--json"]);
    assert!(address.code == Some(64) && error(&address)["error"].as_str().is_some_and(|text| text.contains("nowhere")));
    let commands: [&[&str]; 5] =
        [&["status"], &["history"], &["diverged", "show", "none"], &["backup", "now", "b"], &["restore", "none"]];
    for command in commands {
        let refused = run(&home, command, &["--json"]);
        assert!(refused.code == Some(1) && refused.stdout.is_empty(), "{command:?}: {}", refused.stdout);
        assert!(error(&refused)["error"].is_string());
    }
    assert_eq!(answer(&home.run(&["diverged", "list", "--json"])), json!([]));
    home.put("llmchat.toml", "breaker.colour = 1");
    let config = home.run(&["status", "--json"]);
    assert!(config.code == Some(64) && error(&config)["error"].as_str().is_some_and(|text| text.contains("colour")));
    home.configure("");
    // A node that dies when it has heard the order: nobody knows what it has done.
    std::fs::create_dir(home.state()).expect("the home is ours");
    let socket = UnixListener::bind(home.state().join("control.sock")).expect("it is free");
    let dies = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut asked, _) = socket.accept().expect("it is asked");
            assert!(std::io::Read::read(&mut asked, &mut [0; 1]).is_ok_and(|read| read > 0));
        }
    });
    let unknown = home.run(&["pause", "--json"]);
    assert!(unknown.code == Some(3), "{}", unknown.stderr);
    assert!(error(&unknown)["error"].as_str().is_some_and(|text| text.contains("llmchat status")));
    assert_eq!(home.run(&["pause"]).code, Some(3));
    dies.join().expect("it was asked twice");
}

#[test]
fn the_help_of_every_command_says_how_it_exits() {
    let home = Home::new(&[]);
    let commands = "init,invite,join,status,switchover,failover,pause,resume,reinit,member replace,member move,verify,\
                    history,diverged list,diverged show,diverged export,backup now,restore";
    for command in commands.split(',') {
        let words: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let help = home.run(&words).stdout;
        for said in ["Exit codes:", "  0 ", "  1 ", "  3 ", "  64 ", "exitCode"] {
            assert!(help.contains(said), "{command}: {help}");
        }
    }
}

/// Goal: whoever is at the wrong place, or has a token that is worth nothing, is told what to do instead, and nothing is left
/// open. Method: a second node and a second witness with tokens that were used, and a standby that is to change agents.
#[test]
fn a_used_token_and_a_standby_that_is_to_change_agents_say_what_to_do_instead() {
    let upstream = Upstream::saying("an answer");
    let cluster = Cluster::apart(&upstream);
    let token = cluster.init("max-availability");
    assert_eq!(cluster.join(&token).code, Some(0));
    cluster.in_sync();
    let late = Home::new(&[]);
    let at = free().to_string();
    let node = late.start();
    let refused = late.run(&["join", &token, "--address", &at, "--node", "c"]);
    let used = "the token was used, or a newer one was made; `llmchat invite";
    assert!(refused.code == Some(1) && refused.stderr.contains(used), "{:?} {}", refused.code, refused.stderr);
    drop(node);

    let first = Witness::new(&upstream);
    let told = first.join(&cluster, "w");
    let second = Witness::new(&upstream);
    cluster.wait("a witness that runs", |_| second.home.run(&["status"]).code == Some(0));
    let refused = second.home.run(&["join", &told, "--address", &at, "--node", "v"]);
    assert!(refused.code == Some(1) && refused.stderr.contains(used), "{:?} {}", refused.code, refused.stderr);

    let file = cluster.homes[1].path("agents.json");
    let primary = format!("run it on the primary, a at {}", cluster.peer_address(0));
    for command in [&["agents", "import", file.to_str().expect("UTF-8")][..], &["agents", "remove", "a"]] {
        let refused = cluster.homes[1].run(command);
        assert!(refused.code == Some(1) && refused.stderr.contains(&primary), "{:?} {}", refused.code, refused.stderr);
        assert_eq!(cluster.homes[0].run(command).code, Some(0), "{command:?}");
    }
}

#[test]
fn a_variable_that_the_standby_lacks_is_said_by_status_and_before_a_switchover() {
    let upstream = Upstream::saying("an answer");
    let mut cluster = Cluster::new(&upstream, "max-availability");
    assert!(!cluster.does(0, &["status"]).contains("warning"));
    cluster.kill(1);
    cluster.homes[1].put("agents.json", Agent::file(&[Agent::of("a", &upstream).with("apiKey", "${A_KEY}")]));
    cluster.start(1);
    cluster.in_sync();
    let warning = "warning: b has no A_KEY: agents that need it are switched off once b leads";
    for command in [&["status"][..], &["switchover", "--dry-run"]] {
        let said = cluster.does(0, command);
        assert!(said.contains(warning), "{command:?}: {said}");
    }
}
