//! Conversations as files: whole, safe to open, or visibly broken off.

use crate::accounts::{admin, as_user, log_in, token};
use crate::question;
use crate::sessions::{ask, field, home, id_of, raw};
use crate::support::{Agent, Answering, Browser, Home, Node, Response, Upstream};
use serde_json::{Value, json};

const MARK: &str = "\u{feff}";
/// Of the long chat: 24 MB, which is more than the sockets between two processes hold.
const LONG_TURNS: usize = 25;

/// The id of each session, the oldest first.
fn sessions(admin: &mut Browser) -> Vec<String> {
    let list = raw(&admin.get("/api/admin/sessions?sortBy=createdAt&sortOrder=asc&pageSize=100"));
    list["sessions"].as_array().expect("a list").iter().map(id_of).collect()
}

#[track_caller]
fn file<'a>(answer: &'a Response, kind: &str) -> &'a str {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some(kind));
    answer.text()
}

/// The cells of every line, as a spreadsheet reads them.
fn cells(csv: &str) -> Vec<Vec<String>> {
    let mut lines = vec![vec![String::new()]];
    let (mut quoted, mut letters) = (false, csv.strip_prefix(MARK).expect("it begins with a mark").chars().peekable());
    while let Some(letter) = letters.next() {
        let line = lines.last_mut().expect("there is one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                line.last_mut().expect("there is one").push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(String::new()),
            '\r' if !quoted && letters.peek() == Some(&'\n') => {
                letters.next();
                lines.push(vec![String::new()]);
            }
            letter => line.last_mut().expect("there is one").push(letter),
        }
    }
    assert!(!quoted, "it ends inside a cell");
    assert_eq!(lines.pop(), Some(vec![String::new()]), "it ends with a line's end");
    lines
}

/// Whether it has the beginning and the end of a ZIP archive.
fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") && bytes[bytes.len().saturating_sub(22)..].starts_with(b"PK\x05\x06")
}

#[test]
fn a_session_is_exported_as_json_as_csv_and_as_text() {
    let (_upstream, home) = home();
    let node = home.start();
    let mut admin = as_user(&node, Some(&admin(&home, &node)));
    let mut browser = node.browser();
    ask(&mut browser, ("a", "c", "t1"), "=cmd|' /C calc'!A0");
    ask(&mut browser, ("a", "c", "t2"), "杭州, \"天气\"\n好吗");
    let id = sessions(&mut admin).remove(0);
    let path = |format: &str| format!("/api/admin/sessions/{id}/export?format={format}");

    let answer = admin.get(&path("json"));
    let told: Value = serde_json::from_str(file(&answer, "application/json")).expect("JSON");
    assert_eq!(told["session"]["id"], json!(id));
    let contents: Vec<_> =
        told["messages"].as_array().expect("a list").iter().map(|message| &message["content"]).collect();
    assert_eq!(contents[..2], [&json!("=cmd|' /C calc'!A0"), &json!("re: =cmd|' /C calc'!A0")]);
    assert_eq!(told["messages"][3]["metadata"]["state"], "complete");
    let name = answer.header("content-disposition").expect("it is a file").to_owned();
    assert!(name.starts_with("attachment; ") && name.contains("filename*=UTF-8''cmd-C-calc-A0-"), "{name}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    let lines = cells(file(&admin.get(&path("csv")), "text/csv; charset=utf-8"));
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!((lines[0][0].as_str(), lines[0][10].as_str()), ("sessionId", "content"));
    let content: Vec<&str> = lines.iter().skip(1).map(|line| line[10].as_str()).collect();
    let expected =
        ["'=cmd|' /C calc'!A0", "re: =cmd|' /C calc'!A0", "杭州, \"天气\"\n好吗", "re: 杭州, \"天气\"\n好吗"];
    assert_eq!(content, expected);
    assert_eq!(lines[1][3], "'=cmd|' /C calc'!A0", "the title too");
    assert_eq!(lines[2][5..8], ["t1", "assistant", "complete"]);

    let text = admin.get(&path("txt"));
    let text = file(&text, "text/plain; charset=utf-8");
    assert!(text.contains("assistant:\nre: 杭州, \"天气\"\n好吗\n"), "{text}");
    assert_eq!(field(&admin.get(&path("xlsx"))), "format");
    assert_eq!(field(&admin.get(&path("exe"))), "format");
    assert_eq!(field(&admin.get("/api/admin/sessions/x/export")), "id");
    assert_eq!(admin.get("/api/admin/sessions/1-1/export").code(404), "NOT_FOUND");
    for path in [&path("csv"), "/api/admin/sessions/export", "/api/admin/logs/export", "/api/admin/users/1/export"] {
        assert_eq!(admin.send("HEAD", path, None).expect("a head comes").status, 405, "{path}");
    }
    let rows = admin.get("/api/admin/audit?action=export-sessions").json()["data"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "each export, and none that was refused: {rows}");
    assert_eq!((&rows[0]["resource_id"], &rows[0]["details"]), (&json!(id), &json!({ "format": "txt" })));
}

#[test]
fn sessions_are_exported_by_the_filters_of_the_list() {
    let (_upstream, home) = home();
    let node = home.start();
    let token = admin(&home, &node);
    let mut admin = as_user(&node, Some(&token));
    let mut browser = node.browser();
    for (agent, chat, text) in [("a", "c1", "杭州"), ("b", "c2", "+1+1"), ("a", "c3", "third")] {
        ask(&mut browser, (agent, chat, "t"), text);
    }
    let made = admin.request("POST", "/api/chat-sessions", Some(br#"{"agentId":"a","title":"@empty"}"#));
    assert_eq!(made.status, 201, "{}", made.text());
    let path = |query: &str| format!("/api/admin/sessions/export?{query}");
    let told = |admin: &mut Browser, query: &str| -> Value {
        serde_json::from_str(file(&admin.get(&path(query)), "application/json")).expect("JSON")
    };
    let all = told(&mut admin, "format=json");
    assert_eq!((&all["total"], all["sessions"].as_array().map(Vec::len)), (&json!(4), Some(4)));
    assert!(all["exportedAt"].is_string() && all["sessions"][1]["messages"][0]["content"] == "+1+1", "{all}");
    assert_eq!(all["sessions"][3]["messages"], json!([]));
    assert_eq!(told(&mut admin, "filter%5Bsearch%5D=%E6%9D%AD")["sessions"][0]["title"], "杭州");
    assert_eq!(told(&mut admin, "format=&filter[agentId]=a")["total"], 3);
    let untagged = told(&mut admin, "filter[tags][]=x");
    assert_eq!((&untagged["sessions"], &untagged["total"]), (&json!([]), &json!(0)));

    let csv = admin.get(&path("format=csv"));
    let name = csv.header("content-disposition").expect("it is a file").to_owned();
    assert!(name.contains("filename=\"sessions-2") && name.contains(".csv"), "{name}");
    let lines = cells(file(&csv, "text/csv; charset=utf-8"));
    assert_eq!(lines.len(), 1 + 6 + 1);
    assert_eq!(lines[3][10], "'+1+1");
    assert_eq!((lines[7][3].as_str(), lines[7][10].as_str()), ("'@empty", ""));
    assert_eq!(cells(file(&admin.get(&path("format=csv&filter[tags][]=x")), "text/csv; charset=utf-8")).len(), 1);

    let xlsx = admin.get(&path("format=xlsx&filter[agentId]=b"));
    assert_eq!(xlsx.status, 200);
    let kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
    assert_eq!(xlsx.header("content-type"), Some(kind));
    assert!(is_archive(&xlsx.body), "{} bytes", xlsx.body.len());
    for (bad, named) in [
        ("format=txt", "format"),
        ("format=pdf", "format"),
        ("filter[status]=x", "filter[status]"),
        ("filter[x]=y", "filter[x]"),
    ] {
        assert_eq!(field(&admin.get(&path(bad))), named, "{bad}");
    }

    let of_agent = |admin: &mut Browser, body: &Value| {
        admin.request("POST", "/api/sessions/a/export", Some(body.to_string().as_bytes()))
    };
    let told = raw(&of_agent(&mut admin, &json!({ "format": "json", "filter": { "search": "third" } })));
    assert_eq!((&told["total"], &told["sessions"][0]["title"]), (&json!(1), &json!("third")));
    let ids = sessions(&mut admin);
    let told = raw(&of_agent(&mut admin, &json!({ "sessionIds": [ids[0], ids[2]] })));
    assert_eq!(told["total"], 2);
    assert_eq!(of_agent(&mut admin, &json!({ "sessionIds": [ids[1]] })).code(404), "NOT_FOUND", "another agent's");
    assert_eq!(field(&of_agent(&mut admin, &json!({ "sessionIds": ["x"] }))), "sessionIds[0]");
    assert_eq!(field(&of_agent(&mut admin, &json!({ "filter": { "page": "1" } }))), "page");
    let mut by_query = |query: &str, body: &str| {
        admin.request("POST", &format!("/api/sessions/a/export?{query}"), Some(body.as_bytes()))
    };
    assert_eq!(by_query("format=csv", "").header("content-type"), Some("text/csv; charset=utf-8"));
    let told = by_query("format=csv", r#"{"format":"json"}"#);
    assert_eq!(told.header("content-type"), Some("application/json"), "the body's wins");
    assert_eq!(field(&by_query("format=pdf", r#"{"format":"json"}"#)), "format", "what does not win is checked, too");
    for (query, named) in
        [("filter[search]=third", "filter[search]"), ("agentId=b", "agentId"), ("sessionIds=1-1", "sessionIds")]
    {
        assert_eq!(field(&by_query(query, "")), named, "what is not heard would show more");
    }
    assert_eq!(field(&by_query("", r#"{"filter":{"agentId":"b"}}"#)), "agentId", "of the path's alone");
    let rows = admin.get("/api/admin/audit?action=export-sessions&pageSize=100").json()["data"].to_string();
    assert!(rows.contains("(given)") && !rows.contains("third"), "what was searched for is nobody's to read: {rows}");
}

#[test]
fn an_export_of_thousands_of_turns_has_each_of_them_once() {
    const CHATS: usize = 8;
    const TURNS: usize = 260;
    let (_upstream, home) = home();
    let node = home.start();
    let mut admin = as_user(&node, Some(&admin(&home, &node)));
    std::thread::scope(|scope| {
        for chat in 0..CHATS {
            let mut browser = node.browser();
            scope.spawn(move || {
                for turn in 0..TURNS {
                    ask(&mut browser, ("a", &format!("c{chat}"), &format!("t{turn}")), &format!("{chat}/{turn}"));
                }
            });
        }
    });
    let lines = cells(file(&admin.get("/api/admin/sessions/export?format=csv"), "text/csv; charset=utf-8"));
    assert_eq!(lines.len(), 1 + 2 * CHATS * TURNS);
    let answers: std::collections::HashSet<&str> = lines.iter().skip(1).map(|line| line[10].as_str()).collect();
    for chat in 0..CHATS {
        for turn in 0..TURNS {
            assert!(answers.contains(format!("{chat}/{turn}").as_str()), "{chat}/{turn}");
            assert!(answers.contains(format!("re: {chat}/{turn}").as_str()), "{chat}/{turn}");
        }
    }
    let told = raw(&admin.get("/api/admin/sessions/export?format=json"));
    let count = |session: &Value| session["messages"].as_array().map(Vec::len);
    assert!(told["sessions"].as_array().expect("a list").iter().all(|session| count(session) == Some(2 * TURNS)));
}

/// A node with one chat that is longer than sockets hold, and the id of that.
fn long() -> (Upstream, Home, Node, String) {
    let upstream = Upstream::start(|_, wire| wire.say(&"天气".repeat(160_000)));
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let mut browser = node.browser();
    for turn in 0..LONG_TURNS {
        let mut body = question("q", false);
        body["responseChatItemId"] = format!("t{turn}").into();
        browser.chat(&body).answer();
    }
    let token = admin(&home, &node);
    let id = sessions(&mut as_user(&node, Some(&token))).remove(0);
    (upstream, home, node, id)
}

/// An export whose head has come.
fn begin(admin: &mut Browser, path: &str) -> Answering {
    admin.send("GET", path, None).expect("its head comes")
}

fn admin_of(home: &Home, node: &Node) -> Browser {
    let (name, password) = crate::accounts::first_admin(home);
    as_user(node, Some(token(&log_in(node, &name, &password))))
}

#[test]
fn an_export_that_its_client_leaves_gives_its_place_back_and_others_wait_for_one() {
    let (_upstream, home, node, id) = long();
    let mut admin = admin_of(&home, &node);
    let path = format!("/api/admin/sessions/{id}/export?format=json");
    let (first, second) = (begin(&mut admin, &path), begin(&mut admin, &path));
    assert_eq!((first.status, second.status), (200, 200));
    let refused = admin.get(&path);
    assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(admin.get("/api/admin/users/1/export").code(503), "SERVICE_UNAVAILABLE", "of a user too");
    first.hang_up();
    let by = crate::support::now() + crate::support::PATIENCE;
    let answer = loop {
        let answer = admin.get(&path);
        if answer.status != 503 {
            break answer;
        }
        assert!(crate::support::now() < by, "its place is never free again");
    };
    assert_eq!(raw(&answer)["messages"].as_array().map(Vec::len), Some(2 * LONG_TURNS), "whole");
    drop(second);
}

#[test]
fn an_export_whose_chat_is_deleted_meanwhile_breaks_off() {
    let (_upstream, home, node, id) = long();
    let mut admin = admin_of(&home, &node);
    for format in ["json", "csv"] {
        let exporting = begin(&mut admin, &format!("/api/admin/sessions/export?format={format}"));
        assert_eq!(exporting.status, 200);
        if format == "json" {
            assert_eq!(
                exporting.rest().map(|body| body.len() > LONG_TURNS * 960_000).ok(),
                Some(true),
                "nothing was deleted"
            );
            continue;
        }
        assert_eq!(admin.request("DELETE", &format!("/api/admin/sessions/{id}"), None).status, 200);
        assert!(exporting.rest().is_err(), "a part must not look like the whole");
    }
    node.wait_logged("an export is broken off");
}

/// A proxy that asks by HTTP/1.0 knows no other end of a body than that of the connection.
#[test]
fn an_export_over_http_1_0_says_in_its_last_line_that_it_was_broken_off() {
    use std::io::{BufRead, BufReader, Read, Write};
    let (_upstream, home, node, id) = long();
    let mut admin = admin_of(&home, &node);
    let (name, value) = admin.headers.first().cloned().expect("it has a token");
    let mut socket = std::net::TcpStream::connect(node.address()).expect("the node listens");
    socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("a socket has a timeout");
    write!(socket, "GET /api/admin/sessions/{id}/export?format=csv HTTP/1.0\r\n{name}: {value}\r\n\r\n")
        .expect("it is sent");
    let mut answer = BufReader::new(socket);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(answer.read_line(&mut head).expect("a head comes"), 0);
    }
    assert!(head.contains(" 200 ") && !head.contains("content-length") && !head.contains("chunked"), "{head}");
    assert_eq!(admin.request("DELETE", &format!("/api/admin/sessions/{id}"), None).status, 200);
    let mut body = Vec::new();
    let _ = answer.read_to_end(&mut body); // However it ends.
    let body = String::from_utf8(body).expect("text");
    let last = body.trim_end().rsplit("\r\n").next().expect("a line");
    assert!(last.starts_with("\"INCOMPLETE: ") && body.ends_with("\r\n"), "{last:.200}");
    let lines = cells(&body);
    assert!(lines.len() < 2 * LONG_TURNS && lines.iter().all(|line| line.len() == 11), "{} lines", lines.len());
}
