/// Who may do what without an administrator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Who has no login may chat.
    pub(crate) anonymous_chat: bool,
    /// Anybody may make an account.
    pub(crate) registration: bool,
    pub(crate) lifetimes: Lifetimes,
}

/// How long tokens are good, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    pub(crate) access: u32,
    pub(crate) refresh: u32,
}
