use crate::base::UnixMillis;
use crate::protocol::attachment::{UPLOADS, UploadName};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::Aead;
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;

/// Keeps this use of the cookie key apart from every other.
const PURPOSE: &[u8] = b"llmchat upload link 2\0";
/// Begins no name of a file.
const MARK: char = '~';
const NONCE_BYTES: usize = 24;
/// Of the end, in seconds since 1970.
const END_BYTES: usize = 8;
/// No token is half as long; what is longer is not looked at.
const TOKEN_BYTES_MAX: usize = 256;

/// Makes and opens addresses that are good for a while: `…/uploads/~TOKEN`. The file's name, which is good for as long as the
/// file, and the end are sealed in the token: whoever is given it learns neither, and can make no other.
#[derive(Clone)]
pub(crate) struct Links {
    key: XChaCha20Poly1305,
    /// Without a slash at its end.
    base: Option<String>,
    life: Duration,
}

impl Links {
    pub(crate) fn new(cookie_key: &[u8; 32], base: Option<&str>, life: Duration) -> Self {
        let mut mac: Hmac<Sha256> = Hmac::new_from_slice(cookie_key).expect("HMAC takes a key of any length");
        mac.update(PURPOSE);
        let key = XChaCha20Poly1305::new(&mac.finalize().into_bytes());
        Self { key, base: base.map(|base| base.trim_end_matches('/').to_owned()), life }
    }

    /// The whole address of a file, for somebody who asks `now` or a little later; `None` where nobody has said how this
    /// service is reached.
    pub(crate) fn make(&self, name: &UploadName, now: UnixMillis) -> Option<String> {
        let base = self.base.as_ref()?;
        let life = i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX);
        let end = now.0.div_euclid(1000).saturating_add(life);
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the kernel has random bytes");
        let plain = [&end.to_le_bytes(), name.as_str().as_bytes()].concat();
        let sealed = self.key.encrypt(&XNonce::from(nonce), plain.as_slice());
        let sealed = sealed.expect("a short text is never too long to seal");
        let token = URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat());
        Some(format!("{base}{UPLOADS}{MARK}{token}"))
    }

    /// The token in what stands in the place of a file's name, if it is none.
    pub(crate) fn token(segment: &str) -> Option<&str> {
        segment.strip_prefix(MARK)
    }

    /// The file of a token that was made here, if its end is not yet come.
    pub(crate) fn open(&self, token: &str, now: UnixMillis) -> Option<UploadName> {
        let sealed = (token.len() <= TOKEN_BYTES_MAX).then(|| URL_SAFE_NO_PAD.decode(token).ok()).flatten()?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let plain = self.key.decrypt(&XNonce::from(*nonce), sealed).ok()?;
        let (end, name) = plain.split_first_chunk::<END_BYTES>()?;
        let is_good = i64::from_le_bytes(*end) > now.0.div_euclid(1000);
        UploadName::parse(std::str::from_utf8(name).ok()?).filter(|_| is_good)
    }

    /// The path of an address of ours that a client has made whole.
    pub(crate) fn within(&self, url: &str) -> Option<UploadName> {
        let path = url.strip_prefix(self.base.as_deref()?)?;
        UploadName::of_path(path).filter(|_| path.starts_with(UPLOADS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::media::Media;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_999);

    #[test]
    fn a_link_is_good_until_its_end_and_says_nothing_of_its_file() {
        let links = Links::new(&[7; 32], Some("https://chat.example/sub/"), Duration::from_mins(1));
        let name = UploadName::random(Media::Png);
        let link = links.make(&name, NOW).unwrap();
        let segment = link.strip_prefix("https://chat.example/sub/uploads/").expect("it begins so");
        let token = Links::token(segment).expect("it is marked");
        assert!(token.len() <= TOKEN_BYTES_MAX / 2, "{token}");
        let later = |ms: i64| UnixMillis(NOW.0 + ms);
        assert_eq!(links.open(token, NOW), Some(name.clone()));
        assert_eq!(links.open(token, later(58_000)), Some(name.clone()));
        assert_eq!(links.open(token, later(60_000)), None);
        assert!(!link.contains(&name.as_str()[..32]), "the name is good for as long as the file");
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        assert!(!bytes.windows(8).any(|part| part == &name.as_str().as_bytes()[..8]), "nor is it in the bytes");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(links.open(&URL_SAFE_NO_PAD.encode(changed), NOW), None, "byte {at}");
        }
        for bad in ["", "~", "AAAA", &token[1..], &token[..token.len() - 1], &format!("{token}="), &"A".repeat(4096)] {
            assert_eq!(links.open(bad, NOW), None, "{bad}");
        }
        assert_ne!(links.make(&name, NOW).unwrap(), link, "each is its own");
        let foreign = Links::new(&[8; 32], Some("https://chat.example/sub"), Duration::from_mins(1));
        assert_eq!(foreign.open(token, NOW), None);
        assert_eq!((links.within(&link), Links::token(name.as_str())), (None, None));
        let whole = format!("https://chat.example/sub{}", name.path());
        assert_eq!(links.within(&whole), Some(name), "as a client makes it");
    }

    #[test]
    fn nobody_is_told_an_address_that_is_not_known() {
        let links = Links::new(&[7; 32], None, Duration::from_mins(1));
        let name = UploadName::random(Media::Png);
        assert_eq!(links.make(&name, NOW), None);
        assert_eq!(links.within(&format!("https://chat.example{}", name.path())), None);
    }
}
