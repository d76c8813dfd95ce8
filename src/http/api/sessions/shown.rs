//! Conversations as they are shown.

use crate::http::api::{Pagination, envelope};
use crate::http::edge::Edge;
use crate::http::error::ApiError;
use crate::http::levels::Reading;
use crate::sessions::{Batched, HistoryError};
use crate::store::{Filter, SessionRow, SessionStats};
use jiff::ToSpan;
use jiff::civil::date;
use serde_json::{Value, json};
use std::collections::HashMap;

fn status(session: &SessionRow) -> &'static str {
    if session.is_archived { "archived" } else { "active" }
}

/// `null` where nothing is said in it.
fn last_message(session: &SessionRow) -> Option<String> {
    (session.turns > 0).then(|| session.asked_at.to_string())
}

/// As its owner sees it, with what was spent on it: tokens, and milliseconds.
pub(super) fn own(session: &SessionRow) -> Value {
    json!({
        "id": session.id.to_string(),
        "userId": session.owner,
        "agentId": session.agent_id,
        "chatId": session.chat,
        "title": session.title,
        "messageCount": 2 * session.turns,
        "tokenUsage": session.spent.tokens,
        "avgResponseTime": session.spent.answer_ms_mean,
        "status": status(session),
        "createdAt": session.id.began.to_string(),
        "updatedAt": session.updated_at.to_string(),
        "lastMessageAt": last_message(session),
    })
}

/// As administrators see it.
pub(in crate::http::api) fn whole(session: &SessionRow) -> Value {
    let mut shown = json!({
        "id": session.id.to_string(),
        "userId": session.owner,
        "agentId": session.agent_id,
        "title": session.title,
        "status": status(session),
        "messageCount": 2 * session.turns,
        "tags": [],
        "createdAt": session.id.began.to_string(),
        "updatedAt": session.updated_at.to_string(),
    });
    if let Some(at) = last_message(session) {
        shown["lastMessageAt"] = at.into();
    }
    shown["metadata"] = json!({ "chatId": session.chat });
    shown
}

/// Envelope E1 of a page of a list.
pub(super) fn paged(data: Vec<Value>, pagination: Pagination) -> Value {
    let mut body = envelope("OK", data);
    body.metadata.pagination = Some(pagination);
    json!(body)
}

/// The conversations of `filter` in numbers.
pub(super) async fn stats(edge: &Edge, reading: &Reading, filter: Filter) -> Result<Value, ApiError> {
    let zone = edge.analytics.zone().clone();
    // One owner's are few.
    let place = if filter.owner.is_none() { Some(edge.wide_read().await?) } else { None };
    let SessionStats { sessions, archived, turns, by_day, by_agent } =
        reading.seen(edge, edge.history.stats(filter, zone)).await?;
    drop(place);
    let roster = reading.roster(edge).await?;
    let past = if by_agent.iter().all(|of| roster.contains_key(&of.agent_id)) {
        HashMap::new()
    } else {
        reading.seen(edge, edge.analytics.past_agents()).await?
    };
    let messages = 2 * turns;
    let by_date = by_day.into_iter().filter_map(|(day, count)| {
        let day = date(1970, 1, 1).checked_add(i32::try_from(day).ok()?.days()).ok()?;
        Some(json!({ "date": day.to_string(), "count": count }))
    });
    let by_agent = by_agent.into_iter().map(|of| {
        // Of one that was removed long ago only its id may be left.
        let name = roster.get(&of.agent_id).map(|agent| agent.profile.name.clone());
        let name = name.or_else(|| past.get(&of.agent_id).map(|past| past.name.clone()));
        let name = name.unwrap_or_else(|| of.agent_id.clone());
        json!({
            "agentId": of.agent_id, "agentName": name, "sessionCount": of.sessions, "messageCount": 2 * of.turns,
        })
    });
    Ok(json!({
        "totalSessions": sessions,
        "activeSessions": sessions.saturating_sub(archived),
        "archivedSessions": archived,
        "totalMessages": messages,
        "averageMessagesPerSession": ratio(messages, sessions),
        "sessionsByDate": by_date.collect::<Vec<_>>(),
        "sessionsByAgent": by_agent.collect::<Vec<_>>(),
        "topTags": [],
    }))
}

/// To two places; nothing of nothing is 0.
fn ratio(part: u64, of: u64) -> f64 {
    let hundredths = part.saturating_mul(100).checked_div(of).unwrap_or_default();
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

/// What came of a batch.
pub(super) fn batch(batched: &Batched) -> Value {
    let mut shown = json!({ "success": batched.done, "failed": batched.failed.len() });
    if !batched.failed.is_empty() {
        let errors = batched.failed.iter().map(|(id, error)| {
            if let HistoryError::Store(cause) = error {
                tracing::warn!(error = %crate::base::Chain(cause), "a change to a chat is not stored");
            }
            json!({ "sessionId": id.to_string(), "error": error.to_string() })
        });
        shown["errors"] = errors.collect();
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::ratio;

    #[test]
    fn a_mean_has_two_places_and_of_nothing_there_is_none() {
        let shown = [ratio(0, 0), ratio(10, 4), ratio(10, 3)].map(|ratio| ratio.to_string());
        assert_eq!(shown, ["0", "2.5", "3.33"]);
    }
}
