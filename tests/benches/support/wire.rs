//! HTTP/1.1 on a kept connection, with as little work as it can be done: what is measured is not
//! the measuring end. Blocking, one buffer, no allocation a message.

use super::PATIENCE;
use memchr::memmem;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Longer than most messages here.
const BUFFER_BYTES: usize = 64 << 10;
/// Longer than any.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A connection of either end.
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        Self::new(socket)
    }

    /// Of a socket that is connected.
    pub fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("set TCP_NODELAY");
        Self { socket, buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Reads one message to its end and returns it as it stood on the wire; `None` where the peer
    /// has hung up instead. `arrived` sees all of it so far after every read.
    ///
    /// # Errors
    ///
    /// The connection broke, or the message is none, or longer than any that is read here.
    pub fn message(&mut self, mut arrived: impl FnMut(&[u8])) -> io::Result<Option<&[u8]>> {
        self.filled = 0;
        let mut end = None;
        loop {
            if self.filled == self.buffer.len() {
                if self.filled >= MESSAGE_BYTES_MAX {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a message without an end"));
                }
                self.buffer.resize(2 * self.filled, 0);
            }
            let read = self.socket.read(&mut self.buffer[self.filled..])?;
            if read == 0 {
                return if self.filled == 0 { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
            self.filled += read;
            let bytes = &self.buffer[..self.filled];
            arrived(bytes);
            if end.is_none() {
                end = memmem::find(bytes, b"\r\n\r\n").map(|head| Scan::begin(&bytes[..head + 4])).transpose()?;
            }
            if let Some(scan) = &mut end
                && scan.is_whole(bytes)?
            {
                // One asks only after the other has answered: nothing can follow.
                return Ok(Some(&self.buffer[..self.filled]));
            }
        }
    }
}

/// How far a body was followed.
enum Scan {
    /// The body ends there.
    Length(usize),
    /// The next chunk's size stands there.
    Chunks(usize),
}

impl Scan {
    fn begin(head: &[u8]) -> io::Result<Self> {
        if header(head, b"transfer-encoding").is_some() {
            return Ok(Self::Chunks(head.len()));
        }
        let length = header(head, b"content-length").map_or(Some(0), |value| number(value, 10));
        length.map(|length| Self::Length(head.len() + length)).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    fn is_whole(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let at = match self {
            Self::Length(end) => return Ok(bytes.len() >= *end),
            Self::Chunks(at) => at,
        };
        while let Some(line) = bytes.get(*at..).and_then(|rest| memmem::find(rest, b"\r\n")) {
            let size = number(&bytes[*at..*at + line], 16).ok_or(ErrorKind::InvalidData)?;
            let next = *at + line + 2 + size + 2;
            if size == 0 {
                return Ok(bytes.len() >= next);
            }
            if bytes.len() < next {
                return Ok(false);
            }
            *at = next;
        }
        Ok(false)
    }
}

/// The value of a header in a head; `name` is in lower case.
pub fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let is_named = line.len() > name.len() && line[name.len()] == b':';
        (is_named && line[..name.len()].eq_ignore_ascii_case(name)).then(|| line[name.len() + 1..].trim_ascii())
    })
}

/// What `path` answers with 200; `None` for anything else, and where nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = String::new();
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).ok()?;
    socket.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(answer)
}

/// The cookie that an answer sets, as it is to be sent back.
pub fn cookie(answer: &[u8]) -> Option<String> {
    let pair = header(answer, b"set-cookie")?.split(|&byte| byte == b';').next()?;
    Some(String::from_utf8_lossy(pair).into_owned())
}

/// A question as the front end puts it, without a cookie where that is empty.
pub fn post(path: &str, cookie: &str, body: &str) -> String {
    let cookie = if cookie.is_empty() { String::new() } else { format!("cookie: {cookie}\r\n") };
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench.example\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n{cookie}content-length: {length}\r\n\r\n{body}"
    )
}

fn number(digits: &[u8], radix: u32) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}
