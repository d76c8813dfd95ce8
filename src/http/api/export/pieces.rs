//! A file on its way, piece by piece.
//!
//! A task reads it, so that an export ends in its time also where nobody asks its body for more. Each piece has a share of
//! the memory for bodies until it is sent.

use crate::http::edge::Edge;
use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use std::io;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// A client has so long to take the last line of an export that is broken off before its connection is.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Some of a file.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// Nothing comes behind it.
    pub(super) is_last: bool,
}

/// A text and the memory that it takes.
struct Held {
    text: String,
    #[expect(dead_code, reason = "held, not read")]
    share: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Piece {
    /// Keeps as much of `share` as the text takes, until whoever sends it drops it.
    pub(super) fn new(text: String, mut share: OwnedSemaphorePermit, is_last: bool) -> Self {
        let share = share.split(Edge::kib(text.len()).min(share.num_permits()));
        Self { bytes: Bytes::from_owner(Held { text, share }), is_last }
    }
}

/// What is left of a body.
enum Left {
    Pieces(mpsc::Receiver<Piece>),
    /// That it is broken off was said.
    Told,
    Nothing,
}

/// A body of `first` and what comes through `rest`. Where that ends without a last piece the body ends with `notice`, and
/// then with an error: over HTTP/1.0 a body that breaks off looks like one that ends.
pub(super) fn body(first: Bytes, rest: mpsc::Receiver<Piece>, notice: &'static str) -> Body {
    let broken = || io::Error::other("the export cannot go on");
    let rest = stream::unfold(Left::Pieces(rest), move |left| async move {
        match left {
            Left::Pieces(mut rest) => match rest.recv().await {
                Some(Piece { bytes, is_last: true }) => Some((Ok(bytes), Left::Nothing)),
                Some(Piece { bytes, is_last: false }) => Some((Ok(bytes), Left::Pieces(rest))),
                None if notice.is_empty() => Some((Err(broken()), Left::Nothing)),
                None => Some((Ok(Bytes::from_static(notice.as_bytes())), Left::Told)),
            },
            Left::Told => {
                // What is not on the wire yet would be thrown away with the connection.
                tokio::time::sleep(TOLD_WITHIN).await;
                Some((Err(broken()), Left::Nothing))
            }
            Left::Nothing => None,
        }
    });
    Body::from_stream(stream::once(async { Ok(first) }).chain(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    /// What a body says, and whether it ends well.
    async fn said(body: Body) -> (String, bool) {
        let (mut said, mut pieces) = (String::new(), body.into_data_stream());
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => said.push_str(std::str::from_utf8(&piece).unwrap()),
                Err(_) => return (said, false),
            }
        }
        (said, true)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_says_that_it_is_broken_off_before_it_is() {
        for (is_last, notice, expected) in [
            (true, "broken off", ("first, second", true)),
            (false, "broken off", ("first, secondbroken off", false)),
            (false, "", ("first, second", false)),
        ] {
            let (pieces, rest) = mpsc::channel(1);
            pieces.send(Piece { bytes: Bytes::from_static(b"second"), is_last }).await.ok().unwrap();
            drop(pieces);
            let (text, is_whole) = said(body(Bytes::from_static(b"first, "), rest, notice)).await;
            assert_eq!((text.as_str(), is_whole), expected);
        }
    }

    #[tokio::test]
    async fn a_piece_keeps_its_share_of_the_memory_until_it_is_sent() {
        let memory = Arc::new(Semaphore::new(100));
        let share = Arc::clone(&memory).try_acquire_many_owned(100).unwrap();
        let Piece { bytes, .. } = Piece::new("x".repeat(10 << 10), share, true);
        assert_eq!((memory.available_permits(), bytes.len()), (100 - 11, 10 << 10));
        let part = bytes.slice(..5);
        drop(bytes);
        assert_eq!(memory.available_permits(), 100 - 11, "some of it is still held");
        drop(part);
        assert_eq!(memory.available_permits(), 100);
    }
}
