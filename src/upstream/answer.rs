use super::diagnose;
use super::timers::Timers;
use crate::clock;
use crate::protocol::agent::Agent;
use crate::protocol::answer::{Class, Ending, Event, Failure};
use crate::protocol::decode::Decoder;
use bytes::Bytes;
use futures_util::FutureExt;
use reqwest::Response;
use std::sync::Arc;

/// Taken at once at most, so that nobody else waits for long on this thread.
const CHUNKS_AT_ONCE_MAX: usize = 32;

/// An answer under way. Dropping it hangs up.
pub(crate) struct Answer {
    response: Response,
    /// `None` once the answer has ended.
    decoder: Option<Decoder>,
    /// What follows the events that were handed out last.
    ending: Option<Ending>,
    timers: Timers,
    /// Its keys are kept out of whatever the upstream says of its failures.
    agent: Arc<Agent>,
}

/// What is next in an answer.
pub(crate) enum Next {
    /// At least one event.
    Events(Vec<Event>),
    /// The end; nothing comes after it.
    End(Ending),
}

impl Answer {
    pub(super) fn new(response: Response, decoder: Decoder, timers: Timers, agent: Arc<Agent>) -> Self {
        Self { response, decoder: Some(decoder), ending: None, timers, agent }
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
                    return Next::End(Ending::Failed(diagnose::without_keys(failure, &self.agent)));
                }
                Some(done) => return Next::End(done),
                None => {}
            }
            let deadline = self.timers.deadline(clock::now());
            match tokio::time::timeout_at(deadline.by.into(), self.response.chunk()).await {
                Ok(read) => self.take(read, &mut events),
                Err(_) => self.give_up(deadline.missed(), &mut events),
            }
            self.take_what_is_there(&mut events);
        }
        self.timers.hand_on(events.iter().any(Event::speaks), clock::now());
        Next::Events(events)
    }

    /// What came in one piece is handed on in one: a server writes an event a chunk, and its last ones together.
    fn take_what_is_there(&mut self, events: &mut Vec<Event>) {
        for _ in 1..CHUNKS_AT_ONCE_MAX {
            if self.ending.is_some() {
                return;
            }
            let Some(read) = self.response.chunk().now_or_never() else { return };
            self.take(read, events);
        }
    }

    fn take(&mut self, read: reqwest::Result<Option<Bytes>>, events: &mut Vec<Event>) {
        let Some(mut decoder) = self.decoder.take() else {
            self.ending = Some(Ending::Failed(diagnose::ended())); // Asked again after the end.
            return;
        };
        match read {
            Ok(Some(bytes)) => {
                decoder.push(&bytes, events);
                if decoder.is_over() {
                    self.ending = Some(decoder.finish(events));
                } else {
                    self.decoder = Some(decoder);
                }
            }
            Ok(None) => self.ending = Some(decoder.finish(events)),
            Err(error) => {
                // What broke off after its end mark is whole; otherwise the break says more than the cut.
                self.ending = Some(match decoder.finish(events) {
                    Ending::Failed(cut) if cut.class == Class::Truncated => Ending::Failed(diagnose::reading(&error)),
                    ending => ending,
                });
            }
        }
    }

    /// Nothing came in time.
    fn give_up(&mut self, missed: Failure, events: &mut Vec<Event>) {
        let ended = self.decoder.take().map(|decoder| decoder.finish(events));
        // What said its end mark is whole, also where the connection is then kept open in silence.
        self.ending = Some(match ended {
            Some(done @ Ending::Done(_)) => done,
            Some(Ending::Failed(_)) | None => Ending::Failed(missed),
        });
    }
}
