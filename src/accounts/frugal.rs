//! Argon2 in memory that goes back to the system.
//!
//! What a thread has given back glibc keeps for it, unless it was longer than 32 MiB (`DEFAULT_MMAP_THRESHOLD_MAX`), and
//! each of the threads that hash held 19 MiB from its first password on. What is longer is mapped, and unmapped; pages of it
//! that are not touched cost nothing.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{CustomizedPasswordHasher, Error, PasswordHasher, Result};
use argon2::{Algorithm, Argon2, Block, Params, Version};

const MAPPED_BYTES: usize = 33 << 20;

/// What [`Argon2`] does, in that memory.
pub(super) struct Frugal {
    pub(super) algorithm: Algorithm,
    pub(super) version: Version,
    pub(super) params: Params,
}

impl PasswordHasher<PasswordHash> for Frugal {
    fn hash_password_with_salt(&self, password: &[u8], salt: &[u8]) -> Result<PasswordHash> {
        let Self { algorithm, version, params } = self;
        let salt = Salt::new(salt)?;
        let mut out = [0; Output::MAX_LENGTH];
        let length = params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let out = out.get_mut(..length).ok_or(Error::OutputSize)?;
        let blocks = params.block_count();
        let mut memory = Vec::new();
        memory.try_reserve_exact(blocks.max(MAPPED_BYTES / Block::SIZE)).map_err(|_| Error::OutOfMemory)?;
        memory.resize(blocks, Block::new());
        Argon2::new(*algorithm, *version, params.clone())
            .hash_password_into_with_memory(password, &salt, out, memory)?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some((*version).into()),
            params: ParamsString::try_from(params)?,
            salt: Some(salt),
            hash: Some(Output::new(out)?),
        })
    }
}

impl CustomizedPasswordHasher<PasswordHash> for Frugal {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<PasswordHash> {
        let algorithm = algorithm.map_or(Ok(self.algorithm), Algorithm::try_from)?;
        let version = version.map_or(Ok(self.version), Version::try_from)?;
        Self { algorithm, version, params }.hash_password_with_salt(password, salt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordVerifier;

    #[test]
    fn it_is_argon2() {
        let params = Params::new(64, 2, 1, None).unwrap();
        for (algorithm, version) in [(Algorithm::Argon2id, Version::V0x13), (Algorithm::Argon2i, Version::V0x10)] {
            let theirs = Argon2::new(algorithm, version, params.clone());
            let ours = Frugal { algorithm, version, params: params.clone() };
            let (password, salt) = (b"a password", b"sixteen bytes of");
            let hash = theirs.hash_password_with_salt(password, salt).unwrap();
            assert_eq!(ours.hash_password_with_salt(password, salt).unwrap(), hash);
            // What is stored says by what it was made.
            let other = Frugal { algorithm: Algorithm::Argon2d, version: Version::V0x13, params: Params::default() };
            assert!(
                other.verify_password(password, &hash).is_ok() && other.verify_password(b"another", &hash).is_err()
            );
        }
    }
}
