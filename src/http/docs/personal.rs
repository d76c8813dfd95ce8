//! All that is stored of a user.

use utoipa::ToSchema;

/// A user, with their conversations and what they did.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct UserExport {
    #[schema(format = DateTime)]
    exported_at: String,
    user: ExportedUser,
    sessions: Vec<KeptSession>,
    audit: Vec<ExportedDeed>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ExportedUser {
    id: i64,
    username: String,
    #[schema(required = true)]
    email: Option<String>,
    role: super::Role,
    status: super::Status,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    #[schema(required = true, format = DateTime)]
    last_login_at: Option<String>,
    #[schema(required = true)]
    last_login_ip: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct KeptSession {
    id: String,
    agent_id: String,
    chat_id: String,
    title: String,
    archived: bool,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(format = DateTime)]
    last_asked_at: String,
    #[schema(format = DateTime)]
    updated_at: String,
    turns: Vec<ExportedTurn>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ExportedTurn {
    id: String,
    state: super::TurnState,
    /// The message, with the files that went along.
    #[schema(value_type = Value)]
    question: (),
    #[schema(required = true)]
    answer: Option<String>,
    #[schema(required = true)]
    reasoning: Option<String>,
    #[schema(required = true)]
    failure: Option<String>,
    #[schema(required = true)]
    usage: Option<ExportedUsage>,
    #[schema(format = DateTime)]
    asked_at: String,
    #[schema(required = true, format = DateTime)]
    ended_at: Option<String>,
    #[schema(required = true)]
    feedback: Option<ExportedFeedback>,
}

/// In tokens.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ExportedUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

#[derive(ToSchema)]
struct ExportedFeedback {
    verdict: super::Verdict,
    #[schema(required = true)]
    words: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
struct ExportedDeed {
    id: i64,
    #[schema(format = DateTime)]
    at: String,
    #[schema(required = true)]
    user_id: Option<i64>,
    #[schema(required = true)]
    username: Option<String>,
    action: String,
    resource_type: String,
    #[schema(required = true)]
    resource_id: Option<String>,
    #[schema(value_type = Value)]
    details: (),
    #[schema(required = true)]
    ip_address: Option<String>,
    #[schema(required = true)]
    user_agent: Option<String>,
    status: super::Outcome,
    #[schema(required = true)]
    error: Option<String>,
}

/// A user whose traces are being removed.
#[derive(ToSchema)]
pub(in crate::http) struct Erasing {
    id: i64,
    /// None where they were gone before.
    #[schema(required = true)]
    username: Option<String>,
    #[schema(pattern = "^erasing$")]
    status: String,
}
