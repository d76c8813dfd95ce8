//! Frames over a connection between nodes.

use crate::protocol::peer::{self, BadFrame, FRAME_HEAD_BYTES, Frame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

const BUFFER_BYTES: usize = 256 << 10;
/// Frames that wait to be looked at; the sender waits meanwhile.
const WAITING_MAX: usize = 16;
/// A buffer that once held a large record is not kept.
const KEEP_BYTES: usize = 1 << 20;

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the other node hung up")]
    HungUp,
    #[error("nothing was heard of the other node for {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("the connection to the other node broke")]
    Io(#[from] io::Error),
    #[error("the other node speaks another language: {0}")]
    Bad(#[from] BadFrame),
    #[error("the other node said what makes no sense here")]
    OutOfTurn,
}

/// What a connection between nodes has to be able to do.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Frames that come. They are read on a task of their own, so that waiting for one can be given up at any time.
pub(super) struct Incoming<M> {
    frames: mpsc::Receiver<Result<Frame<M>, WireError>>,
    _reading: AbortOnDropHandle<()>,
}

/// Frames that go: gathered, and sent by [`Outgoing::flush`].
pub(super) struct Outgoing<S> {
    stream: WriteHalf<S>,
    buffer: Vec<u8>,
    within: Duration,
}

/// Takes a connection apart. A frame that cannot be sent `within` this is an error.
pub(super) fn split<M, S>(stream: S, within: Duration) -> (Incoming<M>, Outgoing<S>)
where
    M: DeserializeOwned + Send + 'static,
    S: Stream,
{
    split_at_most(stream, within, usize::MAX)
}

/// As [`split`]; a frame that comes is no longer than `most` bytes.
pub(super) fn split_at_most<M, S>(stream: S, within: Duration, most: usize) -> (Incoming<M>, Outgoing<S>)
where
    M: DeserializeOwned + Send + 'static,
    S: Stream,
{
    let (read, write) = tokio::io::split(stream);
    let (sender, frames) = mpsc::channel(WAITING_MAX);
    let reading =
        TaskTracker::new().spawn(read_all((BufReader::with_capacity(BUFFER_BYTES.min(most), read), most), sender));
    let incoming = Incoming { frames, _reading: AbortOnDropHandle::new(reading) };
    (incoming, Outgoing { stream: write, buffer: Vec::new(), within })
}

async fn read_all<M: DeserializeOwned, S: Stream>(
    (mut stream, most): (BufReader<ReadHalf<S>>, usize),
    sender: mpsc::Sender<Result<Frame<M>, WireError>>,
) {
    loop {
        let frame = read_one(&mut stream, most).await;
        let is_over = frame.is_err();
        if sender.send(frame).await.is_err() || is_over {
            return;
        }
    }
}

async fn read_one<M: DeserializeOwned, S: Stream>(
    stream: &mut BufReader<ReadHalf<S>>,
    most: usize,
) -> Result<Frame<M>, WireError> {
    let hung_up = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => WireError::HungUp,
        _ => WireError::Io(error),
    };
    let mut head = [0; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).await.map_err(hung_up)?;
    let length = peer::frame_length(&head)?;
    if length > most {
        return Err(BadFrame::TooLong.into());
    }
    // Grown as the bytes come: a length alone takes no memory.
    let mut body = Vec::with_capacity(length.min(BUFFER_BYTES));
    let limit = u64::try_from(length).expect("checked to be small");
    let read = stream.take(limit).read_to_end(&mut body).await.map_err(hung_up)?;
    if read < length { Err(WireError::HungUp) } else { Ok(peer::read_frame(&head, body)?) }
}

impl<M> Incoming<M> {
    /// The next frame.
    ///
    /// # Cancel safety
    ///
    /// Safe: a frame that comes is told to the next call.
    pub(super) async fn next(&mut self, within: Duration) -> Result<Frame<M>, WireError> {
        match tokio::time::timeout(within, self.frames.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => Err(WireError::HungUp),
            Err(_) => Err(WireError::Silent(within)),
        }
    }

    /// The next frame, which has to be a message.
    pub(super) async fn message(&mut self, within: Duration) -> Result<M, WireError> {
        match self.next(within).await? {
            Frame::Message(message) => Ok(message),
            Frame::Record(_) => Err(WireError::OutOfTurn),
        }
    }

    /// A frame that is there already.
    pub(super) fn try_next(&mut self) -> Result<Option<Frame<M>>, WireError> {
        match self.frames.try_recv() {
            Ok(frame) => frame.map(Some),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(WireError::HungUp),
        }
    }
}

impl<S: Stream> Outgoing<S> {
    pub(super) fn push(&mut self, message: &impl Serialize) {
        peer::push_message(&mut self.buffer, message);
    }

    pub(super) fn push_record(&mut self, record: &[u8]) {
        self.buffer.extend(peer::record_head(record.len()));
        self.buffer.extend_from_slice(record);
    }

    /// Sends what was pushed.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        let Self { stream, buffer, within } = self;
        let send = async {
            stream.write_all(buffer).await?;
            stream.flush().await
        };
        tokio::time::timeout(*within, send).await.map_err(|_| WireError::Silent(*within))??;
        buffer.clear();
        if buffer.capacity() > KEEP_BYTES {
            *buffer = Vec::new();
        }
        Ok(())
    }

    pub(super) async fn send(&mut self, message: &impl Serialize) -> Result<(), WireError> {
        self.push(message);
        self.flush().await
    }
}
