use super::table::{Left, Over, Table};
use super::*;
use crate::clock;
use crate::protocol::agent::RateLimit;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    let login = Rule { max: 5, window: 15 * MINUTE, block: 15 * MINUTE };
    Rules {
        api: Some(Rule { max: 1000, window: MINUTE, block: Duration::ZERO }),
        chat: Some(Rule { max: 100, window: MINUTE, block: MINUTE }),
        login: Some(login),
        address: Some(Rule { max: 50, ..login }),
        keys_max: 1024,
    }
}

fn at(address: &str) -> Client {
    Client::at(address.parse().unwrap())
}

/// A limiter and the time that its events happen at.
struct World {
    limiter: Limiter,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { limiter: Limiter::new(rules()), now: clock::now() }
    }

    fn ask(&self, client: Client) -> Verdict {
        self.limiter.request(client, false, self.now)
    }

    fn chat(&self, client: Client) -> Result<(), Refused> {
        self.limiter.request(client, true, self.now).admitted
    }

    fn refused(&self, scope: &str) -> u64 {
        self.limiter.refused_total().into_iter().find(|(name, _)| *name == scope).unwrap().1
    }
}

#[test]
fn a_client_is_told_what_is_left_and_when_all_of_it_is_back() {
    let mut world = World::new();
    let me = at("203.0.113.7");
    for asked in 1..=1000 {
        let standing = Standing { remaining: 1000 - asked, reset: MINUTE };
        assert_eq!(world.ask(me), Verdict { standing: Some(standing), admitted: Ok(()) });
    }
    world.now += 20 * SECOND;
    let refused = world.ask(me);
    let reset = 40 * SECOND;
    assert_eq!(refused.standing, Some(Standing { remaining: 0, reset }));
    assert_eq!(refused.admitted, Err(Refused { scope: Scope::Api, retry_after: reset }));
    assert_eq!(world.ask(at("203.0.113.8")).admitted, Ok(()), "another client has a limit of its own");
    world.now += Duration::from_nanos(39_999_999_999);
    assert_eq!(world.ask(me).admitted.unwrap_err().retry_after, Duration::from_nanos(1), "truthful to the end");
    world.now += Duration::from_nanos(1);
    assert_eq!(world.ask(me).standing, Some(Standing { remaining: 999, reset: MINUTE }));
    assert_eq!(world.refused("api"), 2);
}

#[test]
fn one_chat_too_many_blocks_chats_for_a_minute_from_then_and_nothing_else() {
    let mut world = World::new();
    let me = at("203.0.113.7");
    for _ in 0..100 {
        assert_eq!(world.chat(me), Ok(()));
    }
    world.now += 50 * SECOND;
    let refused = |retry_after| Err(Refused { scope: Scope::Chat, retry_after });
    assert_eq!(world.chat(me), refused(MINUTE), "the window would have been over in 10 s");
    assert_eq!(world.ask(me).admitted, Ok(()), "what is no chat goes on");
    world.now += 59 * SECOND;
    assert_eq!(world.chat(me), refused(SECOND), "who goes on asking is not blocked for longer");
    world.now += SECOND;
    assert_eq!(world.chat(me), Ok(()));
    assert_eq!((world.refused("chat"), world.refused("api")), (2, 0));
}

#[test]
fn a_block_shorter_than_the_window_does_not_end_it() {
    let rule = Rule { max: 1, window: MINUTE, block: SECOND };
    let (mut table, now) = (Table::new(64), clock::now());
    assert!(table.take(1, &rule, now).is_ok());
    assert_eq!(table.take(1, &rule, now), Err(Over { retry_after: MINUTE }));
}

#[test]
fn who_is_over_the_limit_of_the_api_is_not_counted_as_a_chat_too() {
    let world = World::new();
    let me = at("203.0.113.7");
    for _ in 0..1000 {
        world.ask(me);
    }
    assert_eq!(world.chat(me).unwrap_err().scope, Scope::Api);
    assert_eq!(
        world.limiter.keys(),
        [("api", 1), ("chat", 0), ("login", 0), ("address", 0), ("tries", 0), ("agent", 0)]
    );
}

#[test]
fn a_network_of_ipv6_is_one_client_and_an_address_of_ipv4_is_one_however_it_is_written() {
    assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff:ffff:ffff:ffff"));
    assert_ne!(at("2001:db8:1:2::1"), at("2001:db8:1:3::1"));
    assert_eq!(at("::ffff:203.0.113.7"), at("203.0.113.7"));
    assert_ne!(at("203.0.113.7"), at("203.0.113.8"));
    assert_ne!(Client::User(1), at("::1"));
}

#[test]
fn the_sixth_failed_login_is_refused_whoever_else_fails_or_succeeds() {
    let mut world = World::new();
    let address: IpAddr = "203.0.113.7".parse().unwrap();
    let login = Login::new(address, "admin");
    let limiter = &world.limiter;
    for _ in 0..5 {
        assert_eq!(limiter.login_allowed(login, world.now), Ok(()));
        world.now += MINUTE;
        limiter.login_failed(login, world.now);
    }
    let locked = limiter.login_allowed(Login::new(address, " Admin "), world.now).unwrap_err();
    let expected = Refused { scope: Scope::Login, retry_after: 15 * MINUTE };
    assert_eq!(locked, expected, "from the fifth failure on, and the case does not matter");
    for other in [Login::new(address, "admin2"), Login::new("203.0.113.8".parse().unwrap(), "admin")] {
        assert_eq!(limiter.login_allowed(other, world.now), Ok(()));
        limiter.login_succeeded(other, world.now);
    }
    world.now += 899 * SECOND;
    assert_eq!(
        limiter.login_allowed(login, world.now).unwrap_err().retry_after,
        SECOND,
        "asking again changes nothing"
    );
    world.now += SECOND;
    assert_eq!(limiter.login_allowed(login, world.now), Ok(()));
    assert_eq!(world.refused("login"), 2);
}

#[test]
fn tries_at_the_same_time_are_no_way_round_the_limit_of_logins() {
    let world = World::new();
    let login = Login::new("203.0.113.7".parse().unwrap(), "admin");
    let allowed = || world.limiter.login_allowed(login, world.now).is_ok();
    let begun = (0..10).filter(|_| allowed()).count();
    assert_eq!(begun, 5, "no password has been looked at yet");
    world.limiter.login_abandoned(login, world.now);
    assert!(allowed(), "one of them has not happened");
    assert!(!allowed());
    world.limiter.login_succeeded(login, world.now);
    assert!(allowed(), "the right password forgives the wrong ones");
}

#[test]
fn names_that_nobody_has_are_no_way_round_the_limit_of_an_address_nor_is_an_account_of_ones_own() {
    let mut world = World::new();
    let at = |name: &str| Login::new("203.0.113.7".parse().unwrap(), name);
    for tried in 0..50 {
        let login = at(&format!("name-{tried}"));
        assert_eq!(world.limiter.login_allowed(login, world.now), Ok(()), "{tried}");
        world.limiter.login_failed(login, world.now);
        if tried == 40 {
            assert_eq!(world.limiter.login_allowed(at("own"), world.now), Ok(()));
            world.limiter.login_succeeded(at("own"), world.now);
            assert_eq!(world.limiter.login_allowed(at("full"), world.now), Ok(()));
            world.limiter.login_abandoned(at("full"), world.now);
        }
        world.now += SECOND;
    }
    let refused = world.limiter.login_allowed(at("own"), world.now).unwrap_err();
    assert_eq!(refused, Refused { scope: Scope::Address, retry_after: 14 * MINUTE + 59 * SECOND });
    let elsewhere = Login::new("203.0.113.8".parse().unwrap(), "own");
    assert_eq!(world.limiter.login_allowed(elsewhere, world.now), Ok(()));
    assert_eq!((world.refused("address"), world.refused("login")), (1, 0));
    world.now += 15 * MINUTE;
    assert_eq!(world.limiter.login_allowed(at("own"), world.now), Ok(()));
}

/// Goal: an office where everybody logs in at nine is not locked out. Method: more people at once than may be looked at,
/// again and again, and none of them fails.
#[test]
fn people_who_log_in_at_once_from_one_address_wait_a_moment_and_lock_nobody_out() {
    let world = World::new();
    let at = |name: usize| Login::new("203.0.113.7".parse().unwrap(), &format!("name-{name}"));
    for round in 0..10 {
        for name in 0..16 {
            assert_eq!(world.limiter.login_allowed(at(name), world.now), Ok(()), "{round} {name}");
        }
        let crowded = world.limiter.login_allowed(at(16), world.now).unwrap_err();
        assert_eq!(crowded, Refused { scope: Scope::Tries, retry_after: SECOND });
        world.limiter.login_succeeded(at(0), world.now);
        assert_eq!(world.limiter.login_allowed(at(16), world.now), Ok(()), "one is over");
        for name in 1..17 {
            world.limiter.login_succeeded(at(name), world.now);
        }
    }
    assert_eq!((world.refused("tries"), world.refused("address"), world.refused("login")), (10, 0, 0));
}

#[test]
fn a_login_that_is_never_heard_of_again_is_over_some_time() {
    let mut world = World::new();
    let at = |name: usize| Login::new("203.0.113.7".parse().unwrap(), &format!("name-{name}"));
    for name in 0..16 {
        assert_eq!(world.limiter.login_allowed(at(name), world.now), Ok(()));
    }
    assert!(world.limiter.login_allowed(at(16), world.now).is_err());
    world.now += 10 * SECOND;
    assert_eq!(world.limiter.login_allowed(at(16), world.now), Ok(()));
}

#[test]
fn an_agent_has_limits_of_its_own_that_may_change_at_any_time() {
    let mut world = World::new();
    let limit = |requests, tokens| RateLimit { requests_per_minute: requests, tokens_per_minute: tokens };
    let ask = |world: &World, agent, limit| {
        let asked = world.limiter.agent_request(agent, limit, world.now);
        asked.map_err(|refused| (refused.scope, refused.retry_after))
    };
    let spend = |world: &World, tokens| world.limiter.agent_spent("a", limit(None, Some(1000)), tokens, world.now);
    for unlimited in [limit(None, None), limit(Some(0), Some(0))] {
        assert!((0..1000).all(|_| ask(&world, "a", unlimited).is_ok()));
    }
    assert!((0..2).all(|_| ask(&world, "a", limit(Some(2), None)).is_ok()));
    assert_eq!(ask(&world, "a", limit(Some(2), None)), Err((Scope::Agent, MINUTE)));
    assert_eq!(ask(&world, "b", limit(Some(2), None)), Ok(()));
    world.now += MINUTE;
    assert_eq!(ask(&world, "a", limit(Some(1), None)), Ok(()));
    assert_eq!(ask(&world, "a", limit(Some(1), None)), Err((Scope::Agent, MINUTE)));
    spend(&world, 999);
    assert_eq!(ask(&world, "a", limit(None, Some(1000))), Ok(()));
    world.now += SECOND;
    spend(&world, u64::MAX);
    assert_eq!(ask(&world, "a", limit(None, Some(1000))), Err((Scope::Agent, 59 * SECOND)));
    assert_eq!(ask(&world, "a", limit(Some(9), Some(1000))), Err((Scope::Agent, 59 * SECOND)), "either refuses");
    world.now += MINUTE;
    assert_eq!(ask(&world, "a", limit(None, Some(1000))), Ok(()));
}

#[test]
fn a_limit_that_is_off_counts_nothing() {
    let off = Rules { api: None, chat: None, login: None, address: None, keys_max: 1024 };
    let (limiter, now) = (Limiter::new(off), clock::now());
    let me = at("203.0.113.7");
    assert!((0..2000).all(|_| limiter.request(me, true, now) == Verdict { standing: None, admitted: Ok(()) }));
    let login = Login::new("203.0.113.7".parse().unwrap(), "admin");
    assert!((0..20).all(|_| limiter.login_allowed(login, now).is_ok()));
    assert!(limiter.keys().iter().all(|(_, keys)| *keys == 0));
}

#[test]
fn a_fault_inside_lets_the_request_through_and_is_counted_and_the_limit_works_again_after_it() {
    let world = World::new();
    let me = at("203.0.113.7");
    while world.ask(me).admitted.is_ok() {}
    let panicked = world.limiter.with(|_| -> Verdict { panic!("on purpose, in a test") });
    assert_eq!((panicked, world.limiter.faults_total()), (None, 1), "a request that met it is let through");
    assert_eq!(world.ask(me).standing.map(|standing| standing.remaining), Some(999), "the counts are lost");
    std::thread::scope(|scope| {
        let poisoner = scope.spawn(|| {
            let _state = world.limiter.state.lock();
            panic!("on purpose, in a test");
        });
        assert!(poisoner.join().is_err());
    });
    assert!(world.limiter.state.is_poisoned());
    assert_eq!(world.ask(me).admitted, Ok(()));
    assert_eq!(world.limiter.faults_total(), 2);
    while world.ask(me).admitted.is_ok() {}
    assert!(!world.limiter.state.is_poisoned());
    assert_eq!(world.limiter.faults_total(), 2);
}

#[test]
fn many_addresses_neither_free_one_that_is_blocked_nor_take_more_memory() {
    let world = World::new();
    let victim = at("203.0.113.7");
    while world.chat(victim).is_ok() {}
    for number in 0..200_000_u128 {
        // A network each: one machine with a /32 has more of them than this.
        let network = std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) | (number << 64));
        assert_eq!(world.chat(Client::at(network.into())), Ok(()));
    }
    assert_eq!(world.chat(victim).unwrap_err().scope, Scope::Chat, "still blocked");
    assert_eq!(world.limiter.keys().map(|(_, keys)| keys), [1024, 1024, 0, 0, 0, 0]);
}

#[test]
fn where_everybody_is_at_the_limit_a_newcomer_is_let_through_uncounted_and_that_is_counted() {
    let rule = Rule { max: 2, window: MINUTE, block: Duration::ZERO };
    let (mut table, now) = (Table::with_buckets(1, 2), clock::now());
    for key in [1, 1, 2, 2] {
        table.take(key, &rule, now).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(table.take(3, &rule, now), Ok(Left { remaining: 1, reset: MINUTE }));
    }
    assert_eq!((table.uncounted(), table.len()), (3, 2));
    assert!(table.take(1, &rule, now).is_err());
    let later = now + MINUTE;
    assert_eq!(table.take(3, &rule, later), Ok(Left { remaining: 1, reset: MINUTE }), "whose time is over makes room");
    assert_eq!(table.uncounted(), 3);
}

#[test]
fn who_was_driven_out_does_not_begin_at_zero_while_the_window_lasts() {
    let rule = Rule { max: 3, window: MINUTE, block: Duration::ZERO };
    let (mut table, began) = (Table::with_buckets(1, 2), clock::now());
    let mut take = |key, after: u32| {
        table.take(key, &rule, began + after * SECOND).map(|left| left.remaining).map_err(|over| over.retry_after)
    };
    assert_eq!([take("long", 0), take("long", 0)], [Ok(2), Ok(1)]);
    assert_eq!(take("short", 30), Ok(2));
    assert_eq!(take("other", 40), Ok(1), "it drives `short` out, and begins where that was");
    // The time of `long` is over: there is room for `short` again, whose own time is not.
    assert_eq!([take("short", 61), take("short", 62)], [Ok(1), Ok(0)]);
    assert_eq!(take("short", 63), Err(58 * SECOND));
    assert_eq!(take("new", 101), Ok(2), "the floor is over, as is the time of `other`");
}

/// What is asked of a limiter, with who and how long after the one before.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Take,
    Look,
    Add(u64),
    Forget,
}

fn histories(keys: u8) -> impl Strategy<Value = Vec<(Asked, u8, u64)>> {
    let asked = prop_oneof![
        8 => Just(Asked::Take), 1 => Just(Asked::Look), 1 => (0..4_u64).prop_map(Asked::Add), 1 => Just(Asked::Forget),
    ];
    proptest::collection::vec((asked, 0..keys, 0..400_u64), 1..400)
}

/// The rule, with as much memory as it wants: each key's count and when that ends.
#[derive(Default)]
struct Naive(HashMap<u8, (u64, Instant)>);

impl Naive {
    fn take(&mut self, key: u8, rule: &Rule, now: Instant) -> Result<Left, Over> {
        let (count, ends_at) = self.of(key, rule, now);
        if count >= u64::from(rule.max) {
            let first = count == u64::from(rule.max);
            let ends_at = if first { ends_at.max(now + rule.block) } else { ends_at };
            self.0.insert(key, (u64::from(rule.max) + 1, ends_at));
            return Err(Over { retry_after: ends_at - now });
        }
        self.0.insert(key, (count + 1, ends_at));
        let remaining = rule.max - u32::try_from(count + 1).unwrap();
        Ok(Left { remaining, reset: ends_at - now })
    }

    fn of(&self, key: u8, rule: &Rule, now: Instant) -> (u64, Instant) {
        self.0.get(&key).copied().filter(|(_, ends_at)| *ends_at > now).unwrap_or((0, now + rule.window))
    }

    fn look(&self, key: u8, rule: &Rule, now: Instant) -> Result<(), Over> {
        let (count, ends_at) = self.of(key, rule, now);
        if count >= u64::from(rule.max) { Err(Over { retry_after: ends_at - now }) } else { Ok(()) }
    }

    fn add(&mut self, key: u8, more: u64, rule: &Rule, now: Instant) {
        let (count, ends_at) = self.of(key, rule, now);
        self.0.insert(key, (count + more, ends_at));
    }
}

proptest! {
    /// As long as there is room for every key, the table answers what one without a limit would.
    #[test]
    fn with_room_it_is_what_a_table_without_a_limit_would_be(
        history in histories(16), (max, block) in (1..6_u32, 0..2000_u64),
    ) {
        let rule = Rule { max, window: SECOND, block: Duration::from_millis(block) };
        let (mut table, mut naive, mut now) = (Table::with_buckets(1, 16), Naive::default(), clock::now());
        for (asked, key, passed) in history {
            now += Duration::from_millis(passed);
            match asked {
                Asked::Take => prop_assert_eq!(table.take(key, &rule, now), naive.take(key, &rule, now)),
                Asked::Look => prop_assert_eq!(table.look(key, &rule, now), naive.look(key, &rule, now)),
                Asked::Add(more) => {
                    table.add(key, more, &rule, now);
                    naive.add(key, more, &rule, now);
                }
                Asked::Forget => {
                    table.forget(key);
                    naive.0.remove(&key);
                }
            }
        }
        prop_assert_eq!(table.uncounted(), 0);
    }

    /// However many keys fight for a few places, none gets more in any of its windows than the limit, unless it was let
    /// through uncounted, which only happens while everybody else is at the limit.
    #[test]
    fn without_room_nobody_gets_more_than_the_limit(history in histories(12), max in 1..6_u32) {
        let rule = Rule { max, window: SECOND, block: Duration::ZERO };
        let (mut table, mut now) = (Table::with_buckets(1, 3), clock::now());
        let mut admitted: HashMap<u8, Vec<Instant>> = HashMap::new();
        for (_, key, passed) in history {
            now += Duration::from_millis(passed / 8);
            let uncounted = table.uncounted();
            let taken = table.take(key, &rule, now);
            prop_assert!(table.len() <= 3);
            if taken.is_ok() && table.uncounted() == uncounted {
                admitted.entry(key).or_default().push(now);
            }
        }
        for (key, times) in admitted {
            // A key begins at zero only when all its earlier windows are over: what it gets from then on to the next time
            // is one limit's worth, and a stretch as long as a window meets two such.
            for (index, first) in times.iter().enumerate() {
                let within = times[index..].iter().take_while(|time| **time - *first < SECOND).count();
                prop_assert!(within <= 2 * usize::try_from(max).unwrap(), "{} had {}", key, within);
            }
        }
    }
}
