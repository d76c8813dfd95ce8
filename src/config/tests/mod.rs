mod otlp;

use crate::breaker;
use crate::config::layers::{Layers, SHIPPED};
use crate::config::sections::File;
use crate::config::{Config, Problems, Sources, effective, load};
use crate::limiter;
use serde::Deserialize;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::NamedTempFile;

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn sources(text: &str, variables: &[(&str, &str)]) -> (NamedTempFile, Sources) {
    let file = file(text);
    let variables = variables.iter().map(|(name, text)| (OsString::from(name), OsString::from(text)));
    let sources = Sources::new(Some(file.path().to_owned()), variables);
    (file, sources)
}

fn good(text: &str, variables: &[(&str, &str)]) -> (Config, Vec<String>) {
    let (_file, sources) = sources(text, variables);
    let (config, notes) = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    (config, notes.iter().map(ToString::to_string).collect())
}

/// The problems, without the file's random name.
fn bad(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let (file, sources) = sources(text, variables);
    let problems = load(&sources).expect_err("it is wrong");
    let name = file.path().display().to_string();
    problems.to_string().lines().map(|problem| problem.replace(&name, "FILE")).collect()
}

#[test]
fn the_shipped_file_and_the_types_have_the_same_keys() {
    // No field has a default and none is skipped: a key missing on either side fails here.
    let table: toml::Table = SHIPPED.parse().unwrap();
    if let Err(error) = File::deserialize(table.clone()) {
        panic!("{error}");
    }
    assert_eq!(Layers::shipped().table(), table);
}

#[test]
fn every_shipped_key_stands_under_a_comment() {
    let mut explained = false;
    for line in SHIPPED.lines() {
        explained = line.starts_with('#') || explained && line.contains(" = ");
        assert!(explained || line.is_empty() || line.starts_with('['), "{line}");
    }
}

#[test]
fn no_file_and_no_variable_is_the_shipped_file() {
    let (config, notes) = good("", &[("PATH", "/bin"), ("OTEL_SERVICE_NAME", "x"), ("OTEL_TRACES_EXPORTER", "none")]);
    assert_eq!(notes, [""; 0]);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3001");
    assert_eq!(config.state_dir, PathBuf::from("data/state"));
    assert_eq!(config.control_socket(), PathBuf::from("data/state/control.sock"));
    assert_eq!(config.breaker, breaker::Rule::default());
    assert_eq!(config.upstream.idle, Duration::from_secs(35));
    assert_eq!(config.upstream.total, Duration::from_mins(30));
    assert_eq!(config.http.body_bytes_max, 10 << 20);
    let (minute, quarter) = (Duration::from_mins(1), Duration::from_mins(15));
    let rule = |max, window, block| Some(limiter::Rule { max, window, block });
    assert_eq!(config.limits.api, rule(1000, minute, Duration::ZERO));
    assert_eq!(config.limits.chat, rule(100, minute, minute));
    assert_eq!(config.limits.login, rule(5, quarter, quarter));
    assert_eq!(config.limits.address, rule(100, quarter, quarter));
    assert_eq!(config.attachments.keep_idle, Some(Duration::from_hours(24)));
    assert!(!config.http.secure);
    assert!(config.export.is_none());
    let metrics =
        |address: &str| config.http.metrics_allow.iter().any(|range| range.contains(address.parse().unwrap()));
    assert!(metrics("127.0.0.1") && metrics("::1") && metrics("192.168.7.7") && metrics("fd00::1"));
    assert!(!metrics("169.254.1.1") && !metrics("fe80::1") && !metrics("8.8.8.8"));
}

#[test]
fn a_file_that_is_not_named_need_not_exist_and_one_that_is_named_must() {
    let problems = load(&Sources::new(Some("/nonexistent/llmchat.toml".into()), [])).unwrap_err();
    let text = problems.to_string();
    assert!(text.starts_with("/nonexistent/llmchat.toml: must be a file that can be read: "), "{text}");
}

#[test]
fn later_layers_win() {
    let text = "[server]\nlisten = \"10.0.0.1:1\"\n[upstream]\nfirst_byte_ms = 1000\nidle_ms = 2000\n";
    let (config, _) = good(text, &[]);
    assert_eq!(config.server.listen.to_string(), "10.0.0.1:1");
    let (config, _) = good(text, &[("PORT", "2"), ("REQUEST_TIMEOUT", "3000")]);
    assert_eq!(config.server.listen.to_string(), "10.0.0.1:2");
    assert_eq!(config.upstream.first_byte, Duration::from_secs(3));
    let all = [("PORT", "2"), ("REQUEST_TIMEOUT", "3000"), ("LLMCHAT__SERVER__LISTEN", "[::1]:3")];
    let (config, _) = good(text, &all);
    assert_eq!(config.server.listen.to_string(), "[::1]:3");
    assert_eq!((config.upstream.first_byte, config.upstream.idle), (Duration::from_secs(3), Duration::from_secs(2)));
}

#[test]
fn a_variable_is_toml_where_its_key_wants_more_than_text() {
    let (config, _) = good(
        "",
        &[
            ("LLMCHAT__NODE__STATE_DIR", "7"),
            ("LLMCHAT__LOG__LEVEL", "\"warn\""),
            ("LLMCHAT__SERVER__TRUSTED_PROXIES", "[\"10.0.0.0/8\", \"::1\"]"),
            ("LLMCHAT__UPSTREAM", "{ connect_ms = 1_000, idle_ms = 9 }"),
        ],
    );
    assert_eq!(config.state_dir, PathBuf::from("7"));
    assert_eq!(config.log_level, "warn");
    assert_eq!(config.http.trusted_proxies.len(), 2);
    assert_eq!((config.upstream.connect.as_millis(), config.upstream.idle.as_millis()), (1000, 9));
}

#[test]
fn all_problems_of_all_layers_are_named_at_once() {
    let text = "[store]\nreaders_max = 2\nreader_min = 1\n[server]\nlisten = \"here\"\nbody_bytes_max = \"10 MiB\"\n[clusters]\nname = 1\n";
    let problems = bad(text, &[("PORT", "http"), ("LLMCHAT__CHAT__TURNS_MAX", "-1"), ("LLMCHAT__LOG", "debug")]);
    assert_eq!(
        problems,
        [
            "clusters: unknown key, got a section (file FILE)",
            "server.body_bytes_max: must be a whole number, 0 or more, got \"10 MiB\" (file FILE)",
            "store.reader_min: unknown key (did you mean store.readers_min?), got 1 (file FILE)",
            "PORT: must be a port from 0 to 65535, got \"http\"",
            "chat.turns_max: must be a whole number, 0 or more, got -1 (env LLMCHAT__CHAT__TURNS_MAX)",
            "log: must be a section with keys, got \"debug\" (env LLMCHAT__LOG)",
            "server.listen: must be an address and a port such as 127.0.0.1:3001 or [::]:3001, got \"here\" (file FILE)",
            "store.readers_max: must be at least readers_min (5), got 2 (file FILE)",
        ]
    );
}

#[test]
fn a_key_without_its_unit_is_told_the_whole_name() {
    assert_eq!(
        bad("[limits]\nmemory = 1\n", &[]),
        ["limits.memory: unknown key (did you mean limits.memory_bytes?), got 1 (file FILE)"]
    );
}

#[test]
fn keys_that_only_make_sense_together_are_checked_together() {
    for (text, rule) in [
        ("[upstream]\nidle_ms = 1_800_000", "upstream.idle_ms: must be less than total_ms (1800000), got 1800000"),
        ("[upstream]\nfirst_token_ms = 2_000_000", "upstream.first_token_ms: must be at most total_ms (1800000)"),
        ("[store]\nqueue_jobs_max = 10", "store.queue_jobs_max: must be at least group_jobs_max (256), got 10"),
        (
            "[store]\ncheckpoint_bytes = 67_108_864",
            "store.checkpoint_restart_bytes: must be more than checkpoint_bytes",
        ),
        ("[limits]\nmemory_bytes = 67_108_863", "limits.memory_bytes: must be from 67108864 to"),
        ("[cache]\nbytes_max = 1_000_000_000", "cache.bytes_max: must be at most half of limits.memory_bytes"),
        ("[server.tls]\nkey = \"/dev/null\"", "server.tls.cert: cert and key must be set together, got \"\""),
        ("[server.tls]\ncert = \"/dev/null\"", "server.tls.key: cert and key must be set together, got \"\""),
    ] {
        let problems = bad(text, &[]);
        assert!(problems.iter().any(|problem| problem.starts_with(rule)), "{text}: {problems:?}");
    }
}

#[test]
fn files_that_no_question_names_are_kept_as_retention_says() {
    for (text, keep) in [("90m", Some(Duration::from_mins(90))), ("0", None)] {
        let (config, _) = good(&format!("[retention]\nattachments = \"{text}\"\n"), &[]);
        assert_eq!((config.attachments.keep_idle, config.retention.attachments), (keep, keep), "{text}");
    }
    let problems = bad("[retention]\nattachments = \"a day\"\n", &[]);
    assert!(problems[0].starts_with("retention.attachments: must be an age"), "{problems:?}");
}

#[test]
fn single_values_are_checked() {
    for (key, value, rule) in [
        ("server.listen", "\"127.0.0.1\"", "must be an address and a port"),
        ("server.public_url", "\"chat.example.org\"", "must be a URL"),
        ("server.public_url", "\"https://a:b@chat.example.org\"", "must be a URL"),
        ("server.trusted_proxies", "[\"nginx\"]", "must be an address or a range"),
        ("server.trusted_proxies", "\"127.0.0.1\"", "must be a list"),
        ("server.cors_origins", "[\"*\"]", "must be an origin"),
        ("server.cors_origins", "[\"https://a.example/\"]", "must be an origin"),
        ("server.connections_max", "0", "must be from 1 to"),
        ("log.level", "\"inof\"", "must be error, warn"),
        ("log.level", "\"\"", "must be error, warn"),
        ("log.level", "\"info,llmchat=loud\"", "must be error, warn"),
        ("upstream.proxy", "\"socks5://p:1\"", "must be a URL such as http://"),
        ("upstream.ca_file", "\"/nonexistent/ca.pem\"", "must be a file that can be read"),
        ("upstream.ca_file", "\"/\"", "must be a file, not a directory"),
        ("agents.file", "\"/nonexistent/agents.json\"", "must be a file that can be read"),
        ("breaker.cooldown_ms", "1", "must be from 100 to"),
        ("metrics.allow", "[\"10.0.0.0/33\"]", "must be an address or a range"),
        ("node.state_dir", "\"\"", "must not be empty"),
    ] {
        let problems = bad(&format!("{key} = {value}\n"), &[]);
        assert!(problems.iter().any(|problem| problem.starts_with(&format!("{key}: {rule}"))), "{key}: {problems:?}");
    }
    let long = format!("/{}", "d".repeat(100));
    let problems = bad("", &[("LLMCHAT__NODE__RUNTIME_DIR", &long)]);
    assert!(problems[0].starts_with("node.runtime_dir: must leave room for control.sock"), "{problems:?}");
}

#[test]
fn old_names_work_and_are_told_their_new_ones() {
    let (config, notes) = good(
        "",
        &[
            ("PORT", "8080"),
            ("LOG_LEVEL", "silly"),
            ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "7"),
            ("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", "3"),
            ("CIRCUIT_BREAKER_TIMEOUT", "20000"),
            ("CIRCUIT_BREAKER_RESET_TIMEOUT", "30000"),
            ("CORS_ORIGIN", "https://a.example, http://b.example:3000/"),
            ("FRONTEND_URL", "https://c.example/chat"),
            ("REQUEST_TIMEOUT", ""),
            ("RATE_LIMIT_WINDOW_MS", "30000"),
            ("RATE_LIMIT_MAX_REQUESTS", "500"),
            ("RATE_LIMIT_POINTS", "20"),
            ("RATE_LIMIT_DURATION", "10"),
            ("RATE_LIMIT_BLOCK_DURATION", "300"),
        ],
    );
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.log_level, "trace");
    assert_eq!((config.breaker.failures_to_open, config.breaker.successes_to_close), (7, 3));
    assert_eq!(config.breaker.cooldown, Duration::from_secs(30));
    assert_eq!(config.http.cors_origins, ["https://a.example", "http://b.example:3000", "https://c.example"]);
    assert_eq!(config.upstream.first_byte, Duration::from_secs(30));
    let [half, ten] = [30, 10].map(Duration::from_secs);
    let rule = |max, window, block| Some(limiter::Rule { max, window, block });
    assert_eq!(config.limits.api, rule(500, half, Duration::ZERO));
    assert_eq!(config.limits.chat, rule(20, ten, Duration::from_mins(5)));
    assert_eq!(notes.len(), 13, "{notes:?}");
    assert_eq!(notes[0], "PORT is an old name: write server.listen, or LLMCHAT__SERVER__LISTEN");
}

#[test]
fn old_names_that_mean_nothing_now_are_noted_and_their_values_kept_quiet() {
    let (_, notes) = good(
        "",
        &[
            ("DB_HOST", "db"),
            ("DB_PASSWORD", "hunter2"),
            ("REDIS_URL", "redis://x"),
            ("JWT_SECRET", "hunter2"),
            ("TOKEN_TTL_SECONDS", "100"),
            ("CORS_ORIGIN", "*"),
        ],
    );
    assert_eq!(notes.len(), 4, "{notes:?}");
    assert_eq!(notes[3], "ignored, because the store and the cache are built in: DB_HOST, DB_PASSWORD, REDIS_URL");
    assert!(!notes.join(" ").contains("hunter2"), "{notes:?}");
}

#[test]
fn a_problem_of_an_old_name_names_it() {
    let wrong = [
        ("CIRCUIT_BREAKER_RESET_TIMEOUT", "1s"),
        ("REQUEST_TIMEOUT", "0"),
        ("RATE_LIMIT_DURATION", "1.5"),
        ("RATE_LIMIT_BLOCK_DURATION", "86401"),
    ];
    assert_eq!(
        bad("", &wrong),
        [
            "breaker.cooldown_ms: must be a whole number, 0 or more, got \"1s\" (env CIRCUIT_BREAKER_RESET_TIMEOUT)",
            "RATE_LIMIT_DURATION: must be whole seconds, 0 or more, got \"1.5\"",
            "limits.chat_block_ms: must be from 0 to 86400000, got 86401000 (env RATE_LIMIT_BLOCK_DURATION)",
            "upstream.first_byte_ms: must be from 1 to 86400000, got 0 (env REQUEST_TIMEOUT)",
        ]
    );
}

#[test]
fn what_is_no_toml_or_no_utf8_is_refused_without_being_quoted() {
    let problems = bad("[server]\npassword = \"hunter2\n", &[]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("FILE, line 2: must be TOML: "), "{problems:?}");
    assert!(!problems[0].contains("hunter2"), "{problems:?}");
    let environment = [(OsString::from("LLMCHAT__LOG__LEVEL"), OsString::from_vec(vec![0xff]))];
    let empty = file("");
    let problems: Problems = load(&Sources::new(Some(empty.path().to_owned()), environment)).unwrap_err();
    assert_eq!(problems.to_string(), "LLMCHAT__LOG__LEVEL: must be UTF-8");
    let long = file(&"#".repeat(1 << 20));
    assert!(load(&Sources::new(Some(long.path().to_owned()), [])).is_ok());
    let long = file(&"#".repeat((1 << 20) + 1));
    let problems = load(&Sources::new(Some(long.path().to_owned()), [])).unwrap_err();
    assert!(problems.to_string().ends_with("it is longer than 1 MiB"), "{problems}");
}

#[test]
fn no_password_is_shown_again() {
    let proxy = "[upstream]\nproxy = \"http://user:hunter2@proxy:3128\"\n";
    let (_file, sources) = sources(proxy, &[("LLMCHAT__SERVER__LISTEN", "127.0.0.1:9")]);
    let (text, _) = effective(&sources).unwrap();
    assert!(text.contains("\nproxy = \"http://***@proxy:3128\"  # file "), "{text}");
    assert!(text.contains("\nlisten = \"127.0.0.1:9\"  # env LLMCHAT__SERVER__LISTEN\n"), "{text}");
    assert!(text.contains("\n[server.tls]\ncert = \"\"  # default\n"), "{text}");
    let (config, _) = load(&sources).unwrap();
    assert_eq!(config.upstream.proxy.as_deref(), Some("http://user:hunter2@proxy:3128"));
    for wrong in [
        "[auth]\ntoken_secret = \"hunter2\"",
        "[upstream]\nproxy = \"ftp://u:hunter2@p\"",
        "[x]\ny = [\"ws://u:hunter2@p\"]",
    ] {
        let problems = bad(wrong, &[]).join("\n");
        assert!(!problems.is_empty() && !problems.contains("hunter2"), "{problems}");
    }
}

#[test]
fn what_is_printed_is_a_configuration_again() {
    let (_file, first) = sources("[server]\ncors_origins = [\"https://a.example\"]\n", &[("PORT", "9")]);
    let (text, _) = effective(&first).unwrap();
    let (_file, second) = sources(&text, &[]);
    let (again, _) = effective(&second).unwrap();
    let values =
        |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(values(&text), values(&again));
}

#[test]
fn clients_count_as_secure_behind_tls_here_or_at_a_proxy() {
    let (config, _) = good("[server]\npublic_url = \"https://chat.example.org/llm/\"\n", &[]);
    assert!(config.http.secure);
    let made = rcgen::generate_simple_self_signed(["chat.example.org".to_owned()]).unwrap();
    let (cert, key) = (file(&made.cert.pem()), file(&made.signing_key.serialize_pem()));
    let text = format!("[server.tls]\ncert = {:?}\nkey = {:?}\n", cert.path(), key.path());
    let (config, _) = good(&text, &[]);
    assert!(config.http.secure && config.server.tls.is_some());
}

#[test]
fn files_that_can_be_read_must_also_be_of_use() {
    let (empty, other) = (file(""), file(""));
    let (cert, key) = (empty.path().display(), other.path().display());
    let text = format!("server.tls = {{ cert = \"{cert}\", key = \"{key}\" }}\nupstream.ca_file = \"{cert}\"\n");
    let no_certificate = format!("must be usable: `{cert}` holds no certificate in PEM form, got {cert} (file FILE)");
    assert_eq!(
        bad(&text, &[]),
        [format!("server.tls.cert: {no_certificate}"), format!("upstream.ca_file: {no_certificate}")]
    );
}

#[test]
fn a_time_zone_is_one_that_is_compiled_in_and_a_country_two_letters() {
    let (config, _) = good("server.time_zone = \"Asia/Kathmandu\"\nanalytics.home_country = \"NP\"", &[]);
    assert_eq!(config.analytics.time_zone.iana_name(), Some("Asia/Kathmandu"));
    assert_eq!(good("", &[]).0.analytics.time_zone.iana_name(), Some("UTC"));
    // A database that is not there is for the log, and no reason not to start.
    assert!(good("analytics.geo_database = \"/nonexistent/x.mmdb\"", &[]).0.analytics.geo_database.is_some());
    for (text, key) in [
        ("server.time_zone = \"Mars/Base\"", "server.time_zone"),
        ("server.time_zone = \"\"", "server.time_zone"),
        ("server.time_zone = \"+08:00\"", "server.time_zone"),
        ("analytics.home_country = \"China\"", "analytics.home_country"),
        ("analytics.home_country = \"cn\"", "analytics.home_country"),
    ] {
        let problems = bad(text, &[]);
        assert!(problems.len() == 1 && problems[0].contains(key), "{text}: {problems:?}");
    }
}
