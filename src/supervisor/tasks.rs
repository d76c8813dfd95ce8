use anyhow::{Context, anyhow};
use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// The tasks of a process. Dropping it aborts those that are left.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    stop: CancellationToken,
    tasks: JoinSet<anyhow::Result<()>>,
    /// Of those that have not ended: a task that panics cannot say its name any more.
    names: HashMap<task::Id, &'static str>,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Starts a task that runs until its token is cancelled, and then ends in its own time within the grace.
    ///
    /// Sources (listeners, timers) obey the token at once. Sinks, whose senders are tasks here, may ignore it and
    /// end when their channel does, so that what was accepted drains.
    pub(crate) fn spawn<F>(&mut self, name: &'static str, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let handle = self.tasks.spawn(run(self.stop.child_token()));
        self.names.insert(handle.id(), name);
    }

    /// Runs until the first `signal` or the first fault, then stops the tasks and gives them `grace` to drain.
    ///
    /// `signal` is awaited again while they drain; the second ends everything at once.
    ///
    /// # Errors
    ///
    /// The first fault: a task that ended early, failed or panicked, also while draining; a drain that was not done
    /// in time or was cut off by the second signal. Further faults are logged.
    pub(crate) async fn run(
        mut self,
        mut signal: impl AsyncFnMut() -> &'static str,
        grace: Duration,
    ) -> anyhow::Result<()> {
        let mut fault = tokio::select! {
            name = signal() => {
                tracing::info!(signal = name, tasks = self.names.len(), "stopping");
                None
            }
            Some(ended) = self.tasks.join_next_with_id() => Some(self.early(ended)),
        };
        if let Some(fault) = &fault {
            tracing::error!("{fault:#}; stopping");
        }
        self.stop.cancel();
        let cut = tokio::select! {
            () = self.drain(&mut fault) => None,
            () = tokio::time::sleep(grace) => Some(format!("they did not stop within {grace:?}")),
            name = signal() => Some(format!("the second signal, {name}, cut them off")),
        };
        if let Some(why) = cut {
            let mut left: Vec<_> = self.names.values().copied().collect();
            left.sort_unstable();
            keep_first(&mut fault, anyhow!("stop {}: {why}", left.join(", ")));
        }
        fault.map_or(Ok(()), Err)
    }

    /// Waits for every task. Cancel safe: what has ended is off the list.
    async fn drain(&mut self, fault: &mut Option<anyhow::Error>) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (name, ended) = self.named(ended);
            if let Err(error) = ended {
                keep_first(fault, error.context(format!("{name} failed while stopping")));
            }
        }
    }

    /// The fault of a task that ended although nobody had told it to.
    fn early(&mut self, ended: Ended) -> anyhow::Error {
        let (name, ended) = self.named(ended);
        match ended {
            Ok(()) => anyhow!("{name} ended early"),
            Err(error) => error.context(format!("{name} failed")),
        }
    }

    fn named(&mut self, ended: Ended) -> (&'static str, anyhow::Result<()>) {
        let (id, ended) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(error).context("it panicked")),
        };
        (self.names.remove(&id).unwrap_or("a task"), ended)
    }
}

type Ended = Result<(task::Id, anyhow::Result<()>), JoinError>;

fn keep_first(fault: &mut Option<anyhow::Error>, next: anyhow::Error) {
    match fault {
        None => *fault = Some(next),
        // What the first one has brought about.
        Some(_) => tracing::warn!("{next:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::sync::mpsc;

    const GRACE: Duration = Duration::from_secs(30);

    /// Signals after the given waits, then never again.
    fn signals(waits: &'static [u64]) -> impl AsyncFnMut() -> &'static str {
        let mut waits = waits.iter();
        async move || match waits.next() {
            Some(seconds) => {
                tokio::time::sleep(Duration::from_secs(*seconds)).await;
                "SIGTERM"
            }
            None => pending().await,
        }
    }

    async fn until_stopped(stop: CancellationToken) -> anyhow::Result<()> {
        stop.cancelled().await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_stops_the_sources_and_lets_the_sinks_drain() {
        let mut supervisor = Supervisor::new();
        let (sender, mut receiver) = mpsc::channel(8);
        let drained = Arc::new(AtomicBool::new(false));
        supervisor.spawn("source", async move |stop| {
            stop.cancelled().await;
            sender.send("the last").await.context("send")
        });
        let seen = Arc::clone(&drained);
        supervisor.spawn("sink", async move |_| {
            while receiver.recv().await.is_some() {
                tokio::time::sleep(Duration::from_secs(10)).await;
                seen.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
        let began = clock::now();
        supervisor.run(signals(&[5]), GRACE).await.unwrap();
        assert_eq!((clock::now() - began).as_secs(), 15);
        assert!(drained.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_ends_early_stops_the_others_and_is_the_fault() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("listener", until_stopped);
        supervisor.spawn("writer", async |_| Ok(()));
        assert_eq!(supervisor.run(signals(&[]), GRACE).await.unwrap_err().to_string(), "writer ended early");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_or_panics_is_named_with_its_cause() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("listener", until_stopped);
        supervisor.spawn("writer", async |_| Err(anyhow!("no space left")));
        let fault = supervisor.run(signals(&[]), GRACE).await.unwrap_err();
        assert_eq!(format!("{fault:#}"), "writer failed: no space left");

        let mut supervisor = Supervisor::new();
        supervisor.spawn("shipper", async |_| panic!("at the disco"));
        let fault = format!("{:#}", supervisor.run(signals(&[]), GRACE).await.unwrap_err());
        assert!(fault.starts_with("shipper failed: it panicked: "), "{fault}");
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_faults_the_first_is_returned() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("first", async |_| Ok(()));
        supervisor.spawn("second", async |stop: CancellationToken| {
            stop.cancelled().await;
            Err(anyhow!("late"))
        });
        assert_eq!(supervisor.run(signals(&[]), GRACE).await.unwrap_err().to_string(), "first ended early");

        let mut supervisor = Supervisor::new();
        supervisor.spawn("only", async |stop: CancellationToken| {
            stop.cancelled().await;
            Err(anyhow!("late"))
        });
        let fault = supervisor.run(signals(&[1]), GRACE).await.unwrap_err();
        assert_eq!(format!("{fault:#}"), "only failed while stopping: late");
    }

    #[tokio::test(start_paused = true)]
    async fn the_grace_is_a_limit_and_names_who_is_left() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("stuck", async |_| pending().await);
        supervisor.spawn("also stuck", async |_| pending().await);
        supervisor.spawn("good", until_stopped);
        let began = clock::now();
        let fault = supervisor.run(signals(&[0]), GRACE).await.unwrap_err();
        assert_eq!(fault.to_string(), "stop also stuck, stuck: they did not stop within 30s");
        assert_eq!(clock::now() - began, GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_at_once() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("stuck", async |_| pending().await);
        let began = clock::now();
        let fault = supervisor.run(signals(&[1, 2]), GRACE).await.unwrap_err();
        assert_eq!(fault.to_string(), "stop stuck: the second signal, SIGTERM, cut them off");
        assert_eq!((clock::now() - began).as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_are_left_are_aborted() {
        let mut supervisor = Supervisor::new();
        let (sender, mut receiver) = mpsc::channel::<()>(1);
        supervisor.spawn("stuck", async move |_| {
            let _held = sender;
            pending().await
        });
        assert!(supervisor.run(signals(&[0]), GRACE).await.is_err());
        assert_eq!(receiver.recv().await, None);
    }
}
