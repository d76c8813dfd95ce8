//! The first administrator: there is no default password.

use super::service::{Accounts, AccountsError, Actor};
use crate::base::Secret;
use crate::disk::{self, DiskError};
use crate::node_state::FIRST_ADMIN;
use crate::protocol::account::{self, UserRole};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::path::{Path, PathBuf};

const USERNAME: &str = "admin";
/// 144 bits.
const RANDOM_BYTES: usize = 18;

/// An administrator that was made because there was none.
#[derive(Clone, Debug)]
pub(crate) struct FirstAdmin {
    pub(crate) username: String,
    pub(crate) password: Secret,
    /// Where the password is, mode 0600; `None` where it is to be shown instead.
    pub(crate) file: Option<PathBuf>,
}

/// Why there is still none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstAdminError {
    #[error("keep the password of the first administrator")]
    Disk(#[from] DiskError),
    #[error("make the first administrator")]
    Accounts(#[from] AccountsError),
}

/// Removes what [`Accounts::first_admin`] has kept in `state_dir`.
pub(crate) fn forget_first_admin(state_dir: &Path) -> Result<(), DiskError> {
    disk::remove_if_present(&state_dir.join(FIRST_ADMIN))
}

/// A password that nobody guesses and every rule takes.
pub(crate) fn random_password() -> Secret {
    loop {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).expect("the kernel has random bytes");
        let password = Secret::new(URL_SAFE_NO_PAD.encode(random));
        // Every other one has no special character.
        if account::weaknesses(&password).is_empty() {
            return password;
        }
    }
}

impl Accounts {
    /// Makes an administrator where there is none who can log in; `None` where there is. The password is kept in a file of
    /// `state_dir`, before the user is there, unless it is going to be shown.
    pub(crate) async fn first_admin(
        &self,
        state_dir: &Path,
        shown: bool,
    ) -> Result<Option<FirstAdmin>, FirstAdminError> {
        if self.has_admin().await? {
            return Ok(None);
        }
        let password = random_password();
        let file = (!shown).then(|| state_dir.join(FIRST_ADMIN));
        for username in [USERNAME.to_owned(), format!("{USERNAME}-{}", &crate::base::random_id()[..6])] {
            if let Some(file) = &file {
                disk::replace(file, format!("{username}\n{}\n", password.expose()).as_bytes())?;
            }
            match self.add((&username, &password), (None, UserRole::Admin), &Actor::Operator).await {
                Ok(_) => return Ok(Some(FirstAdmin { username, password, file })),
                // Somebody has that name, and is no administrator or switched off.
                Err(AccountsError::Taken) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AccountsError::Taken.into())
    }
}
