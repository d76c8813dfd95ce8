//! `/api/admin/users`: the accounts, for administrators.

use super::{PageQuery, listed};
use crate::accounts::{Actor, random_password};
use crate::base::{Secret, UnixMillis};
use crate::http::credentials::Credentials;
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::write::{Write, kept};
use crate::protocol::account::{User, UserRole, UserStatus};
use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

const SEARCH_BYTES_MAX: usize = 128;

#[derive(Deserialize)]
pub(in crate::http) struct Asked {
    search: Option<String>,
    #[serde(flatten)]
    page: PageQuery,
}

pub(in crate::http) async fn list(
    State(edge): State<Edge>,
    credentials: Credentials,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    credentials.admin(&edge).await?;
    let Query(asked) = asked.map_err(|_| error::validation("query", "must have each name once"))?;
    let (page, number) = asked.page.check()?;
    let search = asked.search.filter(|search| !search.is_empty());
    if search.as_ref().is_some_and(|search| search.len() > SEARCH_BYTES_MAX) {
        return Err(error::validation("search", "must have 128 bytes at most"));
    }
    let (users, total) = edge.accounts.list(search, (page.offset, page.limit)).await?;
    Ok(Json(listed(&users.iter().map(shown).collect::<Vec<_>>(), number, page, total)))
}

fn shown(user: &User) -> Value {
    json!({
        "id": user.id, "username": user.username.as_str(), "email": user.email, "role": user.role.as_str(),
        "status": user.status.as_str(), "created_at": user.created_at.to_string(),
        "last_login_at": user.last_login_at.map(|at: UnixMillis| at.to_string()),
        "last_login_ip": user.last_login_ip,
    })
}

fn one(user: &User) -> Json<Value> {
    Json(json!({ "code": "OK", "message": "ok", "data": shown(user) }))
}

#[derive(Deserialize)]
struct New {
    username: String,
    /// One that nobody guesses, where none is given: the answer has it, once.
    password: Option<String>,
    email: Option<String>,
    role: Option<String>,
}

pub(in crate::http) async fn add(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let body = write.release();
    let actor = credentials.acting_admin(&edge).await?;
    let New { username, password, email, role } = body.parse()?;
    let role = role.map_or(Ok(UserRole::User), |role| known_role(&role))?;
    let (password, is_made) = given_or_random(password);
    let user = kept(edge.accounts.add((&username, &password), (email.as_deref(), role), &actor)).await?;
    Ok((StatusCode::CREATED, with_password(&user, is_made.then_some(&password))))
}

fn given_or_random(password: Option<String>) -> (Secret, bool) {
    match password.filter(|password| !password.is_empty()) {
        Some(password) => (Secret::new(password), false),
        None => (random_password(), true),
    }
}

fn with_password(user: &User, password: Option<&Secret>) -> Json<Value> {
    let Json(mut shown) = one(user);
    if let Some(password) = password {
        shown["data"]["password"] = password.expose().into();
    }
    Json(shown)
}

#[derive(Deserialize)]
struct Change {
    role: Option<String>,
    status: Option<String>,
    email: Option<String>,
}

pub(in crate::http) async fn change(
    State(edge): State<Edge>,
    credentials: Credentials,
    id: Result<Path<i64>, PathRejection>,
    write: Write,
) -> Result<Json<Value>, ApiError> {
    let body = write.release();
    let (actor, id) = (credentials.acting_admin(&edge).await?, known_id(id)?);
    let Change { role, status, email } = body.parse()?;
    let role = role.map(|role| known_role(&role)).transpose()?;
    let status = status.map(|status| {
        UserStatus::parse(&status).ok_or_else(|| error::validation("status", "must be active or inactive"))
    });
    let user = kept(edge.accounts.set(id, (role, status.transpose()?), email.as_deref(), &actor)).await?;
    Ok(one(&user))
}

pub(in crate::http) async fn remove(
    State(edge): State<Edge>,
    credentials: Credentials,
    id: Result<Path<i64>, PathRejection>,
    write: Write,
) -> Result<Json<Value>, ApiError> {
    drop(write.release());
    let (actor, id) = (credentials.acting_admin(&edge).await?, known_id(id)?);
    if matches!(&actor, Actor::Admin(login, _) if login.user.id == id) {
        return Err(error::validation("id", "must be another's: nobody removes themselves"));
    }
    Ok(one(&kept(edge.accounts.remove(id, &actor)).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reset {
    password: Option<String>,
    new_password: Option<String>,
}

pub(in crate::http) async fn reset_password(
    State(edge): State<Edge>,
    credentials: Credentials,
    id: Result<Path<i64>, PathRejection>,
    write: Write,
) -> Result<Json<Value>, ApiError> {
    let body = write.release();
    let (actor, id) = (credentials.acting_admin(&edge).await?, known_id(id)?);
    let given = if body.0.is_empty() {
        None
    } else {
        let Reset { password, new_password } = body.parse()?;
        new_password.or(password)
    };
    let (password, is_made) = given_or_random(given);
    let user = kept(edge.accounts.reset_password(id, &password, &actor)).await?;
    Ok(with_password(&user, is_made.then_some(&password)))
}

fn known_id(id: Result<Path<i64>, PathRejection>) -> Result<i64, ApiError> {
    id.map(|Path(id)| id).map_err(|_| error::validation("id", "must be a user's number"))
}

fn known_role(role: &str) -> Result<UserRole, ApiError> {
    UserRole::parse(role).ok_or_else(|| error::validation("role", "must be user or admin"))
}
