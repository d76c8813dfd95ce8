//! The front end of an operator: what is served of its directory, and what is not.

use crate::edge::is_refused;
use crate::support::{Agent, Home, Node, PATIENCE, Response};
use rustix::fs::rename;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;

const INDEX: &str = "<!doctype html>\n<html lang=\"zh\"><HEAD data-x=\">\">\n<script src=\"app.js\"></script></HEAD><body></body></html>\n";
const BASED: &str = "<!doctype html>\n<html lang=\"zh\"><HEAD data-x=\">\"><base href=\"/\">\n<script src=\"app.js\"></script></HEAD><body></body></html>\n";
const SECRET: &str = "nobody may read this";

/// A home with a front end in `front`, and a secret beside it.
fn home() -> Home {
    let home = Home::new(&[Agent::at("a", "http://127.0.0.1:9/api/v1/chat/completions")]);
    for dir in ["front", "front/assets", "front/v1.0", "front/.git"] {
        fs::create_dir(home.path(dir)).expect("the home is writable");
    }
    let long = format!("const text = \"{}\";", "long ".repeat(1000));
    for (name, text) in [
        ("index.html", INDEX),
        ("app.js", long.as_str()),
        ("api.js", "const api = 1;"),
        ("sw.js", "self.skipWaiting();"),
        ("styles.css", "body { color: red }"),
        ("assets/logo.png", "not really a picture"),
        ("assets/a b.txt", "你好"),
        ("data.unheard", "?"),
        (".env", SECRET),
        (".git/config", SECRET),
    ] {
        home.put(&format!("front/{name}"), text);
    }
    home.put("secret.js", SECRET);
    home.configure(&format!("frontend.dir = '{}'", home.path("front").display()));
    home
}

fn started() -> (Home, Node) {
    let home = home();
    let node = home.start();
    (home, node)
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", answer.headers))
}

/// A strong one.
#[track_caller]
fn etag(answer: &Response) -> String {
    let tag = header(answer, "etag");
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 16, "{tag}");
    tag.to_owned()
}

#[test]
fn every_place_in_the_application_is_its_page_with_its_base() {
    let (home, node) = started();
    let mut browser = node.browser();
    let first = browser.get("/");
    for place in
        ["/", "/index.html", "/chat", "/chat/session_1?x=1.js", "/admin/users/", "/api", "/assets", "/%E4%BD%A0"]
    {
        let page = browser.get(place);
        assert_eq!((page.status, page.text()), (200, BASED), "{place}");
        assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
        assert_eq!(header(&page, "cache-control"), "no-cache");
        assert_eq!(header(&page, "x-content-type-options"), "nosniff");
        assert_eq!(etag(&page), etag(&first));
    }
    let again = node.browser().with("if-none-match", etag(&first)).get("/deep/down");
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!((header(&again, "etag"), header(&again, "cache-control")), (header(&first, "etag"), "no-cache"));
    home.put("front/index.html", INDEX.replace("app.js", "new.js"));
    let newer = node.browser().with("if-none-match", etag(&first)).get("/");
    assert_eq!((newer.status, newer.text()), (200, BASED.replace("app.js", "new.js").as_str()));
    assert_ne!(etag(&newer), etag(&first));
}

#[test]
fn what_the_application_is_made_of_is_asked_for_anew_and_the_rest_is_kept_for_a_while() {
    let (home, node) = started();
    let mut browser = node.browser();
    let parts = [
        ("/api.js", "text/javascript; charset=utf-8", "no-cache"),
        ("/sw.js", "text/javascript; charset=utf-8", "no-cache"),
        ("/styles.css", "text/css; charset=utf-8", "no-cache"),
        ("/assets/logo.png", "image/png", "public, max-age=3600"),
        ("/assets/a%20b.txt", "text/plain; charset=utf-8", "public, max-age=3600"),
        ("/data.unheard", "application/octet-stream", "public, max-age=3600"),
    ];
    for (path, kind, age) in parts {
        let file = browser.get(path);
        assert_eq!(file.status, 200, "{path}: {}", file.text());
        assert_eq!((header(&file, "content-type"), header(&file, "cache-control")), (kind, age), "{path}");
        assert_eq!(header(&file, "x-content-type-options"), "nosniff");
        assert_eq!((file.header("last-modified"), file.header("ratelimit-limit")), (None, None), "{path}");
        let known = node.browser().with("if-none-match", format!("\"x\", W/{}", etag(&file))).get(path);
        assert_eq!((known.status, known.body.len(), header(&known, "cache-control")), (304, 0, age), "{path}");
    }
    let script = browser.get("/api.js");
    assert_eq!(script.text(), "const api = 1;", "a file, and no route of the API");
    home.put("front/api.js", "const api = 2;");
    let mut knows = node.browser().with("if-none-match", etag(&script));
    knows.headers.push(("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT".to_owned()));
    let newer = knows.get("/api.js");
    assert_eq!((newer.status, newer.text()), (200, "const api = 2;"), "as long as before, and another one");
    assert_ne!(etag(&newer), etag(&script));
}

#[test]
fn what_is_ours_stays_ours_and_what_is_not_there_is_not_the_page() {
    let (_home, node) = started();
    let mut browser = node.browser();
    for missing in
        ["/api/", "/api/nothing", "/api/chat", "/api/index.html", "/health/nothing", "/uploads/x.png", "/uploads/x"]
    {
        is_refused(&browser.get(missing), 404, "NOT_FOUND");
    }
    for missing in ["/missing.js", "/v1.0", "/v1.0/", "/assets/none.png", "/app.js/x.js"] {
        let answer = browser.get(missing);
        if missing == "/v1.0/" {
            assert_eq!(answer.text(), BASED, "a place, by its slash");
        } else {
            is_refused(&answer, 404, "NOT_FOUND");
        }
    }
    is_refused(&browser.request("POST", "/chat", Some(b"{}")), 404, "NOT_FOUND");
    is_refused(&browser.request("DELETE", "/app.js", None), 404, "NOT_FOUND");
    is_refused(&browser.request("POST", "/", Some(b"{}")), 405, "METHOD_NOT_ALLOWED");
    assert_eq!(browser.get("/api/agents").json()["data"][0]["id"], "a");
    assert_eq!(browser.get("/health").json()["status"], "healthy");
    assert!(browser.get("/metrics").text().contains("llmchat_active_connections"));
}

#[test]
fn nothing_outside_the_directory_and_nothing_hidden_is_ever_served() {
    let (home, node) = started();
    for (link, to) in [("out.js", "../secret.js"), ("up", ".."), ("hidden.js", ".env"), ("in.js", "api.js")] {
        symlink(to, home.path(&format!("front/{link}"))).expect("a link");
    }
    let absolute = home.path("secret.js");
    symlink(&absolute, home.path("front/absolute.js")).expect("a link");
    let absolute = absolute.display();
    let climbs = [
        "/../secret.js",
        "/assets/../../secret.js",
        "/%2e%2e/secret.js",
        "/%2E%2e%2fsecret.js",
        "/..%2fsecret.js",
        "/..%5csecret.js",
        "/assets/%2e%2e/%2e%2e/secret.js",
        "/%252e%252e/secret.js",
        "/secret.js%00.png",
        "/%00",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/assets/../.env",
        "/out.js",
        "/absolute.js",
        "/hidden.js",
        "/up/secret.js",
        "//secret.js",
        "/./api.js",
        "/assets//logo.png",
        "/%ff.js",
        "/assets%2flogo.png",
    ];
    let mut browser = node.browser();
    for path in climbs.map(ToOwned::to_owned).into_iter().chain([format!("/{absolute}"), format!("/%2F{absolute}")]) {
        let answer = browser.get(&path);
        is_refused(&answer, 404, "NOT_FOUND");
        assert!(!answer.text().contains(SECRET), "{path}");
    }
    for inside in ["/in.js", "/up/front/api.js"] {
        assert_eq!(browser.get(inside).text(), "const api = 1;", "it is where it ends: {inside}");
    }
}

#[test]
fn files_are_packed_on_the_way_or_beforehand_and_each_has_its_name() {
    let (home, node) = started();
    let gzip = || node.browser().with("accept-encoding", "gzip");
    let plain = node.browser().get("/app.js");
    let packed = gzip().get("/app.js");
    assert_eq!((header(&packed, "content-encoding"), &packed.body[..2]), ("gzip", [0x1f, 0x8b].as_slice()));
    assert!(packed.body.len() < plain.body.len() / 10 && header(&packed, "vary").contains("accept-encoding"));
    assert_ne!(etag(&packed), etag(&plain), "other bytes, another name");
    for (browser, name) in [(gzip(), etag(&packed)), (node.browser(), etag(&plain))] {
        let known = browser.with("if-none-match", name.clone()).get("/app.js");
        assert_eq!((known.status, header(&known, "etag")), (304, name.as_str()));
    }
    let page = gzip().get("/");
    assert_eq!(header(&page, "content-encoding"), "gzip");
    assert_eq!(gzip().with("if-none-match", etag(&page)).get("/").status, 304);
    home.put("front/app.js.br", "as brotli would have it");
    home.put("front/app.js.gz", "as gzip would have it");
    let asked = ["gzip", "br", "gzip, br", "br;q=0, gzip;q=0.5", "identity"];
    let names: Vec<String> = asked
        .iter()
        .zip(["gzip", "brotli", "brotli", "gzip", ""])
        .map(|(accepted, expected)| {
            let answer = node.browser().with("accept-encoding", *accepted).get("/app.js");
            let text =
                if expected.is_empty() { plain.text().to_owned() } else { format!("as {expected} would have it") };
            assert_eq!((answer.status, answer.text()), (200, text.as_str()), "{accepted}");
            assert_eq!(header(&answer, "content-type"), "text/javascript; charset=utf-8", "of what is in it");
            assert_eq!(
                node.browser()
                    .with("accept-encoding", *accepted)
                    .with("if-none-match", etag(&answer))
                    .get("/app.js")
                    .status,
                304
            );
            etag(&answer)
        })
        .collect();
    assert!(names[0] != names[1] && names[1] != names[4] && names[4] == etag(&plain), "{names:?}");
    fs::remove_file(home.path("front/app.js.gz")).expect("it is there");
    symlink("../secret.js", home.path("front/app.js.gz")).expect("a link");
    is_refused(&gzip().get("/app.js"), 404, "NOT_FOUND");
    let logo = gzip().get("/assets/logo.png");
    assert_eq!((logo.header("content-encoding"), logo.text()), (None, "not really a picture"));
}

/// All that the node answers to `request` on a connection that it closes then.
fn raw(node: &Node, method: &str, path: &str, more: &str) -> String {
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(socket, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n").expect("sent");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer, and its end");
    answer
}

#[test]
fn a_part_of_a_file_is_sent_to_who_has_another_part_of_the_same() {
    let (_home, node) = started();
    let whole = node.browser().get("/api.js");
    let ranges = [
        ("bytes=0-4", "const", "bytes 0-4/14"),
        ("bytes=6-8", "api", "bytes 6-8/14"),
        ("bytes=-2", "1;", "bytes 12-13/14"),
    ];
    for (range, text, place) in ranges {
        let mut browser = node.browser().with("range", range).with("accept-encoding", "gzip");
        let part = browser.get("/api.js");
        assert_eq!((part.status, part.text(), header(&part, "content-range")), (206, text, place));
        assert_eq!(etag(&part), etag(&whole));
        assert_eq!(browser.with("if-range", etag(&whole)).get("/api.js").status, 206);
        let other = node.browser().with("range", range).with("if-range", "\"other\"").get("/api.js");
        assert_eq!((other.status, other.text()), (200, whole.text()), "what the client has is of another file");
    }
    let beyond = node.browser().with("range", "bytes=100-200").get("/api.js");
    assert_eq!((beyond.status, header(&beyond, "content-range")), (416, "bytes */14"));
    for (path, length) in [("/api.js", 14), ("/chat", BASED.len())] {
        let head = raw(&node, "HEAD", path, "");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {length}\r\n")) && head.contains("etag: \""), "{head}");
    }
    let known = raw(&node, "HEAD", "/api.js", &format!("if-none-match: {}\r\n", etag(&whole)));
    assert!(known.starts_with("HTTP/1.1 304 "), "{known}");
}

#[test]
fn a_build_may_be_put_in_place_of_another_while_it_is_served() {
    let home = home();
    rename(home.path("front"), home.path("one")).expect("it is ours");
    fs::create_dir(home.path("two")).expect("the home is writable");
    home.put("two/index.html", "<head></head>two");
    home.put("two/app.js", "two");
    symlink("one", home.path("front")).expect("a link");
    let node = home.start();
    let mut browser = node.browser();
    assert_eq!((browser.get("/").text(), browser.get("/api.js").status), (BASED, 200));
    fs::remove_file(home.path("front")).expect("the link");
    let away = browser.get("/");
    is_refused(&away, 503, "SERVICE_UNAVAILABLE");
    assert_eq!(header(&away, "retry-after"), "1");
    is_refused(&browser.get("/app.js"), 404, "NOT_FOUND");
    symlink("two", home.path("front")).expect("a link");
    assert_eq!(browser.get("/").text(), "<head><base href=\"/\"></head>two");
    assert_eq!((browser.get("/app.js").text(), browser.get("/api.js").status), ("two", 404));
}

#[test]
fn a_directory_without_a_front_end_is_a_mistake_that_is_named() {
    let home = home();
    home.put("front/file", "");
    let front = home.path("front");
    for (dir, index, why) in [
        ("none", None, "there is no such directory"),
        ("front/file", None, "there is no such directory"),
        ("front/assets", None, "there is no index.html in it"),
        ("front", Some("<html><body>no head</body></html>"), "its index.html has no <head>"),
    ] {
        if let Some(index) = index {
            home.put("front/index.html", index);
        }
        let dir = home.path(dir);
        home.configure(&format!("frontend.dir = '{}'", dir.display()));
        for command in ["check-config", "serve"] {
            let ran = home.run(&[command]);
            assert_eq!(ran.code, Some(64), "{}", ran.stderr);
            let problem = format!("frontend.dir: must be a directory with a built front end: {why}");
            assert!(ran.stderr.contains(&problem) && ran.stderr.contains(&*dir.to_string_lossy()), "{}", ran.stderr);
        }
    }
    home.put("front/index.html", INDEX);
    home.configure(&format!("frontend.dir = '{}'", front.display()));
    let ran = home.run(&["check-config"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "ok\n"), "{}", ran.stderr);
}
