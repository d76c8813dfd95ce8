use super::{Gate, PATIENCE, now};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One request as it reached the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Null where there was none.
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// A text field of the body.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> &str {
        self.body[name].as_str().unwrap_or_else(|| panic!("no text `{name}` in {}", self.body))
    }

    /// What the user said, in any provider's shape.
    pub(crate) fn question(&self) -> &str {
        let messages =
            if self.body["input"].is_null() { &self.body["messages"] } else { &self.body["input"]["messages"] };
        let last = messages.as_array().and_then(|all| all.last()?["content"].as_str());
        last.or_else(|| self.body["query"].as_str()).unwrap_or_default()
    }
}

/// A FastGPT made of a listening socket and a script that says, for each request, what is written and when.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    asked: Mutex<Vec<Asked>>,
    more: Condvar,
}

impl Upstream {
    /// Serves every connection on a thread of its own; each request is handed to `script`. The threads end with their
    /// connections, and at the latest with the test's process.
    pub(crate) fn start(script: impl Fn(&Asked, &mut Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let log = Arc::new(Log::default());
        let (script, noted) = (Arc::new(script), Arc::clone(&log));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (script, noted) = (Arc::clone(&script), Arc::clone(&noted));
                thread::spawn(move || connection(socket, &noted, &*script));
            }
        });
        Self { address, log }
    }

    /// Always answers with this text.
    pub(crate) fn saying(text: &'static str) -> Self {
        Self::start(move |_, wire| wire.say(text))
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/api/v1/chat/completions", self.address)
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.log.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests came so far.
    pub(crate) fn count(&self) -> usize {
        self.log.asked.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until `count` requests have come, and returns them.
    pub(crate) fn wait_asked(&self, count: usize) -> Vec<Asked> {
        let by = now() + PATIENCE;
        let mut asked = self.log.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while asked.len() < count {
            let left = by.saturating_duration_since(now());
            assert!(!left.is_zero(), "{} of {count} requests reached the upstream", asked.len());
            asked = self.log.more.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        asked.clone()
    }
}

fn connection(socket: TcpStream, log: &Log, script: &(impl Fn(&Asked, &mut Wire) + ?Sized)) {
    let _ = socket.set_nodelay(true);
    let _ = socket.set_write_timeout(Some(PATIENCE));
    let mut wire = Wire { reader: BufReader::new(socket), keep: true };
    while wire.keep
        && let Some(asked) = wire.request()
    {
        log.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
        log.more.notify_all();
        wire.keep = false;
        script(&asked, &mut wire);
    }
}

/// A peer on loopback that takes no byte for so long is not reading.
const STUCK: Duration = Duration::from_millis(200);

/// The upstream's end of a connection. What is written after the peer has left is lost, as it is in life.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
    /// The answer was whole, so another request may follow on this connection.
    keep: bool,
}

impl Wire {
    fn request(&mut self) -> Option<Asked> {
        // Longer than any client keeps an idle connection, so that none is closed under a question.
        let _ = self.reader.get_ref().set_read_timeout(Some(6 * PATIENCE));
        let first = self.line()?;
        let mut words = first.split(' ').map(ToOwned::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = Vec::new();
        while let Some((name, value)) = self.line()?.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let length = headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse());
        let mut body = vec![0; length.map_or(0, |length| length.expect("a length is a number"))];
        self.reader.read_exact(&mut body).ok()?;
        Some(Asked { method, path, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.reader.read_line(&mut line).ok()?;
        line.strip_suffix("\r\n").map(ToOwned::to_owned)
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.reader.get_mut().write_all(bytes.as_ref());
    }

    /// Writes the head of a chunked answer.
    pub(crate) fn head(&mut self, status: u16, headers: &[(&str, &str)]) {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\ntransfer-encoding: chunked\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        self.raw(head + "\r\n");
    }

    /// The head that FastGPT gives its streams.
    pub(crate) fn stream(&mut self) {
        self.head(200, &[("content-type", "text/event-stream;charset=utf-8"), ("connection", "keep-alive")]);
    }

    pub(crate) fn chunk(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if !bytes.is_empty() {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            self.raw(chunk);
        }
    }

    /// Ends a chunked answer cleanly. Without it the connection is cut after the script.
    pub(crate) fn finish(&mut self) {
        self.raw("0\r\n\r\n");
        self.keep = true;
    }

    /// One answer with its length.
    pub(crate) fn whole(&mut self, status: u16, kind: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let head =
            format!("HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(bytes);
        self.keep = true;
    }

    /// A whole stream that says `text`.
    pub(crate) fn say(&mut self, text: &str) {
        self.stream();
        self.chunk(frame(text));
        self.end();
    }

    /// The end of a good stream.
    pub(crate) fn end(&mut self) {
        self.chunk(STOP);
        self.chunk("data: [DONE]\n\n");
        self.finish();
    }

    /// Says `chunk` again and again until the peer has left; opens `stuck` once the peer takes nothing more.
    pub(crate) fn flood(&mut self, chunk: &str, stuck: &Gate) {
        let chunk = format!("{:x}\r\n{chunk}\r\n", chunk.len()).into_bytes();
        let socket = self.reader.get_mut();
        let _ = socket.set_write_timeout(Some(STUCK));
        let mut rest: &[u8] = &chunk;
        loop {
            match socket.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => stuck.open(),
                Err(_) => return,
            }
            if rest.is_empty() {
                rest = &chunk;
            }
        }
    }

    /// Resets the connection, as a crashed host's router does.
    pub(crate) fn reset(&mut self) {
        let _ = rustix::net::sockopt::set_socket_linger(self.reader.get_ref(), Some(Duration::ZERO));
        self.keep = false;
    }

    /// Waits until the peer has hung up, and says when that was; `None` when it still has not after [`PATIENCE`].
    pub(crate) fn hung_up(&mut self) -> Option<Instant> {
        self.hung_up_within(PATIENCE)
    }

    pub(crate) fn hung_up_within(&mut self, patience: Duration) -> Option<Instant> {
        let _ = self.reader.get_ref().set_read_timeout(Some(patience));
        match self.reader.read(&mut [0; 1]) {
            Ok(0) => Some(now()),
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(now()),
            Ok(_) | Err(_) => None,
        }
    }
}

const STOP: &str = "data: {\"id\":\"\",\"object\":\"\",\"created\":0,\"model\":\"\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null},\"index\":0,\"finish_reason\":\"stop\"}]}\n\n";

/// One piece of text as FastGPT frames it.
pub(crate) fn frame(text: &str) -> String {
    let delta = json!({ "role": "assistant", "content": text });
    let choice = json!({ "delta": delta, "index": 0, "finish_reason": null });
    let chunk = json!({ "id": "", "object": "", "created": 0, "model": "", "choices": [choice] });
    format!("data: {chunk}\n\n")
}
