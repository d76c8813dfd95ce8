//! Who a request says it is from: a bearer token, or the cookie of a login. Nothing is looked up before a handler asks, and
//! by then the request is where it is answered.

use super::edge::Edge;
use super::error::{self, ApiError};
use super::extract::{client_address, cookie, visitor};
use crate::accounts::{AccountsError, Actor, Caller, Remote};
use crate::base::{Chain, Owner};
use crate::store::{Budget, Login, StoreError};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

const COOKIE: &str = "llmchat_session";
/// A browser's own word of where a request comes from.
pub(super) const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
pub(super) const SAME_ORIGIN: &str = "same-origin";

/// Where a token was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Bearer,
    /// In a cookie, which a browser sends by itself.
    Cookie,
    /// In a cookie, with a write that our own page has not made.
    CrossSite,
}

/// What a request says of who it is from.
pub(super) struct Credentials {
    token: Option<(String, Found)>,
    pub(super) address: Option<IpAddr>,
    pub(super) from: Remote,
}

impl FromRequestParts<Edge> for Credentials {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        let address = client_address(parts, &edge.settings.trusted_proxies);
        let user_agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let from = Remote {
            ip_address: address.map(|address| address.to_string()),
            user_agent: user_agent.map(ToOwned::to_owned),
        };
        let host = host(&parts.headers, &parts.uri);
        Ok(Self { token: token(&parts.method, &parts.headers, host.as_deref()), address, from })
    }
}

/// The token of a request, wherever it stands, and whoever has sent it.
pub(super) fn token_of(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| cookie(headers, COOKIE).filter(|token| !token.is_empty()))
}

fn token(method: &Method, headers: &HeaderMap, host: Option<&str>) -> Option<(String, Found)> {
    if let Some(bearer) = bearer(headers) {
        return Some((bearer.to_owned(), Found::Bearer));
    }
    let token = cookie(headers, COOKIE).filter(|token| !token.is_empty())?;
    let is_safe = matches!(*method, Method::GET | Method::HEAD) || is_same_origin(headers, host);
    Some((token.to_owned(), if is_safe { Found::Cookie } else { Found::CrossSite }))
}

/// A front end that has no token sends the words for nothing of its language.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !["", "null", "undefined"].contains(&token)).then_some(token)
}

/// By what name and port the client has reached this service: in HTTP/2 that is part of the request's address.
pub(super) fn host(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let named = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    named.or_else(|| uri.authority().map(Authority::as_str)).map(ToOwned::to_owned)
}

/// Whether a page of ours has sent it, as the browser says; one that says nothing is not believed.
pub(super) fn is_same_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(&SITE) {
        return site == SAME_ORIGIN;
    }
    let origin = text(&header::ORIGIN).and_then(|origin| origin.parse::<Uri>().ok());
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(origin), Some(host)) => origin.as_str().eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// The header that keeps a login's token where no script reads it; without one, that takes it away.
pub(super) fn session_cookie(token: Option<(&str, u32)>, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let (value, seconds) = token.unwrap_or_default();
    let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(cookie).expect("base64 and our own text are good header bytes")
}

fn wanted() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "AUTHENTICATION_REQUIRED", "log in first")
}

impl Credentials {
    /// A bearer token, whatever it is worth.
    pub(super) fn bearer(&self) -> Option<&str> {
        self.token.as_ref().filter(|(_, found)| *found == Found::Bearer).map(|(token, _)| token.as_str())
    }

    /// The login, where a login is wanted.
    pub(super) async fn user(&self, edge: &Edge) -> Result<Arc<Login>, ApiError> {
        match &self.token {
            None => Err(wanted()),
            Some((_, Found::CrossSite)) => {
                let message = "a write under a cookie has to come from a page of this site";
                Err(ApiError::new(StatusCode::FORBIDDEN, "CROSS_SITE", message))
            }
            Some((token, Found::Bearer | Found::Cookie)) => Ok(edge.accounts.login(token, Budget::Normal).await?),
        }
    }

    /// The same, of an administrator.
    pub(super) async fn admin(&self, edge: &Edge) -> Result<Arc<Login>, ApiError> {
        let login = self.user(edge).await?;
        if login.user.is_admin() { Ok(login) } else { Err(error::not_admin()) }
    }

    /// As [`Credentials::admin`], as the one who does something.
    pub(super) async fn acting_admin(&self, edge: &Edge) -> Result<Actor, ApiError> {
        Ok(Actor::Admin(self.admin(edge).await?, self.from.clone()))
    }

    /// The login, where none is needed: a token that is worth nothing is no token.
    pub(super) async fn known(&self, edge: &Edge) -> Result<Option<Arc<Login>>, ApiError> {
        let Some((token, Found::Bearer | Found::Cookie)) = &self.token else { return Ok(None) };
        match edge.accounts.login(token, Budget::Chat).await {
            Ok(login) => Ok(Some(login)),
            Err(AccountsError::Token(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses whom [`Credentials::caller`] will certainly refuse, by what the token says alone: before much is read of them,
    /// and without the store. Whether the token was revoked is not known by then.
    pub(super) fn may_chat(&self, edge: &Edge) -> Result<(), ApiError> {
        let named = match &self.token {
            Some((token, Found::Bearer | Found::Cookie)) => edge.accounts.named(token),
            _ => None,
        };
        if named.is_some() || edge.accounts.lets_visitors_chat() { Ok(()) } else { Err(wanted()) }
    }

    /// Who chats: the user, or else `visitor`, where visitors may.
    pub(super) async fn caller(&self, edge: &Edge, visitor: Caller) -> Result<Caller, ApiError> {
        match self.known(edge).await? {
            Some(login) => Ok(Caller { owner: Owner::user(login.user.id), new_cookie: None }),
            None if edge.accounts.lets_visitors_chat() => Ok(visitor),
            None => Err(wanted()),
        }
    }
}

/// Who asks for what is theirs: a user, or else a visitor. One whom nobody knows yet owns nothing.
pub(super) struct Whose {
    credentials: Credentials,
    visitor: Owner,
}

impl FromRequestParts<Edge> for Whose {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Infallible> {
        let visitor = visitor(&parts.headers, edge).owner;
        Ok(Self { credentials: Credentials::from_request_parts(parts, edge).await?, visitor })
    }
}

impl Whose {
    /// Whether there is a token: of a user, whom [`Whose::owner`] takes for a visitor where this node does not know it.
    pub(super) fn says_user(&self) -> bool {
        self.credentials.token.is_some()
    }

    /// To be asked once the request is where it is answered.
    pub(super) async fn owner(self, edge: &Edge) -> Result<Owner, ApiError> {
        let user = self.credentials.known(edge).await?;
        Ok(user.map_or(self.visitor, |login| Owner::user(login.user.id)))
    }

    /// As [`Whose::owner`], and whether it is an administrator.
    pub(super) async fn owner_and_role(self, edge: &Edge) -> Result<(Owner, bool), ApiError> {
        let user = self.credentials.known(edge).await?;
        Ok(user.map_or((self.visitor, false), |login| (Owner::user(login.user.id), login.user.is_admin())))
    }

    /// As [`Whose::owner`], and the administrator who does something, where it is one.
    pub(super) async fn owner_and_admin(self, edge: &Edge) -> Result<(Owner, Option<Actor>), ApiError> {
        let Some(login) = self.credentials.known(edge).await? else { return Ok((self.visitor, None)) };
        let owner = Owner::user(login.user.id);
        Ok((owner, login.user.is_admin().then_some(Actor::Admin(login, self.credentials.from))))
    }

    /// As [`Whose::owner`], for what administrators may read whosever it is: `None` for them.
    pub(super) async fn owner_or_admin(self, edge: &Edge) -> Result<Option<Owner>, ApiError> {
        match self.credentials.known(edge).await? {
            Some(login) if login.user.is_admin() => Ok(None),
            Some(login) => Ok(Some(Owner::user(login.user.id))),
            None => Ok(Some(self.visitor)),
        }
    }
}

impl From<AccountsError> for ApiError {
    fn from(failed: AccountsError) -> Self {
        use crate::accounts::TokenError;
        let (status, code) = match &failed {
            AccountsError::WrongCredentials { .. } => (StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS"),
            AccountsError::Inactive => (StatusCode::FORBIDDEN, "ACCOUNT_INACTIVE"),
            AccountsError::WrongOldPassword => (StatusCode::BAD_REQUEST, "INVALID_OLD_PASSWORD"),
            AccountsError::Weak(_) => (StatusCode::BAD_REQUEST, "WEAK_PASSWORD"),
            AccountsError::Broken(field, broken) => return error::validation(field, broken.0),
            AccountsError::NoRegistration => (StatusCode::FORBIDDEN, "REGISTRATION_DISABLED"),
            AccountsError::Taken => (StatusCode::CONFLICT, "USERNAME_TAKEN"),
            AccountsError::Unknown => (StatusCode::NOT_FOUND, "USER_NOT_FOUND"),
            AccountsError::LastAdmin => (StatusCode::CONFLICT, "LAST_ADMIN"),
            AccountsError::Token(TokenError::Expired) => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED"),
            AccountsError::Token(TokenError::Revoked) => (StatusCode::UNAUTHORIZED, "TOKEN_REVOKED"),
            AccountsError::Token(TokenError::Invalid) => (StatusCode::UNAUTHORIZED, "TOKEN_INVALID"),
            AccountsError::TooMany(_) => return error::soon("too many people log in; try again"),
            AccountsError::Store(StoreError::NotPermitted) => return error::not_admin(),
            AccountsError::Store(cause) => {
                tracing::error!(error = %Chain(cause), "the store failed an account");
                return error::soon("the accounts cannot be reached; try again");
            }
        };
        Self::new(status, code, failed.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_bearer_of_nothing_is_none_and_a_cookie_stands_in_for_it() {
        for none in ["Bearer null", "Bearer undefined", "Bearer ", "Bearer", "", "Basic abc", "null"] {
            let headers = headers(&[("authorization", none), ("cookie", "a=b; llmchat_session=xyz")]);
            assert_eq!(token(&Method::GET, &headers, None), Some(("xyz".to_owned(), Found::Cookie)), "{none}");
        }
        let both = headers(&[("authorization", "bearer abc"), ("cookie", "llmchat_session=xyz")]);
        assert_eq!(token(&Method::POST, &both, None), Some(("abc".to_owned(), Found::Bearer)));
        assert_eq!(token(&Method::GET, &headers(&[("cookie", "llmchat_session=")]), None), None);
    }

    #[test]
    fn a_write_under_a_cookie_has_to_come_from_our_own_page() {
        let found = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = headers(pairs);
            headers.insert("cookie", HeaderValue::from_static("llmchat_session=xyz"));
            token(&Method::POST, &headers, Some("chat.example:3001")).unwrap().1
        };
        for ours in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("origin", "http://chat.example:3001")],
            &[("origin", "https://CHAT.example:3001")],
        ] {
            assert_eq!(found(ours), Found::Cookie, "{ours:?}");
        }
        for theirs in [
            &[][..],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://chat.example:3001")],
            &[("sec-fetch-site", "none")],
            &[("origin", "null")],
            &[("origin", "http://chat.example")],
            &[("origin", "http://evil.example:3001")],
            &[("referer", "http://chat.example:3001/")],
        ] {
            assert_eq!(found(theirs), Found::CrossSite, "{theirs:?}");
        }
    }
}
