use crate::base::{Owner, random_id};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Keeps this use of the cookie key apart from every other.
const PURPOSE: &[u8] = b"llmchat visitor 1\0";
/// 32 hex digits, a dot, 43 digits of base64: nothing longer is looked at.
const COOKIE_BYTES: usize = 32 + 1 + 43;

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) owner: Owner,
    /// The cookie that the answer must set: the caller came without a good one, so nothing that
    /// is stored can be theirs yet.
    pub(crate) new_cookie: Option<String>,
}

/// Makes and checks visitor cookies: `<id>.<HMAC-SHA256 of the id>`.
#[derive(Clone)]
pub(crate) struct Visitors(Hmac<Sha256>);

impl Visitors {
    pub(crate) fn new(cookie_key: &[u8; 32]) -> Self {
        let mut mac = Hmac::new_from_slice(cookie_key).expect("HMAC takes a key of any length");
        mac.update(PURPOSE);
        Self(mac)
    }

    /// The visitor that `cookie` names, or a new one where it is absent, forged or torn.
    pub(crate) fn caller(&self, cookie: Option<&str>) -> Caller {
        if let Some(id) = cookie.and_then(|cookie| self.check(cookie)) {
            return Caller { owner: Owner::visitor(id), new_cookie: None };
        }
        let id = random_id();
        let new_cookie = format!("{id}.{}", URL_SAFE_NO_PAD.encode(self.sign(&id).finalize().into_bytes()));
        Caller { owner: Owner::visitor(&id), new_cookie: Some(new_cookie) }
    }

    fn check<'a>(&self, cookie: &'a str) -> Option<&'a str> {
        let (id, mac) = cookie.split_once('.').filter(|_| cookie.len() == COOKIE_BYTES)?;
        let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.sign(id).verify_slice(&mac).ok()?;
        Some(id)
    }

    fn sign(&self, id: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_names_its_visitor_again() {
        let visitors = Visitors::new(&[7; 32]);
        let first = visitors.caller(None);
        let cookie = first.new_cookie.expect("a new visitor is given a cookie");
        let again = visitors.caller(Some(&cookie));
        assert_eq!(again.owner, first.owner);
        assert_eq!(again.new_cookie, None);
    }

    #[test]
    fn a_cookie_changed_in_any_byte_or_signed_by_another_key_is_nobody() {
        let visitors = Visitors::new(&[7; 32]);
        let first = visitors.caller(None);
        let cookie = first.new_cookie.unwrap();
        for at in 0..cookie.len() {
            let mut forged = cookie.clone().into_bytes();
            forged[at] ^= 1;
            let Ok(forged) = String::from_utf8(forged) else { continue };
            assert_ne!(visitors.caller(Some(&forged)).owner, first.owner, "byte {at}");
        }
        let other = Visitors::new(&[8; 32]);
        for bad in [cookie.as_str(), "", ".", "a.b", &cookie[..40]] {
            assert!(other.caller(Some(bad)).new_cookie.is_some(), "{bad}");
        }
    }
}
