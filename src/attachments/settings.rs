use crate::store::Quota;
use std::time::Duration;

/// What is kept of files, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) quota: Quota,
    /// A file that no question names is removed after so long, one whose questions are deleted at once; `None` keeps them.
    pub(crate) keep_idle: Option<Duration>,
    /// An upstream may fetch a file for so long after the question.
    pub(crate) link_life: Duration,
    /// How this service is reached, without a slash at its end; `None` where nobody has said.
    pub(crate) public_url: Option<String>,
}
