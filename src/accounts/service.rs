use super::password::{Checked, Hasher, TooMany, Verdict, wrong_at};
use super::settings::Settings;
use super::token::{Kind, OfLogin, TokenError, Tokens};
use crate::base::{Chain, Secret, UnixMillis, random_id};
use crate::cache::Cache;
use crate::clock;
use crate::protocol::account::{self, Broken, Email, User, UserRole, UserStatus, Username};
use crate::store::{
    AuditCheck, AuditEntry, AuditFilter, AuditRow, Budget, Changed, EmailChange, Login, NewLogin, NewUser, Pending,
    Renewed, Store, StoreError, UserChange,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// A login that was ended elsewhere is believed for so long where nobody tells this node: on a standby, whose clients said
/// that they are content with that.
const LOGIN_TTL: Duration = Duration::from_secs(5);
/// A browser's description of itself is rarely longer than 200 bytes.
const USER_AGENT_BYTES_MAX: usize = 256;

/// Why an account's owner does not get what they asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountsError {
    /// To be answered then, and no sooner: how long it took must not tell who is known.
    #[error("the user name or the password is wrong")]
    WrongCredentials { not_before: Instant },
    #[error("the account is switched off")]
    Inactive,
    #[error("the old password is wrong")]
    WrongOldPassword,
    /// What the new password lacks.
    #[error("the password needs {}", .0.join(", "))]
    Weak(Vec<&'static str>),
    #[error("{0} {1}")]
    Broken(&'static str, Broken),
    #[error("accounts are made by an administrator here")]
    NoRegistration,
    #[error("the user name is taken")]
    Taken,
    #[error("there is no such user")]
    Unknown,
    #[error("there would be no administrator left who can log in")]
    LastAdmin,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    TooMany(#[from] TooMany),
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

/// Where somebody comes from, for the audit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remote {
    pub(crate) ip_address: Option<String>,
    pub(crate) user_agent: Option<String>,
}

/// Who does something, for the audit.
#[derive(Clone, Debug)]
pub(crate) enum Actor {
    /// With a token.
    User(Arc<Login>, Remote),
    /// With an administrator's, which they have to be still when it is done.
    Admin(Arc<Login>, Remote),
    /// Without one.
    Visitor(Remote),
    /// By a command on the machine itself.
    Operator,
    /// Nobody: by a rule that the service follows.
    Service,
}

/// What somebody who logs in is given.
#[derive(Clone, Debug)]
pub(crate) struct LoggedIn {
    pub(crate) access: Secret,
    pub(crate) refresh: Secret,
    /// Of the access token, in seconds.
    pub(crate) expires_in: u32,
    pub(crate) user: User,
}

/// What the accounts are made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    /// Signs tokens.
    pub(crate) token_secret: [u8; 32],
    pub(crate) settings: Settings,
    pub(crate) logins: Cache<String, Arc<Login>>,
    pub(crate) cores: usize,
}

/// The door to accounts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Accounts {
    pub(super) store: Store,
    settings: Settings,
    tokens: Tokens,
    hasher: Hasher,
    /// Those that were good a moment ago; forgotten at every change.
    logins: Cache<String, Arc<Login>>,
}

impl Accounts {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            store: parts.store,
            settings: parts.settings,
            tokens: Tokens::new(&parts.token_secret, parts.settings.lifetimes),
            hasher: Hasher::new(parts.cores),
            logins: parts.logins,
        }
    }

    /// Whether who has no login may chat.
    pub(crate) fn lets_visitors_chat(&self) -> bool {
        self.settings.anonymous_chat
    }

    /// Logs in by a password. A wrong one is told at a time that says nothing of the account: whoever asks counts the failure
    /// first, and then waits for that.
    pub(crate) async fn log_in(
        &self,
        username: &str,
        password: &Secret,
        from: Remote,
    ) -> Result<LoggedIn, AccountsError> {
        let username = Username::parse(username);
        let username = username.map_err(|_| AccountsError::WrongCredentials { not_before: wrong_at() })?;
        let known = self.store.user_by_name(&username).await?;
        let hash = known.as_ref().map(|known| known.hash.clone()).filter(|_| account::is_plausible(password));
        let Checked { verdict, wrong_at } = self.hasher.verify(password.clone(), hash).await?;
        let wrong = || AccountsError::WrongCredentials { not_before: wrong_at };
        // Nobody waits for what is written of a refusal, or the wait would tell who is known. A name that is nobody's is not
        // written at all: people type passwords there.
        let Some(known) = known else {
            let resource = ("user", "");
            drop(self.store.audit(entry((None, &from), "login", resource, &json!({}), Some("unknown user")))?);
            return Err(wrong());
        };
        let entry = |error| entry((Some(&known.user), &from), "login", ("user", known.user.id), &json!({}), error);
        let rehashed = match verdict {
            Verdict::Wrong => {
                drop(self.store.audit(entry(Some("wrong password")))?);
                return Err(wrong());
            }
            // Only who knows the password learns that the account is off.
            Verdict::Right | Verdict::Outdated(_) if known.user.status == UserStatus::Inactive => {
                self.store.audit(entry(Some("inactive")))?.await?;
                return Err(AccountsError::Inactive);
            }
            Verdict::Right => None,
            Verdict::Outdated(hash) => Some(hash),
        };
        let (of, at) = (OfLogin { login: random_id(), generation: 1 }, clock::unix_millis());
        let new = NewLogin {
            id: of.login.clone(),
            user_id: known.user.id,
            checked: known.hash.clone(),
            rehashed,
            at,
            expires_at: self.end_of_refresh(at),
            ip_address: from.ip_address.clone(),
        };
        if !self.store.login_begin(new, entry(None))?.await?.value {
            return Err(wrong());
        }
        Ok(self.logged_in(&of, known.user, at))
    }

    fn end_of_refresh(&self, at: UnixMillis) -> UnixMillis {
        UnixMillis(at.0 + i64::from(self.tokens.lifetimes.refresh) * 1000)
    }

    fn logged_in(&self, of: &OfLogin, user: User, at: UnixMillis) -> LoggedIn {
        LoggedIn {
            access: self.tokens.make(Kind::Access, of, &user, at),
            refresh: self.tokens.make(Kind::Refresh, of, &user, at),
            expires_in: self.tokens.lifetimes.access,
            user,
        }
    }

    /// Whom a token names that is ours and not too old: by what is written in it, and not whether it was revoked since.
    pub(crate) fn named(&self, token: &str) -> Option<i64> {
        self.tokens.user(token, clock::unix_millis())
    }

    /// The login that an access token is of: one read of the store at most.
    pub(crate) async fn login(&self, token: &str, budget: Budget) -> Result<Arc<Login>, AccountsError> {
        let now = clock::unix_millis();
        let OfLogin { login: id, .. } = self.tokens.read(Kind::Access, token, now)?;
        let load = async || {
            let found = self.store.login(&id, now, budget).await?;
            Ok(Arc::new(found.ok_or(TokenError::Revoked)?))
        };
        // A change while it is read wins over what the read brings.
        let loaded = self.logins.get_or_load(id.clone(), clock::now(), LOGIN_TTL, load).await;
        loaded.map_err(|error: Arc<AccountsError>| match &*error {
            AccountsError::Token(why) => AccountsError::Token(*why),
            _ => {
                tracing::warn!(error = %Chain(&*error), "a login cannot be read");
                AccountsError::Store(StoreError::Unavailable)
            }
        })
    }

    /// New tokens for a refresh token, which is worth nothing from then on.
    pub(crate) async fn refresh(&self, token: &str, from: &Remote) -> Result<LoggedIn, AccountsError> {
        let at = clock::unix_millis();
        let of = self.tokens.read(Kind::Refresh, token, at)?;
        let reused =
            entry((None, from), "refresh", ("login", &of.login), &json!({}), Some("refresh token was used before"));
        let renewed = self.store.login_renew(of.login.clone(), of.generation, self.end_of_refresh(at), reused)?;
        match renewed.await?.value {
            Renewed::Done(user) => {
                let next = OfLogin { generation: of.generation.saturating_add(1), ..of };
                Ok(self.logged_in(&next, user, at))
            }
            Renewed::Reused => {
                tracing::warn!("a refresh token was used twice: its login is revoked");
                self.forget();
                Err(TokenError::Revoked.into())
            }
            Renewed::Gone => Err(TokenError::Revoked.into()),
        }
    }

    /// Ends a login, and all of its tokens.
    pub(crate) async fn log_out(&self, login: &Login, from: &Remote) -> Result<(), AccountsError> {
        let entry = entry((Some(&login.user), from), "logout", ("user", login.user.id), &json!({}), None);
        self.changed(self.store.login_end(login.id.clone(), entry)?).await?;
        Ok(())
    }

    /// Ends every login of everybody; how many.
    pub(crate) async fn log_all_out(&self, actor: &Actor, why: &str) -> Result<usize, AccountsError> {
        let entry = actor.entry("logout-all", ("user", ""), &json!({ "why": why }));
        Ok(self.changed(self.store.logins_end_all(entry)?).await?)
    }

    /// Takes another password, and ends every other login of the user.
    pub(crate) async fn change_password(
        &self,
        actor: &Arc<Login>,
        (old, new): (&Secret, &Secret),
        from: Remote,
    ) -> Result<(), AccountsError> {
        let known = self.store.user_by_id(actor.user.id).await?.ok_or(AccountsError::Unknown)?;
        let hash = Some(known.hash.clone()).filter(|_| account::is_plausible(old));
        if self.hasher.verify(old.clone(), hash).await?.verdict == Verdict::Wrong {
            return Err(AccountsError::WrongOldPassword);
        }
        let change = UserChange {
            hash: Some(self.hashed(new).await?),
            checked: Some(known.hash),
            kept_login: Some(actor.id.clone()),
            ..UserChange::default()
        };
        let actor = Actor::User(Arc::clone(actor), from);
        self.change(known.user.id, change, actor.entry("change-password", ("user", known.user.id), &json!({})))
            .await
            .map(drop)
    }

    async fn hashed(&self, password: &Secret) -> Result<Secret, AccountsError> {
        let weak = account::weaknesses(password);
        if weak.is_empty() { Ok(self.hasher.hash(password.clone()).await?) } else { Err(AccountsError::Weak(weak)) }
    }

    /// Takes another address for mail, or none.
    pub(crate) async fn set_email(
        &self,
        actor: &Arc<Login>,
        email: Option<&str>,
        from: Remote,
    ) -> Result<User, AccountsError> {
        let change = UserChange { email: email_change(email)?, ..UserChange::default() };
        let id = actor.user.id;
        self.change(id, change, Actor::User(Arc::clone(actor), from).entry("change-profile", ("user", id), &json!({})))
            .await
    }

    /// Makes an account for whoever asks, where that is allowed, and logs in.
    pub(crate) async fn register(
        &self,
        (username, password): (&str, &Secret),
        email: Option<&str>,
        from: Remote,
    ) -> Result<LoggedIn, AccountsError> {
        if !self.settings.registration {
            return Err(AccountsError::NoRegistration);
        }
        self.add((username, password), (email, UserRole::User), &Actor::Visitor(from.clone())).await?;
        self.log_in(username, password, from).await
    }

    /// Adds a user.
    pub(crate) async fn add(
        &self,
        (username, password): (&str, &Secret),
        (email, role): (Option<&str>, UserRole),
        actor: &Actor,
    ) -> Result<User, AccountsError> {
        let username = Username::parse(username).map_err(|broken| AccountsError::Broken("username", broken))?;
        let email = checked_email(email)?;
        let hash = self.hashed(password).await?;
        let entry =
            actor.entry("add-user", ("user", ""), &json!({ "username": username.as_str(), "role": role.as_str() }));
        let new = NewUser { username, email, role, hash, at: entry.at };
        self.store.user_add(new, entry)?.await?.value.ok_or(AccountsError::Taken)
    }

    /// Changes what `actor`, who may do so, wants of a user.
    pub(crate) async fn set(
        &self,
        id: i64,
        (role, status): (Option<UserRole>, Option<UserStatus>),
        email: Option<&str>,
        actor: &Actor,
    ) -> Result<User, AccountsError> {
        let email = email_change(email)?;
        let details = json!({ "role": role.map(UserRole::as_str), "status": status.map(UserStatus::as_str) });
        let change = UserChange { role, status, email, ..UserChange::default() };
        self.change(id, change, actor.entry("change-user", ("user", id), &details)).await
    }

    /// Gives a user another password, and ends all of their logins.
    pub(crate) async fn reset_password(&self, id: i64, new: &Secret, actor: &Actor) -> Result<User, AccountsError> {
        let change = UserChange { hash: Some(self.hashed(new).await?), ..UserChange::default() };
        self.change(id, change, actor.entry("reset-password", ("user", id), &json!({}))).await
    }

    async fn change(&self, id: i64, change: UserChange, entry: AuditEntry) -> Result<User, AccountsError> {
        done(self.changed(self.store.user_change(id, change, entry)?).await?)
    }

    /// What comes of a change. It is in force once it is stored, also where nobody waits for that any more.
    pub(super) async fn changed<T: Send + 'static>(&self, change: Pending<T>) -> Result<T, StoreError> {
        let accounts = self.clone();
        let changed = TaskTracker::new().spawn(async move {
            let changed = change.await;
            accounts.forget();
            changed
        });
        Ok(changed.await.unwrap_or(Err(StoreError::OutcomeUnknown))?.value)
    }

    /// Removes a user; their chats stay until they are erased.
    pub(crate) async fn remove(&self, id: i64, actor: &Actor) -> Result<User, AccountsError> {
        let entry = actor.entry("remove-user", ("user", id), &json!({}));
        done(self.changed(self.store.user_remove(id, entry)?).await?)
    }

    /// Users by name, from the `offset`th on, and how many there are in all.
    pub(crate) async fn list(
        &self,
        search: Option<String>,
        page: (u32, u32),
    ) -> Result<(Vec<User>, u32), AccountsError> {
        Ok(self.store.users(search, page).await?)
    }

    /// Who changed what, newest first, from the `offset`th on, and how many rows there are in all.
    pub(crate) async fn audit(
        &self,
        filter: AuditFilter,
        page: (u32, u32),
    ) -> Result<(Vec<AuditRow>, u32), AccountsError> {
        Ok(self.store.audit_rows(filter, page).await?)
    }

    /// Whether the audit is as it was written.
    pub(crate) async fn check_audit(&self) -> Result<AuditCheck, AccountsError> {
        Ok(self.store.audit_check().await?)
    }

    /// The user of that name.
    pub(crate) async fn find(&self, username: &str) -> Result<User, AccountsError> {
        let username = Username::parse(username).map_err(|_| AccountsError::Unknown)?;
        Ok(self.store.user_by_name(&username).await?.ok_or(AccountsError::Unknown)?.user)
    }

    /// Whether somebody can administer it.
    pub(crate) async fn has_admin(&self) -> Result<bool, AccountsError> {
        Ok(self.store.has_admin().await?)
    }

    /// What is remembered may be old.
    pub(crate) fn forget(&self) {
        self.logins.clear();
    }
}

fn done(changed: Changed) -> Result<User, AccountsError> {
    match changed {
        Changed::Done(user) => Ok(user),
        Changed::Unknown => Err(AccountsError::Unknown),
        Changed::Outdated => Err(TokenError::Revoked.into()),
        Changed::LastAdmin => Err(AccountsError::LastAdmin),
    }
}

fn checked_email(email: Option<&str>) -> Result<Option<Email>, AccountsError> {
    let given = email.filter(|email| !email.is_empty());
    given.map(Email::parse).transpose().map_err(|broken| AccountsError::Broken("email", broken))
}

/// An empty one takes the address away.
fn email_change(email: Option<&str>) -> Result<EmailChange, AccountsError> {
    match email {
        None => Ok(EmailChange::Keep),
        Some(text) => Ok(checked_email(Some(text))?.map_or(EmailChange::Remove, EmailChange::Set)),
    }
}

impl Actor {
    /// What they do, for the audit: `action` on `resource`, which is its type and id.
    pub(crate) fn entry(
        &self,
        action: &'static str,
        resource: (&'static str, impl ToString),
        details: &Value,
    ) -> AuditEntry {
        let nobody = Remote::default();
        let (user, from) = match self {
            Self::User(login, from) | Self::Admin(login, from) => (Some(&login.user), from),
            Self::Visitor(from) => (None, from),
            Self::Operator | Self::Service => (None, &nobody),
        };
        let entry = entry((user, from), action, resource, details, None);
        match self {
            Self::User(..) | Self::Visitor(_) => entry,
            Self::Admin(..) => AuditEntry { needs_admin: true, ..entry },
            Self::Operator => AuditEntry { username: Some("(operator)".to_owned()), ..entry },
            Self::Service => AuditEntry { username: Some("(llmchat)".to_owned()), ..entry },
        }
    }
}

fn entry(
    (user, from): (Option<&User>, &Remote),
    action: &'static str,
    (resource_type, resource_id): (&'static str, impl ToString),
    details: &Value,
    error: Option<&'static str>,
) -> AuditEntry {
    let resource_id = Some(resource_id.to_string()).filter(|id| !id.is_empty());
    let user_agent = from.user_agent.as_deref().map(|text| text.chars().take(USER_AGENT_BYTES_MAX).collect());
    AuditEntry {
        at: clock::unix_millis(),
        user_id: user.map(|user| user.id),
        username: user.map(|user| user.username.to_string()),
        action,
        resource_type,
        resource_id,
        details: details.to_string(),
        ip_address: from.ip_address.clone(),
        user_agent,
        error,
        needs_admin: false,
    }
}
