//! HTTP/1.1 on a kept connection, with as little work as it can be done: what is measured is not
//! the measuring end. Blocking, one buffer, no allocation a message.

use llmchat_benches::PATIENCE;
use memchr::memmem;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Longer than any message here.
const BUFFER_BYTES: usize = 64 << 10;

pub(crate) struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        Self::new(socket)
    }

    pub(crate) fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("set TCP_NODELAY");
        Self { socket, buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Reads one message to its end and returns it as it stood on the wire; `None` where the peer
    /// has hung up instead. `arrived` sees all of it so far after every read.
    pub(crate) fn message(&mut self, mut arrived: impl FnMut(&[u8])) -> io::Result<Option<&[u8]>> {
        self.filled = 0;
        let mut end = None;
        loop {
            if self.filled == self.buffer.len() {
                return Err(io::Error::new(ErrorKind::InvalidData, "a message longer than the buffer"));
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
pub(crate) fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let is_named = line.len() > name.len() && line[name.len()] == b':';
        (is_named && line[..name.len()].eq_ignore_ascii_case(name)).then(|| line[name.len() + 1..].trim_ascii())
    })
}

fn number(digits: &[u8], radix: u32) -> Option<usize> {
    usize::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}
