use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;

/// Seals short secrets for the database: version, nonce, XChaCha20-Poly1305. The row's id is bound
/// in, so that a sealed key moved to another row does not open.
#[derive(Clone)]
pub(super) struct Sealer(XChaCha20Poly1305);

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    pub(super) fn seal(&self, id: &str, secret: &str) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the kernel has random bytes");
        let payload = Payload { msg: secret.as_bytes(), aad: id.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).expect("a short text is never too long to seal");
        [&[VERSION], &nonce[..], &sealed].concat()
    }

    /// `None` for another key, another row, or damage.
    pub(super) fn open(&self, id: &str, sealed: &[u8]) -> Option<String> {
        let (&VERSION, rest) = sealed.split_first()? else { return None };
        let (nonce, body) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let opened = self.0.decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: id.as_bytes() }).ok()?;
        String::from_utf8(opened).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_key_in_its_row_and_undamaged_only() {
        let keeper = Sealer::new(&[1; 32]);
        let sealed = keeper.seal("a", "fastgpt-key");
        assert_eq!(keeper.open("a", &sealed).as_deref(), Some("fastgpt-key"));
        assert_eq!(keeper.open("b", &sealed), None);
        assert_eq!(Sealer::new(&[2; 32]).open("a", &sealed), None);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(keeper.open("a", &damaged), None, "byte {at}");
        }
        assert_ne!(keeper.seal("a", "fastgpt-key"), sealed, "each has a nonce of its own");
    }
}
