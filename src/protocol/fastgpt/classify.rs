//! FastGPT's errors, by name first, then number, then words. The numbers are positions in arrays
//! and shift between versions; the names do not.

use crate::protocol::answer::{Class, Failure};
use crate::protocol::head::{Head, by_status, pause, printable};
use serde::Deserialize;
use serde_json::Value;

/// `{code, statusText, message, data, zodError?}`; an error frame may hold the message alone.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Envelope {
    pub(super) code: Value,
    pub(super) status_text: Value,
    pub(super) message: Value,
    zod_error: Option<serde::de::IgnoredAny>,
}

impl Envelope {
    /// There is anything to judge by.
    pub(super) fn says_something(&self) -> bool {
        !self.code.is_null() || !self.status_text.is_null() || !self.message.is_null()
    }

    fn name(&self) -> &str {
        self.status_text.as_str().unwrap_or_default()
    }

    fn text(&self) -> String {
        match &self.message {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    fn number(&self) -> Option<u64> {
        self.code.as_u64().or_else(|| self.code.as_str()?.parse().ok())
    }

    fn is_schema_error(&self, text: &str) -> bool {
        let is_issue = |issue: &Value| issue.get("path").is_some() && issue.get("message").is_some();
        let issues = || serde_json::from_str::<Vec<Value>>(text).unwrap_or_default();
        self.zod_error.is_some() || (text.starts_with('[') && issues().first().is_some_and(is_issue))
    }
}

/// The failure that `envelope` tells of.
pub(super) fn failure(envelope: &Envelope, head: &Head) -> Failure {
    let (name, text) = (envelope.name(), envelope.text());
    let class = if envelope.is_schema_error(&text) {
        Class::Rejected
    } else {
        by_name(name).or_else(|| by_number(envelope.number())).or_else(|| by_words(&text)).unwrap_or_else(|| {
            match by_status(head, &[]).class {
                // FastGPT itself answered: what a proxy would mean by these does not hold.
                Class::BadGateway => Class::Unknown,
                class => class,
            }
        })
    };
    let class = match class {
        Class::Throttled { .. } => Class::Throttled { retry_after: pause(&text, head) },
        class => class,
    };
    let code = envelope.number().map(|code| format!(" ({code})")).unwrap_or_default();
    let name = if matches!(name, "" | "error") { "error" } else { name };
    // What refuses a question may quote it, and nobody's question belongs in a log.
    let text = if class == Class::Rejected { String::new() } else { printable(&text) };
    let message = format!("{}{code}: {text}", printable(name));
    Failure::new(class, message.trim_end_matches([':', ' ']).to_owned())
}

/// The real pause is read from the text once the class is known.
const THROTTLED: Class = Class::Throttled { retry_after: std::time::Duration::ZERO };

fn by_name(name: &str) -> Option<Class> {
    Some(match name {
        "tooManyRequest" | "uploadFileIntervalLimit" => THROTTLED,
        "chatIsGenerating" => Class::Busy,
        "insufficientQuota" | "aiPointsNotEnough" | "balanceNotEnough" | "unPermission" => Class::Quota,
        "unAuthorization" | "unAuthApiKey" | "unAuthModel" | "unAuthUser" | "unAuthApp" | "appUnExist"
        | "invalidAppType" | "unAuthDataset" | "unExistDataset" | "openapiUnExist" | "openapiUnAuth"
        | "openapiExceedLimit" | "pluginUnExist" | "pluginUnAuth" | "modelUnExist" | "modelUnConfigured" => {
            Class::Misconfigured
        }
        "unAuthFile"
        | "unAuthChat"
        | "outlinkUnExist"
        | "unAuthLink"
        | "linkUnInvalid"
        | "invalidParams"
        | "missingParams"
        | "fileNotFound"
        | "InvalidUploadFileType"
        | "fileUploadDisabled"
        | "FileUploadDisabled" => Class::Rejected,
        "EntityTooLarge" => Class::TooLarge,
        "agentSandboxInitializing" => Class::Unknown,
        _ if name.starts_with("runtimeUpgrade") => Class::Unknown,
        _ if name.ends_with("OverSize") || (name.starts_with("license") && name.ends_with("Limit")) => Class::Quota,
        _ => return None,
    })
}

fn by_number(code: Option<u64>) -> Option<Class> {
    Some(match code? {
        429 => THROTTLED,
        409 => Class::Busy,
        413 => Class::TooLarge,
        510 | 500_000..=500_999 | 509_000..=509_999 => Class::Quota,
        403 | 511 | 514 | 501_000..=503_999 | 506_000..=506_999 | 508_000..=508_999 | 513_000..=513_999 => {
            Class::Misconfigured
        }
        501 | 513 | 504_000..=505_999 | 507_000..=507_999 => Class::Rejected,
        _ => return None,
    })
}

const OUR_OWN: &[&str] = &["Key is error", "app is empty", "appId is empty", "API key has expired"];
const CALLERS: &[&str] = &[
    "messages is not array",
    "messages is empty",
    "User question is empty",
    "您的工作流版本过低",
    "Chat not found",
    "responseChatItemId",
];
const BUSY: &[&str] = &["chatIsGenerating", "chat is generating", "Chat is generating"];
const INFRASTRUCTURE: &[&str] = &[
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "socket hang up",
    "MongoNetwork",
    "MongoServerSelection",
    "Redis connection error",
    "网络连接异常",
    "Premature close",
];
const MODEL: &[&str] = &[
    "无可用渠道",
    "(request id:",
    "Connection error.",
    "Request timed out",
    "LLM api response empty",
    "status code (no body)",
];

fn by_words(text: &str) -> Option<Class> {
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    Some(if any(OUR_OWN) {
        Class::Misconfigured
    } else if any(CALLERS) {
        Class::Rejected
    } else if any(BUSY) {
        Class::Busy
    } else if any(INFRASTRUCTURE) {
        Class::Infrastructure
    } else if any(MODEL) || is_model_status(text) {
        Class::Model
    } else if text.contains("EntityTooLarge") {
        Class::TooLarge
    } else {
        return None;
    })
}

/// "401 Incorrect API key …", "429 Rate limit reached …": an OpenAI client's words for its server's answer.
fn is_model_status(text: &str) -> bool {
    let (number, rest) = text.split_at_checked(3).unwrap_or_default();
    rest.starts_with(' ') && number.parse::<u16>().is_ok_and(|status| (400..600).contains(&status))
}
