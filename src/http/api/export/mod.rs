//! Conversations with all that was said in them, as files.
//!
//! What is exported is read page by page as the client takes it: whoever reads slowly, or leaves, keeps nothing but one
//! place among the few exports at once, and that for as long as it takes something now and then. Where a page cannot be
//! read the body says so, where its format has a way to, and breaks off without its end, so that no client takes a part for
//! the whole.

mod csv;
mod json;
mod name;
pub(super) mod pieces;
pub(super) mod read;
mod txt;
mod xlsx;

use super::sessions::{Asked, Asking, agent_id, ids, session_id};
use crate::accounts::Actor;
use crate::http::credentials::Credentials;
use crate::http::docs::{self, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::extract::InPath;
use crate::http::levels::Reading;
use crate::http::write::{Write, kept};
use crate::sessions::HistoryError;
use crate::store::{Filter, Said, SessionRow, StoreError};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use pieces::{MAKING_BYTES, PIECE_BYTES, Piece, Source};
use read::{Part, Reader, again};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;

/// What a file is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Txt,
    Xlsx,
}

impl Format {
    /// One of `of`; JSON where none is named.
    fn parse(text: Option<&str>, of: &[Self]) -> Result<Self, ApiError> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::Json) };
        of.iter().copied().find(|format| format.extension() == text).ok_or_else(|| {
            let names: Vec<&str> = of.iter().map(|format| format.extension()).collect();
            error::validation("format", &format!("must be one of {}", names.join(", ")))
        })
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Txt => "txt",
            Self::Xlsx => "xlsx",
        }
    }

    fn media_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Txt => "text/plain; charset=utf-8",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        })
    }
}

/// Writes a file's text, a part at a time.
trait Writer: Send {
    fn session(&mut self, session: &SessionRow, out: &mut String);
    fn turn(&mut self, session: &SessionRow, turn: &Said, out: &mut String);
    /// The last of a session's turns was written.
    fn session_end(&mut self, session: &SessionRow, out: &mut String);
    fn end(&mut self, out: &mut String);
    /// The last line of a file that is broken off; empty where the format itself shows that its end is missing.
    fn broken_off(&self) -> &'static str;
}

/// A conversation with all that was said in it, as a file.
#[utoipa::path(
    get, path = "/api/admin/sessions/{id}/export", tag = "admin",
    params(("id" = docs::SessionName, Path, description = "The session's id", example = "1-1"), docs::AsOne),
    responses(
        (
            status = 200, description = "The file",
            headers(("Content-Disposition" = String, description = "`attachment`, and what to call it")),
            content(
                (docs::ExportedOne = "application/json"),
                (docs::ExportFile = "text/csv"),
                (docs::ExportFile = "text/plain"),
            ),
        ),
        Fails<(docs::AdminReads, docs::StaleToken, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn one(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    InPath(id): InPath<String>,
    asking: Asking,
) -> Result<Response, ApiError> {
    let actor = credentials.acting_admin(&edge).await?;
    let id = session_id("id", &id)?;
    let format = Format::parse(Asked::of(asking)?.value("format"), &[Format::Json, Format::Csv, Format::Txt])?;
    let session = reading.seen(&edge, edge.history.session(id, None)).await?.ok_or(HistoryError::Unknown)?;
    let export = Export::begin(edge, reading, format)?;
    let name = name::of_session(&session, format.extension());
    export.audited(&actor, ("session", id.to_string()), &json!({})).await?;
    let writer: Box<dyn Writer> = match format {
        Format::Json => Box::new(json::One::default()),
        Format::Txt => Box::new(txt::Txt),
        Format::Csv | Format::Xlsx => Box::new(csv::Csv::default()),
    };
    export.answer(Reader::of(vec![session]), writer, name).await
}

/// Conversations with all that was said in them, as a file.
#[utoipa::path(
    get, path = "/api/admin/sessions/export", tag = "admin",
    params(docs::AsMany, docs::SessionFilters, docs::SessionAgent, docs::SessionOwner),
    responses(
        (
            status = 200, description = "The file",
            headers(("Content-Disposition" = String, description = "`attachment`, and what to call it")),
            content(
                (docs::ExportedMany = "application/json"),
                (docs::ExportFile = "text/csv"),
                (docs::ExportFile = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            ),
        ),
        Fails<(docs::AdminReads, docs::StaleToken)>,
    ),
)]
pub(in crate::http) async fn all(
    State(edge): State<Edge>,
    reading: Reading,
    credentials: Credentials,
    asking: Asking,
) -> Result<Response, ApiError> {
    let actor = credentials.acting_admin(&edge).await?;
    let asked = Asked::of(asking)?;
    let format = Format::parse(asked.value("format"), &MANY)?;
    let filter = asked.filter(edge.analytics.zone())?;
    let export = Export::begin(edge, reading, format)?;
    export.audited(&actor, ("session", String::new()), &json!({ "filter": asked.filters() })).await?;
    export.many(Reader::all(filter), None).await
}

/// As what many conversations are exported.
const MANY: [Format; 3] = [Format::Json, Format::Csv, Format::Xlsx];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    format: Option<String>,
    /// Those alone.
    session_ids: Option<Vec<String>>,
    /// The filters of the list, by their plain names.
    #[serde(default)]
    filter: std::collections::BTreeMap<String, String>,
}

/// The format that a query names, beside a body that says the rest: what is not heard there would export more than was asked
/// for.
fn format_alone(asking: Asking) -> Result<Format, ApiError> {
    let says_which = asking.as_ref().is_ok_and(|pairs| pairs.iter().any(|(name, _)| name == "sessionIds"));
    let asked = Asked::of(asking)?;
    match asked.first_filter().or(says_which.then_some("sessionIds")) {
        Some(name) => Err(error::validation(name, "must stand in the body")),
        None => Format::parse(asked.value("format"), &MANY),
    }
}

/// Conversations with an agent with all that was said in them, as a file.
#[utoipa::path(
    post, path = "/api/sessions/{agent_id}/export", tag = "sessions", request_body = Option<docs::ExportRequest>,
    params(
        ("agent_id" = String, Path, description = "The agent's id", pattern = "^[A-Za-z0-9_.:-]{1,128}$", example = "assistant"),
        docs::AsMany,
    ),
    responses(
        (
            status = 200, description = "The file",
            headers(("Content-Disposition" = String, description = "`attachment`, and what to call it")),
            content(
                (docs::ExportedMany = "application/json"),
                (docs::ExportFile = "text/csv"),
                (docs::ExportFile = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            ),
        ),
        Fails<(docs::AdminWrites, docs::NotFound)>,
    ),
)]
pub(in crate::http) async fn of_agent(
    State(edge): State<Edge>,
    credentials: Credentials,
    InPath(agent): InPath<String>,
    asking: Asking,
    write: Write,
) -> Result<Response, ApiError> {
    let body = write.release();
    let actor = credentials.acting_admin(&edge).await?;
    let of_query = format_alone(asking)?;
    let agent_id = agent_id("agentId", &agent)?;
    let Wanted { format, session_ids, filter } = if body.0.is_empty() {
        Wanted { format: None, session_ids: None, filter: std::collections::BTreeMap::new() }
    } else {
        body.parse()?
    };
    drop(body);
    let of_body = format.as_deref().filter(|format| !format.is_empty());
    let format = of_body.map_or(Ok(of_query), |format| Format::parse(Some(format), &MANY))?;
    let names: Vec<String> = filter.keys().cloned().collect();
    let filter = Asked::filter_of(filter.into_iter().collect(), edge.analytics.zone())?;
    if filter.agent_id.as_ref().is_some_and(|other| *other != agent_id) {
        return Err(error::validation("agentId", "must be the path's"));
    }
    let filter = Filter { agent_id: Some(agent_id.clone()), ..filter };
    let ids = session_ids.map(|texts| ids(&texts)).transpose()?;
    let reading = Reading::of_primary();
    let reader = match &ids {
        None => Reader::all(filter),
        Some(ids) => {
            let mut sessions = Vec::with_capacity(ids.len());
            for id in ids {
                let found = reading.seen(&edge, edge.history.session(*id, None)).await?;
                let found = found.filter(|session| session.agent_id == agent_id.as_str());
                sessions.push(found.ok_or(HistoryError::Unknown)?);
            }
            Reader::of(sessions)
        }
    };
    let export = Export::begin(edge, reading, format)?;
    let ids = ids.map(|ids| ids.iter().map(ToString::to_string).collect::<Vec<_>>());
    let details = json!({ "agentId": agent_id.as_str(), "filters": names, "sessionIds": ids });
    export.audited(&actor, ("session", String::new()), &details).await?;
    export.many(reader, Some(agent_id.as_str())).await
}

/// One export under way.
struct Export {
    edge: Edge,
    reading: Reading,
    format: Format,
    place: OwnedSemaphorePermit,
}

impl Export {
    /// Takes one of the places.
    fn begin(edge: Edge, reading: Reading, format: Format) -> Result<Self, ApiError> {
        let place = edge.place_of_exports()?;
        Ok(Self { edge, reading, format, place })
    }

    /// Writes down who exports what, before anything of it is read.
    async fn audited(&self, actor: &Actor, resource: (&'static str, String), details: &Value) -> Result<(), ApiError> {
        let mut details = details.clone();
        details["format"] = self.format.extension().into();
        let entry = actor.entry("export-sessions", resource, &details);
        let written = async { self.edge.store.audit(entry)?.await.map(drop) };
        kept(written).await.map_err(|error: StoreError| HistoryError::from(error).into())
    }

    /// The conversations of `reader`, each with its messages, under a name that says when.
    async fn many(self, reader: Reader, agent: Option<&str>) -> Result<Response, ApiError> {
        let name = name::of_many(agent, self.format.extension());
        let writer: Box<dyn Writer> = match self.format {
            Format::Csv => Box::new(csv::Csv::default()),
            Format::Xlsx => {
                let Self { edge, reading, format, place } = self;
                let bytes = xlsx::file(&edge, &reading, reader).await?;
                drop(place);
                return Ok(file(format, &name, Body::from(bytes)));
            }
            Format::Json | Format::Txt => Box::new(json::Many::default()),
        };
        self.answer(reader, writer, name).await
    }

    /// Answers once there is a first piece: what fails before is told as an error.
    async fn answer(self, reader: Reader, writer: Box<dyn Writer>, name: String) -> Result<Response, ApiError> {
        let Self { edge, reading, format, place } = self;
        let (limits, notice) = ((reader.by(), edge.settings.client_stall), writer.broken_off());
        let body = pieces::body_of(UnderWay { edge, reading, reader, writer, place }, limits, notice).await?;
        Ok(file(format, &name, body))
    }
}

fn file(format: Format, name: &str, body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, format.media_type()), (header::CONTENT_DISPOSITION, name::attachment(name))];
    (headers, body).into_response()
}

/// What is left of an export.
struct UnderWay {
    edge: Edge,
    reading: Reading,
    reader: Reader,
    writer: Box<dyn Writer>,
    #[expect(dead_code, reason = "held, not read")]
    place: OwnedSemaphorePermit,
}

impl Source for UnderWay {
    async fn piece(&mut self) -> Result<Piece, ApiError> {
        let share = || async { self.edge.share_of_bodies(Some(MAKING_BYTES)) };
        let share = again(self.reader.patience(), share).await?;
        let mut out = String::new();
        while out.len() < PIECE_BYTES {
            let Some(part) = self.reader.next(&self.edge, &self.reading).await? else {
                self.writer.end(&mut out);
                return Ok(Piece::new(out, share, true));
            };
            let Part { session, is_first, turns, is_last } = &part;
            if *is_first {
                self.writer.session(session, &mut out);
            }
            for turn in turns {
                self.writer.turn(session, turn, &mut out);
            }
            if *is_last {
                self.writer.session_end(session, &mut out);
            }
        }
        Ok(Piece::new(out, share, false))
    }
}

/// A question's text; nothing where an older version wrote it in another form.
fn asked(turn: &Said) -> String {
    let question = serde_json::from_str::<crate::protocol::chat::Message>(&turn.question);
    question.map(|question| question.text()).unwrap_or_default()
}

fn state(turn: &Said) -> &'static str {
    use crate::store::TurnState;
    match turn.state {
        TurnState::Running => "running",
        TurnState::Complete => "complete",
        TurnState::Failed => "failed",
        TurnState::Interrupted => "interrupted",
    }
}

/// When the answer had come; a turn that runs has none yet.
fn answered_at(turn: &Said) -> String {
    turn.ended_at.unwrap_or(turn.asked_at).to_string()
}
