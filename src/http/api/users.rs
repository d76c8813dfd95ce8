//! `/api/admin/users`: the accounts, for administrators.

use super::{PageQuery, listed};
use crate::accounts::{Actor, random_password};
use crate::base::{Secret, UnixMillis};
use crate::http::credentials::Credentials;
use crate::http::docs::{self, E3, Fails};
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
use utoipa::{IntoParams, ToSchema};

const SEARCH_BYTES_MAX: usize = 128;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Asked {
    /// A part of the name or the address; 128 bytes at most.
    #[param(value_type = String, required = false, max_length = 128)]
    search: Option<String>,
    #[param(ignore)]
    #[serde(flatten)]
    page: PageQuery,
}

/// The users, by name.
#[utoipa::path(
    get, path = "/api/admin/users", tag = "admin", params(Asked, PageQuery),
    responses((status = 200, description = "A page", body = E3<Vec<docs::User>>), Fails<docs::AdminReads>),
)]
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

#[derive(Deserialize, ToSchema)]
#[schema(as = NewUser)]
struct New {
    /// Without control characters and blanks at its ends.
    #[schema(min_length = 1, max_length = 64)]
    username: String,
    /// One that nobody guesses, where none is given: the answer has it, once.
    password: Option<String>,
    /// Such as `name@example.com`; an empty one is none.
    #[schema(max_length = 254)]
    email: Option<String>,
    #[schema(value_type = Option<docs::Role>)]
    role: Option<String>,
}

/// Adds a user.
#[utoipa::path(
    post, path = "/api/admin/users", tag = "admin", request_body = New,
    responses(
        (status = 201, description = "They are there", body = E3<docs::User>),
        Fails<(docs::AdminWrites, docs::UsernameTaken, docs::WeakPassword)>,
    ),
)]
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

#[derive(Deserialize, ToSchema)]
#[schema(as = UserChange)]
struct Change {
    #[schema(value_type = Option<docs::Role>)]
    role: Option<String>,
    #[schema(value_type = Option<docs::Status>)]
    status: Option<String>,
    /// An empty one takes it away.
    #[schema(max_length = 254)]
    email: Option<String>,
}

/// Changes a user; what is left out stays.
#[utoipa::path(
    put, path = "/api/admin/users/{id}", tag = "admin", params(("id" = i64, Path, description = "The user's number", example = 2)),
    request_body = Change,
    responses(
        (status = 200, description = "As they are now", body = E3<docs::User>),
        Fails<(docs::AdminWrites, docs::UnknownUser, docs::LastAdmin)>,
    ),
)]
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

/// Removes a user, who is not oneself. Their chats stay.
#[utoipa::path(
    delete, path = "/api/admin/users/{id}", tag = "admin", params(("id" = i64, Path, description = "The user's number", example = 2)),
    responses(
        (status = 200, description = "As they were", body = E3<docs::User>),
        Fails<(docs::AdminWrites, docs::UnknownUser, docs::LastAdmin)>,
    ),
)]
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

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PasswordReset)]
struct Reset {
    /// One is made where none is given.
    password: Option<String>,
    /// Wins over `password`.
    new_password: Option<String>,
}

/// Gives a user another password, and ends all of their logins.
#[utoipa::path(
    post, path = "/api/admin/users/{id}/reset-password", tag = "admin",
    params(("id" = i64, Path, description = "The user's number", example = 2)), request_body = Option<Reset>,
    responses(
        (status = 200, description = "With the password, where it was made here", body = E3<docs::User>),
        Fails<(docs::AdminWrites, docs::UnknownUser, docs::WeakPassword)>,
    ),
)]
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
