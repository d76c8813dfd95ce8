use anyhow::Result;
use sd_notify::NotifyState;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A proof that takes longer than this has failed: a healthy store needs a few milliseconds, one on a slow and busy
/// disk a second.
const PROOF_MAX: Duration = Duration::from_secs(5);
/// Between a proof that failed and the next. Several fit into what a watchdog has left when the first one fails.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A manager that does not take a datagram in this time is busy or gone; nothing here waits for it longer.
const TELL_MAX: Duration = Duration::from_secs(1);

/// The service manager that started this process, by `NOTIFY_SOCKET` and `WATCHDOG_USEC`; without them everything
/// here is said to nobody.
pub(crate) struct Manager {
    watchdog: Option<Duration>,
}

impl Manager {
    /// Who started us, from the environment.
    pub(crate) fn of_this_process() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) }
    }

    /// Says that the service is ready, then, twice in the watchdog's time, that it is alive; and at `stop` that it is
    /// stopping, which takes at most `closing_max`. To be started when everything else has been.
    ///
    /// The watchdog hears nothing that was not proven: this task runs, so the runtime turns, and `alive` came back
    /// with a yes. A service that cannot prove it is killed and started again.
    ///
    /// # Errors
    ///
    /// None: a manager that cannot be reached is its own fault to find, and ours is to serve.
    pub(crate) async fn follow<F>(
        self,
        stop: CancellationToken,
        closing_max: Duration,
        alive: impl Fn() -> F,
    ) -> Result<()>
    where
        F: Future<Output = bool>,
    {
        self.speak(stop, closing_max, alive, tell).await;
        Ok(())
    }

    async fn speak<F, T>(
        self,
        stop: CancellationToken,
        closing_max: Duration,
        alive: impl Fn() -> F,
        tell: impl Fn(Vec<NotifyState<'static>>) -> T,
    ) where
        F: Future<Output = bool>,
        T: Future<Output = ()>,
    {
        tell(vec![NotifyState::Ready, NotifyState::Status("serving")]).await;
        tokio::select! {
            () = self.watch(alive, &tell) => {}
            () = stop.cancelled() => {}
        }
        // Its own time to stop may be shorter than what was configured here.
        let micros = u32::try_from(closing_max.as_micros()).unwrap_or(u32::MAX);
        let status = NotifyState::Status("draining: no new requests");
        tell(vec![NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros), status]).await;
    }

    /// Never ends. Half of the watchdog's time is left for a proof that needs more than one try.
    async fn watch<F, T>(&self, alive: impl Fn() -> F, tell: &impl Fn(Vec<NotifyState<'static>>) -> T)
    where
        F: Future<Output = bool>,
        T: Future<Output = ()>,
    {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut silent = false;
        loop {
            let proven = tokio::time::timeout(PROOF_MAX.min(limit / 4), alive()).await.unwrap_or(false);
            if proven {
                tell(vec![NotifyState::Watchdog]).await;
            }
            if silent == proven {
                silent = !proven;
                let status = if silent { "the store does not answer" } else { "serving" };
                tracing::warn!("to the service manager's watchdog: {status}");
                tell(vec![NotifyState::Status(status)]).await;
            }
            tokio::time::sleep(if proven { limit / 2 } else { AGAIN_AFTER.min(limit / 8) }).await;
        }
    }
}

/// Sends on a thread that may block: a manager that reads nothing fills its socket.
async fn tell(states: Vec<NotifyState<'static>>) {
    let sent = tokio::task::spawn_blocking(move || sd_notify::notify(&states));
    let problem = match tokio::time::timeout(TELL_MAX, sent).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => error,
        Ok(Err(panicked)) => io::Error::other(panicked),
        Err(late) => late.into(),
    };
    tracing::warn!(error = %problem, "the service manager was not told");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    const CLOSING: Duration = Duration::from_secs(50);

    /// What a manager whose watchdog waits 30 s hears within `seconds`, each with the second it came in. `alive` is told
    /// how many proofs were asked before.
    async fn heard<F>(seconds: u64, alive: impl Fn(u64) -> F) -> Vec<(u64, String)>
    where
        F: Future<Output = bool>,
    {
        let (began, asked, heard) = (clock::now(), AtomicU64::new(0), Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let tell = |states: Vec<NotifyState<'static>>| {
            let text = states.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            heard.lock().unwrap().push(((clock::now() - began).as_secs(), text));
            std::future::ready(())
        };
        let manager = Manager { watchdog: Some(Duration::from_secs(30)) };
        let speaking = manager.speak(stop.clone(), CLOSING, || alive(asked.fetch_add(1, Ordering::Relaxed)), tell);
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            stop.cancel();
        };
        tokio::join!(speaking, stopping);
        heard.lock().unwrap().clone()
    }

    fn at(second: u64, text: &str) -> (u64, String) {
        (second, text.to_owned())
    }

    const READY: &str = "READY=1 STATUS=serving";
    const STOPPING: &str = "STOPPING=1 EXTEND_TIMEOUT_USEC=50000000 STATUS=draining: no new requests";

    #[tokio::test(start_paused = true)]
    async fn a_healthy_service_is_ready_alive_twice_in_the_watchdogs_time_and_stopping() {
        let told = heard(40, |_| std::future::ready(true)).await;
        let alive = [0, 15, 30].map(|second| at(second, "WATCHDOG=1"));
        assert_eq!(told, [vec![at(0, READY)], alive.to_vec(), vec![at(40, STOPPING)]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_hangs_or_says_no_gives_the_watchdog_nothing() {
        let hangs = heard(100, |before| async move { before == 0 || std::future::pending().await }).await;
        let refuses = heard(100, |before| std::future::ready(before == 0)).await;
        // The first proof fails at once or after 5 s; either is silence from the 15th second on.
        for (told, noticed) in [(hangs, 20), (refuses, 15)] {
            let silent = at(noticed, "STATUS=the store does not answer");
            assert_eq!(told, [at(0, READY), at(0, "WATCHDOG=1"), silent, at(100, STOPPING)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_was_slow_once_is_in_time_for_its_watchdog() {
        let told = heard(30, |before| async move { before != 1 || std::future::pending().await }).await;
        let again = [at(21, "WATCHDOG=1"), at(21, "STATUS=serving")];
        let silent = at(20, "STATUS=the store does not answer");
        let first = vec![at(0, READY), at(0, "WATCHDOG=1"), silent];
        assert_eq!(told, [first, again.to_vec(), vec![at(30, STOPPING)]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_only_the_beginning_and_the_end_are_told() {
        let (stop, heard) = (CancellationToken::new(), Mutex::new(Vec::new()));
        stop.cancel();
        let tell = |states: Vec<NotifyState<'static>>| {
            heard.lock().unwrap().push(states[0].to_string());
            std::future::ready(())
        };
        let manager = Manager { watchdog: None };
        manager.speak(stop, CLOSING, || async { panic!("nobody asks") }, tell).await;
        assert_eq!(*heard.lock().unwrap(), ["READY=1", "STOPPING=1"]);
    }
}
