//! Tokens: what a client shows instead of a password. JSON Web Tokens, HS256, by the secret that all data nodes hold.

use super::settings::Lifetimes;
use crate::base::{Secret, UnixMillis};
use crate::protocol::account::User;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

const ISSUER: &str = "llmchat-backend";
const AUDIENCE: &str = "llmchat-frontend";
/// Ours have some 400 bytes: nothing longer is looked at.
const BYTES_MAX: usize = 2048;

/// What a token is for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Access,
    Refresh,
}

/// Why a token says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the token's time is over")]
    Expired,
    #[error("the token was revoked")]
    Revoked,
    #[error("that is no token of ours")]
    Invalid,
}

#[derive(Deserialize, Serialize)]
struct Claims {
    sub: String,
    username: String,
    role: String,
    iat: i64,
    exp: i64,
    jti: String,
    iss: String,
    aud: String,
    typ: Kind,
}

/// The login that a token is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OfLogin {
    pub(super) login: String,
    pub(super) generation: u32,
}

/// Makes and reads tokens. Cheap to clone.
#[derive(Clone)]
pub(super) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    pub(super) lifetimes: Lifetimes,
}

impl Tokens {
    pub(super) fn new(secret: &[u8; 32], lifetimes: Lifetimes) -> Self {
        Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret), lifetimes }
    }

    /// A token of `user`, made `now`. Nobody can tell two of one generation apart but by their kind.
    pub(super) fn make(&self, kind: Kind, of: &OfLogin, user: &User, now: UnixMillis) -> Secret {
        let seconds = match kind {
            Kind::Access => self.lifetimes.access,
            Kind::Refresh => self.lifetimes.refresh,
        };
        let iat = now.0 / 1000;
        let mark = match kind {
            Kind::Access => 'a',
            Kind::Refresh => 'r',
        };
        let claims = Claims {
            sub: user.id.to_string(),
            username: user.username.to_string(),
            role: user.role.as_str().to_owned(),
            iat,
            exp: iat + i64::from(seconds),
            jti: format!("{}.{}.{mark}", of.login, of.generation),
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            typ: kind,
        };
        let made = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding);
        Secret::new(made.expect("texts and numbers always serialize"))
    }

    /// The number of the user that an access token names, whether or not it was revoked since.
    pub(super) fn user(&self, token: &str, now: UnixMillis) -> Option<i64> {
        self.claims(Kind::Access, token, now).ok()?.sub.parse().ok()
    }

    /// The login that `token` is of, where it is one of ours, of that kind, and its time is not over `now`.
    pub(super) fn read(&self, kind: Kind, token: &str, now: UnixMillis) -> Result<OfLogin, TokenError> {
        let claims = self.claims(kind, token, now)?;
        let mut parts = claims.jti.split('.');
        let (login, generation) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let generation = generation.parse().map_err(|_| TokenError::Invalid)?;
        Ok(OfLogin { login: login.to_owned(), generation })
    }

    fn claims(&self, kind: Kind, token: &str, now: UnixMillis) -> Result<Claims, TokenError> {
        if token.len() > BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Of the clock that tokens are made by.
        validation.validate_exp = false;
        let read = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation);
        let claims = read.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            _ => TokenError::Invalid,
        })?;
        let claims = claims.claims;
        if claims.typ != kind {
            return Err(TokenError::Invalid);
        }
        if claims.exp <= now.0 / 1000 {
            return Err(TokenError::Expired);
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::account::{UserRole, UserStatus, Username};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_999);

    fn tokens(secret: u8) -> Tokens {
        Tokens::new(&[secret; 32], Lifetimes { access: 60, refresh: 600 })
    }

    fn made(kind: Kind) -> Secret {
        let user = User {
            id: 7,
            username: Username::parse("张伟").unwrap(),
            email: None,
            role: UserRole::Admin,
            status: UserStatus::Active,
            created_at: NOW,
            updated_at: NOW,
            last_login_at: None,
            last_login_ip: None,
        };
        tokens(1).make(kind, &of(), &user, NOW)
    }

    fn of() -> OfLogin {
        OfLogin { login: "0123".to_owned(), generation: 3 }
    }

    #[test]
    fn a_token_names_its_login_until_its_time_is_over() {
        for (kind, seconds) in [(Kind::Access, 60), (Kind::Refresh, 600)] {
            let token = made(kind);
            let at = |seconds: i64| UnixMillis((NOW.0 / 1000 + seconds) * 1000);
            assert_eq!(tokens(1).read(kind, token.expose(), at(seconds - 1)), Ok(of()));
            assert_eq!(tokens(1).read(kind, token.expose(), at(seconds)), Err(TokenError::Expired));
        }
    }

    #[test]
    fn a_token_of_another_kind_or_secret_or_changed_in_any_byte_is_none() {
        let token = made(Kind::Access);
        let token = token.expose();
        assert_eq!(tokens(1).read(Kind::Refresh, token, NOW), Err(TokenError::Invalid));
        assert_eq!(tokens(2).read(Kind::Access, token, NOW), Err(TokenError::Invalid));
        for at in 0..token.len() {
            let mut forged = token.as_bytes().to_vec();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last digit of base64 has bits that mean nothing.
            let is_same = at + 1 == token.len();
            assert!(is_same || tokens(1).read(Kind::Access, &forged, NOW).is_err(), "byte {at}");
        }
        for bad in ["", ".", "..", "a.b.c", "null", &"x".repeat(3000)] {
            assert_eq!(tokens(1).read(Kind::Access, bad, NOW), Err(TokenError::Invalid), "{bad}");
        }
    }

    /// Whoever names another algorithm is not believed: neither none, nor one with another length, nor a key that is public.
    #[test]
    fn a_token_of_another_algorithm_is_none() {
        let token = made(Kind::Access);
        let mut parts = token.expose().split('.').skip(1);
        let (claims, signature) = (parts.next().unwrap(), parts.next().unwrap());
        for algorithm in ["none", "None", "HS384", "HS512", "RS256", "ES256"] {
            let head = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{algorithm}\",\"typ\":\"JWT\"}}"));
            for signature in ["", signature] {
                let forged = format!("{head}.{claims}.{signature}");
                assert_eq!(tokens(1).read(Kind::Access, &forged, NOW), Err(TokenError::Invalid), "{algorithm}");
            }
        }
    }
}
