use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Whether a question may still be asked.
pub(crate) type MayAsk = Arc<dyn Fn() -> bool + Send + Sync>;

/// A question's bytes, which are let go when a connection takes them: a process that was frozen on the way to there does
/// not ask any more what it may not.
pub(super) struct LastMoment {
    bytes: Option<Bytes>,
    length: u64,
    may_ask: MayAsk,
}

/// It may not be asked any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the question is not asked any more")]
pub(super) struct TooLate;

impl LastMoment {
    pub(super) fn new(bytes: Bytes, may_ask: &MayAsk) -> Self {
        let length = u64::try_from(bytes.len()).expect("a request fits in memory");
        Self { bytes: Some(bytes), length, may_ask: Arc::clone(may_ask) }
    }
}

impl Body for LastMoment {
    type Data = Bytes;
    type Error = TooLate;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, TooLate>>> {
        let Some(bytes) = self.bytes.take() else { return Poll::Ready(None) };
        self.length = 0;
        Poll::Ready(Some(if (self.may_ask)() { Ok(Frame::data(bytes)) } else { Err(TooLate) }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    /// Known before it is sent, so that it goes with its length and not in pieces.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}
