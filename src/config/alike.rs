//! What the nodes of a cluster have to be configured alike: whichever of them leads goes by its own, and what one removes is
//! removed on all.

use crate::config::load::Config;
use std::collections::BTreeMap;
use std::time::Duration;

impl Config {
    /// By key, as every version writes it. No secret is among them. Lines of the log are each node's own.
    pub(crate) fn alike(&self) -> BTreeMap<String, String> {
        let age = |age: Option<Duration>| age.map_or_else(|| "0".to_owned(), |age| format!("{}s", age.as_secs()));
        let (retention, files) = (&self.retention, &self.attachments);
        let all = [
            ("retention.messages", age(retention.messages)),
            ("retention.audit", age(retention.audit)),
            ("retention.attachments", age(retention.attachments)),
            ("attachments.owner_day_bytes", files.quota.owner_day.to_string()),
            ("attachments.owner_bytes", files.quota.owner.to_string()),
            ("attachments.visitors_day_bytes", files.quota.visitors_day.to_string()),
            ("attachments.visitors_bytes", files.quota.visitors.to_string()),
            ("attachments.total_bytes", files.quota.total.to_string()),
            ("attachments.link_hours", age(Some(files.link_life))),
            ("server.time_zone", self.analytics.time_zone.iana_name().unwrap_or("UTC").to_owned()),
        ];
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
