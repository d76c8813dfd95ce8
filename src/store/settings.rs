use std::time::Duration;

/// The store's limits. Defaults and reasons are in `data/llmchat.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Jobs waiting for the writer; past that, shedding beats waiting.
    pub(crate) queue_jobs_max: usize,
    /// Ends of turns that may wait beyond that: as many as there can be turns under way.
    pub(crate) queue_ends_max: usize,
    /// Jobs in one transaction.
    pub(crate) group_jobs_max: usize,
    /// How long a transaction is gathered from what is queued.
    pub(crate) group_wait: Duration,
    /// How long questions alone wait for company.
    pub(crate) question_wait: Duration,
    pub(crate) readers_min: usize,
    pub(crate) readers_max: usize,
    /// How long a caller waits for a reader.
    pub(crate) acquire_timeout: Duration,
    /// How long one query may run.
    pub(crate) query_timeout: Duration,
    /// On the chat path: acquire, query and retries together.
    pub(crate) chat_budget: Duration,
    /// How often each idle reader proves that it still works.
    pub(crate) probe_every: Duration,
    /// A database of more pages is not read at a start: its page hashes are kept beside it.
    pub(crate) scan_pages_max: u32,
    /// A WAL of this size is checkpointed without waiting for readers.
    pub(crate) checkpoint_bytes: u64,
    /// A WAL of this size interrupts readers to be reset.
    pub(crate) checkpoint_restart_bytes: u64,
}
