//! Questions, answers, and what is kept of them.

use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// What a client may call a turn.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::http) struct TurnKey {
    /// A name for the turn, in place of `responseChatItemId`.
    #[param(rename = "Idempotency-Key", value_type = String, required = false, pattern = "^[A-Za-z0-9_.:-]{1,128}$")]
    key: (),
}

/// A question. Other fields are let through unread; each of these may also stand in an object `options`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Question {
    #[schema(min_length = 1, example = "assistant")]
    agent_id: String,
    /// The last of them has to be a user's.
    #[schema(min_items = 1, max_items = 1000, example = json!([{ "role": "user", "content": "What is new?" }]))]
    messages: Vec<AskedMessage>,
    /// As server-sent events.
    stream: Option<bool>,
    /// With what a workflow does on the way.
    detail: Option<bool>,
    /// The client's name for the chat; one is made where none is given.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{0,128}$", example = "session_1")]
    chat_id: Option<String>,
    /// The client's name for the turn. Asked again under the same one, the stored answer is given.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{0,128}$")]
    response_chat_item_id: Option<String>,
    #[schema(value_type = Option<Object>)]
    variables: (),
    #[schema(value_type = Option<Object>)]
    metadata: (),
    retain_dataset_cite: Option<bool>,
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_tokens: Option<u32>,
    #[schema(value_type = Option<Vec<Value>>)]
    attachments: (),
    #[schema(value_type = Option<Object>)]
    voice_note: (),
}

#[derive(ToSchema)]
struct AskedMessage {
    role: AskedRole,
    content: Said,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum AskedRole {
    User,
    Assistant,
    System,
}

/// Text, or parts as OpenAI has them.
#[derive(ToSchema)]
#[serde(untagged)]
enum Said {
    Text(Text),
    Parts(Vec<Part>),
}

/// Not blank.
enum Text {}

impl PartialSchema for Text {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"\S")).into()
    }
}

impl ToSchema for Text {}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text {
        text: String,
    },
    ImageUrl {
        image_url: Link,
    },
    /// With a `url` or a `key`.
    FileUrl {
        url: Option<String>,
        key: Option<String>,
    },
    InputAudio {
        input_audio: Audio,
    },
    File {
        #[schema(value_type = Object)]
        file: (),
    },
}

#[derive(ToSchema)]
struct Link {
    url: String,
}

#[derive(ToSchema)]
struct Audio {
    data: String,
}

/// The answer in OpenAI's shape, with its text also at the top, and what a workflow adds.
#[derive(ToSchema)]
pub(in crate::http) struct Completion {
    content: String,
    #[schema(rename = "chatId")]
    chat_id: String,
    id: String,
    #[schema(pattern = r"^chat\.completion$")]
    object: String,
    /// Seconds since 1970.
    created: i64,
    model: String,
    #[schema(min_items = 1, max_items = 1)]
    choices: Vec<Choice>,
    usage: Usage,
    /// With `detail`.
    #[schema(rename = "responseData", value_type = Value, required = false)]
    response_data: (),
    /// With `detail`.
    #[schema(rename = "newVariables", value_type = Object, required = false)]
    new_variables: (),
    /// What the workflow waits for.
    #[schema(value_type = Value, required = false)]
    interactive: (),
}

#[derive(ToSchema)]
struct Choice {
    index: u32,
    message: Answer,
    finish_reason: String,
}

#[derive(ToSchema)]
struct Answer {
    #[schema(pattern = "^assistant$")]
    role: String,
    content: String,
    #[schema(nullable = false)]
    reasoning_content: Option<String>,
}

#[derive(ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names are OpenAI's")]
pub(in crate::http) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
}

/// One of the server-sent events of an answer, in this order: `chatId`, `start`; as they come `chunk`, `reasoning`, `status`,
/// `flowNodeStatus`, `flowResponses`, `usage` and whatever else an upstream says; `error` where it failed; and `end`, which
/// says whether the turn is kept.
#[derive(ToSchema)]
pub(in crate::http) struct ServerEvent {
    #[schema(min_length = 1)]
    event: String,
    /// JSON.
    data: String,
    /// Counts from 1.
    #[schema(nullable = false)]
    id: Option<String>,
}

/// A question of the chat that is to be asked again. Other fields are let through unread.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Retry {
    #[schema(min_length = 1, example = "assistant")]
    agent_id: String,
    /// The `responseChatItemId` that it was asked under.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "turn_1")]
    data_id: String,
    stream: Option<bool>,
    detail: Option<bool>,
}

/// What somebody thinks of an answer: one of the two, or none to take it back. Other fields are let through unread.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Feedback {
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant")]
    agent_id: String,
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "session_1")]
    chat_id: String,
    /// The `responseChatItemId` of the question.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "turn_1")]
    data_id: String,
    #[schema(rename = "userGoodFeedback", max_length = 1000)]
    good: Option<String>,
    #[schema(rename = "userBadFeedback", max_length = 1000)]
    bad: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Judged {
    chat_id: String,
    data_id: String,
    #[schema(required = true)]
    feedback: Option<Verdict>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Verdict {
    Good,
    Bad,
}

/// The chat whose answer is to stop. Other fields are let through unread.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Stop {
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "session_1")]
    chat_id: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Stopped {
    chat_id: String,
    /// Whether there was an answer under way.
    stopped: bool,
}

/// A chat of the caller's.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Chat {
    #[schema(rename = "chatId")]
    name: String,
    session_id: String,
    agent_id: String,
    app_id: String,
    title: String,
    status: ChatStatus,
    message_count: u64,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(format = DateTime)]
    last_message_at: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum ChatStatus {
    Active,
    Archived,
}

/// A chat with a page of its messages.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct ChatDetail {
    chat_id: String,
    app_id: String,
    session_id: String,
    title: String,
    messages: Vec<ChatMessage>,
    metadata: MessagePage,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct MessagePage {
    total: u64,
    has_more: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ChatMessage {
    id: String,
    data_id: String,
    role: Speaker,
    content: String,
    #[schema(required = true)]
    feedback: Option<Verdict>,
    raw: Kept,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum Speaker {
    User,
    Assistant,
}

/// All that is stored with a message: of a question its content, of an answer the rest.
#[derive(ToSchema)]
struct Kept {
    #[schema(value_type = Value, required = false)]
    content: (),
    #[schema(nullable = false)]
    state: Option<TurnState>,
    failure: Option<String>,
    reasoning: Option<String>,
    usage: Option<Usage>,
    #[schema(nullable = false)]
    events: Option<Vec<KeptEvent>>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum TurnState {
    Running,
    Complete,
    Failed,
    Interrupted,
}

#[derive(ToSchema)]
struct KeptEvent {
    event: String,
    #[schema(value_type = Value)]
    data: (),
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct SessionMessages {
    session: Session,
    messages: Vec<SessionMessage>,
    total: u64,
    has_more: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct Session {
    id: String,
    agent_id: String,
    title: String,
    user_id: String,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct SessionMessage {
    id: String,
    session_id: String,
    role: Speaker,
    content: String,
    metadata: Kept,
    #[schema(format = DateTime)]
    created_at: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct DeletedChat {
    chat_id: String,
    deleted: u64,
}

#[derive(ToSchema)]
pub(in crate::http) struct Deleted {
    deleted: u64,
}
