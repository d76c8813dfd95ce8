//! Users and what is done in their names.

use utoipa::ToSchema;

/// A user, as a login shows them.
#[derive(ToSchema)]
pub(in crate::http) struct LoginUser {
    id: i64,
    username: String,
    #[schema(required = true)]
    email: Option<String>,
    role: Role,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum Role {
    User,
    Admin,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(in crate::http) enum Status {
    Active,
    Inactive,
}

/// A new login.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct Tokens {
    /// For `Authorization: Bearer …`.
    token: String,
    /// For `POST /api/auth/refresh`, once.
    refresh_token: String,
    user: LoginUser,
    /// Seconds.
    expires_in: u32,
}

#[derive(ToSchema)]
pub(in crate::http) struct Verified {
    valid: bool,
    user: LoginUser,
}

#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct UserProfile {
    id: i64,
    username: String,
    #[schema(required = true)]
    email: Option<String>,
    role: Role,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required = true, format = DateTime)]
    last_login_at: Option<String>,
}

/// A user, as an administrator sees them.
#[derive(ToSchema)]
pub(in crate::http) struct User {
    id: i64,
    username: String,
    #[schema(required = true)]
    email: Option<String>,
    role: Role,
    status: Status,
    #[schema(format = DateTime)]
    created_at: String,
    #[schema(required = true, format = DateTime)]
    last_login_at: Option<String>,
    #[schema(required = true)]
    last_login_ip: Option<String>,
    /// Only where it was made here, and only this once.
    #[schema(nullable = false)]
    password: Option<String>,
}

/// Something that was done, or tried.
#[derive(ToSchema)]
pub(in crate::http) struct AuditEntry {
    id: i64,
    #[schema(format = DateTime)]
    timestamp: String,
    #[schema(required = true)]
    user_id: Option<i64>,
    #[schema(required = true)]
    username: Option<String>,
    action: String,
    resource_type: String,
    #[schema(required = true)]
    resource_id: Option<String>,
    #[schema(value_type = Object)]
    details: (),
    #[schema(required = true)]
    ip_address: Option<String>,
    #[schema(required = true)]
    user_agent: Option<String>,
    status: Outcome,
    #[schema(required = true)]
    error_message: Option<String>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Outcome {
    Success,
    Failure,
}
