//! Files of people's questions: what is taken, who may read it, and what an upstream is told.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::support::{Agent, Asked, Browser, Home, Node, PATIENCE, Response, Upstream};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89";
pub(crate) const PDF: &[u8] = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n";
const SVG: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(document.cookie)</script></svg>";

fn posted(name: &str, kind: &str, bytes: &[u8]) -> Value {
    json!({ "filename": name, "mimeType": kind, "size": bytes.len(), "data": STANDARD.encode(bytes), "source": "upload" })
}

fn try_send(browser: &mut Browser, body: &Value) -> Response {
    browser.request("POST", "/api/chat/attachments", Some(body.to_string().as_bytes()))
}

#[track_caller]
pub(crate) fn send(browser: &mut Browser, name: &str, kind: &str, bytes: &[u8]) -> Value {
    let answer = try_send(browser, &posted(name, kind, bytes));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut body = answer.json();
    assert_eq!((&body["code"], &body["metadata"]["version"]), (&json!("OK"), &json!("1.0.0")));
    body["data"].take()
}

pub(crate) fn path(file: &Value) -> String {
    file["url"].as_str().or_else(|| file["path"].as_str()).expect("an address").to_owned()
}

/// `question` with files.
fn about(files: &[&Value]) -> Value {
    let mut body = question("what is this?", false);
    body["attachments"] = json!(files);
    body
}

fn content(asked: &Asked) -> Value {
    let messages = asked.body["messages"].as_array().expect("messages");
    messages.last().expect("one")["content"].clone()
}

fn plain(home: &Home) -> Node {
    home.configure("");
    home.start()
}

#[test]
fn a_file_comes_back_as_it_was_sent() {
    let home = Home::new(&[]);
    let node = home.start();
    let mut browser = node.browser();
    let file = send(&mut browser, "图 1.png", "image/png", PNG);
    assert_eq!((&file["name"], &file["mimeType"]), (&json!("图 1.png"), &json!("image/png")));
    assert_eq!((&file["size"], &file["source"]), (&json!(PNG.len()), &json!("upload")));
    let name = path(&file);
    let random = name.strip_prefix("/uploads/").and_then(|name| name.strip_suffix(".png")).expect("a name of ours");
    assert!(random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    // Whoever knows the name: a picture in a page asks without any token.
    let mut reader = node.browser().with("accept-encoding", "gzip");
    let read = reader.get(&name);
    assert_eq!((read.status, read.body.as_slice()), (200, PNG));
    assert_eq!(read.header("content-type"), Some("image/png"));
    assert_eq!(
        read.header("content-disposition"),
        Some("inline; filename=\"_ 1.png\"; filename*=UTF-8''%E5%9B%BE%201%2Epng")
    );
    assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(read.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    assert_eq!(read.header("cache-control"), Some("private, max-age=86400, immutable"));
    let tag = read.header("etag").expect("a tag").to_owned();
    let known = node.browser().with("if-none-match", tag).get(&name);
    assert_eq!((known.status, known.body.len()), (304, 0));
    for (range, status, part, expected) in [
        ("bytes=0-3", 206, Some("bytes 0-3/33"), &PNG[..4]),
        ("bytes=-2", 206, Some("bytes 31-32/33"), &PNG[31..]),
        ("bytes=0-1,3-4", 200, None, PNG),
        ("bytes=33-", 416, Some("bytes */33"), b""),
    ] {
        let read = node.browser().with("range", range).get(&name);
        assert_eq!((read.status, read.header("content-range")), (status, part), "{range}");
        assert_eq!(read.body, expected, "{range}");
    }
    let second = send(&mut browser, "图 1.png", "image/png", PNG);
    assert_ne!(path(&second), name, "each has a name of its own");
}

#[test]
fn only_pictures_are_shown_in_place_and_a_script_runs_nowhere() {
    let home = Home::new(&[]);
    let node = home.start();
    let mut browser = node.browser();
    for (name, claimed, bytes, kind) in [
        ("x.svg", "image/svg+xml", SVG, "image/svg+xml; charset=utf-8"),
        // It is what it is, whatever it is called.
        ("x.png", "image/png", SVG, "image/svg+xml; charset=utf-8"),
        ("x.html", "text/html", b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        ("x.pdf", "application/pdf", PDF, "application/pdf"),
        ("t.csv", "text/csv", b"a,b\n", "text/csv; charset=utf-8"),
    ] {
        let file = send(&mut browser, name, claimed, bytes);
        let read = node.browser().get(&path(&file));
        assert_eq!((read.status, read.body.as_slice()), (200, bytes), "{name}");
        assert_eq!(read.header("content-type"), Some(kind), "{name}");
        assert!(read.header("content-disposition").is_some_and(|way| way.starts_with("attachment; ")), "{name}");
        assert_eq!(read.header("content-security-policy"), Some("default-src 'none'; sandbox"), "{name}");
        assert_eq!(read.header("x-content-type-options"), Some("nosniff"), "{name}");
        assert_ne!(path(&file).rsplit('.').next(), Some("html"), "{file}");
    }
}

#[test]
fn what_is_not_taken_is_refused_by_name_and_leaves_nothing() {
    let home = Home::new(&[]);
    let node = home.start();
    let mut browser = node.browser();
    let with = |field: &str, value: Value| {
        let mut body = posted("a.png", "image/png", PNG);
        body[field] = value;
        body
    };
    for (body, status, code, field) in [
        (with("filename", json!("")), 400, "VALIDATION_ERROR", "filename"),
        (with("filename", json!("x".repeat(257))), 400, "VALIDATION_ERROR", "filename"),
        (with("filename", json!("a\nb")), 400, "VALIDATION_ERROR", "filename"),
        (with("filename", Value::Null), 400, "VALIDATION_ERROR", "filename"),
        (with("mimeType", json!("x".repeat(129))), 400, "VALIDATION_ERROR", "mimeType"),
        (with("size", json!(PNG.len() - 1)), 400, "VALIDATION_ERROR", "size"),
        (with("size", json!(-1)), 400, "VALIDATION_ERROR", "size"),
        (with("size", json!((20 << 20) + 1)), 413, "PAYLOAD_TOO_LARGE", ""),
        (with("data", json!("not base64!")), 400, "VALIDATION_ERROR", "data"),
        (posted("a.txt", "text/plain", b""), 400, "VALIDATION_ERROR", "size"),
        (with("source", json!("elsewhere")), 400, "VALIDATION_ERROR", "source"),
        (posted("a.png", "image/png", b"MZ\x90\0\x03"), 415, "UNSUPPORTED_MEDIA_TYPE", ""),
        (posted("a.txt", "text/plain", b"a\0b"), 415, "UNSUPPORTED_MEDIA_TYPE", ""),
        (posted("a.txt", "text/plain", b"\xff\xfea"), 415, "UNSUPPORTED_MEDIA_TYPE", ""),
        (posted("a.zip", "application/zip", b"PK\x03\x04aaaa"), 415, "UNSUPPORTED_MEDIA_TYPE", ""),
    ] {
        let refused = try_send(&mut browser, &body);
        assert_eq!(refused.code(status), code, "{}", refused.text());
        assert_eq!(refused.json()["details"][0]["field"].as_str().unwrap_or_default(), field, "{}", refused.text());
    }
    let malformed = browser.request("POST", "/api/chat/attachments", Some(b"{"));
    assert_eq!(malformed.code(400), "VALIDATION_ERROR");
    let mut plain = node.browser().with("content-type", "text/plain");
    assert_eq!(plain.request("POST", "/api/chat/attachments", Some(b"{}")).code(415), "UNSUPPORTED_MEDIA_TYPE");
    assert_eq!(browser.get("/api/chat/attachments").code(405), "METHOD_NOT_ALLOWED");
    // A path is no part of a name.
    let file = send(&mut browser, "../../etc/passwd.txt", "text/plain", b"x");
    assert_eq!(file["name"], "passwd.txt");
    assert!(node.log().lines().all(|line| !line.contains("not base64!")), "{}", node.log());
}

#[test]
fn bodies_have_limits_of_their_own() {
    let home = Home::new(&[]);
    let node = home.start();
    let mut browser = node.browser();
    let large: Vec<u8> = (0..20 << 20).map(|at: u32| b'a' + u8::try_from(at % 23).expect("small")).collect();
    let file = send(&mut browser, "a.txt", "text/plain", &large);
    let read = browser.get(&path(&file));
    assert!(read.status == 200 && read.body == large, "{} bytes of {}", read.body.len(), large.len());
    let part = node.browser().with("range", "bytes=262140-524290").get(&path(&file));
    assert!(part.status == 206 && part.body == large[262_140..=524_290], "over two borders");
    let mut longer = posted("a.txt", "text/plain", &large);
    longer["data"] = json!("A".repeat(30 << 20));
    assert_eq!(try_send(&mut browser, &longer).code(413), "PAYLOAD_TOO_LARGE");
    let mut elsewhere = question("hi", false);
    elsewhere["more"] = json!("A".repeat(11 << 20));
    assert_eq!(browser.chat(&elsewhere).code(413), "PAYLOAD_TOO_LARGE", "the limit is this route's alone");
    // Nobody who is refused, or is gone, takes memory along.
    for _ in 0..4 {
        send(&mut browser, "a.txt", "text/plain", &large[..1 << 20]);
    }
}

#[test]
fn a_name_that_is_none_reaches_no_file() {
    let home = Home::new(&[]);
    let node = home.start();
    let mut browser = node.browser();
    let file = path(&send(&mut browser, "a.png", "image/png", PNG));
    let stranger = format!("/uploads/{}.png", "0".repeat(32));
    for bad in [
        "/uploads/",
        "/uploads/..",
        "/uploads/../health",
        "/uploads/..%2f..%2fetc%2fpasswd",
        "/uploads/%2e%2e/llmchat.db",
        "/uploads/llmchat.db",
        "/uploads/%00",
        "/uploads/%ff.png",
        stranger.as_str(),
        &file.to_uppercase().replace("/UPLOADS", "/uploads"),
        &format!("{file}.png"),
        &format!("{file}/x"),
        &format!("{file}%00"),
        &file.replace(".png", ".jpg"),
    ] {
        assert_eq!(browser.get(bad).status, 404, "{bad}");
    }
    assert_eq!(browser.request("DELETE", &file, None).code(405), "METHOD_NOT_ALLOWED");
    assert_eq!(browser.get(&file).status, 200);
}

/// `link` is the path of what an upstream is told of `file`, and `other` of another one.
#[track_caller]
fn links_are_good_for_their_file(node: &Node, (link, file): (&str, &str), other: &str) {
    let read = node.browser().get(link);
    assert_eq!((read.status, read.body.as_slice()), (200, PNG));
    assert_eq!(read.header("cache-control"), Some("private, no-store"));
    let name = file.rsplit('/').next().and_then(|name| name.split('.').next()).expect("a name");
    assert!(!link.contains(name) && !format!("{:?}", read.headers).contains(name), "what is good for ever: {link}");
    let tag = read.header("etag").expect("a tag").to_owned();
    assert_eq!(node.browser().with("if-none-match", tag).get(link).status, 304);
    let token = link.strip_prefix("/uploads/~").expect("a token");
    let other_first = if token.starts_with('A') { 'B' } else { 'A' };
    for bad in ["", "AAAA", &token[2..], &format!("{other_first}{}", &token[1..])] {
        let bad = format!("/uploads/~{bad}");
        assert_eq!(node.browser().get(&bad).code(403), "LINK_EXPIRED", "{bad}");
    }
    assert_ne!(node.browser().get(other).body, PNG, "another file");
}

#[test]
fn an_upstream_is_told_of_files_and_may_fetch_them_for_a_while() {
    let upstream = Upstream::saying("an answer");
    let features = json!({ "supportsFiles": true, "supportsImages": true });
    let bare = json!({ "supportsFiles": false, "supportsImages": false });
    let home = Home::new(&[
        Agent::of("a", &upstream).with("features", features.clone()),
        Agent::of("bare", &upstream).with("features", bare),
        Agent::at("o", &format!("http://{}/v1", upstream.address))
            .with("provider", "openai")
            .with("model", "m")
            .with("appId", "")
            .with("features", features),
    ]);
    home.configure("server.public_url = \"http://chat.example:8080/base/\"\n");
    let node = home.start();
    let mut browser = node.browser();
    let png = send(&mut browser, "图.png", "image/png", PNG);
    let pdf = send(&mut browser, "x.pdf", "application/pdf", PDF);
    let foreign = json!({ "url": "https://other.example/f", "name": "f", "mimeType": "application/pdf", "size": 2048 });
    assert_eq!(browser.chat(&about(&[&png, &pdf, &foreign])).answer(), "an answer");
    let said = content(&upstream.asked()[0]);
    let (text, image, file) = (&said[0]["text"], &said[1], &said[2]);
    let lines: Vec<&str> = text.as_str().expect("text").lines().collect();
    assert_eq!(lines[..2], ["what is this?", ""]);
    let public = "http://chat.example:8080/base";
    let link = lines[2].strip_prefix("附件1: 图.png (33 B) -> ").expect("the first file");
    assert!(link.starts_with(&format!("{public}/uploads/~")), "{link}");
    let pdf_link = lines[3].strip_prefix("附件2: x.pdf (23 B) -> ").expect("the second file");
    let pdf_link = pdf_link.strip_prefix(public).expect("it begins so");
    assert_eq!(lines[4..], ["附件3: f (2.0 KB) -> https://other.example/f"]);
    assert_eq!(*image, json!({ "type": "image_url", "image_url": { "url": link } }));
    assert_eq!((&file["type"], &file["name"]), (&json!("file_url"), &json!("x.pdf")));
    assert_eq!(said.as_array().map(Vec::len), Some(3), "what is not ours is text alone");
    assert!(
        upstream.asked()[0].body["messages"][0].get("attachments").is_none(),
        "no field that FastGPT does not know"
    );

    links_are_good_for_their_file(&node, (link.strip_prefix(public).expect("it begins so"), &path(&png)), pdf_link);

    let mut to = |agent: &str, turn: &str, files: &[&Value]| {
        let mut body = about(files);
        (body["agentId"], body["responseChatItemId"]) = (agent.into(), turn.into());
        assert_eq!(browser.chat(&body).answer(), "an answer");
        content(upstream.asked().last().expect("it was asked"))
    };
    assert!(to("bare", "1", &[&png]).as_str().is_some_and(|text| text.contains("附件1: 图.png (33 B) -> http")));
    let to_openai = to("o", "1", &[&png, &pdf]);
    assert_eq!(to_openai[1]["type"], "image_url");
    assert_eq!(to_openai.as_array().map(Vec::len), Some(2), "OpenAI has no part for other files by their address");
    let last = to("o", "2", &[]);
    assert_eq!(last, json!("what is this?"));
    let before = upstream.asked().last().expect("it was asked").body["messages"][0]["content"].clone();
    assert!(
        before[0]["text"].as_str().is_some_and(|text| text.contains("附件2: x.pdf")),
        "what was said before: {before}"
    );
}

#[test]
fn without_an_address_of_ours_an_upstream_is_told_names_and_sizes() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = plain(&home);
    let mut browser = node.browser();
    let png = send(&mut browser, "a.png", "image/png", PNG);
    let mut body = about(&[&png]);
    body["voiceNote"] = json!({ "duration": 1.6, "mimeType": "audio/webm" });
    assert_eq!(browser.chat(&body).answer(), "an answer");
    let told = "what is this?\n\n附件1: a.png (33 B)\n附件2: 语音 (2 s)";
    assert_eq!(content(&upstream.asked()[0]), json!(told));
    let mut silent = about(&[&png]);
    (silent["messages"][0]["content"], silent["responseChatItemId"]) = ("".into(), "2".into());
    assert_eq!(browser.chat(&silent).answer(), "an answer");
    assert_eq!(content(&upstream.asked()[1]), json!("附件1: a.png (33 B)"));
}

#[test]
fn a_question_names_files_of_its_asker_and_no_others() {
    let upstream = Upstream::saying("an answer");
    let home = Home::new(&[Agent::of("a", &upstream)]);
    let node = home.start();
    let (mut browser, mut other) = (node.browser(), node.browser());
    let png = send(&mut browser, "a.png", "image/png", PNG);
    let voice = send(&mut browser, "v.ogg", "audio/ogg", b"OggS\0\x02\0\0\0\0");
    let refused = |browser: &mut Browser, body: &Value, field: &str| {
        let refused = browser.chat(body);
        assert_eq!(refused.code(400), "VALIDATION_ERROR");
        assert_eq!(refused.json()["details"][0]["field"], field, "{}", refused.text());
    };
    send(&mut other, "b.png", "image/png", PNG);
    refused(&mut other, &about(&[&png]), "attachments[0].url");
    refused(&mut node.browser(), &about(&[&png]), "attachments[0].url");
    let mut missing = png.clone();
    missing["url"] = json!(format!("/uploads/{}.png", "0".repeat(32)));
    refused(&mut browser, &about(&[&png, &missing]), "attachments[1].url");
    for bad in ["/uploads/../../etc/passwd", "file:///etc/passwd", "javascript:alert(1)", "/api/agents"] {
        let mut file = png.clone();
        file["url"] = bad.into();
        refused(&mut browser, &about(&[&file]), "attachments[0].url");
    }
    let spoken_note = json!({ "duration": 1.5, "mimeType": "audio/ogg", "url": voice["url"], "size": 10 });
    let mut spoken = question("hi", false);
    spoken["voiceNote"] = spoken_note.clone();
    refused(&mut other, &spoken, "voiceNote.url");
    assert_eq!(upstream.count(), 0, "nobody was asked");

    let mut body = about(&[&png]);
    body["voiceNote"] = spoken_note.clone();
    assert_eq!(browser.chat(&body).answer(), "an answer");
    assert_eq!(browser.chat(&body).answer(), "an answer");
    assert_eq!(upstream.count(), 1, "the same turn again");
    body["attachments"] = json!([]);
    assert_eq!(browser.chat(&body).code(422), "TURN_MISMATCH");
    let chat = browser.get("/api/chat/history/session_1").json();
    let (asked, answered) = (&chat["data"]["messages"][0], &chat["data"]["messages"][1]);
    assert_eq!(asked["content"], "what is this?", "as it was said, not as the upstream was told");
    assert_eq!((&asked["attachments"][0]["url"], &asked["voiceNote"]), (&png["url"], &spoken_note));
    assert_eq!(asked["raw"]["attachments"][0]["name"], "a.png");
    assert!(answered.get("attachments").is_none() && answered.get("voiceNote").is_none());
    let again = json!({ "agentId": "a", "dataId": "1-a", "stream": false });
    let retried = browser.request("POST", "/api/chat/history/session_1/retry", Some(again.to_string().as_bytes()));
    assert_eq!(retried.answer(), "an answer");
    assert_eq!(content(&upstream.asked()[1]), content(&upstream.asked()[0]), "with its files");
}

#[test]
fn a_file_outlives_a_restart() {
    let home = Home::new(&[]);
    let mut node = home.start();
    let file = send(&mut node.browser(), "a.png", "image/png", PNG);
    node.terminate();
    node.ended();
    let node = home.start();
    assert_eq!(node.browser().get(&path(&file)).body, PNG);
}

#[test]
fn quotas_are_told_by_their_status() {
    let home = Home::new(&[]);
    home.configure(
        "attachments.owner_day_bytes = 8_192\nattachments.owner_bytes = 16_384\nattachments.total_bytes = 20_480\n",
    );
    let node = home.start();
    let mut browser = node.browser();
    send(&mut browser, "a.png", "image/png", PNG);
    send(&mut browser, "a.png", "image/png", PNG);
    let refused = try_send(&mut browser, &posted("a.png", "image/png", PNG));
    assert_eq!(refused.code(429), "TOO_MANY_REQUESTS");
    let seconds: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    send(&mut node.browser(), "a.png", "image/png", PNG);
    send(&mut node.browser(), "a.png", "image/png", PNG);
    let full = try_send(&mut node.browser(), &posted("a.txt", "text/plain", &[b'a'; 5000]));
    assert_eq!(full.code(503), "SERVICE_UNAVAILABLE");
    assert!(full.header("retry-after").is_some());
    drop(node);
    home.configure("attachments.owner_bytes = 4_096\n");
    let node = home.start();
    let refused = try_send(&mut browser.moved(node.address()), &posted("a.png", "image/png", PNG));
    assert_eq!(refused.code(413), "PAYLOAD_TOO_LARGE");
}

/// Goal: what parsing a body takes is counted, and clients that write `\/` are served all the same. Method: files of the
/// largest size at a node which has the memory for one.
#[test]
fn escapes_in_a_file_take_no_memory_that_is_not_counted() {
    let home = Home::new(&[]);
    home.configure("limits.memory_bytes = 268_435_456\n");
    let node = home.start();
    let file: Vec<u8> = (0..20 << 20).map(|at: u32| 0x80 | u8::try_from(at % 127).expect("small")).collect();
    let body = posted("图.dat", "text/plain", &file).to_string();
    assert!(body.matches('/').count() > 1000);
    let by_php = body.replace('/', "\\/");
    let mut browser = node.browser();
    let mut send = |body: &str| browser.request("POST", "/api/chat/attachments", Some(body.as_bytes()));
    assert_eq!(send(&by_php).code(415), "UNSUPPORTED_MEDIA_TYPE", "it was read, and is no text");
    let refused = send(&body.replacen("\"data\":\"", "\"data\":\"\\u0041", 1));
    assert_eq!(refused.code(503), "SERVICE_UNAVAILABLE", "{}", refused.text());
}

#[test]
fn who_may_not_chat_may_not_send_files() {
    let home = Home::new(&[]);
    home.configure("auth.anonymous_chat = false\n");
    let node = home.start();
    let refused = try_send(&mut node.browser(), &posted("a.png", "image/png", PNG));
    assert_eq!(refused.code(401), "AUTHENTICATION_REQUIRED");
    for token in ["", "authorization: Bearer x.y.z\r\n", "cookie: llmchat_session=x\r\n"] {
        let head = format!("POST /api/chat/attachments HTTP/1.1\r\nhost: x\r\n{token}content-length: 29000000\r\n\r\n");
        let mut socket = TcpStream::connect(node.address()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        socket.write_all(head.as_bytes()).expect("it reads");
        let mut begin = [0; 12];
        socket.read_exact(&mut begin).expect("an answer comes");
        assert_eq!(&begin, b"HTTP/1.1 401", "before the body does, which never comes");
    }
    let token = admin(&home, &node);
    send(&mut as_user(&node, Some(&token)), "a.png", "image/png", PNG);
}
