//! A file on its way out, or an answer as long as one: whoever takes it too slowly, or not at all, loses their place, and
//! then their connection.
//!
//! What is not asked for more cannot tell that it is over: under HTTP/2 a client that opens no window, and under HTTP/1 one
//! that reads a little now and then, would hold what waits for them without an end.

use super::edge::Edge;
use super::error::{self, ApiError};
use super::extract::Connection;
use super::pace::{At, FREE, is_enough};
use crate::clock;
use crate::limiter::Client;
use axum::body::{Body, Bytes};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Of an answer that is longer. What is shorter is sent as any other.
const PIECE_BYTES: usize = 64 << 10;

/// Who asks, and by what.
pub(super) struct From {
    pub(super) who: Client,
    pub(super) connection: Option<Connection>,
}

impl FromRequestParts<Edge> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        let At(who) = At::from_request_parts(parts, edge).await?;
        Ok(Self { who, connection: parts.extensions.get::<Connection>().cloned() })
    }
}

/// A file on its way: its body, and each piece of it until that is sent. Holds the memory for what waits to be sent.
pub(super) struct Going<M> {
    sent: Arc<AtomicU64>,
    is_over: CancellationToken,
    #[expect(dead_code, reason = "held, not read")]
    left: DropGuard,
    #[expect(dead_code, reason = "held, not read")]
    memory: M,
}

impl<M: Send + Sync + 'static> Going<M> {
    /// Holds `place` for as long as the file goes on, and fast enough; ends `connection` where it does not.
    pub(super) fn watched(place: impl Send + 'static, memory: M, connection: Option<Connection>) -> Arc<Self> {
        let (sent, is_over, left) = (Arc::<AtomicU64>::default(), CancellationToken::new(), CancellationToken::new());
        let (seen, over, gone) = (Arc::clone(&sent), is_over.clone(), left.clone());
        TaskTracker::new().spawn(gone.run_until_cancelled_owned(async move {
            let began = clock::now();
            while is_enough(clock::now() - began, seen.load(Ordering::Relaxed)) {
                tokio::time::sleep(FREE / 4).await;
            }
            tracing::debug!("a file goes too slowly");
            over.cancel();
            match connection {
                Some(Connection(connection)) => connection.cancel(),
                // Nothing ends what waits, so the place stays taken: nobody holds more than they have places for.
                None => std::future::pending().await,
            }
            drop(place);
        }));
        Arc::new(Self { sent, is_over, left: left.drop_guard(), memory })
    }

    /// Whether it was too slow.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.is_cancelled()
    }

    /// The next piece, counted. It is watched, and the memory held, until it is dropped: a body is over when its last piece
    /// is taken, and under HTTP/2 that piece may then wait for a window that its client never opens.
    pub(super) fn piece(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        self.sent.fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Bytes::from_owner(Piece { bytes, going: Arc::clone(self) })
    }
}

struct Piece<M> {
    bytes: Bytes,
    #[expect(dead_code, reason = "held, not read")]
    going: Arc<Going<M>>,
}

impl<M> AsRef<[u8]> for Piece<M> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is `told`, which `memory` was taken for. A long one goes piece by piece, watched as a file is: whole it would be
/// out of the handler's hands, and wait uncounted for a window that its client never opens.
pub(super) fn json(
    told: &impl Serialize,
    memory: impl Send + Sync + 'static,
    connection: Option<Connection>,
) -> Result<Response, ApiError> {
    let whole = Bytes::from(serde_json::to_vec(told).map_err(|_| error::internal())?);
    let length = whole.len();
    let body = if length <= PIECE_BYTES {
        Body::from(whole)
    } else {
        let going = Going::watched((), memory, connection);
        Body::from_stream(stream::iter((0..length).step_by(PIECE_BYTES)).map(move |from| {
            if going.is_over() {
                return Err(io::Error::other("the answer goes too slowly"));
            }
            Ok(going.piece(whole.slice(from..length.min(from + PIECE_BYTES))))
        }))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// As a file of this node is watched, one that comes from another: that one sees nothing of the client's connection.
pub(super) fn passed_on(answer: Response, connection: Option<Connection>) -> Response {
    let going = Going::watched((), (), connection);
    answer.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |piece| {
            let piece = going.piece(piece.map_err(io::Error::other)?);
            if going.is_over() { Err(io::Error::other("the file goes too slowly")) } else { Ok(piece) }
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::Semaphore;

    /// Goal: what 160 downloads that nobody reads hold is counted for as long as they hold it, and that is not long.
    /// Method: the places and the memory that 20 clients take with 8 each.
    #[tokio::test(start_paused = true)]
    async fn what_is_not_read_holds_its_memory_up_to_the_end_of_its_connection() {
        let (places, memory) = (Arc::new(Semaphore::new(160)), Arc::new(Semaphore::new(128)));
        let began = crate::clock::now();
        let mut connections = Vec::new();
        for _ in 0..160 {
            let place = Arc::clone(&places).try_acquire_owned().expect("it is free");
            let Ok(held) = Arc::clone(&memory).try_acquire_owned() else { continue };
            let connection = CancellationToken::new();
            connections.push((Going::watched(place, held, Some(Connection(connection.clone()))), connection));
        }
        assert_eq!((connections.len(), memory.available_permits()), (128, 0), "no more than there is");
        for (going, connection) in &connections {
            let ended = tokio::time::timeout(2 * FREE, connection.cancelled()).await;
            assert!(ended.is_ok() && going.is_over(), "it goes on");
        }
        let took = crate::clock::now() - began;
        assert!((FREE..FREE + Duration::from_secs(1)).contains(&took), "{took:?}");
        let all = Arc::clone(&places).acquire_many_owned(160).await.expect("places are given back");
        assert_eq!(memory.available_permits(), 0, "pieces wait in the bodies until they are dropped");
        drop(connections);
        assert_eq!(memory.available_permits(), 128);
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_goes_on_is_left_alone() {
        let connection = CancellationToken::new();
        let going = Going::watched((), (), Some(Connection(connection.clone())));
        for _ in 0..120 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(going.piece(Bytes::from_static(&[0; 8 << 10])));
        }
        assert!(!going.is_over() && !connection.is_cancelled());
        drop(going);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(!connection.is_cancelled(), "it was read to its end");
    }

    /// Goal: the last piece of a body, which waits behind a closed window when the body is over, is counted for and is not
    /// waited for without an end. Method: the piece outlives its body.
    #[tokio::test(start_paused = true)]
    async fn a_piece_that_waits_is_held_and_watched_though_its_body_is_over() {
        let (memory, connection) = (Arc::new(Semaphore::new(1)), CancellationToken::new());
        let held = Arc::clone(&memory).try_acquire_owned().expect("it is free");
        let going = Going::watched((), held, Some(Connection(connection.clone())));
        let waiting = going.piece(Bytes::from_static(b"all of it")).slice(1..);
        drop(going);
        assert_eq!(memory.available_permits(), 0, "the piece is still here");
        let ended = tokio::time::timeout(2 * FREE, connection.cancelled()).await;
        assert!(ended.is_ok(), "nobody watches it");
        assert_eq!(&waiting[..], b"ll of it");
        drop(waiting);
        assert_eq!(memory.available_permits(), 1);
    }

    /// Goal: a file that comes from another node is watched like one of this. Method: one answer that is read, and one that
    /// is not.
    #[tokio::test(start_paused = true)]
    async fn what_is_passed_on_is_watched_too() {
        let pieces = || futures_util::stream::iter((0..4).map(|_| Ok::<_, Infallible>(Bytes::from_static(b"piece"))));
        let (read, left) = (CancellationToken::new(), CancellationToken::new());
        let answer = passed_on(Response::new(Body::from_stream(pieces())), Some(Connection(read.clone())));
        let whole = axum::body::to_bytes(answer.into_body(), 100).await.expect("it ends well");
        assert_eq!(&whole[..], b"piecepiecepiecepiece");
        let answer = passed_on(Response::new(Body::from_stream(pieces())), Some(Connection(left.clone())));
        let mut unread = answer.into_body().into_data_stream();
        assert!(unread.next().await.is_some_and(|piece| piece.is_ok()));
        let ended = tokio::time::timeout(2 * FREE, left.cancelled()).await;
        assert!(ended.is_ok() && unread.next().await.is_some_and(|piece| piece.is_err()), "it goes on");
        assert!(!read.is_cancelled(), "it was read to its end");
    }

    /// Goal: a page of a chat that nobody reads holds its memory, and ends. Method: the pieces that a body gives, the last of
    /// them kept.
    #[tokio::test(start_paused = true)]
    async fn a_long_answer_goes_in_pieces_that_hold_their_memory() {
        let memory = Arc::new(Semaphore::new(1));
        let held = || Arc::clone(&memory).try_acquire_owned().expect("it is free");
        let short = json(&"short", held(), None).map_err(|error| error.code).unwrap();
        assert_eq!(short.headers()[header::CONTENT_LENGTH], "7");
        assert_eq!(memory.available_permits(), 1, "nothing of it waits");
        let (connection, text) = (CancellationToken::new(), "x".repeat(3 * PIECE_BYTES));
        let long = json(&text, held(), Some(Connection(connection.clone()))).map_err(|error| error.code).unwrap();
        assert_eq!(long.headers()[header::CONTENT_LENGTH], (3 * PIECE_BYTES + 2).to_string());
        let pieces: Vec<_> = long.into_body().into_data_stream().map(Result::unwrap).collect().await;
        assert_eq!((pieces.len(), pieces.concat().len()), (4, 3 * PIECE_BYTES + 2));
        let last = pieces.into_iter().next_back();
        assert_eq!(memory.available_permits(), 0, "its last piece waits");
        let ended = tokio::time::timeout(2 * FREE, connection.cancelled()).await;
        assert!(ended.is_ok(), "nobody watches it");
        drop(last);
        assert_eq!(memory.available_permits(), 1);
    }

    /// Goal: where a connection is not to be ended, as others' requests come by it, nobody gets a place for what waits.
    #[tokio::test(start_paused = true)]
    async fn where_no_connection_can_be_ended_the_place_stays_taken() {
        let places = Arc::new(Semaphore::new(1));
        let going = Going::watched(Arc::clone(&places).try_acquire_owned().expect("it is free"), (), None);
        tokio::time::sleep(2 * FREE).await;
        assert!(going.is_over() && places.available_permits() == 0);
        drop(going);
        drop(places.acquire().await.expect("it is given back"));
    }
}
