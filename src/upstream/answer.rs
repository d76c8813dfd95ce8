use super::diagnose;
use super::settings::Settings;
use super::timers::Timers;
use crate::clock;
use crate::protocol::answer::{Class, Ending, Event};
use crate::protocol::decode::Decoder;
use reqwest::Response;
use std::sync::Arc;
use std::time::Instant;

/// An answer under way. Dropping it hangs up.
pub(crate) struct Answer {
    response: Response,
    /// `None` once the answer has ended.
    decoder: Option<Decoder>,
    /// What follows the events that were handed out last.
    ending: Option<Ending>,
    timers: Timers,
}

/// What is next in an answer.
pub(crate) enum Next {
    /// At least one event.
    Events(Vec<Event>),
    /// The end; nothing comes after it.
    End(Ending),
}

impl Answer {
    pub(super) fn new(response: Response, decoder: Decoder, asked_at: Instant, settings: Arc<Settings>) -> Self {
        Self { response, decoder: Some(decoder), ending: None, timers: Timers::new(settings, asked_at) }
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
            if let Some(ending) = self.ending.take() {
                return Next::End(ending);
            }
            self.read(&mut events).await;
        }
        self.timers.hand_on(events.iter().any(|event| *event != Event::Heartbeat), clock::now());
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
            Err(_) => self.ending = Some(Ending::Failed(diagnose::timed_out(deadline.what, deadline.limit))),
        }
    }
}
