//! What each provider is sent, and by whose rules its answer is read.

use super::client::{Origin, Question};
use crate::protocol::agent::{Agent, Provider};
use crate::protocol::decode::Decoder;
use crate::protocol::head::Head;
use crate::protocol::{anthropic, dashscope, dify, fastgpt, openai};
use reqwest::header::{ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The headers of a question.
pub(super) fn headers(agent: &Agent, origin: &Origin) -> HeaderMap {
    let mut headers = key(agent);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match agent.profile.provider {
        Provider::Fastgpt => tell_origin(&mut headers, origin),
        Provider::Anthropic => {
            headers.insert("anthropic-version", HeaderValue::from_static(anthropic::VERSION));
        }
        Provider::Dashscope if !dashscope::is_compatible(&agent.profile.endpoint) => {
            headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            headers.insert("x-dashscope-sse", HeaderValue::from_static("enable"));
        }
        Provider::Custom => {
            for (name, value) in &agent.profile.features.custom_headers.0 {
                // Both were checked with the agent.
                if let (Ok(name), Some(value)) = (HeaderName::try_from(name), secret(value.expose())) {
                    headers.insert(name, value);
                }
            }
        }
        Provider::Openai | Provider::Dify | Provider::Dashscope => {}
    }
    headers
}

/// The agent's key, in the header where its provider looks for it.
pub(super) fn key(agent: &Agent) -> HeaderMap {
    let key = agent.api_key.expose();
    let header = match (agent.profile.provider, key) {
        (_, "") => None,
        (Provider::Anthropic, key) => secret(key).map(|value| (X_API_KEY, value)),
        (_, key) => secret(&format!("Bearer {key}")).map(|value| (AUTHORIZATION, value)),
    };
    header.into_iter().collect()
}

/// A value that no log of a library shows.
fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn tell_origin(headers: &mut HeaderMap, origin: &Origin) {
    if let Some(address) = origin.address {
        let address = HeaderValue::try_from(address.to_string()).expect("digits, dots and colons");
        headers.insert("x-forwarded-for", address.clone());
        headers.insert("x-real-ip", address);
    }
    if let Some(languages) = origin.languages.as_ref().and_then(|languages| HeaderValue::try_from(languages).ok()) {
        headers.insert(ACCEPT_LANGUAGE, languages);
    }
}

/// The body of a question.
pub(super) fn body(agent: &Agent, question: &Question) -> Vec<u8> {
    let profile = &agent.profile;
    let (model, system_prompt) = (profile.model.as_str(), profile.system_prompt.as_deref());
    let (max_tokens, temperature) =
        (question.max_tokens.or(profile.max_tokens), question.temperature.or(profile.temperature));
    let messages = question.messages.as_slice();
    match profile.provider {
        Provider::Fastgpt => fastgpt::Request {
            chat_id: profile.features.supports_chat_id.then_some(question.chat_id.as_str()),
            response_chat_item_id: &question.item_id,
            app_id: profile.app_id.as_deref().unwrap_or_default(),
            custom_uid: &question.customer,
            detail: question.detail && profile.features.supports_detail,
            variables: question.variables.as_ref(),
            metadata: question.metadata.as_ref(),
            retain_dataset_cite: question.retain_dataset_cite,
            messages,
        }
        .to_json(),
        Provider::Anthropic => anthropic::Request { model, system_prompt, max_tokens, temperature, messages }.to_json(),
        Provider::Dify => dify::Request {
            conversation: question.conversation.as_ref().filter(|_| profile.features.supports_chat_id),
            user: &question.customer,
            variables: question.variables.as_ref(),
            message: messages.last().expect("a question has a message"),
        }
        .to_json(),
        Provider::Dashscope if !dashscope::is_compatible(&profile.endpoint) => {
            let in_parts = dashscope::is_in_parts(&profile.endpoint);
            dashscope::Request { model, system_prompt, max_tokens, temperature, messages, in_parts }.to_json()
        }
        Provider::Openai | Provider::Custom | Provider::Dashscope => {
            openai::Request { model, system_prompt, max_tokens, temperature, messages }.to_json()
        }
    }
}

/// Reads the answer to a question.
pub(super) fn decoder(agent: &Agent, head: Head) -> Decoder {
    match agent.profile.provider {
        Provider::Fastgpt => Decoder::fastgpt(head),
        Provider::Anthropic => Decoder::anthropic(head),
        Provider::Dify => Decoder::dify(head),
        Provider::Dashscope if !dashscope::is_compatible(&agent.profile.endpoint) => Decoder::dashscope(head),
        Provider::Openai | Provider::Custom | Provider::Dashscope => Decoder::openai(head),
    }
}
