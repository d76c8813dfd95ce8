use crate::protocol::chat::Message;
use serde::Serialize;
use serde_json::{Map, Value};

/// What we ask FastGPT: only what the client gave, under ids of ours, and always as a stream.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Absent for an app that keeps no conversations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<&'a str>,
    pub response_chat_item_id: &'a str,
    pub app_id: &'a str,
    pub custom_uid: &'a str,
    pub detail: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variables: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain_dataset_cite: Option<bool>,
    pub messages: &'a [Message],
}

impl Request<'_> {
    /// The body to send.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Streamed<'a, 'b> {
            stream: bool,
            #[serde(flatten)]
            request: &'a Request<'b>,
        }
        serde_json::to_vec(&Streamed { stream: true, request: self }).expect("strings and JSON values always serialize")
    }
}

/// The completions URL that `endpoint` means: itself where it names one, else a base to which the
/// v1 path is added.
pub fn completions_url(endpoint: &str) -> String {
    let trimmed = endpoint.trim_end_matches('/');
    if trimmed.ends_with("/chat/completions") {
        trimmed.to_owned()
    } else if trimmed.ends_with("/api/v1") || trimmed.ends_with("/api/v2") {
        format!("{trimmed}/chat/completions")
    } else if let Some(base) = trimmed.strip_suffix("/api") {
        format!("{base}/api/v1/chat/completions")
    } else {
        format!("{trimmed}/api/v1/chat/completions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_url_itself_or_a_base() {
        let v1 = "https://f.example/sub/api/v1/chat/completions";
        for endpoint in [
            "https://f.example/sub",
            "https://f.example/sub/",
            "https://f.example/sub/api",
            "https://f.example/sub/api/v1",
            v1,
        ] {
            assert_eq!(completions_url(endpoint), v1, "{endpoint}");
        }
        let v2 = "https://f.example/api/v2/chat/completions";
        assert_eq!(completions_url(v2), v2);
    }
}
