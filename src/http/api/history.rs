//! What was said: the owner's chats, and the messages in them.

use super::{Pagination, envelope, pages};
use crate::base::{AgentId, Label, SessionId};
use crate::http::credentials::Whose;
use crate::http::docs::{self, E1, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::going;
use crate::http::levels::{self, Reading};
use crate::http::pace::At;
use crate::http::write::Write;
use crate::protocol::attachment::{Attached, Question};
use crate::protocol::chat::Message;
use crate::sessions::HistoryError;
use crate::store::{Filter, Key, Order, Page, SessionRow, Told, TurnRow, TurnState, Verdict};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::IntoParams;

/// Messages on a page, unless the client says how many.
const MESSAGES: u32 = 100;
const MESSAGES_MAX: u32 = 200;
/// A longer way into a chat than any has.
const OFFSET_MAX: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Asked {
    agent_id: Option<String>,
    page: Option<String>,
    page_size: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
    role: Option<String>,
}

/// Of which agent.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a part of `Asked`, for documents")]
struct OfAgent {
    #[param(rename = "agentId", value_type = String, required = false, pattern = "^[A-Za-z0-9_.:-]{0,128}$")]
    agent_id: (),
}

/// Which chats.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "a part of `Asked`, for documents")]
struct OfChats {
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1_000_000, default = 1)]
    page: (),
    #[param(value_type = u32, required = false, minimum = 1, maximum = 100, default = 20)]
    page_size: (),
}

/// Which messages.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a part of `Asked`, for documents")]
struct OfMessages {
    #[param(value_type = u32, required = false, minimum = 1, maximum = 200, default = 100)]
    limit: (),
    #[param(value_type = u32, required = false, minimum = 0, maximum = 1_000_000, default = 0)]
    offset: (),
}

type Asking = Result<Query<Asked>, QueryRejection>;

/// Whose message it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    User,
    Assistant,
}

impl Asked {
    fn of(asking: Asking) -> Result<Self, ApiError> {
        asking.map(|Query(asked)| asked).map_err(|_| error::validation("query", "must give each name once"))
    }

    fn agent_id(&self) -> Result<Option<AgentId>, ApiError> {
        let given = self.agent_id.as_deref().filter(|id| !id.is_empty());
        given.map(AgentId::parse).transpose().map_err(|rule| error::validation("agentId", &rule.to_string()))
    }

    /// The messages that are wanted: from which on, and how many.
    fn messages(&self) -> Result<(u32, u32), ApiError> {
        let offset = pages::number("offset", self.offset.as_deref(), (0, 0, OFFSET_MAX))?;
        Ok((offset, pages::number("limit", self.limit.as_deref(), (MESSAGES, 1, MESSAGES_MAX))?))
    }

    fn role(&self) -> Result<Option<Speaker>, ApiError> {
        match self.role.as_deref() {
            None | Some("") => Ok(None),
            Some("user") => Ok(Some(Speaker::User)),
            Some("assistant") => Ok(Some(Speaker::Assistant)),
            Some(_) => Err(error::validation("role", "must be user or assistant")),
        }
    }
}

/// The caller's chats, the last used first.
#[utoipa::path(
    get, path = "/api/chat/history", tag = "history", params(OfAgent, OfChats),
    security((), ("bearer" = []), ("session" = [])),
    responses((status = 200, description = "A page", body = E1<Vec<docs::Chat>>), Fails<docs::FreshReads>),
)]
pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    reading: Reading,
    whose: Whose,
    asking: Asking,
) -> Result<Response, ApiError> {
    let owner = whose.owner(&edge).await?;
    let asked = Asked::of(asking)?;
    let (page, number) = pages::page(asked.page.as_deref(), asked.page_size.as_deref(), None)?;
    let filter = Filter { owner: Some(owner), agent_id: asked.agent_id()?, ..Filter::default() };
    let listed = reading.seen(&edge, edge.history.list(filter, (Key::AskedAt, Order::Descending), page)).await?;
    let mut body = envelope("OK", listed.rows.iter().map(chat).collect::<Vec<_>>());
    body.metadata.pagination = Some(Pagination::of(number, page, listed.total));
    Ok(Json(body).into_response())
}

fn chat(session: &SessionRow) -> Value {
    json!({
        "chatId": session.chat,
        "sessionId": session.id.to_string(),
        "agentId": session.agent_id,
        "appId": session.agent_id,
        "title": session.title,
        "status": status(session),
        "messageCount": 2 * session.turns,
        "createdAt": session.id.began.to_string(),
        "updatedAt": session.updated_at.to_string(),
        "lastMessageAt": session.asked_at.to_string(),
    })
}

fn status(session: &SessionRow) -> &'static str {
    if session.is_archived { "archived" } else { "active" }
}

/// A chat with its messages; of those of that name with several agents, the last used. Administrators may give the id of
/// anybody's session.
#[utoipa::path(
    get, path = "/api/chat/history/{chat_id}", tag = "history", params(("chat_id" = String, Path, description = "The client's name for the chat", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "session_1"), OfAgent, OfMessages),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "A page of its messages", body = E1<docs::ChatDetail>),
        Fails<(docs::FreshReads, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn detail(
    State(edge): State<Edge>,
    reading: Reading,
    (whose, At(who)): (Whose, At),
    InPath(name): InPath<String>,
    asking: Asking,
) -> Result<Response, ApiError> {
    let (owner, is_admin) = whose.owner_and_role(&edge).await?;
    let asked = Asked::of(asking)?;
    let (name, agent_id, (offset, limit)) = (chat_name(&name)?, asked.agent_id()?, asked.messages()?);
    let found = reading.seen(&edge, edge.history.named(&owner, agent_id.as_ref(), &name)).await?;
    let (id, owner) = match found.rows.first() {
        Some(session) => (session.id, Some(owner)),
        None if is_admin => (name.as_str().parse().map_err(|_| HistoryError::Unknown)?, None),
        None => return Err(HistoryError::Unknown.into()),
    };
    let (turns, skipped) = turns_of(offset, limit);
    // As much as for the largest question that is read: its page is parsed and written out like that.
    let _share = edge.share_of_bodies(None)?;
    let told = reading.seen(&edge, edge.history.told(id, owner.as_ref(), turns)).await?;
    let Told { session, turns } = told.ok_or(HistoryError::Unknown)?;
    is_of(&session, agent_id.as_ref())?;
    let said = turns.iter().flat_map(|turn| [Speaker::User, Speaker::Assistant].map(|speaker| (turn, speaker)));
    let messages: Vec<Value> =
        said.skip(skipped).take(index(limit)).map(|(turn, speaker)| shown(turn, speaker)).collect();
    let total = 2 * session.turns;
    let has_more = u64::from(offset).saturating_add(count(&messages)) < total && !messages.is_empty();
    let data = json!({
        "chatId": session.chat,
        "appId": session.agent_id,
        "sessionId": session.id.to_string(),
        "title": session.title,
        "messages": messages,
        "metadata": { "total": total, "hasMore": has_more },
    });
    going::json(&edge, who, &envelope("OK", data))
}

/// The messages of a session, as they are stored.
#[utoipa::path(
    get, path = "/api/chat/sessions/{id}/messages", tag = "history",
    params(
        ("id" = String, Path, description = "The session's id, two numbers with a dash between them"),
        ("role" = Option<docs::Speaker>, Query, description = "Of one side alone"),
        OfMessages,
    ),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "A page of them", body = E1<docs::SessionMessages>),
        Fails<(docs::FreshReads, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn messages(
    State(edge): State<Edge>,
    reading: Reading,
    (whose, At(who)): (Whose, At),
    InPath(id): InPath<String>,
    asking: Asking,
) -> Result<Response, ApiError> {
    let owner = whose.owner_or_admin(&edge).await?;
    let asked = Asked::of(asking)?;
    let id: SessionId = id.parse().map_err(|_| HistoryError::Unknown)?;
    let ((offset, limit), role) = (asked.messages()?, asked.role()?);
    let (turns, skipped) = match role {
        Some(_) => (Page { offset, limit }, 0),
        None => turns_of(offset, limit),
    };
    let _share = edge.share_of_bodies(None)?; // As above.
    let told = reading.seen(&edge, edge.history.told(id, owner.as_ref(), turns)).await?;
    let Told { session, turns } = told.ok_or(HistoryError::Unknown)?;
    let said = turns.iter().flat_map(|turn| [Speaker::User, Speaker::Assistant].map(|speaker| (turn, speaker)));
    let said = said.filter(|(_, speaker)| role.is_none_or(|role| role == *speaker));
    let messages: Vec<Value> =
        said.skip(skipped).take(index(limit)).map(|(turn, speaker)| stored(id, turn, speaker)).collect();
    let total = if role.is_some() { session.turns } else { 2 * session.turns };
    let has_more = u64::from(offset).saturating_add(count(&messages)) < total && !messages.is_empty();
    let data = json!({
        "session": {
            "id": session.id.to_string(),
            "agentId": session.agent_id,
            "title": session.title,
            "userId": session.owner,
            "createdAt": session.id.began.to_string(),
            "updatedAt": session.updated_at.to_string(),
        },
        "messages": messages,
        "total": total,
        "hasMore": has_more,
    });
    going::json(&edge, who, &envelope("OK", data))
}

/// Deletes the caller's chat of that name, with one agent or with each. Administrators may give the id of anybody's session.
#[utoipa::path(
    delete, path = "/api/chat/history/{chat_id}", tag = "history", params(("chat_id" = String, Path, description = "The client's name for the chat", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "session_1"), OfAgent),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "It is gone", body = E1<docs::DeletedChat>),
        Fails<(docs::Writes, docs::NotFound, docs::ChatBusy)>,
    ),
)]
pub(in crate::http) async fn delete(
    State(edge): State<Edge>,
    whose: Whose,
    InPath(name): InPath<String>,
    asking: Asking,
    write: Write,
) -> Result<Response, ApiError> {
    let (owner, admin) = whose.owner_and_admin(&edge).await?;
    let agent_id = Asked::of(asking)?.agent_id()?;
    let name = chat_name(&name)?;
    let deleted = write.does(async {
        let deleted = edge.history.delete_named(&owner, agent_id.as_ref(), &name).await;
        match (&deleted, name.as_str().parse::<SessionId>(), admin) {
            (Err(HistoryError::Unknown), Ok(id), Some(admin)) => {
                let session = edge.history.session(id, None).await?.value.ok_or(HistoryError::Unknown)?;
                is_of(&session, agent_id.as_ref())?;
                let entry = admin.entry("delete-session", ("session", id), &json!({}));
                edge.history.delete(id, None, Some(entry)).await.map(|()| 1)
            }
            _ => deleted,
        }
    });
    let deleted = deleted.await?;
    Ok(answered(&edge, json!({ "chatId": name.as_str(), "deleted": deleted })))
}

/// Deletes all chats of the caller, with one agent or with all.
#[utoipa::path(
    delete, path = "/api/chat/history", tag = "history", params(OfAgent),
    security((), ("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "How many are gone", body = E1<docs::Deleted>),
        Fails<(docs::Writes, docs::ChatBusy)>,
    ),
)]
pub(in crate::http) async fn delete_every(
    State(edge): State<Edge>,
    whose: Whose,
    asking: Asking,
    write: Write,
) -> Result<Response, ApiError> {
    let owner = whose.owner(&edge).await?;
    let agent_id = Asked::of(asking)?.agent_id()?;
    let deleted = write.does(edge.history.delete_every(&owner, agent_id.as_ref())).await?;
    Ok(answered(&edge, json!({ "deleted": deleted })))
}

/// A session that was found by its id is with that agent, if one is asked for.
fn is_of(session: &SessionRow, agent_id: Option<&AgentId>) -> Result<(), HistoryError> {
    let is_other = agent_id.is_some_and(|agent_id| agent_id.as_str() != session.agent_id);
    if is_other { Err(HistoryError::Unknown) } else { Ok(()) }
}

/// The answer to a change, which says what node has made it.
pub(super) fn answered(edge: &Edge, data: Value) -> Response {
    let mut response = Json(envelope("OK", data)).into_response();
    levels::name_node(edge, &mut response);
    response
}

/// A name that no chat can have names none.
pub(super) fn chat_name(text: &str) -> Result<Label, ApiError> {
    Label::parse(text).map_err(|rule| error::validation("chatId", &rule.to_string()))
}

/// Each turn is two messages: the turns that a page of messages is in, and how many messages of the first are not wanted.
fn turns_of(offset: u32, limit: u32) -> (Page, usize) {
    let skipped = offset % 2;
    (Page { offset: offset / 2, limit: (skipped + limit).div_ceil(2) }, index(skipped))
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(messages: &[Value]) -> u64 {
    u64::try_from(messages.len()).unwrap_or(u64::MAX)
}

fn role(speaker: Speaker) -> &'static str {
    match speaker {
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    }
}

/// Of one turn there are two: each has an id of its own, and both the name that the client knows the turn by.
fn message_id(turn: &TurnRow, speaker: Speaker) -> String {
    match speaker {
        Speaker::User => format!("{}-user", turn.label),
        Speaker::Assistant => turn.label.clone(),
    }
}

fn content(turn: &TurnRow, speaker: Speaker) -> String {
    match speaker {
        Speaker::User => question(turn).map(|question| question.text()).unwrap_or_default(),
        Speaker::Assistant => turn.answer.clone(),
    }
}

/// `None` where an older version wrote it in another form.
fn question(turn: &TurnRow) -> Option<Message> {
    serde_json::from_str(&turn.question).ok()
}

/// What went along with a question.
fn attached(turn: &TurnRow, speaker: Speaker) -> Attached {
    let asked = || serde_json::from_str::<Question>(&turn.question).ok().map(|question| question.attached);
    (speaker == Speaker::User).then(asked).flatten().unwrap_or_default()
}

fn shown(turn: &TurnRow, speaker: Speaker) -> Value {
    let feedback = turn.feedback.filter(|_| speaker == Speaker::Assistant).map(|verdict| match verdict {
        Verdict::Good => "good",
        Verdict::Bad => "bad",
    });
    let mut shown = json!({
        "id": message_id(turn, speaker),
        "dataId": turn.label,
        "role": role(speaker),
        "content": content(turn, speaker),
        "feedback": feedback,
        "raw": raw(turn, speaker),
    });
    let Attached { attachments, voice_note } = attached(turn, speaker);
    if !attachments.is_empty() {
        shown["attachments"] = json!(attachments);
    }
    if let Some(voice_note) = voice_note {
        shown["voiceNote"] = json!(voice_note);
    }
    shown
}

/// As of `GET /api/chat/sessions/:id/messages`.
fn stored(session: SessionId, turn: &TurnRow, speaker: Speaker) -> Value {
    let at = match speaker {
        Speaker::User => turn.asked_at,
        Speaker::Assistant => turn.ended_at.unwrap_or(turn.asked_at),
    };
    json!({
        "id": message_id(turn, speaker),
        "sessionId": session.to_string(),
        "role": role(speaker),
        "content": content(turn, speaker),
        "metadata": raw(turn, speaker),
        "createdAt": at.to_string(),
    })
}

/// All that is stored with a message.
fn raw(turn: &TurnRow, speaker: Speaker) -> Value {
    if speaker == Speaker::User {
        let mut raw = json!(attached(turn, speaker));
        raw["content"] = json!(question(turn).map(|question| question.content));
        return raw;
    }
    let state = match turn.state {
        TurnState::Running => "running",
        TurnState::Complete => "complete",
        TurnState::Failed => "failed",
        TurnState::Interrupted => "interrupted",
    };
    let events = turn.events.iter().map(|event| {
        // As it came where it is JSON; else the text of it.
        let data = serde_json::from_str::<&RawValue>(&event.raw).ok().and_then(|raw| serde_json::to_value(raw).ok());
        json!({ "event": event.name, "data": data.unwrap_or_else(|| event.raw.clone().into()) })
    });
    let usage = turn.usage.map(|usage| {
        let (prompt, completion) = (usage.prompt_tokens, usage.completion_tokens);
        let total = prompt.saturating_add(completion);
        json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total })
    });
    let reasoning = Some(&turn.reasoning).filter(|reasoning| !reasoning.is_empty());
    let events: Vec<Value> = events.collect();
    json!({ "state": state, "failure": turn.failure, "reasoning": reasoning, "usage": usage, "events": events })
}
