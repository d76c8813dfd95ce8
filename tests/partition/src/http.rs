//! HTTP/1.1 as a client that trusts nothing: one connection a request, and a deadline for all of it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than any answer here.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// `name` is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nothing of the request can have arrived.
    NotSent(String),
    /// It may have been done.
    Broken(String),
}

trait Socket: Read + Write {
    fn patience(&self, left: Duration) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn patience(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left)).and_then(|()| self.set_write_timeout(Some(left)))
    }
}

impl Socket for UnixStream {
    fn patience(&self, left: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(left)).and_then(|()| self.set_write_timeout(Some(left)))
    }
}

fn left(by: Instant) -> io::Result<Duration> {
    let left = by.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Text of a request; `headers` are whole lines.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: partition\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// Asks the node at `address`.
pub(crate) fn ask(address: SocketAddr, request: &str, within: Duration) -> Result<Answer, Fault> {
    let by = Instant::now() + within;
    let mut socket = left(by)
        .and_then(|left| TcpStream::connect_timeout(&address, left))
        .map_err(|error| Fault::NotSent(format!("connect: {error}")))?;
    let _ = socket.set_nodelay(true);
    exchange(&mut socket, request, by).map_err(|error| Fault::Broken(error.to_string()))
}

/// Asks a control socket; the answer's body where that is a good one.
pub(crate) fn control(socket: &Path, path: &str, within: Duration) -> Option<serde_json::Value> {
    let mut stream = UnixStream::connect(socket).ok()?;
    let answer = exchange(&mut stream, &request("GET", path, "", ""), Instant::now() + within).ok()?;
    if answer.status == 200 { serde_json::from_str(&answer.body).ok() } else { None }
}

fn exchange(socket: &mut impl Socket, request: &str, by: Instant) -> io::Result<Answer> {
    socket.patience(left(by)?)?;
    socket.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        if let Some(answer) = whole(&bytes)? {
            return Ok(answer);
        }
        socket.patience(left(by)?)?;
        match socket.read(&mut piece)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up before the end")),
            read => bytes.extend_from_slice(&piece[..read]),
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer without an end"));
        }
    }
}

/// The answer that the bytes are; `None` while its end is missing.
fn whole(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let Some(head_end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..head_end]).map_err(|_| bad())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(bad)?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[head_end + 4..];
    let of = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let body = if of("transfer-encoding").is_some() {
        let Some(body) = dechunked(rest)? else { return Ok(None) };
        body
    } else {
        let length = of("content-length").map_or(Ok(0), str::parse::<usize>).map_err(|_| bad())?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        body.to_vec()
    };
    let body = String::from_utf8(body).map_err(|_| bad())?;
    Ok(Some(Answer { status, headers, body }))
}

pub(crate) fn dechunked(mut rest: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&rest[..line]).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
        let size = size.ok_or(io::ErrorKind::InvalidData)?;
        let Some(data) = rest.get(line + 2..line + 2 + size + 2) else { return Ok(None) };
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&data[..size]);
        rest = &rest[line + 2 + size + 2..];
    }
}
