//! `llmchat user` and `llmchat audit`, over the control socket.

use super::control::Control;
use super::error::{self, ApiError};
use crate::accounts::{Actor, Export, random_password};
use crate::base::{Secret, UnixMillis};
use crate::protocol::account::{User, UserRole, UserStatus};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

/// Of one list: an operator who has more looks for them in the page.
const LISTED_MAX: u32 = 10_000;

pub(super) fn routes(control: Control) -> Router {
    Router::new()
        .route("/users", get(list))
        .route("/users/change", post(change))
        .route("/users/export", get(export))
        .route("/audit/verify", post(verify))
        .with_state(control)
}

/// What is to be done with a user, who is named.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do")]
pub(crate) enum Deed {
    Add { name: String, admin: bool, email: Option<String>, password: Option<String> },
    ResetPassword { name: String, password: Option<String> },
    Enable { name: String },
    Disable { name: String },
    Remove { name: String },
    Erase { name: String },
}

impl Control {
    pub(crate) async fn users(&self) -> Result<Value, ApiError> {
        let (users, total) = self.accounts().list(None, (0, LISTED_MAX)).await?;
        Ok(json!({ "users": users.iter().map(shown).collect::<Vec<_>>(), "total": total }))
    }

    /// Does it, in an operator's name.
    pub(crate) async fn do_with_user(&self, deed: Deed) -> Result<Value, ApiError> {
        let (accounts, actor) = (self.accounts(), Actor::Operator);
        let given = |password: Option<String>| match password {
            Some(password) => (Secret::new(password), false),
            None => (random_password(), true),
        };
        let (user, made) = match deed {
            Deed::Add { name, admin, email, password } => {
                let role = if admin { UserRole::Admin } else { UserRole::User };
                let (password, is_made) = given(password);
                let user = accounts.add((&name, &password), (email.as_deref(), role), &actor).await?;
                (user, is_made.then_some(password))
            }
            Deed::ResetPassword { name, password } => {
                let id = accounts.find(&name).await?.id;
                let (password, is_made) = given(password);
                (accounts.reset_password(id, &password, &actor).await?, is_made.then_some(password))
            }
            Deed::Enable { name } => (self.switch(&name, UserStatus::Active).await?, None),
            Deed::Disable { name } => (self.switch(&name, UserStatus::Inactive).await?, None),
            Deed::Remove { name } => {
                let id = accounts.find(&name).await?.id;
                (accounts.remove(id, &actor).await?, None)
            }
            Deed::Erase { name } => {
                let user = accounts.find(&name).await?;
                accounts.erase(user.id, &actor).await?;
                (user, None)
            }
        };
        Ok(json!({ "user": shown(&user), "password": made.as_ref().map(Secret::expose) }))
    }

    async fn switch(&self, name: &str, status: UserStatus) -> Result<User, ApiError> {
        let id = self.accounts().find(name).await?.id;
        Ok(self.accounts().set(id, (None, Some(status)), None, &Actor::Operator).await?)
    }

    /// All that is stored of a user, who is named. That it was asked for is in the audit.
    pub(crate) async fn export_user(&self, name: &str) -> Result<Export, ApiError> {
        let user = self.accounts().find(name).await?;
        Ok(self.accounts().export(user, &Actor::Operator).await?)
    }

    /// Whether the audit is as it was written.
    pub(crate) async fn verify_audit(&self) -> Result<Value, ApiError> {
        let check = self.accounts().check_audit().await?;
        Ok(json!({ "rows": check.rows, "from": check.from, "brokenAt": check.broken_at }))
    }
}

fn shown(user: &User) -> Value {
    json!({
        "id": user.id, "username": user.username.as_str(), "email": user.email, "role": user.role.as_str(),
        "status": user.status.as_str(), "createdAt": user.created_at.to_string(),
        "lastLoginAt": user.last_login_at.map(|at: UnixMillis| at.to_string()),
    })
}

async fn list(State(control): State<Control>) -> Result<Json<Value>, ApiError> {
    Ok(Json(control.users().await?))
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

async fn export(State(control): State<Control>, Query(named): Query<Named>) -> Result<Response, ApiError> {
    // It is written down, which the primary alone can.
    control.refuse_standby()?;
    Ok(super::api::user_data::answer(control.export_user(&named.name).await?))
}

async fn change(State(control): State<Control>, text: String) -> Result<Json<Value>, ApiError> {
    control.refuse_standby()?;
    let deed = serde_json::from_str(&text).map_err(|_| error::validation("body", "is no deed that is known"))?;
    Ok(Json(control.do_with_user(deed).await?))
}

async fn verify(State(control): State<Control>) -> Result<Json<Value>, ApiError> {
    Ok(Json(control.verify_audit().await?))
}
