use super::error::StoreError;
use crate::base::{Epoch, Position};
use rusqlite::Connection;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// What a job may use: the writer's connection inside a transaction, and the reign it runs in.
pub(super) struct Scope<'a> {
    pub(super) rows: &'a Connection,
    pub(super) epoch: Epoch,
}

/// One caller's write, without its type.
pub(super) trait Job: Send {
    /// About how much it writes, in bytes.
    fn weight(&self) -> usize;
    /// Does the work, inside a savepoint. An error rolls back this job and no other.
    fn run(&mut self, scope: &Scope<'_>) -> Result<(), Rolled>;
    /// Tells the caller: the commit is durable, or why there is none.
    fn reply(self: Box<Self>, verdict: Result<Position, StoreError>);
}

/// The job's own work failed; the error is kept for its reply.
pub(super) struct Rolled {
    /// There was no space, which may have taken the whole transaction along.
    pub(super) disk_full: bool,
}

/// What a durable commit brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Committed<T> {
    pub(crate) value: T,
    pub(crate) position: Position,
}

type Answer<T> = Result<Committed<T>, StoreError>;

struct Typed<T, W> {
    work: Option<W>,
    done: Option<Result<T, StoreError>>,
    weight: usize,
    answer: oneshot::Sender<Answer<T>>,
}

/// Makes a job of `work`, and what its caller waits on.
pub(super) fn job<T, W>(weight: usize, work: W) -> (Box<dyn Job>, Pending<T>)
where
    T: Send + 'static,
    W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
{
    let (answer, pending) = oneshot::channel();
    (Box::new(Typed { work: Some(work), done: None, weight, answer }), Pending(pending))
}

impl<T, W> Job for Typed<T, W>
where
    T: Send,
    W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send,
{
    fn weight(&self) -> usize {
        self.weight
    }

    fn run(&mut self, scope: &Scope<'_>) -> Result<(), Rolled> {
        let work = self.work.take().expect("a job runs once");
        let done = work(scope);
        let rolled = done.as_ref().err().map(|error| Rolled { disk_full: matches!(error, StoreError::DiskFull) });
        self.done = Some(done);
        rolled.map_or(Ok(()), Err)
    }

    fn reply(self: Box<Self>, verdict: Result<Position, StoreError>) {
        let answer = match (self.done, verdict) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(position)) => Ok(Committed { value, position }),
            // It panicked: rolled back, like any other error of its own.
            (None, Ok(_)) => Err(StoreError::Conflict),
        };
        drop(self.answer.send(answer)); // A caller that has left needs none; its job is done all the same.
    }
}

/// A write on its way to the disk: resolves when it is durable, or why it is not.
///
/// # Cancel safety
///
/// Dropping it does not withdraw the job: once queued, it commits.
#[derive(Debug)]
#[must_use = "the write goes on without it, and nobody learns how it went"]
pub(crate) struct Pending<T>(oneshot::Receiver<Answer<T>>);

impl<T> Future for Pending<T> {
    type Output = Answer<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = Pin::new(&mut self.0).poll(context);
        // A job is dropped without a reply only when the store's threads have died.
        answered.map(|answer| answer.unwrap_or(Err(StoreError::OutcomeUnknown)))
    }
}
