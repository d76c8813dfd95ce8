//! Answers on their way out: what waits for a client is counted, and is never more than there is memory for.
//!
//! A body that is not asked for more cannot tell that it is over: under HTTP/2 a client that opens no window, and under HTTP/1
//! one that reads a little now and then, would hold what waits for them for ever. So each answer but an event stream, and but
//! what is short under HTTP/1, goes in pieces. A piece has its share of the memory until it is sent; where there is none it is
//! waited for. Whoever takes them too slowly loses their connection, see [`Line`].

use super::edge::Edge;
use super::error::{self, ApiError};
use super::line::{Line, Waits};
use super::pace::{PerClient, Place};
use crate::clock;
use crate::limiter::Client;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Version, header};
use axum::response::Response;
use futures_util::{StreamExt, stream};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde::Serialize;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// At most.
const PIECE_BYTES: usize = 64 << 10;
/// Under HTTP/1 what is no longer is left as it is: one of them at a time waits on a connection.
const SHORT_BYTES: u64 = 16 << 10;
/// What waits for one client, which may be all who come from one address: some hundred answers that are taken slowly. Of a
/// small node's memory no more than a quarter.
const EACH_KIB_MAX: usize = 16 << 10;
/// Between two looks at whether there is memory.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// A long answer that is made whole has to be taken within this: what it holds is more than of any other.
const WHOLE_WITHIN: Duration = Duration::from_mins(5);

/// What pieces of answers take that wait: of all, and of each client.
#[derive(Clone)]
pub(super) struct Answers {
    /// In KiB.
    all: Arc<Semaphore>,
    each: Arc<PerClient>,
}

/// Held, and not read. A client's first piece has no part of what all have.
type Share = (Option<OwnedSemaphorePermit>, Place);

impl Answers {
    /// `bytes_max` of all, and a piece for each client that has none.
    pub(super) fn new(bytes_max: usize) -> Self {
        let all = bytes_max / 1024;
        Self { all: Arc::new(Semaphore::new(all)), each: PerClient::new(EACH_KIB_MAX.min(all / 4)) }
    }

    /// Takes the memory for `bytes` that go to `who`; `None` where too much waits. Whoever has nothing is given it in any case:
    /// nobody keeps others from their answers, and all of these take no more than a piece for each connection.
    fn share(&self, who: Client, bytes: usize) -> Option<Share> {
        let kib = Edge::kib(bytes);
        let (place, is_first) = self.each.take_or_first(who, kib)?;
        let share = Arc::clone(&self.all).try_acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX)).ok();
        (share.is_some() || is_first).then_some((share, place))
    }
}

/// To whom an answer goes, and by what.
pub(super) struct To {
    pub(super) who: Client,
    pub(super) version: Version,
    /// `None` where others' answers go by it too: then it is for whoever brings them to end what waits.
    pub(super) line: Option<Line>,
}

/// Some of an answer.
struct Piece {
    bytes: Bytes,
    #[expect(dead_code, reason = "held, not read")]
    memory: Share,
    #[expect(dead_code, reason = "held, not read")]
    waits: Option<Waits>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Has `answer` go in pieces where it can wait for its client.
pub(super) fn counted(answer: Response, answers: &Answers, to: To) -> Response {
    let length = answer.body().size_hint().exact();
    let is_short = length.is_some_and(|length| length == 0 || to.version < Version::HTTP_2 && length <= SHORT_BYTES);
    if is_short || is_event_stream(answer.headers()) {
        return answer;
    }
    let answers = answers.clone();
    answer.map(|inner| Body::new(Pieces { inner, rest: Bytes::new(), answers, to, waits: None, again: None }))
}

/// Those are as slow as who answers, and have rules of their own.
fn is_event_stream(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(b"text/event-stream"))
}

/// A body, piece by piece.
struct Pieces {
    inner: Body,
    /// What is here of it, and was not asked for.
    rest: Bytes,
    answers: Answers,
    to: To,
    /// Between two pieces: its client has to ask for the next.
    waits: Option<Waits>,
    /// When there may be memory.
    again: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        this.waits = None;
        if this.rest.is_empty() {
            let next = ready!(Pin::new(&mut this.inner).poll_frame(context));
            match next.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => this.rest = bytes,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let length = this.rest.len().min(PIECE_BYTES);
        let memory = loop {
            if let Some(again) = &mut this.again {
                ready!(again.as_mut().poll(context));
                this.again = None;
            }
            match this.answers.share(this.to.who, length) {
                Some(memory) => break memory,
                None => this.again = Some(Box::pin(tokio::time::sleep(AGAIN_AFTER))),
            }
        };
        let waits = || this.to.line.as_ref().map(Line::waits);
        this.waits = waits();
        let piece = Piece { bytes: this.rest.split_to(length), memory, waits: waits() };
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

/// Some of what was made whole.
struct Part {
    bytes: Box<[u8]>,
    #[expect(dead_code, reason = "held, not read")]
    memory: Option<OwnedSemaphorePermit>,
    #[expect(dead_code, reason = "held, not read")]
    place: Arc<Place>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is `told` to `who`. A long one is here as a whole: it takes its memory from what such answers have, gives it back as it
/// goes, and has to be taken in time.
pub(super) fn json(edge: &Edge, who: Client, told: &impl Serialize) -> Result<Response, ApiError> {
    let whole = serde_json::to_vec(told).map_err(|_| error::internal())?;
    let length = whole.len();
    let body = if length <= PIECE_BYTES {
        Body::from(whole)
    } else {
        let (mut memory, place) = edge.share_of_wholes(who, length)?;
        let place = Arc::new(place);
        let parts: Vec<_> = whole
            .chunks(PIECE_BYTES)
            .map(|bytes| {
                let memory = memory.split(Edge::kib(bytes.len()).min(memory.num_permits()));
                Bytes::from_owner(Part { bytes: bytes.into(), memory, place: Arc::clone(&place) })
            })
            .collect();
        let by = clock::now() + WHOLE_WITHIN;
        Body::from_stream(stream::iter(parts).map(move |part| {
            if clock::now() < by { Ok(part) } else { Err(io::Error::other("the answer is taken too slowly")) }
        }))
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pace::FREE;
    use std::net::IpAddr;

    fn client(last: u8) -> Client {
        Client::at(IpAddr::from([203, 0, 113, last]))
    }

    fn to(last: u8, version: Version) -> (To, Line) {
        let line = Line::default();
        (To { who: client(last), version, line: Some(line.clone()) }, line)
    }

    fn of(length: usize) -> Response {
        Response::new(Body::from(vec![b'x'; length]))
    }

    async fn is_slow(line: &Line) -> bool {
        tokio::time::timeout(3 * FREE, line.is_too_slow()).await.is_ok()
    }

    /// Goal: an answer of any length that nobody takes is counted for as long as it waits, and its line is seen to be slow.
    /// Method: under HTTP/2, where the last piece waits when its body is over.
    #[tokio::test(start_paused = true)]
    async fn what_waits_is_held_and_watched_though_its_body_is_over() {
        let answers = Answers::new(1 << 20);
        for length in [2, 3 * PIECE_BYTES + 2] {
            let (to, line) = to(1, Version::HTTP_2);
            let answer = counted(of(length), &answers, to);
            assert_eq!(answer.body().size_hint().exact(), u64::try_from(length).ok());
            let pieces: Vec<_> = answer.into_body().into_data_stream().map(Result::unwrap).collect().await;
            assert_eq!((pieces.len(), pieces.concat().len()), (length.div_ceil(PIECE_BYTES), length));
            let last = pieces.into_iter().next_back().map(|last| last.slice(1..));
            assert!(answers.all.available_permits() < 1024, "it waits");
            assert!(is_slow(&line).await, "nobody watches it");
            drop(last);
            assert_eq!(answers.all.available_permits(), 1024);
            assert!(!is_slow(&line).await, "nothing waits any more");
        }
    }

    /// Goal: HTTP/1 takes pieces into its own buffer, and then no more for as long as its client reads nothing: that is waiting
    /// too. Method: a body that is not asked again.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_asked_again_waits_and_one_that_waits_for_ourselves_does_not() {
        let (answers, (to_slow, line)) = (Answers::new(1 << 20), to(1, Version::HTTP_11));
        let mut body = counted(of(9 * PIECE_BYTES), &answers, to_slow).into_body().into_data_stream();
        drop(body.next().await);
        assert!(is_slow(&line).await);
        drop(body);
        assert!(!is_slow(&line).await, "it is gone");
        let (to_fast, line) = to(1, Version::HTTP_2);
        let never = stream::once(async { Ok::<_, io::Error>(Bytes::from_static(b"a line")) }).chain(stream::pending());
        let mut body =
            counted(Response::new(Body::from_stream(never)), &answers, to_fast).into_body().into_data_stream();
        drop(body.next().await);
        tokio::select! {
            _ = body.next() => panic!("there is no more"),
            () = line.is_too_slow() => panic!("it is not the client that is waited for"),
            () = tokio::time::sleep(9 * FREE) => {}
        }
    }

    #[tokio::test]
    async fn what_is_short_or_a_stream_of_events_is_left_as_it_is() {
        let answers = Answers::new(1 << 20);
        let mut events = of(PIECE_BYTES + 1);
        events.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        for (answer, version) in [(of(16 << 10), Version::HTTP_11), (of(0), Version::HTTP_2), (events, Version::HTTP_2)]
        {
            let kept: Vec<_> =
                counted(answer, &answers, to(2, version).0).into_body().into_data_stream().collect().await;
            assert!(kept.len() <= 1 && answers.all.available_permits() == 1024, "it is not counted");
        }
    }

    /// Takes of a long answer what there is at once.
    async fn take(answers: &Answers, last: u8, length: usize) -> Vec<Bytes> {
        let mut body = counted(of(length), answers, to(last, Version::HTTP_2).0).into_body().into_data_stream();
        let mut held = Vec::new();
        while let Ok(Some(Ok(piece))) = tokio::time::timeout(AGAIN_AFTER * 2, body.next()).await {
            held.push(piece);
        }
        held
    }

    /// Goal: nobody keeps others from their answers. Method: clients that take nothing, until they have all that there is.
    #[tokio::test(start_paused = true)]
    async fn what_one_client_and_what_all_have_waiting_has_an_end_and_everybody_gets_on() {
        let answers = Answers::new(64 << 20);
        let each = EACH_KIB_MAX / Edge::kib(PIECE_BYTES);
        let first = take(&answers, 1, 30 << 20).await;
        assert_eq!((first.len(), take(&answers, 1, PIECE_BYTES).await.len()), (each, 0));
        let others: Vec<_> = [take(&answers, 2, 30 << 20).await, take(&answers, 3, 30 << 20).await].concat();
        let last = take(&answers, 4, 30 << 20).await;
        assert_eq!(others.len() + last.len(), 3 * each);
        // There is nothing left, and each of these gets all of their own, one piece after another.
        assert_eq!(take(&answers, 5, 30 << 20).await.len(), 1);
        let mut body = counted(of(9 * PIECE_BYTES), &answers, to(6, Version::HTTP_2).0).into_body().into_data_stream();
        let mut all = 0;
        while let Some(piece) = body.next().await.transpose().unwrap() {
            all += piece.len();
        }
        assert_eq!(all, 9 * PIECE_BYTES);
        // What was waited for comes as soon as there is room.
        let mut body = counted(of(PIECE_BYTES), &answers, to(1, Version::HTTP_2).0).into_body().into_data_stream();
        let (waited, ()) = tokio::join!(body.next(), async { drop(first) });
        assert!(waited.is_some_and(|piece| piece.is_ok()));
    }

    /// Goal: on a small node one client leaves something to others, too.
    #[tokio::test(start_paused = true)]
    async fn of_little_memory_a_client_has_no_more_than_a_quarter() {
        let answers = Answers::new(8 << 20);
        assert_eq!(take(&answers, 1, 8 << 20).await.len(), (2 << 10) / Edge::kib(PIECE_BYTES));
    }
}
