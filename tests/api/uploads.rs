//! `/api/upload`: forms with files, who may see them, and what a crash leaves of them.

use crate::accounts::{admin, as_user, log_in, post, token};
use crate::attachments::{PDF, PNG, path, send};
use crate::support::{Home, Node, PATIENCE, Response, now};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

/// A form with files: (field, name, bytes).
pub(crate) fn form(files: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, name, bytes) in files {
        let head = format!("--XX\r\ncontent-disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\r\n");
        body.extend(head.as_bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XX--\r\n");
    body
}

fn upload(node: &Node, token: Option<&str>, route: &str, files: &[(&str, &str, &[u8])]) -> Response {
    let mut browser = as_user(node, token).with("content-type", "multipart/form-data; boundary=XX");
    browser.request("POST", &format!("/api/upload/{route}"), Some(&form(files)))
}

#[track_caller]
fn user(node: &Node, admin: &str, name: &str) -> (i64, String) {
    let added = post(node, "/api/admin/users", Some(admin), &json!({ "username": name, "password": "Aa1!aaaa" }));
    assert_eq!(added.status, 201, "{}", added.text());
    let data = log_in(node, name, "Aa1!aaaa");
    (data["user"]["id"].as_i64().expect("a number"), token(&data).to_owned())
}

#[test]
fn users_keep_files_of_their_own_and_administrators_see_all() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let ((id, ann), (_, bob)) = (user(&node, &admin, "ann"), user(&node, &admin, "bob"));
    let single = upload(&node, Some(&ann), "single", &[("other", "x.txt", b"passed over"), ("file", "图.png", PNG)]);
    assert_eq!(single.status, 200, "{}", single.text());
    let file = single.json()["data"].clone();
    assert_eq!((&file["originalName"], &file["mimetype"]), (&json!("图.png"), &json!("image/png")));
    assert_eq!((&file["size"], &file["uploadedBy"]), (&json!(PNG.len()), &json!(id)));
    assert!(file["uploadedAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{file}");
    assert_eq!(file["path"], json!(format!("/uploads/{}", file["filename"].as_str().expect("a name"))));
    assert_eq!(node.browser().get(&path(&file)).body, PNG);
    let large = vec![b'x'; 600_000];
    let both = upload(&node, Some(&ann), "multiple", &[("files", "a.txt", &large), ("files", "b.pdf", PDF)]);
    let both = both.json()["data"].as_array().expect("a list").clone();
    assert_eq!(both.len(), 2);
    assert!(node.browser().get(&path(&both[0])).body == large);

    let names = |token: &str, query: &str| {
        let list = as_user(&node, Some(token)).get(&format!("/api/upload/list{query}"));
        assert_eq!(list.status, 200, "{}", list.text());
        let list = list.json();
        let names = list["data"].as_array().expect("a list").iter();
        let names: Vec<String> = names.map(|file| file["originalName"].as_str().expect("a name").to_owned()).collect();
        (names, list["metadata"]["pagination"]["total"].as_u64())
    };
    assert_eq!(names(&ann, ""), (vec!["b.pdf".into(), "a.txt".into(), "图.png".into()], Some(3)));
    assert_eq!(names(&ann, "?page=2&limit=2"), (vec!["图.png".into()], Some(3)));
    assert_eq!(names(&bob, ""), (Vec::new(), Some(0)));
    send(&mut node.browser(), "v.png", "image/png", PNG);
    assert_eq!(names(&admin, "").1, Some(4), "a visitor's too");
    assert_eq!(as_user(&node, Some(&ann)).get("/api/upload/list?page=0").code(400), "VALIDATION_ERROR");

    let filename = file["filename"].as_str().expect("a name");
    let info = |token: Option<&str>| as_user(&node, token).get(&format!("/api/upload/{filename}/info"));
    assert_eq!(info(Some(&ann)).json()["data"], file);
    assert_eq!(info(Some(&admin)).json()["data"], file);
    assert_eq!(info(Some(&bob)).code(404), "NOT_FOUND");
    let remove =
        |token: Option<&str>, name: &str| as_user(&node, token).request("DELETE", &format!("/api/upload/{name}"), None);
    assert_eq!(remove(Some(&bob), filename).code(404), "NOT_FOUND");
    assert_eq!(remove(Some(&ann), "..%2fx").code(404), "NOT_FOUND");
    assert_eq!(remove(Some(&ann), filename).json()["data"]["deleted"], true);
    assert_eq!(remove(Some(&ann), filename).code(404), "NOT_FOUND");
    assert_eq!(node.browser().get(&path(&file)).status, 404);
    assert_eq!(remove(Some(&admin), both[0]["filename"].as_str().expect("a name")).status, 200);
    let audit = as_user(&node, Some(&admin)).get("/api/admin/audit?action=remove-upload").text().to_owned();
    assert!(audit.contains("remove-upload") && audit.contains(filename), "{audit}");
}

#[test]
fn files_are_kept_for_those_who_have_logged_in() {
    let home = Home::new(&[]);
    let node = home.start();
    let name = path(&send(&mut node.browser(), "a.png", "image/png", PNG)).replace("/uploads/", "");
    let mut browser = node.browser();
    for answer in [
        browser.get("/api/upload/list"),
        browser.get(&format!("/api/upload/{name}/info")),
        browser.request("DELETE", &format!("/api/upload/{name}"), None),
        upload(&node, None, "single", &[("file", "a.png", PNG)]),
        upload(&node, None, "multiple", &[("files", "a.png", PNG)]),
        post(&node, "/api/upload/single", None, &json!({})),
    ] {
        assert_eq!(answer.code(401), "AUTHENTICATION_REQUIRED");
    }
}

#[test]
fn a_form_that_is_none_or_has_too_much_in_it_leaves_nothing() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let token = Some(admin.as_str());
    let eleven = [("files", "a.png", PNG); 11];
    let longer = vec![b'x'; (20 << 20) + 1];
    for (status, code, answer) in [
        (400, "VALIDATION_ERROR", upload(&node, token, "single", &[])),
        (400, "VALIDATION_ERROR", upload(&node, token, "single", &[("files", "a.png", PNG)])),
        (400, "VALIDATION_ERROR", upload(&node, token, "single", &[("file", "a.png", PNG), ("file", "b.png", PNG)])),
        (400, "VALIDATION_ERROR", upload(&node, token, "multiple", &eleven)),
        (400, "VALIDATION_ERROR", upload(&node, token, "single", &[("file", "a.txt", b"")])),
        (
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            upload(&node, token, "multiple", &[("files", "a.png", PNG), ("files", "b", b"\0")]),
        ),
        (413, "PAYLOAD_TOO_LARGE", upload(&node, token, "single", &[("file", "a.txt", &longer)])),
        (415, "UNSUPPORTED_MEDIA_TYPE", post(&node, "/api/upload/single", token, &json!({}))),
    ] {
        assert_eq!(answer.code(status), code, "{}", answer.text());
    }
    let mut torn = form(&[("file", "a.png", PNG)]);
    torn.truncate(torn.len() - 8);
    let mut browser = as_user(&node, token).with("content-type", "multipart/form-data; boundary=XX");
    assert_eq!(browser.request("POST", "/api/upload/single", Some(&torn)).code(400), "VALIDATION_ERROR");
    let list = as_user(&node, token).get("/api/upload/list").json();
    assert_eq!(list["data"], json!([]), "all of a form, or none of it");
}

/// Goal: what makes no field of a form is refused before it takes much. Method: the head of a field that never ends, and more
/// fields than any form has.
#[test]
fn a_form_of_which_no_file_comes_is_refused_soon() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let head = format!(
        "POST /api/upload/single HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {admin}\r\n\
         content-type: multipart/form-data; boundary=XX\r\ncontent-length: 200000000\r\n\r\n--XX\r\nX: "
    );
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    socket.write_all(head.as_bytes()).expect("it reads");
    socket.write_all(&vec![b'a'; 100_000]).expect("it reads");
    let mut begin = [0; 12];
    socket.read_exact(&mut begin).expect("an answer comes");
    assert_eq!(&begin, b"HTTP/1.1 400", "before its end, which never comes");
    let with = |others: usize| {
        let mut files = vec![("other", "x.txt", &b"passed over"[..]); others];
        files.push(("file", "a.png", PNG));
        upload(&node, Some(&admin), "single", &files)
    };
    let long = vec![b'x'; 600_000];
    let passed_over = upload(&node, Some(&admin), "single", &[("other", "x.txt", &long), ("file", "a.png", PNG)]);
    assert_eq!(passed_over.status, 200, "{}", passed_over.text());
    assert_eq!(with(999).status, 200);
    assert_eq!(with(1000).code(400), "VALIDATION_ERROR");
}

/// Goal: nobody keeps others from files by taking their own slowly. Method: one address holds as many as it may, and
/// another one asks.
#[test]
fn one_address_reads_and_sends_a_few_files_at_once_and_keeps_nobody_out() {
    let home = Home::new(&[]);
    home.configure("server.trusted_proxies = [\"127.0.0.1/32\"]");
    let node = home.start();
    let admin = admin(&home, &node);
    // More than sockets hold.
    let file =
        upload(&node, Some(&admin), "single", &[("file", "a.txt", &vec![b'x'; 20 << 20])]).json()["data"].clone();
    let mut sockets = Vec::new();
    for _ in 0..8 {
        let answering = node.browser().send("GET", &path(&file), None).expect("its head comes");
        assert_eq!(answering.status, 200);
        sockets.push(answering);
    }
    let refused = node.browser().get(&path(&file));
    assert_eq!((refused.code(429).as_str(), refused.header("retry-after")), ("TOO_MANY_REQUESTS", Some("1")));
    assert_eq!(node.browser().with("x-forwarded-for", "203.0.113.9").get(&path(&file)).status, 200);
    drop(sockets);
    wait("given back", &node, || node.browser().get(&path(&file)).status == 200);

    let head = format!(
        "POST /api/upload/single HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {admin}\r\n\
         content-type: multipart/form-data; boundary=XX\r\ncontent-length: 1000\r\nexpect: 100-continue\r\n\r\n"
    );
    let mut sockets = Vec::new();
    for _ in 0..4 {
        let mut socket = TcpStream::connect(node.address()).expect("it listens");
        socket.write_all(head.as_bytes()).expect("it reads");
        let mut asked_on = [0; 12];
        socket.read_exact(&mut asked_on).expect("it wants the body once it has a place for it");
        assert_eq!(&asked_on, b"HTTP/1.1 100");
        sockets.push(socket);
    }
    let small = form(&[("file", "b.png", PNG)]);
    let from = |address: &str| {
        let browser = as_user(&node, Some(&admin)).with("content-type", "multipart/form-data; boundary=XX");
        browser.with("x-forwarded-for", address).request("POST", "/api/upload/single", Some(&small)).status
    };
    assert_eq!(from("127.0.0.1"), 429);
    assert_eq!(from("203.0.113.9"), 200);
    drop(sockets);
    wait("given back", &node, || from("127.0.0.1") == 200);
}

/// Goal: an erased user's files are gone, by name and from the disk.
#[test]
fn what_an_erased_user_has_kept_is_gone() {
    let home = Home::new(&[]);
    let node = home.start();
    let admin = admin(&home, &node);
    let (id, ann) = user(&node, &admin, "ann");
    let kept = upload(&node, Some(&ann), "single", &[("file", "a.txt", &vec![b'x'; 600_000])]).json()["data"].clone();
    let sent = send(&mut as_user(&node, Some(&ann)), "a.png", "image/png", PNG);
    let others = upload(&node, Some(&admin), "single", &[("file", "b.png", PNG)]).json()["data"].clone();
    assert_eq!((node.browser().get(&path(&kept)).status, rows(&home, "attachment_chunks")), (200, Some(5)));
    let erased = post(&node, &format!("/api/admin/users/{id}/erase"), Some(&admin), &json!({}));
    assert_eq!(erased.status, 202, "{}", erased.text());
    // Its head alone: what goes while it is read breaks off.
    let is_gone = |file| node.browser().send("GET", &path(file), None).expect("its head comes").status == 404;
    wait("gone", &node, || is_gone(&kept) && is_gone(&sent));
    wait("swept", &node, || rows(&home, "attachment_chunks") == Some(1));
    assert_eq!(node.browser().get(&path(&others)).body, PNG);
}

/// How many rows a table of a running node has; `None` while it cannot be read.
fn rows(home: &Home, table: &str) -> Option<i64> {
    let path = home.state().join("llmchat.db");
    let rows = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    rows.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).ok()
}

#[track_caller]
fn wait(what: &str, node: &Node, is: impl Fn() -> bool) {
    let by = now() + PATIENCE;
    while !is() {
        assert!(now() < by, "never {what}:\n{}", node.log());
    }
}

/// A form of two files, of three pieces each.
fn two_files() -> Vec<u8> {
    form(&[("files", "a.txt", &vec![b'a'; 600_000]), ("files", "b.txt", &vec![b'b'; 600_000])])
}

#[test]
fn a_crash_between_two_pieces_leaves_nothing_to_read_and_that_is_swept() {
    let home = Home::new(&[]);
    let node = home.start();
    let token = admin(&home, &node);
    // The first file is stored by the time that the second comes, which never ends.
    let mut whole = two_files();
    let head = format!(
        "POST /api/upload/multiple HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: multipart/form-data; boundary=XX\r\ncontent-length: {}\r\n\r\n",
        whole.len()
    );
    whole.truncate(900_000);
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket.write_all(head.as_bytes()).expect("it reads");
    socket.write_all(&whole).expect("it reads");
    wait("stored", &node, || rows(&home, "attachment_chunks") == Some(3));
    node.kill();
    let node = home.start();
    let list = as_user(&node, Some(&token)).get("/api/upload/list").json();
    assert_eq!(list["data"], json!([]));
    wait("swept", &node, || rows(&home, "attachment_chunks") == Some(0) && rows(&home, "attachment_drafts") == Some(0));
    let answer = upload(&node, Some(&token), "single", &[("file", "a.txt", b"good again")]);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn who_leaves_in_the_middle_leaves_nothing_but_the_count_of_the_day() {
    let home = Home::new(&[]);
    home.configure("attachments.owner_day_bytes = 1_000_000\n");
    let node = home.start();
    let token = admin(&home, &node);
    let whole = two_files();
    let head = format!(
        "POST /api/upload/multiple HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: multipart/form-data; boundary=XX\r\ncontent-length: {}\r\n\r\n",
        whole.len()
    );
    let mut socket = TcpStream::connect(node.address()).expect("it listens");
    socket.write_all(head.as_bytes()).expect("it reads");
    socket.write_all(&whole[..900_000]).expect("it reads");
    wait("stored", &node, || rows(&home, "attachment_chunks") == Some(3));
    drop(socket);
    wait("swept", &node, || rows(&home, "attachment_chunks") == Some(0));
    let refused = upload(&node, Some(&token), "single", &[("file", "c.txt", &vec![b'c'; 600_000])]);
    assert_eq!(refused.code(429), "TOO_MANY_REQUESTS", "what was sent counts, whatever became of it");
}
