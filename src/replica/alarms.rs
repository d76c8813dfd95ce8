//! What an operator has to see to although nothing is lost yet: certificates that end, a clock that is wrong, settings
//! that differ, and a witness that is away.

use super::pair::{Pair, lock};
use crate::base::UnixMillis;
use crate::clock;
use std::time::{Duration, Instant};

/// So long before a certificate ends that is said; and so often.
const AHEAD_MILLIS: i64 = 30 * DAY_MILLIS;
const AGAIN_AFTER: Duration = Duration::from_hours(24);
const DAY_MILLIS: i64 = 24 * 3600 * 1000;
/// A witness is away when it was not heard for so long, and every look finds that: one that was restarted was not away.
const AWAY_AFTER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A certificate that this node shows, or stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) of: CertificateOf,
    pub(crate) ends_at: UnixMillis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateOf {
    /// `server.tls`, which the operator renews.
    Clients,
    /// To other nodes; made anew every day.
    Peers,
    /// Of the cluster itself.
    Authority,
}

impl CertificateOf {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::Peers => "peers",
            Self::Authority => "authority",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Clients => "write a new one to server.tls.cert and server.tls.key, and reload (SIGHUP)",
            Self::Peers => "it should have been renewed by itself: restart this node",
            Self::Authority => "nodes go on with it; make the pair anew when it suits",
        }
    }
}

impl Pair {
    /// `tell` says when the certificate ends that clients are shown; `None` where there is none.
    pub(crate) fn tell_clients_certificate(&self, tell: impl Fn() -> Option<UnixMillis> + Send + Sync + 'static) {
        *lock(&self.0.clients_certificate) = Some(Box::new(tell));
    }

    /// The certificate that other nodes are shown has been renewed, and ends then.
    pub(crate) fn note_certificate(&self, ends_at: Option<UnixMillis>) {
        *lock(&self.0.certificate) = ends_at;
    }

    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        let clients = lock(&self.0.clients_certificate).as_ref().and_then(|tell| tell());
        let authority = self.peers().and_then(|peers| peers.authority()?.ends_at());
        let all = [
            (CertificateOf::Clients, clients),
            (CertificateOf::Peers, *lock(&self.0.certificate)),
            (CertificateOf::Authority, authority),
        ];
        all.into_iter().filter_map(|(of, ends_at)| Some(Certificate { of, ends_at: ends_at? })).collect()
    }

    /// One sentence each, of this node.
    pub(crate) fn alarms(&self) -> Vec<String> {
        let mut all = alarms(clock::unix_millis(), built(), &self.certificates());
        all.extend(self.alarms_of_keeping());
        all
    }

    /// Logs them, once a day.
    pub(crate) async fn warn(&self) {
        loop {
            for alarm in self.alarms() {
                tracing::warn!("{alarm}");
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Logs, as the primary, once when the witness is lost, and once when it is back.
    pub(crate) async fn watch_witness(&self) {
        let mut watch = WitnessWatch::default();
        loop {
            match watch.look(self.has_witness(), clock::now()) {
                Some(true) => tracing::info!("the witness is back"),
                Some(false) => tracing::warn!(
                    "the witness is away: answers go on, and the next node that is lost may stop them; start it, or renew it where it is lost for good"
                ),
                None => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What is known of the witness from one look to the next.
#[derive(Default)]
struct WitnessWatch {
    missed_since: Option<Instant>,
    is_told: bool,
}

impl WitnessWatch {
    /// What is news: that it is back, or that it is away. `is_heard` is `None` where it is not this node that asks it.
    fn look(&mut self, is_heard: Option<bool>, now: Instant) -> Option<bool> {
        let Some(is_heard) = is_heard else {
            *self = Self::default();
            return None;
        };
        if is_heard {
            return std::mem::take(self).is_told.then_some(true);
        }
        let since = *self.missed_since.get_or_insert(now);
        let is_news = !self.is_told && now.saturating_duration_since(since) >= AWAY_AFTER;
        self.is_told |= is_news;
        is_news.then_some(false)
    }
}

/// No clock that is right is before that.
fn built() -> UnixMillis {
    let seconds: i64 = env!("LLMCHAT_BUILT").parse().unwrap_or_default();
    UnixMillis(seconds.saturating_mul(1000))
}

fn alarms(now: UnixMillis, built: UnixMillis, certificates: &[Certificate]) -> Vec<String> {
    let mut alarms = Vec::new();
    if now < built {
        alarms.push(format!(
            "the clock says {now}, and this program was made at {built}: set it. The pair goes on, but what is stored now has wrong times"
        ));
    }
    for Certificate { of, ends_at } in certificates {
        let left = ends_at.0.saturating_sub(now.0);
        if left <= AHEAD_MILLIS {
            let (name, remedy) = (of.as_str(), of.remedy());
            let ends = if left > 0 { format!("ends in {} days", left / DAY_MILLIS) } else { "has ended".to_owned() };
            alarms.push(format!("the certificate for {name} {ends}, {ends_at}: {remedy}"));
        }
    }
    alarms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_of_the_witness_is_told_once_and_its_return_once_and_a_short_absence_never() {
        let began = clock::now();
        let mut watch = WitnessWatch::default();
        let mut look = |millis, is_heard| watch.look(is_heard, began + Duration::from_millis(millis));
        let (here, away) = (Some(true), Some(false));
        assert_eq!([look(0, here), look(500, away), look(3000, away), look(3400, here)], [None; 4]);
        assert_eq!([look(4000, away), look(6900, away)], [None; 2]);
        assert_eq!(look(7000, away), Some(false));
        assert_eq!([look(7500, away), look(99_000, away)], [None; 2]);
        assert_eq!([look(99_500, here), look(100_000, here)], [Some(true), None]);
        // Who does not lead does not ask, and begins anew.
        assert_eq!([look(101_000, away), look(103_000, None), look(104_500, away)], [None; 3]);
        assert_eq!(look(107_500, away), Some(false));
        assert_eq!([look(108_000, None), look(108_500, here)], [None; 2]);
    }

    #[test]
    fn a_certificate_alarms_from_thirty_days_ahead_and_a_clock_where_it_is_before_the_build() {
        let day = |day: i64| UnixMillis(day * DAY_MILLIS);
        let ends = |ends_at| [Certificate { of: CertificateOf::Clients, ends_at }];
        let said = |now, ends_at| alarms(now, day(1000), &ends(ends_at)).join("\n");
        assert_eq!(said(day(1000), day(1031)), "");
        assert!(said(day(1000), day(1030)).starts_with("the certificate for clients ends in 30 days"));
        assert!(said(day(1000), day(1001)).contains("ends in 1 days") && said(day(1000), day(1001)).contains("SIGHUP"));
        assert!(said(day(1000), day(999)).contains("has ended, 1972-09-26"));
        assert!(said(day(999), day(1031)).starts_with("the clock says 1972-09-26"));
        assert!(built() > day(20_000), "the build has a date");
    }
}
