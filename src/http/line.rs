//! A connection, as the answers that go by it see it: what waits for its client, and whether that goes on.

use super::pace::{FREE, is_enough};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Between two looks at what waits.
const LOOK_EVERY: Duration = FREE.checked_div(4).expect("not by zero");

/// A connection. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Bytes that its socket has taken.
    taken: AtomicU64,
    /// Answers, and pieces of them, that its client has to take before anything goes on.
    waiting: AtomicUsize,
}

impl Line {
    /// Something waits for the client until what this returns is dropped.
    pub(super) fn waits(&self) -> Waits {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Waits(self.clone())
    }

    /// Returns where the client takes what waits too slowly, whatever else it does.
    pub(super) async fn is_too_slow(&self) {
        let taken = || self.0.taken.load(Ordering::Relaxed);
        let (mut waited, mut before) = (Duration::ZERO, taken());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
            if self.0.waiting.load(Ordering::Relaxed) > 0 {
                if !is_enough(waited, taken().saturating_sub(before)) {
                    return;
                }
                // What came quickly once is no excuse later.
                if waited < FREE {
                    continue;
                }
            }
            (waited, before) = (Duration::ZERO, taken());
        }
    }

    /// Counts what `socket` takes.
    pub(super) fn counted<S>(&self, socket: S) -> Counted<S> {
        Counted { socket, line: self.clone() }
    }
}

/// Something waits meanwhile.
#[derive(Debug)]
pub(super) struct Waits(Line);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that counts what it takes.
pub(super) struct Counted<S> {
    socket: S,
    line: Line,
}

impl<S> Counted<S> {
    fn count(&self, taken: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &taken {
            self.line.0.taken.fetch_add(u64::try_from(*bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        taken
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.count(taken)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.count(taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ends(line: &Line, within: Duration) -> bool {
        tokio::time::timeout(within, line.is_too_slow()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_on_which_something_waits_and_nothing_moves_is_too_slow_and_no_other() {
        let line = Line::default();
        assert!(!ends(&line, 10 * FREE).await, "nothing waits");
        let waits = line.waits();
        let began = clock::now();
        assert!(ends(&line, 10 * FREE).await);
        assert_eq!(clock::now() - began, FREE);
        drop(waits);
        assert!(!ends(&line, 10 * FREE).await, "it was taken");
        // What waits now and then, and is taken, is no concern.
        let seldom = async {
            for _ in 0..40 {
                let waits = line.waits();
                tokio::time::sleep(FREE / 2).await;
                drop(waits);
                tokio::time::sleep(FREE / 2).await;
            }
        };
        tokio::select! {
            () = line.is_too_slow() => panic!("it was too slow"),
            () = seldom => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_quickly_once_is_no_excuse() {
        let line = Line::default();
        let _waits = line.waits();
        let comes = async {
            tokio::time::sleep(LOOK_EVERY / 2).await;
            line.counted(tokio::io::sink()).write_all(&vec![b'x'; 64 << 20]).await.unwrap();
        };
        assert!(tokio::join!(ends(&line, 3 * FREE), comes).0);
    }

    /// Goal: what a poor line carries is enough, of however many answers; and what it has carried once is no excuse. Method:
    /// bytes that go through a socket, whose other end reads them or does not.
    #[tokio::test(start_paused = true)]
    async fn a_line_is_judged_by_what_its_socket_takes() {
        let line = Line::default();
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = line.counted(ours);
        let _waits = [line.waits(), line.waits(), line.waits()];
        let reads = async {
            let mut into = vec![0; 8 << 10];
            for _ in 0..200 {
                theirs.read_exact(&mut into).await.unwrap();
                tokio::time::sleep(Duration::from_millis(990)).await;
            }
            std::future::pending::<()>().await;
        };
        let writes = async { while ours.write_all(&[b'x'; 1 << 10]).await.is_ok() {} };
        let began = clock::now();
        tokio::select! {
            () = line.is_too_slow() => {}
            () = async { tokio::join!(reads, writes); } => panic!("the other end is still there"),
        }
        let took = clock::now() - began;
        assert!((Duration::from_secs(198)..Duration::from_secs(198) + 3 * FREE).contains(&took), "{took:?}");
    }
}
