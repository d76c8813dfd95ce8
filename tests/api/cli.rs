//! The command line: wrong configurations, and agents with the node running and stopped.

use crate::question;
use crate::support::{Agent, Home, Ran, Upstream};
use serde_json::Value;

const INIT: &str =
    r#"{"code":200,"statusText":"","message":"","data":{"chatId":"c","app":{"name":"Leave helper","chatConfig":{}}}}"#;

/// An upstream that knows one key and one app.
fn fastgpt() -> Upstream {
    Upstream::start(|asked, wire| {
        let known = asked.header("authorization") == Some("Bearer fastgpt-testkey0123456789");
        let json = "application/json; charset=utf-8";
        match (known, asked.method.as_str()) {
            (false, _) => {
                let refusal = r#"{"code":514,"statusText":"unAuthApiKey","message":"Api Key is invalid","data":null}"#;
                wire.whole(500, json, refusal);
            }
            (true, "GET") if !asked.path.contains("dd33ee10") => {
                let refusal = r#"{"code":502000,"statusText":"appUnExist","message":"App does not exist","data":null}"#;
                wire.whole(500, json, refusal);
            }
            (true, "GET") => wire.whole(200, json, INIT),
            (true, _) => wire.say("pong"),
        }
    })
}

#[track_caller]
fn listed(home: &Home) -> Vec<String> {
    let ran = home.run(&["agents", "list", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(!ran.stdout.contains("testkey"), "a key on the terminal: {}", ran.stdout);
    let agents: Value = serde_json::from_str(&ran.stdout).expect("JSON for scripts");
    agents.as_array().expect("a list").iter().map(|agent| agent["id"].as_str().expect("an id").to_owned()).collect()
}

#[track_caller]
fn is_ok(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn a_wrong_configuration_is_refused_with_every_problem_and_exit_64() {
    let home = Home::new(&[]);
    home.configure("upstream.idle_ms = 0\nchat.turns_max = \"many\"\nbreaker.colour = 1");
    for command in ["serve", "check-config"] {
        let ran = home.run(&[command]);
        assert_eq!(ran.code, Some(64), "{}", ran.stderr);
        for key in ["upstream.idle_ms", "chat.turns_max", "breaker.colour"] {
            assert!(ran.stderr.contains(key), "{command} does not name {key}: {}", ran.stderr);
        }
    }
    assert!(!home.state().exists(), "nothing is made before the configuration is good");
}

#[test]
fn a_missing_or_torn_agents_file_stops_the_start_by_name() {
    let home = Home::new(&[]);
    home.put("agents.json", "{\"agents\": [");
    let torn = home.run(&["serve"]);
    assert!(torn.code.is_some_and(|code| code != 0) && torn.stderr.contains("agents.json"), "{}", torn.stderr);
    std::fs::remove_file(home.path("agents.json")).expect("it was there");
    let missing = home.run(&["serve"]);
    assert!(missing.code.is_some_and(|code| code != 0) && missing.stderr.contains("agents.json"), "{}", missing.stderr);
}

#[test]
fn an_agent_that_lacks_something_is_skipped_by_name_and_the_others_are_served() {
    let upstream = fastgpt();
    let home = Home::new(&[
        Agent::of("a", &upstream),
        Agent::of("unset", &upstream).with("apiKey", "${LLMCHAT_TEST_NO_SUCH_VARIABLE}"),
        Agent::of("wrong", &upstream).with("provider", "telegraph"),
    ]);
    let node = home.start();
    node.wait_logged("LLMCHAT_TEST_NO_SUCH_VARIABLE");
    let agents = node.browser().get("/api/agents").json();
    assert_eq!(agents["metadata"]["extra"]["total"], 1, "{agents}");
    assert!(node.log().contains("provider"), "the wrong entry is not named:\n{}", node.log());
}

#[test]
fn agents_are_listed_imported_and_removed_with_the_node_running_and_stopped() {
    let upstream = fastgpt();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.put("more.json", Agent::file(&[Agent::of("b", &upstream), Agent::of("c", &upstream)]));
    let more = home.path("more.json");
    let more = more.to_str().expect("UTF-8");
    let mut node = home.start();

    assert_eq!(listed(&home), ["a"]);
    is_ok(&home.run(&["agents", "import", more]));
    assert_eq!(listed(&home), ["a", "b", "c"]);
    let mut asked_b = question("hi", false);
    asked_b["agentId"] = "b".into();
    assert_eq!(node.browser().chat(&asked_b).answer(), "pong", "the running node serves it at once");
    is_ok(&home.run(&["agents", "remove", "b"]));
    assert_eq!(node.browser().chat(&asked_b).code(404), "AGENT_NOT_FOUND");
    let nobody = home.run(&["agents", "remove", "nobody"]);
    assert!(nobody.code != Some(0) && nobody.stderr.contains("nobody"), "{}", nobody.stderr);

    node.terminate();
    assert!(node.ended().success());
    assert_eq!(listed(&home), ["a", "c"]);
    is_ok(&home.run(&["agents", "remove", "c"]));
    is_ok(&home.run(&["agents", "import", more]));
    assert_eq!(listed(&home), ["a", "b", "c"]);
    let node = home.start();
    assert_eq!(node.browser().chat(&asked_b).answer(), "pong", "what was stored offline is served");
}

#[test]
fn an_import_says_what_it_refused_and_fails_for_scripts() {
    let upstream = fastgpt();
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let short = Agent::of("short", &upstream).with("appId", "123");
    home.put("more.json", Agent::file(&[short, Agent::of("b", &upstream).with("temprature", 1)]));
    let ran = home.run(&["agents", "import", home.path("more.json").to_str().expect("UTF-8")]);
    assert_ne!(ran.code, Some(0));
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("appId") && said.contains("temprature") && !said.contains("testkey"), "{said}");
}

#[test]
fn testing_an_agent_really_asks_and_names_a_wrong_key_a_wrong_app_and_a_dead_server() {
    let upstream = fastgpt();
    let html = Upstream::start(|_, wire| wire.whole(200, "text/html", "<html>login</html>"));
    let home = Home::new(&[
        Agent::of("good", &upstream),
        Agent::of("key", &upstream).with("apiKey", "fastgpt-testkeywrong"),
        Agent::of("app", &upstream).with("appId", "6700aa00bb11cc22dd33ee99"),
        Agent::at("dead", "http://127.0.0.1:9/api/v1/chat/completions"),
        Agent::at("name", "http://no-such-host.invalid/api/v1/chat/completions"),
        Agent::of("html", &html),
    ]);
    let check = || {
        let good = home.run(&["agents", "test", "good"]);
        is_ok(&good);
        assert!(good.stdout.contains("Leave helper"), "{}", good.stdout);
        for (id, words) in
            [("key", "key"), ("app", "appId"), ("dead", "refused"), ("name", "DNS"), ("html", "a web page")]
        {
            let ran = home.run(&["agents", "test", id]);
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(ran.code.is_some_and(|code| code != 0), "{id} passed: {said}");
            assert!(said.contains(words), "{id}: not a word of {words}: {said}");
            assert!(!said.contains("testkey"), "{id}: a key on the terminal: {said}");
        }
        let nobody = home.run(&["agents", "test", "nobody"]);
        assert!(nobody.code != Some(0), "{}", nobody.stdout);
    };
    let mut node = home.start();
    check();
    assert!(upstream.asked().iter().any(|asked| asked.method == "POST"), "it really asked");
    node.terminate();
    node.ended();
    check();
}

#[test]
fn the_printed_configuration_names_where_values_come_from_and_no_secret() {
    let home = Home::new(&[]);
    home.configure("upstream.idle_ms = 1234");
    let ran = home.run(&["print-config"]);
    is_ok(&ran);
    let line = ran.stdout.lines().find(|line| line.starts_with("idle_ms") || line.contains("upstream.idle_ms"));
    assert!(line.is_some_and(|line| line.contains("1234") && line.contains("file")), "{}", ran.stdout);
    let version = home.run(&["--version"]);
    assert!(version.stdout.starts_with("llmchat 0."), "{}", version.stdout);
}

#[test]
fn a_wrong_command_line_is_told_and_exits_with_64() {
    let home = Home::new(&[]);
    for wrong in [&["serve", "--nope"][..], &["nosuch"], &["agents", "test"]] {
        let ran = home.run(wrong);
        assert_eq!(ran.code, Some(64), "{wrong:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("Usage"), "{}", ran.stderr);
    }
    assert_eq!(home.run(&["--help"]).code, Some(0));
    let (serve, status) = (home.run(&["serve", "--help"]).stdout, home.run(&["status", "--help"]).stdout);
    assert!(status.contains("  3   begun") && !serve.contains("  3   begun") && serve.contains("  64  "), "{serve}");
}

#[test]
fn what_is_wrong_with_what_was_given_exits_with_64_with_the_node_running_and_stopped() {
    let home = Home::new(&[Agent::at("a", "http://127.0.0.1:9/api/v1/chat/completions")]);
    home.put("torn.json", "{\"agents\": [");
    home.put("weak", "weak\n");
    let torn = home.path("torn.json").display().to_string();
    let check = || {
        for (given, named) in [
            (&["agents", "import", &torn][..], "not JSON"),
            (&["agents", "import", "/nonexistent/agents.json"], "/nonexistent/agents.json"),
            (&["agents", "remove", "a b"], "`a b`"),
            (&["user", "add", "a b c\u{7}"], "name"),
            (&["agents", "test", "a b"], "`a b`"),
            (&["user", "add", "ann", "--password-stdin"], "standard input"),
            (&["import", "--postgres-file", "/nonexistent/address"], "/nonexistent/address"),
            (&["init", "--address", "127.0.0.1:1", "--node", "no name"], "a node's name is"),
            (&["init", "--address", "127.0.0.1:1", "--name", "no name"], "name is"),
            (&["init", "--address", "0.0.0.0:7443"], "none that another node can reach"),
            (&["join", "llmchat1.AAAA", "--address", "[::ffff:0.0.0.0]:7443"], "none that another node can reach"),
            (
                &["import", "--postgres", "postgres://u@127.0.0.1:1/d", "--postgres-ca", "/nonexistent/ca"],
                "/nonexistent/ca",
            ),
            (&["fastgpt-sim", "--act", "nonsense"], "nonsense"),
        ] {
            let ran = home.run(given);
            assert_eq!(ran.code, Some(64), "{given:?}: {}{}", ran.stdout, ran.stderr);
            assert!(ran.stderr.contains(named), "{given:?}: {}", ran.stderr);
        }
        let mut weak = home.command(&["user", "add", "ann", "--password-stdin"]);
        weak.stdin(std::fs::File::open(home.path("weak")).expect("it was put there"));
        let weak = Home::ran(weak);
        assert!(weak.code == Some(64) && weak.stderr.contains("password"), "{:?} {}", weak.code, weak.stderr);
        assert_eq!(home.run(&["agents", "remove", "nobody"]).code, Some(1), "that is for the state to say");
    };
    let mut node = home.start();
    check();
    node.terminate();
    assert!(node.ended().success());
    check();
}

#[test]
fn an_import_before_the_first_start_says_where_it_begins_and_a_torn_file_begins_nothing() {
    let home = Home::new(&[]);
    home.put("torn.json", "{\"agents\": [");
    let torn = home.run(&["agents", "import", &home.path("torn.json").display().to_string()]);
    assert_eq!(torn.code, Some(64), "{}", torn.stderr);
    home.put("none.json", r#"{"agents":[{"id":"b"}]}"#);
    let none = home.run(&["agents", "import", &home.path("none.json").display().to_string()]);
    assert!(
        none.code == Some(64) && none.stdout.contains("agents[0] (b) is refused"),
        "{}{}",
        none.stdout,
        none.stderr
    );
    assert!(!home.state().exists());
    home.put("more.json", Agent::file(&[Agent::at("b", "http://127.0.0.1:9/api/v1/chat/completions")]));
    let mut import = home.command(&["agents", "import", &home.path("more.json").display().to_string()]);
    import.env("LLMCHAT__LOG__LEVEL", "info");
    let ran = Home::ran(import);
    is_ok(&ran);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(matches!(lines[..], [begun] if begun.contains(&home.state().display().to_string())), "{}", ran.stderr);
    assert_eq!(listed(&home), ["b"]);
}

#[test]
fn looking_at_agents_makes_no_state_where_there_is_none() {
    let home = Home::new(&[]);
    for command in [&["agents", "list"][..], &["agents", "test", "a"], &["agents", "remove", "a"]] {
        let ran = home.run(command);
        assert_eq!(ran.code, Some(1), "{command:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(&home.state().display().to_string()), "{}", ran.stderr);
        assert!(!home.state().exists(), "{command:?}");
    }
}
