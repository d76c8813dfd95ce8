//! Clients that take nothing: by HTTP/2 they open no window, and nothing of the connection says that they have gone.

use crate::accounts::{admin, as_user};
use crate::question;
use crate::support::{Agent, Home, Node, PATIENCE, Upstream, now};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// A connection on which something waits may move nothing for 20 seconds; that is looked at every five.
const TOO_SLOW: Duration = Duration::from_secs(30);

/// Of the long chat: 12 MB, of which pages of the store hold a few.
const TURNS: usize = 12;

/// A connection and what was asked by it. Without its sender it would end.
struct Stalled {
    answers: Vec<hyper::Response<Incoming>>,
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinHandle<()>,
}

/// Asks for `path` so often on one connection, and takes no more than the first byte of each answer: they are read no further.
async fn stalled(node: &Node, token: &str, path: &str, count: usize) -> Stalled {
    let socket = tokio::net::TcpStream::connect(node.address()).await.expect("it listens");
    let mut client = Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(1).initial_connection_window_size(1 << 20);
    let (mut sender, connection) = client.handshake(TokioIo::new(socket)).await.expect("it speaks HTTP/2");
    let connection = TaskTracker::new().spawn(async move { _ = connection.await }); // However it ends.
    let mut answers = Vec::new();
    for _ in 0..count {
        let request = hyper::Request::get(format!("http://{}{path}", node.address()));
        let request = request.header("authorization", format!("Bearer {token}")).body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.expect("a request")).await.expect("a head comes");
        assert_eq!(answer.status(), 200);
        answers.push(answer);
    }
    Stalled { answers, sender, connection }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Goal: whoever takes nothing of a file keeps neither a place nor memory. Method: as many as one address may read, which is
/// all that this node has memory for, and the end of their connection, which alone frees that.
#[test]
fn a_file_that_is_not_read_ends_its_connection() {
    let home = Home::new(&[]);
    home.configure("limits.memory_bytes = 67_108_864\ncache.bytes_max = 1_048_576\n");
    let node = home.start();
    let admin = admin(&home, &node);
    let form = [
        b"--XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n",
        &vec![b'x'; 600_000][..],
        b"\r\n--XX--\r\n",
    ];
    let mut browser = as_user(&node, Some(&admin)).with("content-type", "multipart/form-data; boundary=XX");
    let kept = browser.request("POST", "/api/upload/single", Some(&form.concat()));
    assert_eq!(kept.status, 200, "{}", kept.text());
    let path = kept.json()["data"]["path"].as_str().expect("an address").to_owned();
    runtime().block_on(async {
        let Stalled { answers, sender, connection } = stalled(&node, &admin, &path, 8).await;
        assert_eq!(node.browser().get(&path).code(429), "TOO_MANY_REQUESTS");
        let ended = tokio::time::timeout(TOO_SLOW + PATIENCE, connection).await;
        ended.expect("it is closed, though it is alive").expect("the client ends");
        drop((answers, sender));
    });
    let by = now() + PATIENCE;
    while node.browser().get(&path).status != 200 {
        assert!(now() < by, "its memory is never free again");
    }
}

/// Goal: pages of a chat that nobody reads keep nobody from asking, and end. Method: six of them on a node that has memory for
/// one long question, by a connection of the client's own, which ends, and by one of a proxy, by which others' answers come too.
#[test]
fn a_page_that_is_not_read_ends_its_connection_but_not_a_proxys() {
    let upstream = Upstream::start(|_, wire| wire.say(&"天气".repeat(160_000)));
    let begin = |settings: &str| {
        let home = Home::new(&[Agent::of("a", &upstream)]);
        home.configure(&format!("limits.memory_bytes = 67_108_864\ncache.bytes_max = 1_048_576\n{settings}"));
        let node = home.start();
        let admin = admin(&home, &node);
        as_user(&node, Some(&admin)).chat(&question("q", false)).answer();
        (home, node, admin)
    };
    let (_home, node, admin_token) = begin("");
    let (_other_home, behind, other) = begin("server.trusted_proxies = [\"127.0.0.1\"]\n");
    let chat = question("q", false)["chatId"].as_str().expect("a chat").to_owned();
    let path = format!("/api/chat/history/{chat}");
    runtime().block_on(async {
        // First, so that it is the first to be ended where it is not spared.
        let mut by_proxy = stalled(&behind, &other, &path, 6).await;
        let direct = stalled(&node, &admin_token, &path, 6).await;
        for (node, token) in [(&node, &admin_token), (&behind, &other)] {
            let mut body = question("meanwhile", false);
            body["responseChatItemId"] = "meanwhile".into();
            as_user(node, Some(token)).chat(&body).answer();
        }
        let ended = tokio::time::timeout(TOO_SLOW + PATIENCE, direct.connection).await;
        ended.expect("it is closed, though it is alive").expect("the client ends");
        let request = hyper::Request::get(format!("http://{}/health", behind.address())).body(Empty::<Bytes>::new());
        let answer = by_proxy.sender.send_request(request.expect("a request")).await.expect("the connection goes on");
        assert_eq!(answer.status(), 200);
        drop((direct.answers, direct.sender, by_proxy.answers));
    });
    let by = now() + PATIENCE;
    while as_user(&node, Some(&admin_token)).get(&path).status != 200 {
        assert!(now() < by, "its memory is never free again");
    }
}

/// Goal: whoever takes nothing of an export keeps no place. Method: both places, held by a connection that is alive.
#[test]
fn an_export_of_a_user_that_is_not_read_gives_its_place_back() {
    let upstream = Upstream::start(|_, wire| wire.say(&"天气".repeat(160_000)));
    let home = Home::new(&[Agent::of("a", &upstream)]);
    home.configure("server.client_stall_ms = 1000\n");
    let node = home.start();
    let admin = admin(&home, &node);
    for turn in 0..TURNS {
        let mut body = question("q", false);
        body["responseChatItemId"] = format!("t{turn}").into();
        as_user(&node, Some(&admin)).chat(&body).answer();
    }
    runtime().block_on(async {
        let held = stalled(&node, &admin, "/api/admin/users/1/export", 2).await;
        let by = now() + PATIENCE;
        let exported = loop {
            let exported = as_user(&node, Some(&admin)).get("/api/admin/users/1/export");
            if exported.status != 503 {
                break exported;
            }
            assert!(now() < by, "no place is ever free again");
        };
        assert_eq!(exported.json()["sessions"][0]["turns"].as_array().map(Vec::len), Some(TURNS), "whole");
        assert!(!held.connection.is_finished(), "what ended is not the connection");
        drop((held.answers, held.sender));
    });
    node.wait_logged("an export is broken off");
}
