//! The tables behind their lock, and what becomes of a fault inside.

use super::key::{Client, Counted, Login, OfAgent};
use super::rule::{Rule, Rules};
use super::table::{Over, Table};
use crate::protocol::agent::RateLimit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Operators configure tens.
const AGENTS_MAX: usize = 1024;
/// Logins from one address whose passwords are being looked at: what many people behind one address need, and few enough
/// that those that turn out to have failed go hardly past the limit of failures. One that is not heard of again is over by
/// the end of the window.
const TRIES: Rule = Rule { max: 16, window: Duration::from_secs(10), block: Duration::ZERO };
/// Some of them are over by then.
const TRIES_PASS_IN: Duration = Duration::from_secs(1);

/// Which limit refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Api,
    Chat,
    Login,
    /// Failed logins from one address.
    Address,
    /// Logins from one address at the same time.
    Tries,
    Agent,
}

impl Scope {
    const ALL: [Self; 6] = [Self::Api, Self::Chat, Self::Login, Self::Address, Self::Tries, Self::Agent];

    /// One word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Chat => "chat",
            Self::Login => "login",
            Self::Address => "address",
            Self::Tries => "tries",
            Self::Agent => "agent",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Api => 0,
            Self::Chat => 1,
            Self::Login => 2,
            Self::Address => 3,
            Self::Tries => 4,
            Self::Agent => 5,
        }
    }
}

/// It was too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("over the limit of {scope:?}; again in {retry_after:?}")]
pub struct Refused {
    pub scope: Scope,
    /// Never zero.
    pub retry_after: Duration,
}

/// How a client stands with the limit of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests that it may still make before `reset`.
    pub remaining: u32,
    /// Until it may make all of them again.
    pub reset: Duration,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `None` where the API has no limit, or the limiter has failed.
    pub standing: Option<Standing>,
    pub admitted: Result<(), Refused>,
}

impl Verdict {
    const UNLIMITED: Self = Self { standing: None, admitted: Ok(()) };
}

#[derive(Debug)]
pub(super) struct State {
    api: Table<Client>,
    chat: Table<Client>,
    login: Table<Login>,
    addresses: Table<Client>,
    tries: Table<Client>,
    agents: Table<OfAgent>,
}

impl State {
    fn new(rules: &Rules) -> Self {
        let table = |rule: Option<Rule>| rule.map_or(0, |_| rules.keys_max);
        Self {
            api: Table::new(table(rules.api)),
            chat: Table::new(table(rules.chat)),
            login: Table::new(table(rules.login)),
            addresses: Table::new(table(rules.address)),
            tries: Table::new(table(rules.address)),
            agents: Table::new(AGENTS_MAX),
        }
    }
}

/// Every limit. Held for well below a microsecond at a time; nothing is awaited under its lock.
#[derive(Debug)]
pub struct Limiter {
    rules: Rules,
    pub(super) state: Mutex<State>,
    refused: [AtomicU64; Scope::ALL.len()],
    faults: AtomicU64,
}

impl Limiter {
    pub fn new(rules: Rules) -> Self {
        Self { rules, state: Mutex::new(State::new(&rules)), refused: Default::default(), faults: AtomicU64::new(0) }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Counts a request of `client` to the API, and as a chat where it `is_chat`. Who is over the limit of the API is
    /// not counted as a chat.
    pub fn request(&self, client: Client, is_chat: bool, now: Instant) -> Verdict {
        let Rules { api, chat, .. } = &self.rules;
        let verdict = self.with(|state| {
            let standing = match api.as_ref().map(|rule| state.api.take(client, rule, now)) {
                None => None,
                Some(Ok(left)) => Some(Standing { remaining: left.remaining, reset: left.reset }),
                Some(Err(Over { retry_after })) => {
                    let standing = Some(Standing { remaining: 0, reset: retry_after });
                    return Verdict { standing, admitted: Err(Refused { scope: Scope::Api, retry_after }) };
                }
            };
            let chats = chat.as_ref().filter(|_| is_chat).map(|rule| state.chat.take(client, rule, now));
            let over = |Over { retry_after }| Refused { scope: Scope::Chat, retry_after };
            Verdict { standing, admitted: chats.map_or(Ok(()), |taken| taken.map(drop).map_err(over)) }
        });
        let verdict = verdict.unwrap_or(Verdict::UNLIMITED);
        self.count(verdict.admitted.err());
        verdict
    }

    /// Whether somebody may try to log in, to be asked before the password is looked at. Of that user a try counts as failed
    /// until it is known to have been none ([`Limiter::login_succeeded`], [`Limiter::login_abandoned`]): many at once are no
    /// way round the limit. Of the address, where many people may be, what has failed counts alone, and how many try at the
    /// same time has a limit of its own.
    ///
    /// # Errors
    ///
    /// [`Refused`]: locked out, or one of too many at once; the password must not be looked at.
    pub fn login_allowed(&self, login: Login, now: Instant) -> Result<(), Refused> {
        let Rules { login: pair, address, .. } = &self.rules;
        let of = |scope| move |Over { retry_after }| Refused { scope, retry_after };
        let taken = self.with(|state| {
            if let Some(rule) = pair {
                state.login.look(login, rule, now).map_err(of(Scope::Login))?;
            }
            if let Some(rule) = address {
                state.addresses.look(login.from, rule, now).map_err(of(Scope::Address))?;
                let crowded = |_| Refused { scope: Scope::Tries, retry_after: TRIES_PASS_IN };
                state.tries.look(login.from, &TRIES, now).map_err(crowded)?;
                state.tries.add(login.from, 1, &TRIES, now);
            }
            if let Some(rule) = pair {
                state.login.add(login, 1, rule, now);
            }
            Ok(())
        });
        let taken = taken.unwrap_or(Ok(()));
        self.count(taken.err());
        taken
    }

    /// The password was wrong. The last try that the limit allows begins the lockout.
    pub fn login_failed(&self, login: Login, now: Instant) {
        self.with(|state| {
            if let Some(rule) = &self.rules.login {
                state.login.block_at_limit(login, rule, now);
            }
            state.tries.give_back(login.from, now);
            if let Some(rule) = &self.rules.address {
                state.addresses.add(login.from, 1, rule, now);
                state.addresses.block_at_limit(login.from, rule, now);
            }
        });
    }

    /// The password was right: what failed before is forgotten of that user, and not of the address, where somebody may
    /// have an account of their own to begin anew by.
    pub fn login_succeeded(&self, login: Login, now: Instant) {
        self.with(|state| {
            state.login.forget(login);
            state.tries.give_back(login.from, now);
        });
    }

    /// Nobody has looked at the password: the try has not happened.
    pub fn login_abandoned(&self, login: Login, now: Instant) {
        self.with(|state| {
            state.login.give_back(login, now);
            state.tries.give_back(login.from, now);
        });
    }

    /// Whether `agent` may be asked by its own `limit`; one that is 0 is none.
    ///
    /// # Errors
    ///
    /// [`Refused`]: it was asked, or has answered, as much as it may in a minute. Nothing is counted.
    pub fn agent_request(&self, agent: &str, limit: RateLimit, now: Instant) -> Result<(), Refused> {
        let [requests, tokens] =
            [limit.requests_per_minute, limit.tokens_per_minute].map(|max| max.filter(|max| *max > 0));
        if requests.or(tokens).is_none() {
            return Ok(());
        }
        let taken = self.with(|state| {
            if let Some(max) = tokens {
                state.agents.look(OfAgent::new(agent, Counted::Tokens), &Rule::a_minute(max), now)?;
            }
            if let Some(max) = requests {
                state.agents.take(OfAgent::new(agent, Counted::Requests), &Rule::a_minute(max), now)?;
            }
            Ok(())
        });
        self.refuse(taken, Scope::Agent)
    }

    /// `agent` has answered, and that took `tokens`, question and answer together.
    pub fn agent_spent(&self, agent: &str, limit: RateLimit, tokens: u64, now: Instant) {
        if let Some(max) = limit.tokens_per_minute.filter(|max| *max > 0) {
            let key = OfAgent::new(agent, Counted::Tokens);
            self.with(|state| state.agents.add(key, tokens, &Rule::a_minute(max), now));
        }
    }

    /// Refusals since the start, by what refused.
    pub fn refused_total(&self) -> [(&'static str, u64); 6] {
        Scope::ALL.map(|scope| (scope.as_str(), self.refused[scope.index()].load(Ordering::Relaxed)))
    }

    /// Panics inside, since the start; at each the counts were lost and a request was let through.
    pub fn faults_total(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Those let through uncounted since the start, or the last fault, because everybody in their place was at the limit.
    pub fn uncounted_total(&self) -> u64 {
        let sum = |state: &mut State| {
            let clients = state.api.uncounted() + state.chat.uncounted();
            let logins = state.login.uncounted() + state.addresses.uncounted() + state.tries.uncounted();
            clients + logins + state.agents.uncounted()
        };
        self.with(sum).unwrap_or_default()
    }

    /// Keys in memory, by limit.
    pub fn keys(&self) -> [(&'static str, usize); 6] {
        let lens = |state: &mut State| {
            let State { api, chat, login, addresses, tries, agents } = state;
            [api.len(), chat.len(), login.len(), addresses.len(), tries.len(), agents.len()]
        };
        let lens = self.with(lens).unwrap_or_default();
        Scope::ALL.map(|scope| (scope.as_str(), lens[scope.index()]))
    }

    fn refuse(&self, taken: Option<Result<(), Over>>, scope: Scope) -> Result<(), Refused> {
        let taken = taken.unwrap_or(Ok(())).map_err(|Over { retry_after }| Refused { scope, retry_after });
        self.count(taken.err());
        taken
    }

    fn count(&self, refused: Option<Refused>) {
        if let Some(Refused { scope, .. }) = refused {
            self.refused[scope.index()].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Works on the tables; `None` where that panicked, after which they are empty.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            self.begin_again(&mut state);
            self.state.clear_poison();
            state
        });
        // What is half changed is thrown away.
        let worked = catch_unwind(AssertUnwindSafe(|| work(&mut state)));
        worked.inspect_err(|_| self.begin_again(&mut state)).ok()
    }

    fn begin_again(&self, state: &mut State) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        *state = State::new(&self.rules);
    }
}
