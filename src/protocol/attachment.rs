//! Files that go along with a message: what the client says of them, what is stored, and what the upstream is told.

use super::chat::Message;
use super::media::Media;
use crate::base::random_id;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

/// What the address of a file of ours begins with.
pub const UPLOADS: &str = "/uploads/";
/// Of a name: the random part.
const RANDOM_CHARS: usize = 32;

/// The name of a file of ours: 128 random bits as hex digits, and the ending of its kind. Who knows it may read the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadName(Box<str>);

impl UploadName {
    /// A name that nobody has or guesses.
    pub fn random(media: Media) -> Self {
        Self(format!("{}.{}", random_id(), media.ending()).into())
    }

    /// A client's text, where it can be a name of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (random, ending) = text.split_once('.')?;
        let is_random = random.len() == RANDOM_CHARS
            && random.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (is_random && Media::ALL.iter().any(|media| media.ending() == ending)).then(|| Self(text.into()))
    }

    /// Of an address within this service, with or without a signature.
    pub fn of_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(UPLOADS)?;
        Self::parse(rest.split(['?', '#']).next().unwrap_or_default())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its address within this service.
    pub fn path(&self) -> String {
        format!("{UPLOADS}{}", self.0)
    }
}

/// A file that goes along with a message, as its sender says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `/uploads/…`, or an `http` or `https` address of somebody else's.
    pub url: String,
    /// One line.
    pub name: String,
    pub mime_type: String,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A message that was spoken.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VoiceNote {
    /// In seconds.
    pub duration: f64,
    pub mime_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// All that goes along with one message.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voice_note: Option<VoiceNote>,
}

impl Attached {
    pub fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.voice_note.is_none()
    }

    /// The addresses in it, each with the path of its field.
    pub fn urls(&mut self) -> impl Iterator<Item = (String, &mut String)> {
        let files = self.attachments.iter_mut().enumerate();
        let files = files.map(|(index, file)| (format!("attachments[{index}].url"), &mut file.url));
        let voice = self.voice_note.as_mut().and_then(|voice| voice.url.as_mut());
        files.chain(voice.map(|url| ("voiceNote.url".to_owned(), url)))
    }
}

/// A user's message with what goes along with it: as JSON, what is stored of a question.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Question {
    #[serde(flatten)]
    pub message: Message,
    #[serde(flatten)]
    pub attached: Attached,
}

/// The names of our own files in the JSON of a [`Question`].
pub fn uploads(question: &str) -> Vec<String> {
    // Hardly any has one, and to parse ten megabytes takes its time.
    if !question.contains(UPLOADS) {
        return Vec::new();
    }
    let Ok(Question { mut attached, .. }) = serde_json::from_str(question) else { return Vec::new() };
    let names = attached.urls().filter_map(|(_, url)| UploadName::of_path(url));
    names.map(|name| name.as_str().to_owned()).collect()
}

/// What an upstream takes as parts of a message, besides text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takes {
    pub images: bool,
    /// FastGPT's own part for any other file.
    pub files: bool,
}

/// One file as the upstream is told of it.
struct Told<'a> {
    name: &'a str,
    mime_type: &'a str,
    size: String,
    /// Where the upstream can fetch it from, if it can.
    url: Option<String>,
    is_ours: bool,
}

/// `message` with what goes along with it: a line for each file behind its text, and a part for each of our own that the
/// upstream `takes`. `link` makes the address of a file of ours whole, where that is known.
pub fn composed(
    message: &Message,
    attached: &Attached,
    takes: Takes,
    link: impl Fn(&UploadName) -> Option<String>,
) -> Message {
    if attached.is_empty() {
        return message.clone();
    }
    let told = told(attached, link);
    let lines = told.iter().enumerate().map(|(index, file)| {
        let size = if file.size.is_empty() { String::new() } else { format!(" ({})", file.size) };
        let at = file.url.as_ref().map(|url| format!(" -> {url}")).unwrap_or_default();
        format!("附件{}: {}{size}{at}", index + 1, file.name)
    });
    let lines = lines.collect::<Vec<_>>().join("\n");
    let parts: Vec<Value> = told.iter().filter_map(|file| part(file, takes)).collect();
    // A file may go without a word.
    let behind = |text: &str| if text.trim().is_empty() { lines.clone() } else { format!("{text}\n\n{lines}") };
    let content = match &message.content {
        Value::String(text) if parts.is_empty() => Value::String(behind(text)),
        Value::String(text) => {
            let text = json!({ "type": "text", "text": behind(text) });
            std::iter::once(text).chain(parts).collect()
        }
        Value::Array(own) => {
            let lines = json!({ "type": "text", "text": lines });
            own.iter().cloned().chain([lines]).chain(parts).collect()
        }
        other => other.clone(),
    };
    Message { role: message.role, content }
}

fn told(attached: &Attached, link: impl Fn(&UploadName) -> Option<String>) -> Vec<Told<'_>> {
    let reach = |url: &str| match UploadName::of_path(url) {
        Some(name) => (link(&name), true),
        None => (Some(url.to_owned()), false),
    };
    let files = attached.attachments.iter().map(|file| {
        let (url, is_ours) = reach(&file.url);
        Told { name: &file.name, mime_type: &file.mime_type, size: human(file.size), url, is_ours }
    });
    let mut told: Vec<Told<'_>> = files.collect();
    let voice = attached.voice_note.as_ref();
    // Most front ends name a voice note's file among the others too.
    let voice = voice.filter(|voice| attached.attachments.iter().all(|file| Some(&file.url) != voice.url.as_ref()));
    if let Some(voice) = voice {
        let (url, is_ours) = voice.url.as_deref().map_or((None, false), reach);
        let size = voice.size.map_or_else(|| format!("{:.0} s", voice.duration), human);
        told.push(Told { name: "语音", mime_type: &voice.mime_type, size, url, is_ours });
    }
    told
}

fn part(file: &Told<'_>, takes: Takes) -> Option<Value> {
    let url = file.url.as_deref().filter(|_| file.is_ours)?;
    let is_image = file.mime_type.starts_with("image/") && !file.mime_type.contains("svg");
    if is_image && takes.images {
        Some(json!({ "type": "image_url", "image_url": { "url": url } }))
    } else if !is_image && takes.files {
        Some(json!({ "type": "file_url", "name": file.name, "url": url }))
    } else {
        None
    }
}

/// Of bytes, for a person or a model to read.
fn human(bytes: u64) -> String {
    for (unit, shift) in [("MB", 20), ("KB", 10)] {
        let tenths = bytes.saturating_mul(10) >> shift;
        if tenths >= 10 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// Whether it is the address of a file of ours, or a whole one of somebody else's.
pub(super) fn is_url(text: &str) -> bool {
    if text.starts_with('/') {
        return UploadName::of_path(text).is_some();
    }
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::chat::Role;

    const NAME: &str = "00112233445566778899aabbccddeeff.png";

    fn attached(url: &str) -> Attached {
        let file = Attachment {
            id: None,
            url: url.to_owned(),
            name: "图.png".to_owned(),
            mime_type: "image/png".to_owned(),
            size: 1536,
            source: None,
        };
        Attached { attachments: vec![file], voice_note: None }
    }

    fn said(content: Value, attached: &Attached, takes: Takes, base: Option<&str>) -> Value {
        let message = Message { role: Role::User, content };
        let link = |name: &UploadName| base.map(|base| format!("{base}{}?s", name.path()));
        composed(&message, attached, takes, link).content
    }

    #[test]
    fn a_name_is_one_of_ours_or_none() {
        assert_eq!(UploadName::parse(NAME).unwrap().as_str(), NAME);
        let random = UploadName::random(Media::Docx);
        assert_eq!(UploadName::parse(random.as_str()), Some(random.clone()));
        assert_eq!(UploadName::of_path(&format!("{}?expires=1#x", random.path())), Some(random));
        for bad in [
            "",
            ".png",
            "..",
            "00112233445566778899aabbccddeeff",
            "00112233445566778899aabbccddeeff.exe",
            "00112233445566778899AABBCCDDEEFF.png",
            "00112233445566778899aabbccddeef.png",
            "00112233445566778899aabbccddeeff.png.png",
            "../00112233445566778899aabbccddeeff.png",
            "00112233445566778899aabbccddeeff.png\0",
        ] {
            assert_eq!(UploadName::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_upstream_reads_of_a_file_behind_the_text() {
        let ours = attached(&format!("/uploads/{NAME}"));
        let line = format!("q\n\n附件1: 图.png (1.5 KB) -> https://h/uploads/{NAME}?s");
        assert_eq!(said(json!("q"), &ours, Takes::default(), Some("https://h")), json!(line));
        assert_eq!(said(json!("q"), &ours, Takes::default(), None), json!("q\n\n附件1: 图.png (1.5 KB)"));
        let takes = Takes { images: true, files: true };
        let parts = said(json!("q"), &ours, takes, Some("https://h"));
        assert_eq!(parts[0], json!({ "type": "text", "text": line }));
        assert_eq!(
            parts[1],
            json!({ "type": "image_url", "image_url": { "url": format!("https://h/uploads/{NAME}?s") } })
        );
        assert!(said(json!("q"), &ours, takes, None).is_string(), "a part without an address is none");
        let only_files = Takes { images: false, files: true };
        assert!(said(json!("q"), &ours, only_files, Some("https://h")).is_string(), "an image is no file");
        let theirs = attached("https://other/x.png");
        let text = json!("q\n\n附件1: 图.png (1.5 KB) -> https://other/x.png");
        assert_eq!(said(json!("q"), &theirs, takes, Some("https://h")), text, "what is not ours is told, not given");
        let in_parts = said(json!([{ "type": "text", "text": "q" }]), &theirs, takes, None);
        assert_eq!(in_parts[1]["text"], "附件1: 图.png (1.5 KB) -> https://other/x.png");
        assert_eq!(said(json!("q"), &Attached::default(), takes, None), json!("q"));
    }

    #[test]
    fn a_voice_note_is_told_once() {
        let url = format!("/uploads/{}", NAME.replace("png", "webm"));
        let voice = VoiceNote {
            duration: 2.6,
            mime_type: "audio/webm".to_owned(),
            id: None,
            url: Some(url.clone()),
            size: None,
        };
        let alone = Attached { attachments: Vec::new(), voice_note: Some(voice.clone()) };
        assert_eq!(said(json!("q"), &alone, Takes::default(), None), json!("q\n\n附件1: 语音 (3 s)"));
        let mut both = attached(&url);
        both.voice_note = Some(voice);
        assert_eq!(said(json!("q"), &both, Takes::default(), None), json!("q\n\n附件1: 图.png (1.5 KB)"));
    }

    #[test]
    fn a_stored_question_is_a_message_that_names_its_files() {
        let message = Message { role: Role::User, content: json!("see /uploads/x") };
        let url = format!("/uploads/{NAME}");
        let question = Question { message: message.clone(), attached: attached(&url) };
        let stored = serde_json::to_string(&question).unwrap();
        assert_eq!(serde_json::from_str::<Question>(&stored).unwrap(), question);
        assert_eq!(serde_json::from_str::<Message>(&stored).unwrap(), message, "as an older version reads it");
        assert_eq!(uploads(&stored), [NAME]);
        let plain = serde_json::to_string(&message).unwrap();
        assert_eq!(uploads(&plain), [""; 0], "what is only said is not named");
        let bare = Question { message, attached: Attached::default() };
        assert_eq!(serde_json::to_string(&bare).unwrap(), plain, "as it was before there were files");
    }

    #[test]
    fn sizes_are_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KB"), (1_048_575, "1023.9 KB"), (20 << 20, "20.0 MB")]
        {
            assert_eq!(human(bytes), text);
        }
    }

    #[test]
    fn an_address_is_ours_or_a_whole_one() {
        for good in [&format!("/uploads/{NAME}"), "http://h/x", "https://h:8/x?y#z"] {
            assert!(is_url(good), "{good}");
        }
        for bad in [
            "",
            "/uploads/",
            "/uploads/../x",
            "/etc/passwd",
            "//h/x",
            "ftp://h/x",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "data:text/plain,x",
            "https://",
            "https://h/x y",
            "https://h/\nx",
        ] {
            assert!(!is_url(bad), "{bad:?}");
        }
    }
}
