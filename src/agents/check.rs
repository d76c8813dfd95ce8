//! From one entry as an operator wrote it to a checked [`Agent`].

use super::custom;
use super::file::Unset;
use crate::base::{AgentId, Secret, UnixMillis};
use crate::protocol::agent::{Agent, Features, Profile, Provider, RateLimit, Source};
use crate::protocol::{anthropic, dashscope, dify, fastgpt, openai};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

const NAME_CHARS_MAX: usize = 120;
const TEXT_BYTES_MAX: usize = 64 << 10;
const MAX_TOKENS: std::ops::RangeInclusive<u32> = 1..=32_768;
const TEMPERATURE: std::ops::RangeInclusive<f64> = 0.0..=2.0;
const APP_ID_DIGITS: usize = 24;

/// The entry's keys, those of the API; anything else is a typing error worth telling.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    id: String,
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    provider: Provider,
    endpoint: String,
    #[serde(default)]
    api_key: Option<String>,
    app_id: Option<String>,
    model: Option<String>,
    #[serde(default, deserialize_with = "number")]
    max_tokens: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    temperature: Option<f64>,
    system_prompt: Option<String>,
    capabilities: Option<Vec<String>>,
    rate_limit: Option<RateLimit>,
    features: Option<Features>,
    is_active: Option<bool>,
    #[serde(rename = "createdAt")]
    _created_at: Option<Value>,
    #[serde(rename = "updatedAt")]
    _updated_at: Option<Value>,
}

/// A number, also in quotes: that is how it comes out of `"${NAME}"`.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    match Option::<Value>::deserialize(from)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_f64()),
        Some(Value::String(text)) if text.trim().is_empty() || text.contains("${") => Ok(None),
        Some(Value::String(text)) => text.trim().parse().map(Some).map_err(serde::de::Error::custom),
        Some(_) => Err(serde::de::Error::custom("expected a number")),
    }
}

/// What has to be an object, by the path to it: serde would take a list for one, its items in the order of the fields.
const OBJECTS: [&str; 4] = ["", "/rateLimit", "/features", "/features/streamingConfig"];

fn no_list(entry: &Value) -> Result<(), Vec<String>> {
    let list = OBJECTS.iter().find(|path| entry.pointer(path).is_some_and(Value::is_array));
    list.map_or(Ok(()), |path| {
        let name = path.trim_start_matches('/').replace('/', ".");
        Err(vec![if name.is_empty() {
            "agent: must be an object".to_owned()
        } else {
            format!("{name}: must be an object")
        }])
    })
}

/// Checks one entry. All problems at once, each as `field: rule`.
///
/// A problem with a field whose variable is not set does not reject the agent: it is kept,
/// inactive, and says what is missing.
pub(super) fn agent(entry: Value, unset: &[Unset], source: Source, now: UnixMillis) -> Result<Agent, Vec<String>> {
    no_list(&entry)?;
    let entry: Entry = serde_path_to_error::deserialize(entry).map_err(|error| {
        let (path, rule) = (error.path().to_string(), error.into_inner().to_string());
        // A missing or unknown key names itself, and its path is the whole entry.
        vec![if path == "." { rule } else { format!("{path}: {rule}") }]
    })?;
    let mut faults = Faults { unset, hard: Vec::new() };
    let id = AgentId::parse(&entry.id);
    faults.need(id.is_ok(), "id", "must match [A-Za-z0-9_.:-]{1,128}");
    let name = entry.name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| entry.id.clone());
    faults.need(name.chars().count() <= NAME_CHARS_MAX, "name", "must have at most 120 characters");
    let texts = [("description", &entry.description), ("systemPrompt", &entry.system_prompt)];
    for (field, text) in texts {
        let short = text.as_ref().is_none_or(|text| text.len() <= TEXT_BYTES_MAX);
        faults.need(short, field, "must have at most 64 KiB");
    }
    let features = entry.features.unwrap_or_default();
    let api_key = entry.api_key.unwrap_or_default();
    custom::check(entry.provider, &features, !api_key.is_empty(), &mut faults);
    let endpoint = endpoint(&entry.endpoint, entry.provider, features.custom_path.as_deref());
    faults.need(endpoint.is_some(), "endpoint", "must be an http or https URL without user, password and fragment");
    let app_id = entry.app_id.filter(|app_id| !app_id.is_empty());
    let provider = entry.provider.as_str();
    if !matches!(entry.provider, Provider::Openai | Provider::Custom) {
        faults.need(!api_key.is_empty(), "apiKey", &format!("must be given for {provider}"));
    }
    if entry.provider == Provider::Fastgpt {
        let sane =
            |app_id: &String| app_id.len() == APP_ID_DIGITS && app_id.bytes().all(|byte| byte.is_ascii_hexdigit());
        faults.need(app_id.as_ref().is_some_and(sane), "appId", "must be 24 hex digits for fastgpt");
    }
    if matches!(entry.provider, Provider::Openai | Provider::Anthropic | Provider::Dashscope) {
        let named = entry.model.as_ref().is_some_and(|model| !model.is_empty());
        faults.need(named, "model", &format!("must be given for {provider}"));
    }
    let printable = api_key.bytes().all(|byte| byte.is_ascii_graphic());
    faults.need(printable, "apiKey", "must be printable ASCII without spaces");
    let max_tokens = entry.max_tokens.map(|tokens| format!("{tokens}").parse::<u32>().unwrap_or(0));
    let sane_tokens = max_tokens.is_none_or(|tokens| MAX_TOKENS.contains(&tokens));
    faults.need(sane_tokens, "maxTokens", "must be a whole number from 1 to 32768");
    let sane_temperature = entry.temperature.is_none_or(|temperature| TEMPERATURE.contains(&temperature));
    faults.need(sane_temperature, "temperature", "must be from 0 to 2");
    let Faults { hard, .. } = faults;
    let id = match id {
        Ok(id) if hard.is_empty() => id,
        _ => return Err(hard),
    };
    let profile = Profile {
        name,
        description: entry.description.unwrap_or_default(),
        provider: entry.provider,
        endpoint: endpoint.unwrap_or(entry.endpoint),
        app_id,
        model: entry.model.unwrap_or_default(),
        max_tokens,
        temperature: entry.temperature,
        system_prompt: entry.system_prompt.filter(|prompt| !prompt.is_empty()),
        capabilities: entry.capabilities.unwrap_or_default(),
        rate_limit: entry.rate_limit,
        features,
        is_active: entry.is_active.unwrap_or(true),
        problems: soft_problems(unset),
    };
    Ok(Agent { id, api_key: Secret::new(api_key), profile, source, created_at: now, updated_at: now })
}

const NOT_SET: &str = ": the environment variable ";

/// What an agent's stored problems say of variables that were not set.
pub(super) fn unset(problems: &[String]) -> Vec<Unset> {
    let found = problems.iter().filter_map(|problem| {
        let (field, rest) = problem.split_once(NOT_SET)?;
        let variable = rest.strip_suffix(" is not set")?;
        Some(Unset { field: field.to_owned(), variable: variable.to_owned() })
    });
    found.collect()
}

fn soft_problems(unset: &[Unset]) -> Vec<String> {
    unset.iter().map(|Unset { field, variable }| format!("{field}{NOT_SET}{variable} is not set")).collect()
}

/// The full URL of the provider's chat call, or `None` where the text is no URL that questions may go to.
fn endpoint(text: &str, provider: Provider, custom_path: Option<&str>) -> Option<String> {
    let url = Url::parse(text.trim()).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none();
    if !plain {
        return None;
    }
    Some(match provider {
        Provider::Fastgpt => fastgpt::completions_url(url.as_str()),
        Provider::Openai => openai::completions_url(url.as_str()),
        Provider::Anthropic => anthropic::messages_url(url.as_str()),
        Provider::Dify => dify::chat_messages_url(url.as_str()),
        Provider::Dashscope => dashscope::generation_url(url.as_str()),
        Provider::Custom => match custom_path {
            Some(path) => custom::url(url.as_str(), path),
            None => openai::completions_url(url.as_str()),
        },
    })
}

pub(super) struct Faults<'a> {
    unset: &'a [Unset],
    hard: Vec<String>,
}

impl Faults<'_> {
    pub(super) fn need(&mut self, holds: bool, field: &str, rule: &str) {
        let excused = self.unset.iter().any(|unset| unset.field.eq_ignore_ascii_case(field));
        if !holds && !excused {
            self.hard.push(format!("{field}: {rule}"));
        }
    }
}
