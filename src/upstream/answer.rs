use super::diagnose;
use super::settings::Settings;
use crate::clock;
use crate::protocol::answer::{Class, Ending, Event};
use crate::protocol::decode::Decoder;
use reqwest::Response;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An answer under way. Dropping it hangs up.
pub(crate) struct Answer {
    response: Response,
    /// `None` once the answer has ended.
    decoder: Option<Decoder>,
    /// What follows the events that were handed out last.
    ending: Option<Ending>,
    asked_at: Instant,
    spoke: bool,
    settings: Arc<Settings>,
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
        Self { response, decoder: Some(decoder), ending: None, asked_at, spoke: false, settings }
    }

    /// Waits for the next events or the end, never longer than the timers allow.
    ///
    /// # Cancel safety
    ///
    /// Safe: bytes taken from the socket are decoded before anything is awaited again.
    pub(crate) async fn next(&mut self) -> Next {
        let mut events = Vec::new();
        while events.is_empty() {
            if let Some(ending) = self.ending.take() {
                return Next::End(ending);
            }
            self.read(&mut events).await;
        }
        self.spoke |= events.iter().any(|event| *event != Event::Heartbeat);
        Next::Events(events)
    }

    async fn read(&mut self, events: &mut Vec<Event>) {
        let (by, what, limit) = self.deadline();
        let read = tokio::time::timeout_at(by.into(), self.response.chunk()).await;
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
            Err(_) => self.ending = Some(Ending::Failed(diagnose::timed_out(what, limit))),
        }
    }

    /// The timer that runs out first, what it waits for and how long it was set.
    fn deadline(&self) -> (Instant, &'static str, Duration) {
        let idle = (clock::now() + self.settings.idle, "anything (it fell silent)", self.settings.idle);
        let total = (self.asked_at + self.settings.total, "the end of its answer", self.settings.total);
        let first = (self.asked_at + self.settings.first_token, "its first word", self.settings.first_token);
        let sooner = if total.0 < idle.0 { total } else { idle };
        if !self.spoke && first.0 < sooner.0 { first } else { sooner }
    }
}
