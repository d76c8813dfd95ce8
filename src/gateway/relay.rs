//! Carries an open answer to the client's channel, and says truthfully how it ended.

use crate::protocol::fastgpt::Event;
use crate::upstream::Answer;
use tokio::sync::mpsc;

/// What a client is told, in order. Exactly one of `Complete` and `Failed` comes last.
#[derive(Debug)]
pub(crate) enum Out {
    Event(Event),
    Complete,
    Failed(&'static str),
}

/// Runs until the upstream ends, fails, or the client has left; in the last case dropping the
/// answer hangs up on the upstream at once.
pub(crate) async fn run(mut answer: Answer, out: mpsc::Sender<Out>) {
    let mut done = false;
    loop {
        let events = tokio::select! {
            events = answer.next() => events,
            () = out.closed() => return,
        };
        let events = match events {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "answer broke off");
                let _ = out.send(Out::Failed("UPSTREAM_FAILED")).await;
                return;
            }
        };
        if events.is_empty() {
            let last = if done { Out::Complete } else { Out::Failed("UPSTREAM_FAILED") };
            let _ = out.send(last).await;
            return;
        }
        for event in events {
            let last = match event {
                Event::Done => {
                    done = true;
                    continue;
                }
                Event::Quiet => continue,
                Event::Failed(_) => Out::Failed("UPSTREAM_FAILED"),
                event => Out::Event(event),
            };
            let failed = matches!(last, Out::Failed(_));
            if out.send(last).await.is_err() || failed {
                return;
            }
        }
    }
}

fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
