//! Answers on their way out: what waits for a client is counted, and no client lets it wait without an end.
//!
//! A body that is not asked for more cannot tell that it is over: under HTTP/2 a client that opens no window, and under HTTP/1
//! one that reads a little now and then, would hold what waits for them for ever. So each answer but an event stream goes in
//! pieces. A piece has its share of the memory until it is sent, and whoever takes them too slowly loses their connection.

use super::edge::Edge;
use super::error::{self, ApiError};
use super::extract::Connection;
use super::pace::{FREE, PerClient, Place, is_enough};
use crate::limiter::Client;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// At most. Under HTTP/1 an answer that is no longer is copied into the connection's own buffer, and waits for nobody.
const PIECE_BYTES: usize = 64 << 10;
/// What waits for one client, which may be all who come from one address: some hundred answers that are taken slowly.
const EACH_KIB: usize = 16 << 10;
/// Between two looks at whether it is taken.
const LOOK_EVERY: Duration = FREE.checked_div(4).expect("not by zero");

/// What pieces of answers take that wait: of all, and of each client.
#[derive(Clone)]
pub(super) struct Answers {
    /// In KiB.
    all: Arc<Semaphore>,
    each: Arc<PerClient>,
}

impl Answers {
    /// `bytes_max` of all.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(bytes_max / 1024)), each: PerClient::new(EACH_KIB) }
    }

    /// Takes the memory for `bytes` that go to `who`; `None` where too much waits. Never waits.
    fn share(&self, who: Client, bytes: usize) -> Option<Share> {
        let kib = Edge::kib(bytes);
        let place = self.each.take(who, kib)?;
        let share = Arc::clone(&self.all).try_acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX));
        share.ok().map(|share| (share, place))
    }
}

/// Held, and not read.
type Share = (OwnedSemaphorePermit, Place);

/// To whom an answer goes, and by what.
pub(super) struct To {
    pub(super) who: Client,
    pub(super) version: Version,
    /// `None` where it is not to be ended, as others' answers go by it too.
    pub(super) connection: Option<Connection>,
}

/// What is taken of an answer, as its pieces and whoever looks after them know it.
struct Going {
    /// Bytes that were asked for.
    sent: AtomicU64,
    /// What waits is our own: the client has asked for more, and there is none yet.
    is_ours: AtomicBool,
    is_over: AtomicBool,
}

/// Looked after until it is dropped, and the last of its pieces.
struct Kept {
    going: Arc<Going>,
    #[expect(dead_code, reason = "held, not read")]
    left: DropGuard,
}

impl Kept {
    /// Ends `connection` where the answer is taken too slowly.
    fn watched(connection: Option<Connection>) -> Arc<Self> {
        let going =
            Going { sent: AtomicU64::default(), is_ours: AtomicBool::default(), is_over: AtomicBool::default() };
        let (going, left) = (Arc::new(going), CancellationToken::new());
        let seen = Arc::clone(&going);
        TaskTracker::new().spawn(left.clone().run_until_cancelled_owned(async move {
            let mut waited = Duration::ZERO;
            while is_enough(waited, seen.sent.load(Ordering::Relaxed)) {
                tokio::time::sleep(LOOK_EVERY).await;
                if !seen.is_ours.load(Ordering::Relaxed) {
                    waited += LOOK_EVERY;
                }
            }
            tracing::debug!("an answer is taken too slowly");
            seen.is_over.store(true, Ordering::Relaxed);
            if let Some(Connection(connection)) = connection {
                connection.cancel();
            }
        }));
        Arc::new(Self { going, left: left.drop_guard() })
    }
}

/// Some of an answer.
struct Piece {
    bytes: Bytes,
    #[expect(dead_code, reason = "held, not read")]
    of: Arc<Kept>,
    #[expect(dead_code, reason = "held, not read")]
    memory: Share,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Has `answer` go in pieces where it can wait for its client.
pub(super) fn counted(answer: Response, answers: &Answers, to: To) -> Response {
    let length = answer.body().size_hint().exact();
    let is_short = length.is_some_and(|length| {
        length == 0 || to.version < Version::HTTP_2 && usize::try_from(length).is_ok_and(|length| length <= PIECE_BYTES)
    });
    if is_short || is_event_stream(answer.headers()) {
        return answer;
    }
    let answers = answers.clone();
    answer.map(|inner| Body::new(Pieces { inner, rest: Bytes::new(), answers, to, kept: None }))
}

/// Those are as slow as who answers, and have rules of their own.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(b"text/event-stream"))
}

/// A body, piece by piece.
struct Pieces {
    inner: Body,
    /// Of its last frame.
    rest: Bytes,
    answers: Answers,
    to: To,
    /// Once there is a piece.
    kept: Option<Arc<Kept>>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let kept = this.kept.get_or_insert_with(|| Kept::watched(this.to.connection.take()));
        if kept.going.is_over.load(Ordering::Relaxed) {
            return failed("the answer is taken too slowly");
        }
        let mut bytes = std::mem::take(&mut this.rest);
        if bytes.is_empty() {
            kept.going.is_ours.store(true, Ordering::Relaxed);
            let next = ready!(Pin::new(&mut this.inner).poll_frame(context));
            kept.going.is_ours.store(false, Ordering::Relaxed);
            bytes = match next.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => bytes,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            };
        }
        if bytes.len() > PIECE_BYTES {
            this.rest = bytes.split_off(PIECE_BYTES);
        }
        let Some(memory) = this.answers.share(this.to.who, bytes.len()) else {
            return failed("too much waits for clients that do not take it");
        };
        kept.going.sent.fetch_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let piece = Piece { bytes, of: Arc::clone(kept), memory };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, rest) = (self.inner.size_hint(), u64::try_from(self.rest.len()).unwrap_or(u64::MAX));
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

fn failed(why: &'static str) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
    Poll::Ready(Some(Err(axum::Error::new(io::Error::other(why)))))
}

/// A whole answer, and what it takes until the last of it is sent.
struct Whole {
    bytes: Vec<u8>,
    #[expect(dead_code, reason = "held, not read")]
    memory: Share,
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is `told` to `who`. A long one takes its memory, as a file does, until it is sent: it is made whole, and its client may
/// take it slowly.
pub(super) fn json(edge: &Edge, who: Client, told: &impl Serialize) -> Result<Response, ApiError> {
    let bytes = serde_json::to_vec(told).map_err(|_| error::internal())?;
    let body = if bytes.len() <= PIECE_BYTES {
        Body::from(bytes)
    } else {
        let memory = edge.slots_of_whole(who, bytes.len())?;
        Body::from(Bytes::from_owner(Whole { bytes, memory }))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use futures_util::{StreamExt, stream};
    use std::convert::Infallible;
    use std::net::IpAddr;

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([203, 0, 113, last]))
    }

    fn to(last: u8, version: Version) -> (To, CancellationToken) {
        let connection = CancellationToken::new();
        (To { who: client(last), version, connection: Some(Connection(connection.clone())) }, connection)
    }

    fn of(length: usize) -> Response {
        Response::new(Body::from(vec![b'x'; length]))
    }

    async fn is_ended(connection: &CancellationToken) -> bool {
        tokio::time::timeout(2 * FREE, connection.cancelled()).await.is_ok()
    }

    /// Goal: an answer of any length that nobody takes is counted for as long as it waits, and that is not long. Method: under
    /// HTTP/2, where the last piece waits when its body is over.
    #[tokio::test(start_paused = true)]
    async fn what_waits_is_held_and_watched_though_its_body_is_over() {
        let answers = Answers::new(1 << 20);
        for length in [2, 3 * PIECE_BYTES + 2] {
            let (to, connection) = to(1, Version::HTTP_2);
            let answer = counted(of(length), &answers, to);
            assert_eq!(answer.body().size_hint().exact(), u64::try_from(length).ok());
            let began = clock::now();
            let pieces: Vec<_> = answer.into_body().into_data_stream().map(Result::unwrap).collect().await;
            assert_eq!((pieces.len(), pieces.concat().len()), (length.div_ceil(PIECE_BYTES), length));
            let last = pieces.into_iter().next_back().map(|last| last.slice(1..));
            assert!(answers.all.available_permits() < 1024, "it waits");
            assert!(is_ended(&connection).await, "nobody watches it");
            let took = clock::now() - began;
            assert!((FREE..FREE + Duration::from_secs(10)).contains(&took), "{took:?}");
            drop(last);
            assert_eq!(answers.all.available_permits(), 1024);
            assert!(answers.each.take(client(1), EACH_KIB).is_some(), "and nothing of it is this client's");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_ends_no_connection_and_what_is_short_or_a_stream_is_left_as_it_is() {
        let answers = Answers::new(1 << 20);
        let (to_reader, connection) = to(1, Version::HTTP_11);
        let mut body = counted(of(100 * PIECE_BYTES), &answers, to_reader).into_body().into_data_stream();
        while body.next().await.transpose().unwrap().is_some() {
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
        drop(body);
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert!(!connection.is_cancelled(), "it was read to its end");
        let mut events = of(PIECE_BYTES + 1);
        events.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        for (answer, version) in
            [(of(PIECE_BYTES), Version::HTTP_11), (of(0), Version::HTTP_2), (events, Version::HTTP_2)]
        {
            let (to, connection) = to(2, version);
            let kept: Vec<_> = counted(answer, &answers, to).into_body().into_data_stream().collect().await;
            assert!(kept.len() <= 1 && !is_ended(&connection).await);
            assert_eq!(answers.all.available_permits(), 1024, "it is not counted");
        }
    }

    /// Goal: who reads a little now and then holds nothing for long. Method: a byte's worth of patience for each piece, as
    /// HTTP/1 takes them into its own buffer.
    #[tokio::test(start_paused = true)]
    async fn who_trickles_is_too_slow() {
        let answers = Answers::new(1 << 20);
        let (to, connection) = to(1, Version::HTTP_11);
        let mut body = counted(of(100 * PIECE_BYTES), &answers, to).into_body().into_data_stream();
        let began = clock::now();
        while body.next().await.is_some_and(|piece| piece.is_ok()) {
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
        assert!(connection.is_cancelled() && clock::now() - began < 4 * FREE);
    }

    /// Goal: an answer that is made slowly is nobody's fault who takes it.
    #[tokio::test(start_paused = true)]
    async fn what_waits_for_ourselves_ends_nothing() {
        let answers = Answers::new(1 << 20);
        let slow = stream::iter(0..9).then(async |_| {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok::<_, Infallible>(Bytes::from_static(b"a line"))
        });
        let (to, connection) = to(1, Version::HTTP_2);
        let answer = counted(Response::new(Body::from_stream(slow)), &answers, to);
        let lines: Vec<_> = answer.into_body().into_data_stream().map(Result::unwrap).collect().await;
        assert_eq!((lines.len(), connection.is_cancelled()), (9, false));
    }

    /// Goal: nobody keeps others from their answers. Method: one client that takes nothing, and everything that all may have.
    #[tokio::test(start_paused = true)]
    async fn what_one_client_and_what_all_may_have_waiting_has_an_end() {
        let answers = Answers::new(64 << 20);
        let take = async |last, held: &mut Vec<Bytes>| {
            let mut body = counted(of(30 << 20), &answers, to(last, Version::HTTP_2).0).into_body().into_data_stream();
            let before = held.len();
            while let Some(Ok(piece)) = body.next().await {
                held.push(piece);
            }
            held.len() - before
        };
        let mut held = Vec::new();
        let each = EACH_KIB / Edge::kib(PIECE_BYTES);
        assert_eq!([take(1, &mut held).await, take(1, &mut held).await], [each, 0]);
        assert_eq!([take(2, &mut held).await, take(3, &mut held).await, take(4, &mut held).await], [each; 3]);
        assert!(take(5, &mut held).await < each, "it is all");
        held.clear();
        assert_eq!(take(5, &mut held).await, each);
    }

    /// Goal: where no connection is to be ended, as others' answers go by it, the answer ends.
    #[tokio::test(start_paused = true)]
    async fn where_no_connection_can_be_ended_the_answer_is() {
        let to = To { who: client(1), version: Version::HTTP_2, connection: None };
        let mut body = counted(of(9 * PIECE_BYTES), &Answers::new(1 << 20), to).into_body().into_data_stream();
        assert!(body.next().await.is_some_and(|piece| piece.is_ok()));
        tokio::time::sleep(2 * FREE).await;
        assert!(body.next().await.is_some_and(|piece| piece.is_err()));
    }
}
