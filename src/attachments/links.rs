use crate::base::UnixMillis;
use crate::protocol::attachment::{UPLOADS, UploadName};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;

/// Keeps this use of the cookie key apart from every other.
const PURPOSE: &[u8] = b"llmchat upload link 1\0";

/// Makes and checks addresses that are good for a while: `…/uploads/NAME?expires=SECONDS&signature=HMAC`.
#[derive(Clone)]
pub(crate) struct Links {
    key: Hmac<Sha256>,
    /// Without a slash at its end.
    base: Option<String>,
    life: Duration,
}

impl Links {
    pub(crate) fn new(cookie_key: &[u8; 32], base: Option<&str>, life: Duration) -> Self {
        let mut key = Hmac::new_from_slice(cookie_key).expect("HMAC takes a key of any length");
        key.update(PURPOSE);
        Self { key, base: base.map(|base| base.trim_end_matches('/').to_owned()), life }
    }

    /// The whole address of a file, for somebody who asks `now` or a little later; `None` where nobody has said how this
    /// service is reached.
    pub(crate) fn make(&self, name: &UploadName, now: UnixMillis) -> Option<String> {
        let base = self.base.as_ref()?;
        let life = i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX);
        let expires = now.0.div_euclid(1000).saturating_add(life).to_string();
        let signature = URL_SAFE_NO_PAD.encode(self.sign(name, &expires).finalize().into_bytes());
        Some(format!("{base}{}?expires={expires}&signature={signature}", name.path()))
    }

    /// Whether what an address says of its end was said here, and that is not yet come.
    pub(crate) fn is_good(&self, name: &UploadName, (expires, signature): (&str, &str), now: UnixMillis) -> bool {
        let is_time = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
        let ends = expires.parse::<i64>().ok().filter(|_| is_time);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        ends.is_some_and(|ends| ends > now.0.div_euclid(1000))
            && self.sign(name, expires).verify_slice(&signature).is_ok()
    }

    /// The path of an address of ours that a client has made whole.
    pub(crate) fn within(&self, url: &str) -> Option<UploadName> {
        let path = url.strip_prefix(self.base.as_deref()?)?;
        UploadName::of_path(path).filter(|_| path.starts_with(UPLOADS))
    }

    fn sign(&self, name: &UploadName, expires: &str) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(name.as_str().as_bytes());
        mac.update(b"\0");
        mac.update(expires.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::media::Media;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_999);

    fn asked(link: &str) -> (&str, &str) {
        let query = link.split_once("?expires=").unwrap().1;
        query.split_once("&signature=").unwrap()
    }

    #[test]
    fn a_link_is_good_until_its_end_and_for_its_file_alone() {
        let links = Links::new(&[7; 32], Some("https://chat.example/sub/"), Duration::from_mins(1));
        let (name, other) = (UploadName::random(Media::Png), UploadName::random(Media::Png));
        let link = links.make(&name, NOW).unwrap();
        assert!(link.starts_with(&format!("https://chat.example/sub/uploads/{}?", name.as_str())), "{link}");
        assert_eq!(links.within(&link), Some(name.clone()));
        let (expires, signature) = asked(&link);
        let later = |ms: i64| UnixMillis(NOW.0 + ms);
        assert!(links.is_good(&name, (expires, signature), NOW));
        assert!(links.is_good(&name, (expires, signature), later(58_000)));
        assert!(!links.is_good(&name, (expires, signature), later(60_000)));
        assert!(!links.is_good(&other, (expires, signature), NOW));
        let longer = (expires.parse::<i64>().unwrap() + 1).to_string();
        for bad in [
            (longer.as_str(), signature),
            (expires, ""),
            (expires, &signature[1..]),
            ("", signature),
            ("-1", signature),
            (&format!("+{expires}"), signature),
            ("99999999999999999999", signature),
        ] {
            assert!(!links.is_good(&name, bad, NOW), "{bad:?}");
        }
        let foreign = Links::new(&[8; 32], Some("https://chat.example/sub"), Duration::from_mins(1));
        assert!(!foreign.is_good(&name, (expires, signature), NOW));
    }

    #[test]
    fn nobody_is_told_an_address_that_is_not_known() {
        let links = Links::new(&[7; 32], None, Duration::from_mins(1));
        let name = UploadName::random(Media::Png);
        assert_eq!(links.make(&name, NOW), None);
        assert_eq!(links.within(&format!("https://chat.example{}", name.path())), None);
    }
}
