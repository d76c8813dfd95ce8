//! `/api/auth`: logging in and out, tokens, and what users may change of themselves.

use super::plain;
use crate::accounts::{AccountsError, LoggedIn};
use crate::base::{Secret, UnixMillis};
use crate::clock;
use crate::http::credentials::{Credentials, session_cookie};
use crate::http::docs::{self, E2, Fails};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::write::{Write, kept};
use crate::limiter;
use crate::protocol::account::User;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv6Addr};
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
struct Login {
    #[schema(min_length = 1)]
    username: String,
    #[schema(min_length = 1)]
    password: String,
}

/// Logs in. The token also comes in the cookie `llmchat_session`.
#[utoipa::path(
    post, path = "/api/auth/login", tag = "auth", request_body = Login, security(()),
    responses(
        (status = 200, description = "Logged in", body = E2<docs::Tokens>),
        Fails<(docs::Writes, docs::NoEntry, docs::Locked)>,
    ),
)]
pub(in crate::http) async fn log_in(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    let Login { username, password } = write.release().parse()?;
    for (field, text) in [("username", &username), ("password", &password)] {
        if text.is_empty() {
            return Err(error::validation(field, "must not be empty"));
        }
    }
    let attempt = attempt(&credentials, &username);
    edge.limiter.login_allowed(attempt, clock::now()).map_err(|refused| not_yet(&refused))?;
    let tried = kept(edge.accounts.log_in(&username, &Secret::new(password), credentials.from)).await;
    match &tried {
        Ok(_) => edge.limiter.login_succeeded(attempt, clock::now()),
        Err(AccountsError::WrongCredentials { not_before }) => {
            edge.limiter.login_failed(attempt, clock::now());
            // It counts by now, also for whoever does not wait.
            tokio::time::sleep_until((*not_before).into()).await;
        }
        Err(_) => edge.limiter.login_abandoned(attempt, clock::now()),
    }
    Ok(tokens(&edge, StatusCode::OK, &tried?))
}

fn attempt(credentials: &Credentials, username: &str) -> limiter::Login {
    limiter::Login::new(credentials.address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), username)
}

/// One user is locked for whoever is at that address; or the address, for all of them; or many try there at this moment.
fn not_yet(refused: &limiter::Refused) -> ApiError {
    let too_many = |message: &str| {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", message).after(refused.retry_after)
    };
    match refused.scope {
        limiter::Scope::Address => too_many("too many logins from your address have failed; try again later"),
        limiter::Scope::Tries => too_many("many log in from your address at this moment; try again"),
        limiter::Scope::Api | limiter::Scope::Chat | limiter::Scope::Login | limiter::Scope::Agent => {
            error::locked(refused.retry_after)
        }
    }
}

#[derive(Deserialize, ToSchema)]
struct Registration {
    /// Without control characters and blanks at its ends.
    #[schema(min_length = 1, max_length = 64)]
    username: String,
    /// 8 or more characters, with an upper-case and a lower-case letter, a digit and a special character.
    #[schema(min_length = 8, max_length = 256)]
    password: String,
    #[schema(max_length = 254)]
    email: Option<String>,
}

/// Makes an account, where anybody may, and logs in.
#[utoipa::path(
    post, path = "/api/auth/register", tag = "auth", request_body = Registration, security(()),
    responses(
        (status = 201, description = "Logged in", body = E2<docs::Tokens>),
        Fails<(docs::Writes, docs::NoRegistration, docs::UsernameTaken, docs::WeakPassword, docs::NoEntry)>,
    ),
)]
pub(in crate::http) async fn register(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    let Registration { username, password, email } = write.release().parse()?;
    let password = Secret::new(password);
    let made = kept(edge.accounts.register((&username, &password), email.as_deref(), credentials.from)).await?;
    Ok(tokens(&edge, StatusCode::CREATED, &made))
}

/// A new login, for the page and, in a cookie, for what it asks without a header.
fn tokens(edge: &Edge, status: StatusCode, logged_in: &LoggedIn) -> Response {
    let LoggedIn { access, refresh, expires_in, user } = logged_in;
    let data = json!({
        "token": access.expose(), "refreshToken": refresh.expose(), "user": short(user), "expiresIn": expires_in,
    });
    let cookie = session_cookie(Some((access.expose(), *expires_in)), edge.settings.secure);
    (status, [(header::SET_COOKIE, cookie)], Json(plain(&data))).into_response()
}

fn short(user: &User) -> Value {
    json!({ "id": user.id, "username": user.username.as_str(), "email": user.email, "role": user.role.as_str() })
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: Option<String>,
}

/// New tokens for a refresh token, which is worth nothing from then on. It may also come as the bearer token.
#[utoipa::path(
    post, path = "/api/auth/refresh", tag = "auth", request_body = Option<Refresh>, security((), ("bearer" = [])),
    responses(
        (status = 200, description = "As a login", body = E2<docs::Tokens>),
        Fails<(docs::Writes, docs::NoRefresh)>,
    ),
)]
pub(in crate::http) async fn refresh(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    let body = write.release();
    let given = if body.0.is_empty() { None } else { body.parse::<Refresh>()?.refresh_token };
    let token = given.or_else(|| credentials.bearer().map(ToOwned::to_owned));
    let token = token.ok_or_else(|| error::validation("refreshToken", "must be given"))?;
    let renewed = kept(edge.accounts.refresh(&token, &credentials.from)).await?;
    Ok(tokens(&edge, StatusCode::OK, &renewed))
}

/// Ends the login, and all of its tokens.
#[utoipa::path(
    post, path = "/api/auth/logout", tag = "auth",
    responses((status = 200, description = "Logged out", body = E2<docs::Nothing>), Fails<docs::UserWrites>),
)]
pub(in crate::http) async fn log_out(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Response, ApiError> {
    drop(write.release());
    let login = credentials.user(&edge).await?;
    kept(edge.accounts.log_out(&login, &credentials.from)).await?;
    let cookie = session_cookie(None, edge.settings.secure);
    Ok(([(header::SET_COOKIE, cookie)], Json(plain(&Value::Null))).into_response())
}

/// Whether the token still holds, and whose it is.
#[utoipa::path(
    get, path = "/api/auth/verify", tag = "auth",
    responses((status = 200, description = "It does", body = E2<docs::Verified>), Fails<docs::UserReads>),
)]
pub(in crate::http) async fn verify(
    State(edge): State<Edge>,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    let login = credentials.user(&edge).await?;
    Ok(Json(plain(&json!({ "valid": true, "user": short(&login.user) }))))
}

/// As the same by GET.
#[utoipa::path(
    post, path = "/api/auth/verify", tag = "auth",
    responses((status = 200, description = "It does", body = E2<docs::Verified>), Fails<docs::UserWrites>),
)]
// Where the primary is, as everything that is posted.
pub(in crate::http) async fn verify_posted(
    state: State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Json<Value>, ApiError> {
    let verified = verify(state, credentials).await;
    drop(write); // Held until here: nobody else has led meanwhile.
    verified
}

#[derive(Deserialize, ToSchema)]
struct ChangePassword {
    #[serde(rename = "currentPassword")]
    current: Option<String>,
    /// As `currentPassword`, which wins.
    #[serde(rename = "oldPassword")]
    old: Option<String>,
    /// 8 or more characters, with an upper-case and a lower-case letter, a digit and a special character.
    #[serde(rename = "newPassword")]
    new: String,
}

/// Takes another password, and ends the user's other logins.
#[utoipa::path(
    post, path = "/api/auth/change-password", tag = "auth", request_body = ChangePassword,
    responses(
        (status = 200, description = "It is in force", body = E2<docs::Nothing>),
        Fails<(docs::UserWrites, docs::WrongOldPassword, docs::WeakPassword, docs::Locked, docs::UnknownUser)>,
    ),
)]
pub(in crate::http) async fn change_password(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Json<Value>, ApiError> {
    let body = write.release();
    let login = credentials.user(&edge).await?;
    let ChangePassword { current, old, new } = body.parse()?;
    let old = current.or(old).ok_or_else(|| error::validation("currentPassword", "must be given"))?;
    let (old, new) = (Secret::new(old), Secret::new(new));
    // Whoever has somebody's open page is not to guess their password at it.
    let attempt = attempt(&credentials, login.user.username.as_str());
    edge.limiter.login_allowed(attempt, clock::now()).map_err(|refused| not_yet(&refused))?;
    let changed = kept(edge.accounts.change_password(&login, (&old, &new), credentials.from)).await;
    match &changed {
        Err(AccountsError::WrongOldPassword) => edge.limiter.login_failed(attempt, clock::now()),
        _ => edge.limiter.login_abandoned(attempt, clock::now()),
    }
    changed?;
    Ok(Json(plain(&Value::Null)))
}

/// What is known of oneself.
#[utoipa::path(
    get, path = "/api/auth/profile", tag = "auth",
    responses((status = 200, description = "Oneself", body = E2<docs::UserProfile>), Fails<docs::UserReads>),
)]
pub(in crate::http) async fn profile(
    State(edge): State<Edge>,
    credentials: Credentials,
) -> Result<Json<Value>, ApiError> {
    let login = credentials.user(&edge).await?;
    Ok(Json(plain(&whole(&login.user))))
}

#[derive(Deserialize, ToSchema)]
#[schema(as = ProfileChange)]
struct Profile {
    /// Empty takes it away.
    #[schema(max_length = 254)]
    email: Option<String>,
}

/// Changes one's address for mail.
#[utoipa::path(
    put, path = "/api/auth/profile", tag = "auth", request_body = Profile,
    responses(
        (status = 200, description = "As it is now", body = E2<docs::UserProfile>),
        Fails<(docs::UserWrites, docs::UnknownUser)>,
    ),
)]
pub(in crate::http) async fn set_profile(
    State(edge): State<Edge>,
    credentials: Credentials,
    write: Write,
) -> Result<Json<Value>, ApiError> {
    let body = write.release();
    let login = credentials.user(&edge).await?;
    let Profile { email } = body.parse()?;
    let user = match email {
        Some(email) => kept(edge.accounts.set_email(&login, Some(&email), credentials.from)).await?,
        None => login.user.clone(),
    };
    Ok(Json(plain(&whole(&user))))
}

fn whole(user: &User) -> Value {
    let mut shown = short(user);
    shown["createdAt"] = user.created_at.to_string().into();
    shown["lastLoginAt"] = user.last_login_at.map(|at: UnixMillis| at.to_string()).into();
    shown
}
