//! Conversations as such: what is asked of them, and what is told.

use super::{ChatStatus, TurnState};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// Which conversations. Each name may also be written in brackets: `filter[search]`, `filter[status]`, and of the dates also
/// `filter[dateRange][start]` and `filter[dateRange][end]`. A name may be given once, in one of its forms; another name in
/// brackets is refused.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct SessionFilters {
    /// A part of the title. Also as `filter[search]`.
    #[param(value_type = String, required = false, max_length = 200)]
    search: (),
    /// What is deleted is gone: there is none of those. Also as `filter[status]`.
    #[param(value_type = StatusFilter, required = false, inline)]
    status: (),
    /// No conversation has one: with any there is nothing to show. Also as `filter[tags][]`.
    #[param(value_type = Vec<String>, required = false)]
    tags: (),
    /// Used on that day or after it, or from that time on. Also as `filter[dateFrom]`.
    #[param(value_type = String, required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$", example = "2026-11-26")]
    date_from: (),
    /// Used on that day or before it, or up to that time. Also as `filter[dateTo]`.
    #[param(value_type = String, required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$", example = "2999-12-31T23:59:59Z")]
    date_to: (),
    /// As `dateFrom`, and wins over it. Also as `filter[startDate]`.
    #[param(value_type = String, required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    start_date: (),
    /// As `dateTo`, and wins over it. Also as `filter[endDate]`.
    #[param(value_type = String, required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    end_date: (),
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum StatusFilter {
    Active,
    Archived,
    Deleted,
}

/// Conversations with which agent.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct SessionAgent {
    /// Those with that agent. Also as `filter[agentId]`.
    #[param(value_type = String, required = false, pattern = "^[A-Za-z0-9_.:-]{0,128}$", example = "assistant")]
    agent_id: (),
}

/// Conversations of whom.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct SessionOwner {
    /// Those of that one: as `userId` is shown, or a user's bare number. Also as `filter[userId]`.
    #[param(value_type = String, required = false, pattern = "^((user:)?[0-9]{1,19}|visitor:[A-Za-z0-9_.:-]{1,128})?$")]
    user_id: (),
}

/// In which order.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct SessionOrder {
    /// `lastMessageAt` where nothing is said.
    #[param(value_type = SortBy, required = false, inline)]
    sort_by: (),
    /// `desc` where nothing is said.
    #[param(value_type = SortOrder, required = false, inline)]
    sort_order: (),
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
enum SortBy {
    CreatedAt,
    UpdatedAt,
    LastMessageAt,
    Title,
    AgentId,
    MessageCount,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum SortOrder {
    Asc,
    Desc,
}

/// What to look for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Sought {
    /// 1 to 10 words, each of which has to be in a title or in one question and its answer.
    #[param(value_type = String, min_length = 1, max_length = 200, pattern = r"\S", example = "new")]
    q: (),
}

/// Which of the newest 10 000 events: `page` times `pageSize` is that much at most.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(in crate::http) struct EventPage {
    #[param(value_type = u32, required = false, minimum = 1, maximum = 10_000, default = 1)]
    page: (),
    #[param(value_type = u32, required = false, minimum = 1, maximum = 100, default = 20)]
    page_size: (),
    /// As `pageSize`, which wins.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 100)]
    limit: (),
}

/// A session's id: two numbers with a dash between them.
pub(in crate::http) enum SessionName {}

impl PartialSchema for SessionName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+-[0-9]+$")).into()
    }
}

impl ToSchema for SessionName {}

/// A conversation, with what was spent on it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct SessionSpent {
    id: SessionName,
    /// `user:` with the user's number, or `visitor:` with a name that was made for one.
    user_id: String,
    agent_id: String,
    /// The client's name for it.
    chat_id: String,
    title: String,
    message_count: u64,
    /// Tokens, as far as upstreams have told.
    token_usage: u64,
    /// Milliseconds from a question to the end of its answer; 0 where there is none.
    avg_response_time: u64,
    status: ChatStatus,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// None where nothing is said in it.
    #[schema(required = true, format = DateTime)]
    last_message_at: Option<String>,
}

/// A conversation that was found.
#[derive(ToSchema)]
pub(in crate::http) struct SessionHit {
    #[serde(flatten)]
    #[schema(inline)]
    session: SessionSpent,
    /// Of the newest question or answer that has it; none where only the title does.
    #[schema(required = true)]
    excerpt: Option<String>,
}

/// A conversation to begin.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct NewSession {
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant")]
    agent_id: String,
    /// One line of 1 to 120 letters; where it is none or empty its first question names it.
    title: Option<String>,
    /// The client's name for it, for questions; one is made where it is none or empty.
    #[schema(pattern = "^[A-Za-z0-9_.:-]{0,128}$")]
    chat_id: Option<String>,
}

#[derive(ToSchema)]
pub(in crate::http) struct SessionTitle {
    /// One line of 1 to 120 letters. What stands around it, and control letters in it, are left out.
    #[schema(min_length = 1, pattern = r"\S", example = "What is new?")]
    title: String,
}

#[derive(ToSchema)]
pub(in crate::http) struct DeletedSession {
    id: SessionName,
    deleted: u64,
}

/// Conversations in numbers. Days are those of `server.time_zone`, and dates of the filter are those of beginnings.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct SessionsInNumbers {
    total_sessions: u64,
    active_sessions: u64,
    archived_sessions: u64,
    total_messages: u64,
    /// To two places.
    average_messages_per_session: f64,
    /// By the day that they began on.
    sessions_by_date: Vec<SessionsOfDay>,
    sessions_by_agent: Vec<SessionsOfAgent>,
    /// No conversation has a tag: this is empty.
    #[schema(value_type = Vec<Value>, max_items = 0)]
    top_tags: (),
}

#[derive(ToSchema)]
struct SessionsOfDay {
    #[schema(format = Date)]
    date: String,
    count: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct SessionsOfAgent {
    agent_id: String,
    /// Its id, where the agent is no more.
    agent_name: String,
    session_count: u64,
    message_count: u64,
}

/// A part of a list.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct PartOf<T> {
    data: Vec<T>,
    total: u64,
    #[schema(minimum = 1)]
    page: u32,
    #[schema(minimum = 1, maximum = 100)]
    page_size: u32,
    total_pages: u64,
    has_next: bool,
    has_prev: bool,
}

/// A question that was asked and what became of it, without a word of it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct SessionEvent {
    session_id: SessionName,
    /// The client's name for the turn.
    turn_id: String,
    state: TurnState,
    /// Its code, where there was one.
    #[schema(required = true)]
    failure: Option<String>,
    #[schema(format = DateTime)]
    timestamp: String,
    /// None while it runs.
    #[schema(required = true, format = DateTime)]
    ended_at: Option<String>,
    #[schema(required = true)]
    duration_ms: Option<u64>,
}

/// A conversation, as administrators see it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AdminSession {
    id: SessionName,
    /// `user:` with the user's number, or `visitor:` with a name that was made for one.
    user_id: String,
    agent_id: String,
    title: String,
    status: ChatStatus,
    message_count: u64,
    /// No conversation has one: this is empty.
    #[schema(max_items = 0)]
    tags: Vec<String>,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    /// Not there where nothing is said in it.
    #[schema(nullable = false, format = DateTime)]
    last_message_at: Option<String>,
    metadata: SessionMetadata,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct SessionMetadata {
    /// The client's name for it.
    chat_id: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct AdminSessions {
    sessions: Vec<AdminSession>,
    total: u64,
    #[schema(minimum = 1)]
    page: u32,
    #[schema(minimum = 1, maximum = 100)]
    page_size: u32,
    total_pages: u64,
}

#[derive(ToSchema)]
pub(in crate::http) struct GoneSession {
    success: bool,
    id: SessionName,
}

/// Conversations to do something to.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct SessionIds {
    /// Each as `id` is shown: two numbers with a dash between them.
    #[schema(min_items = 1, max_items = 100, example = json!(["1-1"]))]
    session_ids: Vec<SessionName>,
}

/// What to do to conversations with an agent.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct SessionBatch {
    action: BatchAction,
    /// Each as `id` is shown: two numbers with a dash between them.
    #[schema(min_items = 1, max_items = 100, example = json!(["1-1"]))]
    session_ids: Vec<SessionName>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum BatchAction {
    Archive,
    Unarchive,
    Delete,
}

/// What came of a batch; a conversation that was named twice counts once.
#[derive(ToSchema)]
pub(in crate::http) struct Batched {
    /// To how many it was done.
    success: u32,
    /// To how many it was not, or is not known to be.
    failed: u32,
    /// One for each that failed; not there where none did.
    #[schema(nullable = false)]
    errors: Option<Vec<NotDone>>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct NotDone {
    session_id: SessionName,
    /// One sentence for a person.
    error: String,
}
