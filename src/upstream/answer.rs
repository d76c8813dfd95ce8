use super::diagnose;
use super::timers::Timers;
use crate::base::Secret;
use crate::clock;
use crate::protocol::answer::{Class, Ending, Event};
use crate::protocol::decode::Decoder;
use reqwest::Response;

/// An answer under way. Dropping it hangs up.
pub(crate) struct Answer {
    response: Response,
    /// `None` once the answer has ended.
    decoder: Option<Decoder>,
    /// What follows the events that were handed out last.
    ending: Option<Ending>,
    timers: Timers,
    /// Kept out of whatever the upstream says of its failures.
    key: Secret,
}

/// What is next in an answer.
pub(crate) enum Next {
    /// At least one event.
    Events(Vec<Event>),
    /// The end; nothing comes after it.
    End(Ending),
}

impl Answer {
    pub(super) fn new(response: Response, decoder: Decoder, timers: Timers, key: Secret) -> Self {
        Self { response, decoder: Some(decoder), ending: None, timers, key }
    }

    /// Waits for the next events or the end, never longer than the timers allow. They stand still from when this
    /// returns until it is called again.
    ///
    /// # Cancel safety
    ///
    /// Safe: bytes taken from the socket are decoded before anything is awaited again.
    pub(crate) async fn next(&mut self) -> Next {
        self.timers.wait(clock::now());
        let mut events = Vec::new();
        while events.is_empty() {
            match self.ending.take() {
                Some(Ending::Failed(failure)) => {
                    return Next::End(Ending::Failed(diagnose::without_key(failure, &self.key)));
                }
                Some(done) => return Next::End(done),
                None => {}
            }
            self.read(&mut events).await;
        }
        self.timers.hand_on(events.iter().any(Event::speaks), clock::now());
        Next::Events(events)
    }

    async fn read(&mut self, events: &mut Vec<Event>) {
        let deadline = self.timers.deadline(clock::now());
        let read = tokio::time::timeout_at(deadline.by.into(), self.response.chunk()).await;
        let Some(mut decoder) = self.decoder.take() else {
            self.ending = Some(Ending::Failed(diagnose::ended())); // Asked again after the end.
            return;
        };
        match read {
            Ok(Ok(Some(bytes))) => {
                decoder.push(&bytes, events);
                if decoder.is_over() {
                    self.ending = Some(decoder.finish(events));
                } else {
                    self.decoder = Some(decoder);
                }
            }
            Ok(Ok(None)) => self.ending = Some(decoder.finish(events)),
            Ok(Err(error)) => {
                // What broke off after its end mark is whole; otherwise the break says more than the cut.
                self.ending = Some(match decoder.finish(events) {
                    Ending::Failed(cut) if cut.class == Class::Truncated => Ending::Failed(diagnose::reading(&error)),
                    ending => ending,
                });
            }
            // What said its end mark is whole, also where the connection is then kept open in silence.
            Err(_) => {
                self.ending = Some(match decoder.finish(events) {
                    Ending::Failed(_) => Ending::Failed(deadline.missed()),
                    done @ Ending::Done(_) => done,
                });
            }
        }
    }
}
