use super::{Event, PATIENCE, now};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A socket whose every read ends at the deadline, however slowly bytes trickle.
struct Timed {
    socket: TcpStream,
    by: Instant,
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.by.saturating_duration_since(now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the test's patience is over"));
        }
        self.socket.set_read_timeout(Some(left))?;
        self.socket.read(into)
    }
}

/// A person's browser: one cookie jar, one connection a request.
pub(crate) struct Browser {
    to: SocketAddr,
    cookie: Option<String>,
    /// Sent with every request, as `(name, value)`.
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Browser {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, cookie: None, headers: Vec::new() }
    }

    /// The same person, at a node that may listen elsewhere by now.
    pub(crate) fn moved(mut self, to: SocketAddr) -> Self {
        self.to = to;
        self
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The visitor cookie's value.
    pub(crate) fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    pub(crate) fn set_cookie(&mut self, cookie: impl Into<String>) {
        self.cookie = Some(cookie.into());
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, None)
    }

    /// Asks, and waits for the whole answer.
    pub(crate) fn chat(&mut self, body: &Value) -> Response {
        self.request("POST", "/api/chat/completions", Some(body.to_string().as_bytes()))
    }

    /// For those who expect that nobody may answer.
    pub(crate) fn try_get(&mut self, path: &str) -> io::Result<Response> {
        self.try_request("GET", path, None)
    }

    pub(crate) fn request(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> Response {
        let answer = self.try_request(method, path, body);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_request(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> io::Result<Response> {
        let answering = self.send(method, path, body)?;
        let (status, headers) = (answering.status, answering.headers.clone());
        Ok(Response { status, headers, body: answering.rest()? })
    }

    /// Asks for a stream and returns as soon as its head is there. An error is the connection's, for those who expect
    /// the node to die.
    pub(crate) fn open(&mut self, body: &Value) -> io::Result<Answering> {
        self.send("POST", "/api/chat/completions", Some(body.to_string().as_bytes()))
    }

    /// Asks and does not wait for anything: for those who leave before the head.
    pub(crate) fn post(&self, body: &Value) -> TcpStream {
        self.write("POST", "/api/chat/completions", Some(body.to_string().as_bytes())).expect("the node listens")
    }

    fn write(&self, method: &str, path: &str, body: Option<&[u8]>) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.to);
        if let Some(cookie) = &self.cookie {
            let _ = write!(head, "cookie: other=1; llmchat_visitor={cookie}\r\n");
        }
        if let Some(body) = body {
            if !self.headers.iter().any(|(name, _)| *name == "content-type") {
                head.push_str("content-type: application/json\r\n");
            }
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        // A server that refuses a body by its length may hang up before it has all of it.
        match socket.write_all(&bytes) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Err(error)
            }
            _ => Ok(socket),
        }
    }

    /// Asks, and returns as soon as the head of the answer is there.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: Option<&[u8]>) -> io::Result<Answering> {
        let answering = Answering::read(self.write(method, path, body)?)?;
        if let Some(cookie) = answering.set_cookie() {
            self.cookie = Some(cookie);
        }
        Ok(answering)
    }
}

/// How long the rest of a body is.
enum Framing {
    Chunked,
    Bytes(u64),
    Over,
}

/// An answer whose head has come.
pub(crate) struct Answering {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    socket: BufReader<Timed>,
    framing: Framing,
    unread: Vec<u8>,
}

impl Answering {
    fn read(socket: TcpStream) -> io::Result<Self> {
        let mut socket = BufReader::new(Timed { socket, by: now() + PATIENCE });
        let first = line(&mut socket)?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = line(&mut socket)?;
            match line.split_once(": ") {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
                None => break,
            }
        }
        let of = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let framing = match of("content-length").map(str::parse) {
            Some(Ok(length)) => Framing::Bytes(length),
            _ if of("transfer-encoding") == Some("chunked") => Framing::Chunked,
            _ => Framing::Over,
        };
        Ok(Self { status, headers, socket, framing, unread: Vec::new() })
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// The next event, or `None` at a clean end. A body that is cut is an error.
    pub(crate) fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(event) = Event::take(&mut self.unread) {
                return Ok(Some(event));
            }
            match self.piece()? {
                piece if piece.is_empty() => return Ok(None),
                piece => self.unread.extend(piece),
            }
        }
    }

    /// Reads on to the event of that name, and returns all that came, it included.
    pub(crate) fn up_to(&mut self, name: &str) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().expect("the stream goes on");
            let event = event.unwrap_or_else(|| panic!("the stream ended before {name}: {events:?}"));
            let found = event.name == name;
            events.push(event);
            if found {
                return events;
            }
        }
    }

    /// Reads on to the next comment, which keeps proxies from hanging up.
    pub(crate) fn comment(&mut self) {
        let piece = self.piece().expect("the stream goes on");
        assert!(piece.starts_with(b":") && piece.ends_with(b"\n\n"), "{}", String::from_utf8_lossy(&piece));
    }

    /// The body to its clean end.
    pub(crate) fn rest(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.unread);
        loop {
            match self.piece()? {
                piece if piece.is_empty() => return Ok(bytes),
                piece => bytes.extend(piece),
            }
        }
    }

    /// The client is gone, both directions, at once.
    pub(crate) fn hang_up(self) {
        let _ = self.socket.get_ref().socket.shutdown(Shutdown::Both);
    }

    /// Some bytes of the body; none at its end.
    fn piece(&mut self) -> io::Result<Vec<u8>> {
        let length = match self.framing {
            Framing::Over => return Ok(Vec::new()),
            Framing::Bytes(length) => {
                self.framing = Framing::Over;
                length
            }
            Framing::Chunked => {
                let size = line(&mut self.socket)?;
                u64::from_str_radix(&size, 16).map_err(|_| io::Error::other(format!("no chunk size: {size:?}")))?
            }
        };
        let mut piece = vec![0; usize::try_from(length).expect("bodies fit")];
        self.socket.read_exact(&mut piece)?;
        if matches!(self.framing, Framing::Chunked) {
            line(&mut self.socket)?;
            if piece.is_empty() {
                self.framing = Framing::Over;
            }
        }
        Ok(piece)
    }

    fn set_cookie(&self) -> Option<String> {
        let line = self.header("set-cookie")?.strip_prefix("llmchat_visitor=")?;
        line.split(';').next().map(ToOwned::to_owned)
    }
}

fn line(socket: &mut BufReader<Timed>) -> io::Result<String> {
    let mut line = String::new();
    socket.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("cut inside a line: {line:?}"))),
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("bodies are UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The error's code, after a look at its status.
    #[track_caller]
    pub(crate) fn code(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()["code"].as_str().expect("an error has a code").to_owned()
    }

    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Event> {
        assert_eq!(self.status, 200, "{}", self.text());
        Event::all(self.body.clone())
    }

    /// The answer's text, streamed or not.
    #[track_caller]
    pub(crate) fn answer(&self) -> String {
        if self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return joined(&self.events());
        }
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["data"]["content"].as_str().expect("content is text").to_owned()
    }
}

/// The text of every `chunk`.
fn joined(events: &[Event]) -> String {
    let chunks = events.iter().filter(|event| event.name == "chunk").map(Event::json);
    chunks.map(|chunk| chunk["content"].as_str().expect("a chunk has text").to_owned()).collect()
}

/// How long `work` takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = now();
    let done = work();
    (done, now() - began)
}
