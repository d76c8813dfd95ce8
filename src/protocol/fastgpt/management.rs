//! FastGPT's other calls: all of them answer `{code: 200, statusText, message, data}`.

use super::classify::{self, Envelope};
use super::whole;
use crate::protocol::answer::{Class, Failure};
use crate::protocol::head::{Head, by_status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What precedes `/api/v1` or `/api/v2` in a completions URL; sub-paths are kept.
pub fn base(completions_url: &str) -> &str {
    let cut = ["/api/v1", "/api/v2"].iter().filter_map(|path| completions_url.rfind(path)).max();
    cut.map_or(completions_url, |at| &completions_url[..at])
}

/// Where the app's description is asked for; free of charge, and starts no run.
pub fn init_url(completions_url: &str, app_id: &str, chat_id: Option<&str>) -> String {
    // Both ids are ours or checked: hex digits and a Label's alphabet need no escaping.
    let chat_id = chat_id.map(|chat_id| format!("&chatId={chat_id}")).unwrap_or_default();
    format!("{}/api/core/chat/init?appId={app_id}{chat_id}", base(completions_url))
}

/// Where an answer is judged.
pub fn feedback_url(completions_url: &str) -> String {
    format!("{}/api/core/chat/feedback/updateUserFeedback", base(completions_url))
}

/// Where a run of the second version is stopped, which outlives the connection that asked for it; one of the first ends with
/// its connection, and there is no such place.
pub fn stop_url(completions_url: &str) -> Option<String> {
    let base = base(completions_url);
    completions_url[base.len()..].starts_with("/api/v2").then(|| format!("{base}/api/v2/chat/stop"))
}

/// The chat whose run is to stop.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop<'a> {
    pub app_id: &'a str,
    pub chat_id: &'a str,
}

/// What somebody thinks of an answer; with neither word it is withdrawn.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Feedback<'a> {
    pub app_id: &'a str,
    pub chat_id: &'a str,
    pub data_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_good_feedback: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_bad_feedback: Option<&'a str>,
}

/// The `data` of a management answer, whatever it is; `null` is an answer too.
pub fn data(head: &Head, body: &[u8]) -> Result<Value, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        code: u64,
        #[serde(default)]
        data: Value,
    }
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        let failure = by_status(head, body);
        let page = first == Some(&b'<');
        return Err(if page { Failure::new(Class::BadGateway, failure.message) } else { failure });
    }
    match serde_json::from_slice::<Answer>(body) {
        Ok(Answer { code: 200, data }) if head.status < 300 => Ok(data),
        Ok(_) => Err(classify::failure(&serde_json::from_slice::<Envelope>(body).unwrap_or_default(), head)),
        Err(error) => Err(whole::failure(body, head, &error)),
    }
}

/// The app's description, a JSON object.
pub fn init(head: &Head, body: &[u8]) -> Result<Value, Failure> {
    match data(head, body)? {
        data @ Value::Object(_) => Ok(data),
        _ => Err(Failure::new(Class::Unknown, "the description of the app is no JSON object".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_keeps_its_sub_path() {
        assert_eq!(base("https://f/x/api/v1/chat/completions"), "https://f/x");
        assert_eq!(
            init_url("http://f/api/v2/chat/completions", "a", Some("c")),
            "http://f/api/core/chat/init?appId=a&chatId=c"
        );
        let feedback = feedback_url("https://f/x/api/v1/chat/completions");
        assert_eq!(feedback, "https://f/x/api/core/chat/feedback/updateUserFeedback");
        assert_eq!(stop_url("https://f/x/api/v1/chat/completions"), None);
        assert_eq!(stop_url("https://f/x/api/v2/chat/completions").as_deref(), Some("https://f/x/api/v2/chat/stop"));
    }

    #[test]
    fn a_web_page_is_no_description() {
        let failure = init(&Head { status: 200, retry_after: None }, b"<html>login</html>").unwrap_err();
        assert_eq!(failure.class, Class::BadGateway);
    }
}
