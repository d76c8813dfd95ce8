//! `agents test`: asks the upstream as a chat would, and explains what came of it.

use crate::base::random_id;
use crate::protocol::agent::{Agent, Provider};
use crate::protocol::answer::{Class, Ending, Event, Failure};
use crate::protocol::chat::{Message, Role};
use crate::upstream::{Client, MayAsk, Next, Origin, Question};
use std::sync::Arc;

/// The parts of the answer that an operator is shown.
const ANSWER_CHARS_MAX: usize = 200;

/// What a test found, in the order of its steps.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    pub(crate) findings: Vec<Finding>,
}

/// One step of a test.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) ok: bool,
    /// One sentence, without keys.
    pub(crate) says: String,
}

impl Probe {
    pub(crate) fn is_ok(&self) -> bool {
        self.findings.iter().all(|finding| finding.ok)
    }

    fn found(&mut self, ok: bool, says: impl Into<String>) {
        self.findings.push(Finding { ok, says: says.into() });
    }
}

/// Asks for the app's description where the dialect has one, then `question` where one is given.
/// Stops at the first step that fails.
pub(super) async fn run(client: &Client, agent: &Arc<Agent>, question: Option<&str>) -> Probe {
    let mut probe = Probe::default();
    for problem in &agent.profile.problems {
        probe.found(false, problem.clone());
    }
    if !agent.profile.problems.is_empty() {
        return probe;
    }
    // Whoever asks for a probe waits for it.
    let may_ask: MayAsk = Arc::new(|| true);
    if matches!(agent.profile.provider, Provider::Fastgpt | Provider::Dify) {
        match client.init(agent, None, &may_ask).await {
            Ok(_) if agent.profile.provider == Provider::Dify => {
                probe.found(true, "Dify knows the key and its app");
            }
            Ok(data) => {
                let name = data.pointer("/app/name").and_then(|name| name.as_str()).unwrap_or("without a name");
                probe.found(true, format!("FastGPT knows the key and the app: {name}"));
            }
            Err(failure) => {
                probe.found(false, explain(agent, &failure));
                return probe;
            }
        }
    }
    if let Some(question) = question {
        ask(client, agent, (question, &may_ask), &mut probe).await;
    }
    probe
}

async fn ask(client: &Client, agent: &Arc<Agent>, (question, may_ask): (&str, &MayAsk), probe: &mut Probe) {
    let question = Question {
        origin: Origin::default(),
        chat_id: random_id(),
        conversation: None,
        item_id: random_id(),
        customer: "operator:test".to_owned(),
        detail: true,
        variables: None,
        metadata: None,
        retain_dataset_cite: None,
        temperature: None,
        max_tokens: None,
        messages: vec![Message { role: Role::User, content: question.into() }],
    };
    let mut answer = match client.open(agent, &question, may_ask).await {
        Ok(answer) => answer,
        Err(failure) => return probe.found(false, explain(agent, &failure)),
    };
    let mut text = String::new();
    loop {
        match answer.next().await {
            Next::Events(events) => text.extend(events.into_iter().filter_map(|event| match event {
                Event::Text(text) | Event::Replaced(text) => Some(text),
                _ => None,
            })),
            Next::End(Ending::Failed(failure)) => return probe.found(false, explain(agent, &failure)),
            Next::End(Ending::Done(finish)) if finish.node_failed => {
                return probe
                    .found(false, "the app answered nothing because one of its nodes failed; open its log there");
            }
            Next::End(Ending::Done(_)) => break,
        }
    }
    let shown: String = text.chars().take(ANSWER_CHARS_MAX).collect();
    match shown.trim() {
        "" => probe.found(true, "it answered, with no text"),
        shown => probe.found(true, format!("it answered: {shown}")),
    }
}

/// What failed and what to do about it.
fn explain(agent: &Agent, failure: &Failure) -> String {
    let said = &failure.message;
    let endpoint = &agent.profile.endpoint;
    match failure.class {
        Class::Unreachable => format!("cannot reach {endpoint}: {said}"),
        Class::Reset => format!("{endpoint} hung up on the question: {said}"),
        Class::TimedOut | Class::TooSlow => format!("{endpoint} did not answer in time: {said}"),
        Class::BadGateway => {
            format!("something else answers at {endpoint}, a proxy or a web page ({said}); check the URL and the proxy")
        }
        Class::Truncated => format!("the answer broke off: {said}"),
        Class::Infrastructure => format!("the upstream has trouble of its own: {said}"),
        Class::Model => format!("the app works and its model does not: {said}"),
        Class::Throttled { retry_after } => format!("too many requests; it asks to wait {} s", retry_after.as_secs()),
        Class::Busy => format!("the upstream says that the chat is busy: {said}"),
        Class::Rejected => format!("the upstream refuses the question: {said}"),
        Class::TooLarge => format!("the upstream finds the question too large: {said}"),
        Class::Quota => format!("the upstream's balance or plan is used up: {said}"),
        Class::Misconfigured => format!("the upstream refuses {}: {said}", refused(said)),
        Class::TooLong | Class::Unknown => format!("the upstream failed: {said}"),
    }
}

/// Which of our settings an upstream complains about, by its own names for it.
fn refused(said: &str) -> &'static str {
    let lower = said.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if any(&["api_key", "apikey", "unauthorization", "openapi", "key has expired", "unauthorized", "authentication"]) {
        "the key (wrong, expired or over its limit)"
    } else if any(&["appunexist", "unauthapp", "appid", "app is empty", "app key", "invalidapptype", "app_"]) {
        "the appId (wrong, or not one that this key may use)"
    } else if said.starts_with("HTTP 404") {
        "the URL or the model (it knows no such thing)"
    } else if any(&["model"]) {
        "the model"
    } else {
        "our key or app"
    }
}
