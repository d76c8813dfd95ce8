use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT: the first asks for a graceful end, the second for an end.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes both signals over from here on: without a call of [`StopSignals::next`] they do nothing. Needs a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them and says its name. Two that come while nobody waits may count as one.
    ///
    /// # Cancel safety
    ///
    /// Safe: a signal that comes between two calls is not lost.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGHUP: what can be read again while the service runs, is.
pub(crate) struct Reloads(Signal);

impl Reloads {
    /// Takes the signal over from here on: it no longer ends the process. Needs a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next. Several that come while nobody waits count as one.
    ///
    /// # Cancel safety
    ///
    /// Safe: a signal that comes between two calls is not lost.
    pub(crate) async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Supervisor;
    use rustix::process::{Signal, getpid, kill_process};
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn signals_are_told_apart_and_none_is_lost_between_two_waits() {
        let (mut stop, mut reloads) = (StopSignals::new().unwrap(), Reloads::new().unwrap());
        kill_process(getpid(), Signal::HUP).unwrap();
        reloads.next().await;
        kill_process(getpid(), Signal::INT).unwrap();
        assert_eq!(stop.next().await, "SIGINT");
        kill_process(getpid(), Signal::TERM).unwrap();
        assert_eq!(stop.next().await, "SIGTERM");

        let mut supervisor = Supervisor::new();
        supervisor.spawn("listener", async |token: CancellationToken| {
            token.cancelled().await;
            Ok(())
        });
        kill_process(getpid(), Signal::TERM).unwrap();
        supervisor.run(async || stop.next().await, Duration::from_mins(1)).await.unwrap();
    }
}
