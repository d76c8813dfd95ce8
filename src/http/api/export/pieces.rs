//! A file on its way, piece by piece.
//!
//! A task reads it, so that an export ends in its time also where nobody asks its body for more. Each piece has a share of
//! the memory for bodies until it is sent.

use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use std::io;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::TaskTracker;

/// A piece of a body is at least as long, where more follows.
pub(in crate::http::api) const PIECE_BYTES: usize = 64 << 10;
/// What making one takes: a page of the store, and what it is written as. A turn that is longer than a page takes more than its
/// share while it is made; so few exports run at a time that this has an end.
pub(in crate::http::api) const MAKING_BYTES: usize = 3 << 20;
/// Pieces that wait for the client.
const AHEAD: usize = 1;

/// A client has so long to take the last line of an export that is broken off before its connection is.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// Some of a file.
pub(in crate::http::api) struct Piece {
    bytes: Bytes,
    /// Nothing comes behind it.
    is_last: bool,
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
    pub(in crate::http::api) fn new(text: String, mut share: OwnedSemaphorePermit, is_last: bool) -> Self {
        let share = share.split(Edge::kib(text.len()).min(share.num_permits()));
        Self { bytes: Bytes::from_owner(Held { text, share }), is_last }
    }
}

/// What makes the pieces of a file, and holds what it needs for that until it is dropped.
pub(in crate::http::api) trait Source: Send + 'static {
    /// The next piece. Nobody asks for one behind the last.
    fn piece(&mut self) -> impl Future<Output = Result<Piece, ApiError>> + Send;
}

/// The body of what `source` makes, once there is a first piece: what fails before is told as an error. It ends `by` then
/// at the latest, where the client leaves, or where it takes nothing for `stall`.
pub(in crate::http::api) async fn body_of(
    mut source: impl Source,
    (by, stall): (Instant, Duration),
    notice: &'static str,
) -> Result<Body, ApiError> {
    let Piece { bytes, is_last } = source.piece().await?;
    if is_last {
        return Ok(Body::from(bytes));
    }
    let (pieces, rest) = mpsc::channel(AHEAD);
    TaskTracker::new().spawn(async move {
        let fed = tokio::time::timeout_at(by.into(), feed(source, &pieces, stall)).await;
        if let Err(error) = fed.unwrap_or_else(|_| Err(error::soon("the export takes too long"))) {
            tracing::warn!(reason = error.message(), "an export is broken off");
        }
    });
    Ok(body(bytes, rest, notice))
}

/// Hands over piece by piece; the last of them only where nothing is missing.
async fn feed(mut source: impl Source, pieces: &mpsc::Sender<Piece>, stall: Duration) -> Result<(), ApiError> {
    loop {
        let piece = source.piece().await?;
        let is_last = piece.is_last;
        match pieces.send_timeout(piece, stall).await {
            Ok(()) if is_last => return Ok(()),
            Ok(()) => {}
            Err(SendTimeoutError::Closed(_)) => return Ok(()), // Its client has left.
            Err(SendTimeoutError::Timeout(_)) => return Err(error::soon("the client takes nothing")),
        }
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
fn body(first: Bytes, rest: mpsc::Receiver<Piece>, notice: &'static str) -> Body {
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
    // Whoever compresses it asks once more at its end.
    Body::from_stream(stream::once(async { Ok(first) }).chain(rest).fuse())
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
        assert!(pieces.next().await.is_none(), "whoever compresses it asks once more");
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

    /// A file without an end, and the place that it holds.
    struct Endless(Arc<Semaphore>, #[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

    impl Source for Endless {
        async fn piece(&mut self) -> Result<Piece, ApiError> {
            let share = Arc::clone(&self.0).try_acquire_many_owned(1).map_err(|_| error::internal())?;
            Ok(Piece::new("x".to_owned(), share, false))
        }
    }

    /// Goal: nobody holds a place without an end, whether they take nothing or a little now and then. Method: a file that
    /// is longer than anybody waits.
    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_back_where_nothing_is_taken_and_at_the_end_of_the_time() {
        let places = Arc::new(Semaphore::new(1));
        let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
        let begin = async || {
            let place = Arc::clone(&places).try_acquire_owned().expect("it is free");
            let source = Endless(Arc::new(Semaphore::new(100)), place);
            body_of(source, (crate::clock::now() + hour, second), "").await.map_err(|error| error.code).unwrap()
        };
        let nothing_is_taken = begin().await;
        let since = crate::clock::now();
        drop(Arc::clone(&places).acquire_owned().await.expect("it is given back"));
        assert!((crate::clock::now() - since) <= 2 * second, "{:?}", (crate::clock::now() - since));
        drop(nothing_is_taken);
        let mut little_is_taken = begin().await.into_data_stream();
        let since = crate::clock::now();
        while little_is_taken.next().await.is_some_and(|piece| piece.is_ok()) {
            tokio::time::sleep(second / 2).await;
        }
        assert!(
            (hour..=hour + 2 * second).contains(&(crate::clock::now() - since)),
            "{:?}",
            (crate::clock::now() - since)
        );
        assert_eq!(places.available_permits(), 1);
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
