//! Between the command and PostgreSQL: lets so many bytes of answers through, and then does something.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Small, so that what has come through is near to what the command has read.
const BUFFER_BYTES: usize = 16 << 10;
const PIECE_BYTES: usize = 4 << 10;

/// Listens on an address for one connection to `port`; after `limit` bytes of answers it does `then` and hangs up.
pub(crate) fn cut(port: u16, limit: usize, then: impl FnOnce() + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        let Ok((client, _)) = listener.accept() else { return };
        let server = TcpStream::connect(("127.0.0.1", port)).expect("PostgreSQL listens");
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&client, BUFFER_BYTES);
        let (mut asks, mut asked) = (client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
        thread::spawn(move || std::io::copy(&mut asks, &mut asked));
        relay(&server, &client, limit);
        then();
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
    address
}

fn relay(mut from: &TcpStream, mut to: &TcpStream, limit: usize) {
    let (mut piece, mut left) = (vec![0; PIECE_BYTES], limit);
    while left > 0 {
        let most = left.min(PIECE_BYTES);
        let Ok(read @ 1..) = from.read(&mut piece[..most]) else { return };
        if to.write_all(&piece[..read]).is_err() {
            return;
        }
        left -= read;
    }
}
