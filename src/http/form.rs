//! A form, read so that it holds little at any time.
//!
//! Its reader appends all that is ready to one buffer, and looks through all of that each time, until it has found the
//! first boundary, or the end of a field's head. So it is given a small piece, and only once it can make nothing of what it
//! has; who sends much of which it makes nothing sends no form.

use super::edge::Edge;
use super::error::{self, ApiError};
use super::pace::Pace;
use super::upload::{FORM_BYTES_MAX, Share, broken_off, slow, too_large};
use crate::clock;
use axum::body::{Body, BodyDataStream};
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use futures_util::Stream;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// What the reader is given at once.
const PIECE_BYTES: usize = 16 << 10;
/// What it may be given before it makes a field or a part of one of it: a head is some hundred bytes long, and before the
/// first boundary nobody sends anything.
const UNREAD_BYTES_MAX: usize = 64 << 10;
/// So much it holds at most: what it has made nothing of, with the piece that was too much, and the rest of the piece in
/// which the last field ended.
const HELD_BYTES_MAX: usize = UNREAD_BYTES_MAX + 2 * PIECE_BYTES;
/// Ten files, and whatever else a page has put into its form; each costs time, however short it is.
const FIELDS_MAX: usize = 1000;
/// A boundary has 70 characters at most (RFC 2046), and what is longer costs time with every piece.
const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Between two pieces of a body: who sends nothing for so long has gone. Who sends a little each time is too slow before long
/// ([`Pace`]).
pub(super) const PIECE_WITHIN: Duration = Duration::from_secs(10);

/// What the reader is to be given, and was.
#[derive(Debug, Default)]
struct Gate {
    /// It may take a piece.
    is_open: bool,
    /// What it has taken since it was opened: how many bytes.
    taken: usize,
}

/// Lets through one piece at a time, when it is time for it.
#[derive(Clone, Debug, Default)]
struct Feed(Arc<Mutex<Gate>>);

impl Feed {
    fn open(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Gate { is_open: true, taken: 0 };
    }

    fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_open
    }

    fn take(&self, bytes: usize) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Gate { is_open: false, taken: bytes };
    }

    /// What was taken, where something was, or the end has come.
    fn shut(&self) -> Option<usize> {
        let Gate { is_open, taken } = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!is_open).then_some(taken)
    }

    /// What comes of `step`, and how many bytes it has taken for that.
    async fn through<T, F>(&self, step: F) -> Result<(T, usize), ApiError>
    where
        F: Future<Output = Result<T, MultipartError>>,
    {
        let (mut step, mut taken) = (pin!(step), 0_usize);
        std::future::poll_fn(|context| {
            loop {
                // Of what it has. Nothing comes in.
                if let Poll::Ready(done) = step.as_mut().poll(context) {
                    return Poll::Ready(done.map(|done| (done, taken)).map_err(|error| broken(&error)));
                }
                if taken > UNREAD_BYTES_MAX {
                    return Poll::Ready(Err(error::validation("body", "has too much in it that is no file of a form")));
                }
                self.open();
                let polled = step.as_mut().poll(context);
                let came = self.shut();
                taken = taken.saturating_add(came.unwrap_or_default());
                if let Poll::Ready(done) = polled {
                    return Poll::Ready(done.map(|done| (done, taken)).map_err(|error| broken(&error)));
                }
                if came.is_none() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

fn broken(error: &MultipartError) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE { too_large(FORM_BYTES_MAX) } else { broken_off() }
}

/// A body, as the feed lets it through.
struct Fed {
    body: BodyDataStream,
    /// What has come of it and is not let through yet.
    rest: Bytes,
    feed: Feed,
}

impl Stream for Fed {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.feed.is_open() {
            return Poll::Pending; // Whoever opens it asks again.
        }
        if self.rest.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_next(context)) {
                Some(Ok(piece)) => self.rest = piece,
                end => {
                    self.feed.take(0);
                    return Poll::Ready(end);
                }
            }
        }
        let most = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(most);
        self.feed.take(piece.len());
        Poll::Ready(Some(Ok(piece)))
    }
}

/// The fields of a form, one after the other.
pub(super) struct Fields {
    form: Multipart,
    feed: Feed,
    pace: Pace,
    count: usize,
    #[expect(dead_code, reason = "held, not read")]
    share: Share,
}

impl Fields {
    pub(super) async fn of(request: Request, edge: &Edge) -> Result<Self, ApiError> {
        if !is_short(request.headers()) {
            return Err(no_form());
        }
        let mut share = Share::none(edge)?;
        share.grow(edge, HELD_BYTES_MAX)?;
        let feed = Feed::default();
        let gated = |body: Body| Fed { body: body.into_data_stream(), rest: Bytes::new(), feed: feed.clone() };
        let request = request.map(|body| Body::from_stream(gated(body)));
        let form = Multipart::from_request(request, edge).await.map_err(|_| no_form())?;
        Ok(Self { form, feed, pace: Pace::default(), count: 0, share })
    }

    /// The next field, to be read to its end before the one behind it.
    pub(super) async fn next(&mut self) -> Result<Option<Pieces<'_>>, ApiError> {
        let Self { form, feed, pace, count, .. } = self;
        let Some(field) = step(feed, pace, form.next_field()).await? else { return Ok(None) };
        *count += 1;
        if *count > FIELDS_MAX {
            return Err(error::validation("body", &format!("must have {FIELDS_MAX} fields at most")));
        }
        Ok(Some(Pieces { field, feed, pace }))
    }
}

fn is_short(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_none_or(|value| value.len() <= CONTENT_TYPE_BYTES_MAX)
}

fn no_form() -> ApiError {
    let message = "the body must be multipart/form-data";
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", message)
}

/// A step of the reader within its time, where its sender is fast enough so far.
async fn step<T, F>(feed: &Feed, pace: &mut Pace, taken: F) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, MultipartError>>,
{
    let asked_at = clock::now();
    let (done, bytes) = tokio::time::timeout(PIECE_WITHIN, feed.through(taken)).await.map_err(|_| slow())??;
    if pace.goes_on(clock::now() - asked_at, bytes) { Ok(done) } else { Err(slow()) }
}

/// A field, piece by piece.
pub(super) struct Pieces<'a> {
    pub(super) field: Field<'a>,
    feed: &'a Feed,
    pace: &'a mut Pace,
}

impl Pieces<'_> {
    /// The next piece; `None` at the field's end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        step(self.feed, self.pace, self.field.chunk()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::DefaultBodyLimit;
    use futures_util::{StreamExt, stream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A form of `pieces`, each of which comes so long after the one before; its feed, and how many bytes were taken.
    async fn form(
        pieces: impl Iterator<Item = Bytes> + Send + 'static,
        each_after: Duration,
    ) -> (Multipart, Feed, Arc<AtomicUsize>) {
        let (came, feed) = (Arc::<AtomicUsize>::default(), Feed::default());
        let counted = Arc::clone(&came);
        let pieces = stream::iter(pieces).then(move |piece| {
            counted.fetch_add(piece.len(), Ordering::Relaxed);
            async move {
                if !each_after.is_zero() {
                    tokio::time::sleep(each_after).await;
                }
                Ok::<_, axum::Error>(piece)
            }
        });
        let gated = Fed { body: Body::from_stream(pieces).into_data_stream(), rest: Bytes::new(), feed: feed.clone() };
        let request = Request::post("/").header("content-type", "multipart/form-data; boundary=XX");
        let mut request = request.body(Body::from_stream(gated)).unwrap();
        DefaultBodyLimit::disable().apply(&mut request);
        (Multipart::from_request(request, &()).await.unwrap(), feed, came)
    }

    /// How long each field is, and how many bytes were taken.
    async fn read(
        pieces: impl Iterator<Item = Bytes> + Send + 'static,
        each_after: Duration,
    ) -> (Result<Vec<usize>, (StatusCode, &'static str)>, usize) {
        let (mut form, feed, came) = form(pieces, each_after).await;
        let fields = async {
            let (mut pace, mut lengths) = (Pace::default(), Vec::new());
            while let Some(mut field) = step(&feed, &mut pace, form.next_field()).await? {
                let mut length = 0;
                while let Some(piece) = step(&feed, &mut pace, field.chunk()).await? {
                    assert!(piece.len() <= HELD_BYTES_MAX, "{}", piece.len());
                    length += piece.len();
                }
                lengths.push(length);
            }
            Ok(lengths)
        };
        let read = fields.await.map_err(|error: ApiError| (error.status, error.code));
        (read, came.load(Ordering::Relaxed))
    }

    fn pieces(text: Vec<u8>, length: usize) -> impl Iterator<Item = Bytes> + Send {
        let text = Bytes::from(text);
        (0..text.len().div_ceil(length)).map(move |at| text.slice(at * length..((at + 1) * length).min(text.len())))
    }

    const AT_ONCE: Duration = Duration::ZERO;
    const HEAD: &str = "--XX\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n";

    #[tokio::test]
    async fn a_form_is_what_it_is_however_it_comes() {
        let lengths = [0, 1, 5, 100_000, 0, 70_000, 1_000_000];
        let mut text = b"before it".to_vec();
        for length in lengths {
            text.extend(HEAD.as_bytes());
            text.extend(vec![b'\r'; length]);
            text.extend(b"\r\n");
        }
        text.extend(b"--XX--\r\n");
        for length in [1, 7, 1000, PIECE_BYTES, 2_000_000] {
            let (read, _) = read(pieces(text.clone(), length), AT_ONCE).await;
            assert_eq!(read, Ok(lengths.to_vec()), "in pieces of {length}");
        }
        text.truncate(text.len() - 9);
        assert_eq!(
            read(pieces(text, 500), AT_ONCE).await.0,
            Err((StatusCode::BAD_REQUEST, "VALIDATION_ERROR")),
            "torn"
        );
    }

    /// Goal: a body of which no field comes takes little, however fast it comes. Method: one without an end.
    #[tokio::test]
    async fn what_makes_no_field_is_not_read_on() {
        let endless = || std::iter::repeat_n(Bytes::from(vec![b'a'; 400 << 10]), 50);
        let begin = |text: &'static str| std::iter::once(Bytes::from_static(text.as_bytes()));
        let of_field = begin(HEAD).chain([Bytes::from_static(b"x\r\n--XX\r\nx-of-second: ")]);
        for (what, (read, came)) in [
            ("no boundary", read(endless(), AT_ONCE).await),
            ("a head without an end", read(begin("--XX\r\nX: ").chain(endless()), AT_ONCE).await),
            ("of the second field", read(of_field.chain(endless()), AT_ONCE).await),
            ("a boundary without an end of its line", read(begin("--XX").chain(endless()), AT_ONCE).await),
        ] {
            assert_eq!(read, Err((StatusCode::BAD_REQUEST, "VALIDATION_ERROR")), "{what}");
            assert!(came <= (800 << 10) + 100, "{what}: {came} bytes were taken");
        }
    }

    /// Goal: fields that are ready together are not taken together: what is held has a limit. Method: a great many.
    #[tokio::test]
    async fn many_fields_that_are_ready_are_taken_one_by_one() {
        let many = format!("{HEAD}x\r\n").repeat(10_000);
        let (mut form, feed, came) = form(pieces(many.into_bytes(), 1000), AT_ONCE).await;
        let mut field = feed.through(form.next_field()).await.unwrap().0.expect("one");
        assert_eq!(feed.through(field.chunk()).await.unwrap().0.as_deref(), Some(&b"x"[..]));
        assert_eq!(came.load(Ordering::Relaxed), 1000);
    }

    /// Goal: a field may take as long as its bytes need, and its sender may not hold a place for less. Method: one piece a
    /// second, of a field that is long, of one that trickles, and of many that are short.
    #[tokio::test(start_paused = true)]
    async fn a_slow_line_is_waited_for_and_one_that_trickles_is_not() {
        let second = Duration::from_secs(1);
        let long = [HEAD.as_bytes(), &vec![b'x'; 1 << 20], b"\r\n--XX--\r\n"].concat();
        assert_eq!(read(pieces(long, 10 << 10), second).await.0, Ok(vec![1 << 20]), "more than a hundred seconds");
        let trickles = [HEAD.as_bytes(), &vec![b'x'; 1000], b"\r\n--XX--\r\n"].concat();
        let many = [HEAD.as_bytes(), b"\r\n"].concat();
        let many = std::iter::repeat_n(Bytes::from(many), 1000);
        for slow in [read(pieces(trickles, 10), second).await, read(many, second).await] {
            assert_eq!(slow.0, Err((StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT")));
            assert!(slow.1 < 2000, "{} bytes", slow.1);
        }
    }
}
