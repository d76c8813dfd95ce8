//! What is kept of a user: given to them, or erased; and how long the audit is kept.

use super::service::{Accounts, AccountsError, Actor};
use crate::base::{Owner, UnixMillis};
use crate::clock;
use crate::protocol::account::User;
use crate::store::{
    AttachmentRow, AuditRow, Belonging, Erasing, SessionRow, Snapshot, Store, StoreError, Trimmed, TurnState,
};
use serde_json::{Value, json};
use std::time::Duration;

impl Accounts {
    /// Removes a user at once, with their logins, and marks what they have left to be removed; the user, where there still
    /// was one. Rows of the audit keep their name: they could not be changed unseen.
    pub(crate) async fn erase(&self, id: i64, actor: &Actor) -> Result<Option<User>, AccountsError> {
        let entry = actor.entry("erase-user", ("user", id), &json!({}));
        match self.changed(self.store.user_erase(id, entry)?).await? {
            Erasing::Begun(user) => Ok(user),
            Erasing::Unknown => Err(AccountsError::Unknown),
            Erasing::LastAdmin => Err(AccountsError::LastAdmin),
        }
    }

    /// Who is being erased, and since when.
    pub(crate) async fn erasures(&self) -> Result<Vec<(i64, UnixMillis)>, AccountsError> {
        Ok(self.store.erasures().await?)
    }

    /// Removes some files of a user who is being erased; how many. None means that there are none.
    pub(crate) async fn erase_files(&self, id: i64) -> Result<usize, AccountsError> {
        if !self.store.has_files(id).await? {
            return Ok(0);
        }
        Ok(self.store.erase_files(id)?.await?.value)
    }

    /// Nothing is left of a user who is being erased.
    pub(crate) async fn end_erasure(&self, id: i64) -> Result<(), AccountsError> {
        let entry = Actor::Service.entry("erased-user", ("user", id), &json!({}));
        self.store.erasure_end(id, entry)?.await?;
        Ok(())
    }

    /// One step towards an audit without rows that are older than `keep`.
    pub(crate) async fn trim_audit(&self, keep: Duration) -> Result<Trimmed, AccountsError> {
        let entry = Actor::Service.entry("trim-audit", ("audit", ""), &json!({}));
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let trimmed = self.store.audit_trim((clock::unix_millis(), keep_ms), entry)?.await?.value;
        if let Some(row) = trimmed.broken_at {
            tracing::error!(
                audit.row = row,
                "a row of the audit was changed behind its back: no more of it is removed"
            );
        }
        Ok(trimmed)
    }

    /// The user of that number, as this node has them.
    pub(crate) async fn seen(&self, id: i64) -> Result<Snapshot<Option<User>>, StoreError> {
        self.store.user_seen(id).await
    }

    /// All that is stored of a user, to be read piece by piece, once it is written down who has asked for it.
    pub(crate) async fn export(&self, user: User, actor: &Actor) -> Result<Export, AccountsError> {
        self.store.audit(actor.entry("export-user", ("user", user.id), &json!({})))?.await?;
        Ok(Export { store: self.store.clone(), user, at: At::Head })
    }
}

/// All that is stored of a user, as one JSON object in pieces of bounded size, each from a read of its own. Never the hash
/// of a password.
pub(crate) struct Export {
    store: Store,
    user: User,
    at: At,
}

/// Where the reading is.
enum At {
    Head,
    /// Before the first session behind `after`.
    Session {
        after: i64,
    },
    /// In a session.
    Turns {
        session: i64,
        after: i64,
    },
    /// Behind that file.
    Files {
        after: i64,
    },
    /// Behind that row of the audit.
    Audit {
        after: i64,
    },
    Over,
}

impl Export {
    /// Whose it is.
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// Whether the last piece was given.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.at, At::Over)
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, StoreError> {
        let piece = match self.at {
            At::Head => {
                self.at = At::Session { after: 0 };
                let (at, user) = (clock::timestamp(), account(&self.user));
                format!("{{\"exportedAt\":\"{at}\",\"user\":{user},\"sessions\":[")
            }
            At::Session { after } => self.session(after).await?,
            At::Turns { session, after } => {
                let turns = self.store.turns_after(session, after).await?;
                match turns.last() {
                    None => {
                        self.at = At::Session { after: session };
                        "]}".to_owned()
                    }
                    Some(last) => {
                        self.at = At::Turns { session, after: last.place };
                        joined(after > 0, turns.iter().map(said))
                    }
                }
            }
            At::Files { after } => {
                let files = self.store.attachments_after(&Owner::user(self.user.id), after).await?;
                match files.last() {
                    None => {
                        self.at = At::Audit { after: 0 };
                        "],\"audit\":[".to_owned()
                    }
                    Some(last) => {
                        self.at = At::Files { after: last.id };
                        joined(after > 0, files.iter().map(kept))
                    }
                }
            }
            At::Audit { after } => {
                let rows = self.store.audit_after(self.user.id, after).await?;
                match rows.last() {
                    None => {
                        self.at = At::Over;
                        "]}\n".to_owned()
                    }
                    Some(last) => {
                        self.at = At::Audit { after: last.id };
                        joined(after > 0, rows.iter().map(done))
                    }
                }
            }
            At::Over => return Ok(None),
        };
        Ok(Some(piece))
    }

    async fn session(&mut self, after: i64) -> Result<String, StoreError> {
        let Some(session) = self.store.session_after(&Owner::user(self.user.id), after).await? else {
            self.at = At::Files { after: 0 };
            return Ok("],\"files\":[".to_owned());
        };
        self.at = At::Turns { session: session.id.row, after: 0 };
        let mut text = joined(after > 0, [conversation(&session)].into_iter());
        text.pop(); // It goes on with its turns.
        text.push_str(",\"turns\":[");
        Ok(text)
    }
}

/// Items of a list, of which there may have been some before.
fn joined(is_behind: bool, items: impl Iterator<Item = Value>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    let comma = if is_behind && !items.is_empty() { "," } else { "" };
    format!("{comma}{}", items.join(","))
}

fn account(user: &User) -> Value {
    json!({
        "id": user.id, "username": user.username.as_str(), "email": user.email, "role": user.role.as_str(),
        "status": user.status.as_str(), "createdAt": user.created_at.to_string(),
        "updatedAt": user.updated_at.to_string(),
        "lastLoginAt": user.last_login_at.map(|at| at.to_string()), "lastLoginIp": user.last_login_ip,
    })
}

fn conversation(session: &SessionRow) -> Value {
    json!({
        "id": session.id.to_string(), "agentId": session.agent_id, "chatId": session.chat, "title": session.title,
        "archived": session.is_archived, "createdAt": session.id.began.to_string(),
        "lastAskedAt": session.asked_at.to_string(), "updatedAt": session.updated_at.to_string(),
    })
}

fn said(Belonging { turn, words, .. }: &Belonging) -> Value {
    let state = match turn.state {
        TurnState::Running => "running",
        TurnState::Complete => "complete",
        TurnState::Failed => "failed",
        TurnState::Interrupted => "interrupted",
    };
    let feedback = turn.feedback.map(|verdict| json!({ "verdict": verdict.as_str(), "words": words }));
    let usage = turn
        .usage
        .map(|usage| json!({ "promptTokens": usage.prompt_tokens, "completionTokens": usage.completion_tokens }));
    json!({
        "id": turn.label, "state": state, "question": serde_json::from_str::<Value>(&turn.question).unwrap_or_default(),
        "answer": turn.answer, "reasoning": turn.reasoning, "failure": turn.failure, "usage": usage,
        "askedAt": turn.asked_at.to_string(), "endedAt": turn.ended_at.map(|at| at.to_string()),
        "feedback": feedback,
    })
}

/// Whoever is given this may read the file by its name.
fn kept(file: &AttachmentRow) -> Value {
    json!({
        "name": file.name, "originalName": file.original_name, "size": file.size, "mimeType": file.media_type,
        "createdAt": file.created_at.to_string(),
    })
}

fn done(row: &AuditRow) -> Value {
    json!({
        "id": row.id, "at": row.at.to_string(), "userId": row.user_id, "username": row.username, "action": row.action,
        "resourceType": row.resource_type, "resourceId": row.resource_id,
        "details": serde_json::from_str::<Value>(&row.details).unwrap_or_default(), "ipAddress": row.ip_address,
        "userAgent": row.user_agent, "status": if row.is_failure { "failure" } else { "success" }, "error": row.error,
    })
}
