use super::durable::Durable;
use super::error::StoreError;
use super::fence::Fence;
use super::lease::Leave;
use crate::base::{Epoch, Position, Txid};
use rusqlite::Connection;
use std::fmt;
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
    /// Tells the caller: what its work brought, which may rest on anything up to the given
    /// position and is passed on when that is durable; or that the transaction came to nothing.
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
    told: oneshot::Sender<Told<T>>,
}

/// The job's own result, and the last commit that it may have seen; or why there is neither.
pub(super) type Told<T> = Result<(Result<T, StoreError>, Position), StoreError>;

/// What every reply passes: nobody is told of a commit before it is durable.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) durable: Durable,
    pub(super) fence: Fence,
    pub(super) leave: Leave,
}

impl Gate {
    pub(super) async fn pass(&self, txid: Txid) -> Result<(), StoreError> {
        tokio::select! {
            biased;
            () = self.durable.reached(txid) => Ok(()),
            () = self.fence.raised() => Err(StoreError::OutcomeUnknown),
        }
    }

    /// As [`Gate::pass`], for the answer of whoever writes: after a freeze another may do so by now.
    async fn pass_as_writer(&self, txid: Txid) -> Result<(), StoreError> {
        self.pass(txid).await?;
        if self.leave.holds() { Ok(()) } else { Err(StoreError::OutcomeUnknown) }
    }
}

/// Makes a job of `work`, and what its caller waits on.
pub(super) fn job<T, W>(weight: usize, gate: Gate, work: W) -> (Box<dyn Job>, Pending<T>)
where
    T: Send + 'static,
    W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
{
    let (job, hear) = bare(weight, work);
    let pending = async move {
        // A job is dropped without a word only when the store's threads have died.
        let (result, position) = hear.await.unwrap_or(Err(StoreError::OutcomeUnknown))?;
        gate.pass_as_writer(position.txid).await?;
        Ok(Committed { value: result?, position })
    };
    (job, Pending(Box::pin(pending)))
}

/// The same, heard before it passes the gate: once it is flushed on this node, or nothing of it had to be.
pub(super) fn bare<T, W>(weight: usize, work: W) -> (Box<dyn Job>, oneshot::Receiver<Told<T>>)
where
    T: Send + 'static,
    W: FnOnce(&Scope<'_>) -> Result<T, StoreError> + Send + 'static,
{
    let (told, hear) = oneshot::channel();
    (Box::new(Typed { work: Some(work), done: None, weight, told }), hear)
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
        // One that panicked was rolled back, like any other error of its own.
        let Self { done, told, .. } = *self;
        let verdict = verdict.map(|position| (done.unwrap_or(Err(StoreError::Conflict)), position));
        drop(told.send(verdict)); // A caller that has left needs none; its job is done all the same.
    }
}

/// A write on its way to the disk: resolves when it is durable, or why it is not.
///
/// # Cancel safety
///
/// Dropping it does not withdraw the job: once queued, it commits.
#[must_use = "the write goes on without it, and nobody learns how it went"]
pub(crate) struct Pending<T>(Pin<Box<dyn Future<Output = Answer<T>> + Send>>);

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

impl<T> Future for Pending<T> {
    type Output = Answer<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}
