use crate::protocol::answer::{Class, Ending, Finish};
use std::time::Duration;

/// What an answer's end says about the upstream and about the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both work: something was said, to the end.
    Success,
    /// The server, or the way to it, failed; the app is not to blame.
    UpstreamFailed,
    /// The app's model or workflow failed; the server did its part.
    AppFailed,
    /// What the server itself stands on failed, and the app with it.
    BothFailed,
    /// An error nobody has classified: half a failure of the app, and of the upstream only when
    /// different apps say it within a short time.
    Unclassified,
    /// Too many requests: nobody failed, and asking again before the window ends is pointless.
    Throttled { retry_after: Duration },
    /// Says nothing: the caller's fault, the operator's, or a client that hung up.
    Neutral,
}

/// The table that every ending goes through.
pub fn verdict(ending: &Ending) -> Verdict {
    match ending {
        Ending::Done(Finish { node_failed: true, .. }) => Verdict::AppFailed,
        Ending::Done(Finish { said_something: true, .. }) => Verdict::Success,
        Ending::Done(Finish { said_something: false, .. }) => Verdict::Neutral,
        Ending::Failed(failure) => of_class(failure.class),
    }
}

fn of_class(class: Class) -> Verdict {
    match class {
        Class::Unreachable | Class::Reset | Class::TimedOut | Class::BadGateway | Class::Truncated => {
            Verdict::UpstreamFailed
        }
        Class::Infrastructure => Verdict::BothFailed,
        Class::Model | Class::TooSlow => Verdict::AppFailed,
        Class::TooLong | Class::Unknown => Verdict::Unclassified,
        Class::Throttled { retry_after } => Verdict::Throttled { retry_after },
        Class::Busy | Class::Rejected | Class::TooLarge | Class::Quota | Class::Misconfigured => Verdict::Neutral,
    }
}
