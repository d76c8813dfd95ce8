//! What people think of answers, passed on to who gave them.

use super::chat::Gateway;
use super::error;
use crate::protocol::agent::{Agent, Provider};
use crate::upstream::{Feedback, MayAsk};
use std::sync::Arc;

/// At once; what comes while so many are under way stays with us.
pub(super) const TELLING_MAX: usize = 32;

impl Gateway {
    /// Tells the agent's upstream what somebody thinks of an answer, if it takes such. Nobody waits for it, and it may fail:
    /// our store has it.
    pub(crate) async fn tell(&self, agent_id: &str, feedback: Feedback) {
        let Ok(agent) = self.parts.agents.served(agent_id).await else { return };
        if agent.profile.provider != Provider::Fastgpt || !agent.profile.features.supports_chat_id {
            return;
        }
        let Ok(slot) = Arc::clone(&self.telling).try_acquire_owned() else {
            tracing::warn!(agent.id = agent.id.as_str(), "feedback is not passed on: too much of it at once");
            return;
        };
        let (gateway, cut) = (self.clone(), self.cut.clone());
        self.beside.spawn(async move {
            let _slot = slot;
            cut.run_until_cancelled(gateway.told(&agent, &feedback)).await;
        });
    }

    async fn told(&self, agent: &Agent, feedback: &Feedback) {
        let leave = self.parts.leave.clone();
        let may_ask: MayAsk = Arc::new(move || leave.holds());
        if let Err(failure) = self.parts.client.feedback(agent, feedback, &may_ask).await {
            let class = error::class(failure.class);
            tracing::warn!(agent.id = agent.id.as_str(), class, "feedback is not passed on");
        }
    }
}
