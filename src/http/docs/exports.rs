//! Files that conversations are exported as.

use super::{AdminSession, SessionName, Speaker, TurnState, Usage};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// The bytes of a file.
pub(in crate::http) enum ExportFile {}

impl PartialSchema for ExportFile {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for ExportFile {}

/// As what one conversation is exported.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AsOne {
    /// `json` where nothing is said.
    #[param(value_type = OneFormat, required = false, inline)]
    format: (),
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum OneFormat {
    Json,
    Csv,
    Txt,
}

/// As what many conversations are exported.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AsMany {
    /// `json` where nothing is said. An `xlsx` holds 100 000 messages and 32 MiB of text at most; where there are more it is
    /// refused.
    #[param(value_type = ManyFormat, required = false, inline)]
    format: (),
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum ManyFormat {
    Json,
    Csv,
    Xlsx,
}

/// A conversation with all that was said in it.
#[derive(ToSchema)]
pub(in crate::http) struct ExportedOne {
    session: AdminSession,
    messages: Vec<ExportedMessage>,
}

/// Conversations, each with all that was said in it.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct ExportedMany {
    #[schema(format = DateTime)]
    exported_at: String,
    sessions: Vec<ExportedSession>,
    total: u64,
}

#[derive(ToSchema)]
struct ExportedSession {
    #[serde(flatten)]
    #[schema(inline)]
    session: AdminSession,
    messages: Vec<ExportedMessage>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ExportedMessage {
    id: String,
    role: Speaker,
    content: String,
    #[schema(format = DateTime)]
    created_at: String,
    /// Of an answer.
    #[schema(nullable = false)]
    metadata: Option<ExportedState>,
}

#[derive(ToSchema)]
struct ExportedState {
    state: TurnState,
    #[schema(required = true)]
    failure: Option<String>,
    #[schema(required = true)]
    usage: Option<Usage>,
}

/// What of the conversations with an agent is exported: all of them where nothing is said.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct ExportRequest {
    /// `json` where it is none.
    #[schema(inline)]
    format: Option<ManyFormat>,
    /// Those alone, and then no filter counts. Each has to be there and to be with this agent.
    #[schema(min_items = 1, max_items = 100)]
    session_ids: Option<Vec<SessionName>>,
    #[schema(required = false)]
    filter: ExportFilter,
}

/// The filters of the list.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[serde(deny_unknown_fields)]
struct ExportFilter {
    #[schema(required = false, max_length = 200)]
    search: String,
    /// `active`, `archived`, or empty; there is none with `deleted`.
    #[schema(required = false, pattern = "^(active|archived|deleted)?$")]
    status: String,
    /// Not counted: the agent is in the path.
    #[schema(required = false, pattern = "^[A-Za-z0-9_.:-]{0,128}$")]
    agent_id: String,
    #[schema(required = false, pattern = "^((user:)?[0-9]{1,19}|visitor:[A-Za-z0-9_.:-]{1,128})?$")]
    user_id: String,
    /// No conversation has one.
    #[schema(required = false)]
    tags: String,
    #[schema(required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    date_from: String,
    #[schema(required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    date_to: String,
    #[schema(required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    start_date: String,
    #[schema(required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    end_date: String,
    #[schema(rename = "dateRange.start", required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    range_start: String,
    #[schema(rename = "dateRange.end", required = false, pattern = "^([0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ].+)?)?$")]
    range_end: String,
}
