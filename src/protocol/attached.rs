//! Files that go along with a question, as a client writes them.

use super::attachment::{Attached, Attachment, VoiceNote, is_url};
use super::chat::Reader;
use serde_json::Value;

/// As many as one message names; FastGPT's own limit is 10 by default.
pub(super) const ATTACHMENTS_MAX: usize = 20;
pub(super) const ATTACHMENTS_RULE: &str = "must be a list of 20 files at most";
const FILE_NAME_CHARS_MAX: usize = 256;
const FILE_ID_BYTES_MAX: usize = 128;
const FILE_ID_RULE: &str = "must have 128 bytes at most";
const URL_BYTES_MAX: usize = 2048;
const URL_RULE: &str = "must be the url of an attachment, or an http or https address, of 2048 bytes at most";
const MEDIA_TYPE_BYTES_MAX: usize = 128;
const MEDIA_TYPE_RULE: &str = "must be a media type of 128 bytes at most";
const DAY_SECONDS: f64 = 86_400.0;

/// What goes along with a message, as it came.
pub(super) struct Files {
    pub(super) attachments: Option<Value>,
    pub(super) voice_note: Option<Value>,
}

impl Reader {
    /// What goes along with a message, its fields named from `at` on.
    pub(super) fn attached(&mut self, at: &str, files: Files) -> Attached {
        let Files { attachments, voice_note } = files;
        let given = match attachments {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(given)) if given.len() <= ATTACHMENTS_MAX => given,
            Some(_) => {
                self.problem(format!("{at}attachments"), ATTACHMENTS_RULE);
                Vec::new()
            }
        };
        let attachments = given.into_iter().enumerate();
        let attachments =
            attachments.filter_map(|(index, file)| self.attachment(&format!("{at}attachments[{index}]"), file));
        let attachments = attachments.collect();
        let voice_note = voice_note.filter(|given| !given.is_null());
        Attached {
            attachments,
            voice_note: voice_note.and_then(|given| self.voice_note(&format!("{at}voiceNote"), given)),
        }
    }

    fn attachment(&mut self, at: &str, given: Value) -> Option<Attachment> {
        let file: Attachment = self.object_of(at, given, "must be {url, name, mimeType, size}")?;
        let file = Attachment { source: file.source.filter(|source| source == "upload" || source == "voice"), ..file };
        let name = file.name.trim();
        let is_name = (1..=FILE_NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control);
        for (holds, field, rule) in [
            (is_address(&file.url), "url", URL_RULE),
            (is_name, "name", "must be one line of 1 to 256 letters"),
            (is_media_type(&file.mime_type), "mimeType", MEDIA_TYPE_RULE),
            (file.id.as_ref().is_none_or(|id| id.len() <= FILE_ID_BYTES_MAX), "id", FILE_ID_RULE),
        ] {
            if !holds {
                self.problem(format!("{at}.{field}"), rule);
            }
        }
        Some(file)
    }

    fn voice_note(&mut self, at: &str, given: Value) -> Option<VoiceNote> {
        let voice: VoiceNote = self.object_of(at, given, "must be {duration, mimeType}")?;
        for (holds, field, rule) in [
            ((0.0..=DAY_SECONDS).contains(&voice.duration), "duration", "must be seconds, a day of them at most"),
            (is_media_type(&voice.mime_type), "mimeType", MEDIA_TYPE_RULE),
            (voice.url.as_deref().is_none_or(is_address), "url", URL_RULE),
            (voice.id.as_ref().is_none_or(|id| id.len() <= FILE_ID_BYTES_MAX), "id", FILE_ID_RULE),
        ] {
            if !holds {
                self.problem(format!("{at}.{field}"), rule);
            }
        }
        Some(voice)
    }

    fn object_of<T: serde::de::DeserializeOwned>(&mut self, at: &str, given: Value, rule: &str) -> Option<T> {
        let read = serde_json::from_value(given).ok();
        if read.is_none() {
            self.problem(at, rule);
        }
        read
    }
}

fn is_address(url: &str) -> bool {
    url.len() <= URL_BYTES_MAX && is_url(url)
}

fn is_media_type(text: &str) -> bool {
    text.len() <= MEDIA_TYPE_BYTES_MAX && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::super::chat::{ChatRequest, Problem};
    use serde_json::{Value, json};

    const URL: &str = "/uploads/00112233445566778899aabbccddeeff.png";

    fn parse(message: &Value, beside: &Value) -> Result<ChatRequest, Vec<String>> {
        let mut body = json!({ "agentId": "a", "messages": [message] });
        body.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        ChatRequest::parse(body.to_string().as_bytes()).map_err(|invalid| {
            invalid.problems.into_iter().map(|Problem { field, rule }| format!("{field}: {rule}")).collect()
        })
    }

    fn file(url: &str) -> Value {
        json!({ "id": "1", "url": url, "name": "图.png", "mimeType": "image/png", "size": 7, "source": "upload" })
    }

    #[test]
    fn files_are_named_in_the_message_or_beside_it_and_each_once() {
        let message = json!({ "role": "user", "content": "q", "attachments": [file(URL)] });
        let beside = json!({ "attachments": [file(URL), file("https://h/x")], "voiceNote": { "duration": 1.5, "mimeType": "audio/webm" } });
        let request = parse(&message, &beside).unwrap();
        let attached = &request.attached[0];
        let urls: Vec<&str> = attached.attachments.iter().map(|file| file.url.as_str()).collect();
        assert_eq!(urls, [URL, "https://h/x"]);
        assert_eq!(attached.voice_note.as_ref().map(|voice| voice.duration), Some(1.5));
        let options = json!({ "options": { "attachments": [file(URL)] } });
        assert_eq!(
            parse(&json!({ "role": "user", "content": "q" }), &options).unwrap().attached[0].attachments.len(),
            1
        );
        let nothing = json!({ "attachments": null, "voiceNote": null });
        assert!(parse(&json!({ "role": "user", "content": "q" }), &nothing).unwrap().attached[0].is_empty());
    }

    #[test]
    fn a_message_with_a_file_needs_no_words() {
        assert!(parse(&json!({ "role": "user", "content": "", "attachments": [file(URL)] }), &json!({})).is_ok());
        assert!(parse(&json!({ "role": "user", "content": " " }), &json!({ "attachments": [file(URL)] })).is_ok());
        assert!(parse(&json!({ "role": "user", "content": null, "attachments": [file(URL)] }), &json!({})).is_err());
    }

    #[test]
    fn what_is_no_file_is_told_by_its_path() {
        let url = "must be the url of an attachment, or an http or https address, of 2048 bytes at most";
        let with = |field: &str, value: Value| {
            let mut file = file(URL);
            file[field] = value;
            json!({ "attachments": [file] })
        };
        for (beside, expected) in [
            (json!({ "attachments": {} }), "attachments: must be a list of 20 files at most".to_owned()),
            (
                json!({ "attachments": vec![file(URL); 21] }),
                "attachments: must be a list of 20 files at most".to_owned(),
            ),
            (json!({ "attachments": ["x"] }), "attachments[0]: must be {url, name, mimeType, size}".to_owned()),
            (with("size", json!(-1)), "attachments[0]: must be {url, name, mimeType, size}".to_owned()),
            (with("url", json!("/uploads/../x")), format!("attachments[0].url: {url}")),
            (with("url", json!("javascript:x")), format!("attachments[0].url: {url}")),
            (with("url", json!(format!("https://h/{}", "x".repeat(2048)))), format!("attachments[0].url: {url}")),
            (with("name", json!("a\nb")), "attachments[0].name: must be one line of 1 to 256 letters".to_owned()),
            (with("name", json!("")), "attachments[0].name: must be one line of 1 to 256 letters".to_owned()),
            (
                with("mimeType", json!("x".repeat(129))),
                "attachments[0].mimeType: must be a media type of 128 bytes at most".to_owned(),
            ),
            (json!({ "voiceNote": [] }), "voiceNote: must be {duration, mimeType}".to_owned()),
            (
                json!({ "voiceNote": { "duration": -1, "mimeType": "" } }),
                "voiceNote.duration: must be seconds, a day of them at most".to_owned(),
            ),
            (json!({ "voiceNote": { "duration": 1, "mimeType": "", "url": "/x" } }), format!("voiceNote.url: {url}")),
        ] {
            let problems = parse(&json!({ "role": "user", "content": "q" }), &beside).unwrap_err();
            assert_eq!(problems, [expected], "{beside}");
        }
        let inside = parse(&json!({ "role": "user", "content": "q", "attachments": [7] }), &json!({})).unwrap_err();
        assert_eq!(inside, ["messages[0].attachments[0]: must be {url, name, mimeType, size}"]);
    }
}
