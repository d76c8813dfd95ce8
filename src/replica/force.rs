//! How a node takes over by an operator's word: who is there is asked first, and where a majority would elect it, it is
//! elected. What is left is force.

use super::pair::{Order, Pair, Refusal, Role, Taking, Told, name, refuse};
use super::reign::ASK_WITHIN;
use super::standing::HearError;
use crate::base::Moment;
use crate::clock;
use crate::protocol::cluster::{Config, Kind, Member, MemberId, MemberSet, Mode, Rule};
use crate::protocol::register::Why;
use crate::register::{Input, Timing};
use crate::watched::Watched;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longer than a lease that a member may have given before it lost sight of the primary, and than it takes to reach it.
const CANVASS_WITHIN: Duration = Duration::from_secs(3);
const CANVASS_AGAIN: Duration = Timing::DEFAULT.again;
/// A majority that would elect this node does so at once.
const ELECTED_WITHIN: Duration = Duration::from_secs(3);

/// How a node has taken over, or would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    pub(crate) config: Config,
    /// By the votes of a majority: nothing is lost, and nobody else leads.
    pub(crate) is_elected: bool,
    /// Who was not reached: it may go on as if nothing had happened.
    pub(crate) unreached: Vec<Member>,
    /// For a person: what is given up by force.
    pub(crate) loss: String,
}

/// What `me` gives up where it leads by force, by the configuration of before.
fn loss(config: &Config, me: MemberId) -> String {
    let primary = name(config, config.primary);
    match config.mode {
        _ if config.primary == me => {
            "it was the primary: nothing is lost, unless another node has led since".to_owned()
        }
        _ if !config.is_in_sync(me) => {
            format!("{primary} has gone on alone: what it has acknowledged since then is given up")
        }
        Mode::MaxProtection => format!("it is in sync with {primary}: nothing that was acknowledged is lost"),
        Mode::MaxAvailability => format!(
            "it was in sync with {primary} when it heard of it last: nothing is lost, unless {primary} has gone on alone since then; that would be given up"
        ),
        Mode::MaxPerformance => {
            format!("what {primary} has acknowledged and not sent yet (max-performance) is given up")
        }
    }
}

/// What a member answers to the question whether it would elect this node; `None` where it is not reached.
type Answer = Option<Result<(), Why>>;

/// What is to be done, by what everybody has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// A majority would elect this node.
    Majority,
    /// This one hears the primary.
    Hears(MemberId),
    /// These are not reached, and nobody else is in the way.
    Nobody(Vec<Member>),
}

fn find(config: &Config, me: MemberId, answer: impl Fn(MemberId) -> Answer) -> Found {
    let others = || config.others(me);
    let yes = others().filter(|member| answer(member.id) == Some(Ok(()))).map(|member| member.id);
    let yes = MemberSet::of(yes).with(me);
    if config.register == Rule::Majority && config.is_in_sync(me) && config.member_set().is_majority(yes) {
        return Found::Majority;
    }
    match others().find(|member| answer(member.id) == Some(Err(Why::Lease))) {
        Some(member) => Found::Hears(member.id),
        None => Found::Nobody(others().filter(|member| answer(member.id).is_none()).cloned().collect()),
    }
}

/// Whether another question would be answered by the same; what a lease keeps a member from it may do in a moment.
fn is_final(answer: Answer) -> bool {
    match answer {
        None | Some(Err(Why::Lease | Why::Promised | Why::OldConfig)) => false,
        Some(Ok(()) | Err(Why::NotInSync | Why::NoMember | Why::Forgotten | Why::Blank)) => true,
    }
}

/// What an operator is asked for where `off` lacks the name of a member that is not reached: a force beside one that
/// serves makes two primaries.
fn unconfirmed(unreached: &[Member], off: &[String], loss: &str) -> Option<String> {
    if unreached.iter().all(|member| off.contains(&member.name)) {
        return None;
    }
    let names: Vec<_> = unreached.iter().map(|member| member.name.as_str()).collect();
    let each: Vec<_> = unreached.iter().map(|member| format!("{} ({})", member.name, member.address)).collect();
    Some(format!(
        "not reached: {}. What this gives up: {loss}. Make sure that each is off, or cut off from clients too, and then say so: `llmchat failover --force --accept-loss --off {}`",
        each.join(", "),
        names.join(",")
    ))
}

/// Why what an operator says is off cannot be: whoever is wrong in that is wrong about more.
fn mistaken(config: &Config, me: MemberId, off: &[String], answer: impl Fn(MemberId) -> Answer) -> Option<String> {
    off.iter().find_map(|name| match config.members.iter().find(|member| member.name == *name) {
        None => Some(format!("no member is called {name}; `llmchat status` names them")),
        Some(member) if member.id == me => Some(format!("{name} is this node")),
        Some(member) if answer(member.id).is_some() => Some(format!("{name} answers here: it is not off")),
        Some(_) => None,
    })
}

impl Pair {
    /// Takes over from a primary that is gone, where `off` has the name of each member that is not reached: an operator
    /// knows that it is off, or cut off. `dry`, only says whether and how that could be done.
    pub(crate) async fn force(&self, off: &[String], dry: bool) -> Result<Takeover, Refusal> {
        if let Some(why) = self.removed() {
            return refuse(why);
        }
        let mut config = self.order(|told| Order::Force { told, how: Taking::Look }).await?;
        let began = clock::boot();
        let found = self.canvass(began).await;
        let answer = |member| self.answer_since(member, began);
        if let Some(why) = mistaken(&self.config().now(), self.me(), off, answer) {
            return refuse(why);
        }
        let unreached = match found {
            Found::Majority => None,
            Found::Hears(member) => return self.refuse_heard(member),
            Found::Nobody(unreached) => Some(self.without_answering(unreached).await?),
        };
        // It may have heard more since it looked; and after this, what it knows is of its own reign.
        let loss = loss(&self.config().now(), self.me());
        if let Some(why) = unreached.as_deref().and_then(|unreached| unconfirmed(unreached, off, &loss)) {
            return refuse(why);
        }
        let how = if unreached.is_some() { Taking::Force } else { Taking::Vote };
        if !dry {
            config = self.taken(how).await?;
        }
        Ok(Takeover { config, is_elected: unreached.is_none(), unreached: unreached.unwrap_or_default(), loss })
    }

    fn refuse_heard<T>(&self, by: MemberId) -> Result<T, Refusal> {
        let config = self.config().now();
        let (by, primary) = (name(&config, by), name(&config, config.primary));
        refuse(format!(
            "{by} hears {primary}, the primary, which leads: there would be two. `llmchat switchover` on {primary} loses nothing; or stop {primary}, and this node is elected"
        ))
    }

    /// Asks all others from `began` on, until they have answered, or might have.
    async fn canvass(&self, began: Moment) -> Found {
        loop {
            let config = self.config().now();
            if config.register == Rule::Alone {
                return Found::Nobody(config.others(self.me()).cloned().collect());
            }
            let _ = self.order_voter(Input::Canvass).await; // One that leads meanwhile is told so.
            tokio::time::sleep(CANVASS_AGAIN).await;
            let answer = |member| self.answer_since(member, began);
            let found = find(&config, self.me(), answer);
            let is_known =
                found == Found::Majority || config.others(self.me()).all(|member| is_final(answer(member.id)));
            if is_known || clock::boot().saturating_duration_since(began) >= CANVASS_WITHIN {
                return found;
            }
        }
    }

    fn answer_since(&self, member: MemberId, began: Moment) -> Answer {
        let known = self.voter().links().acquaintance(member);
        let is_fresh = known.answered_at.is_some_and(|at| at >= began);
        is_fresh.then(|| known.refusal.map_or(Ok(()), Err))
    }

    /// The other data node is asked in another way too: whether or not it votes, it must not be there.
    async fn without_answering(&self, unreached: Vec<Member>) -> Result<Vec<Member>, Refusal> {
        // It may have heard of that from whoever it has asked just now.
        if let Some(why) = self.removed() {
            return refuse(why);
        }
        let config = self.config().now();
        if let Some(member) = self.refusing(&config).await {
            return refuse(format!("{} is there, and refuses this node: stop it first", member.name));
        }
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else {
            return if unreached.is_empty() { refuse("there is no other node") } else { Ok(unreached) };
        };
        match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
            Ok(theirs) if theirs.role == Role::Primary.as_str() => {
                refuse(format!("{} answers, and leads: `llmchat switchover` there loses nothing", peer.name))
            }
            Ok(theirs) => refuse(format!("{} answers, and is {}: stop it first", peer.name, theirs.role)),
            // Whatever it says: it lives, and would go on beside this node.
            Err(error) if error.says_no_member() => refuse(error.told(&peer.name)),
            Err(error) if error.has_answered() => refuse(format!("{}. Stop it first", error.told(&peer.name))),
            Err(_) if unreached.iter().all(|member| member.id != peer.id) => {
                refuse(format!("{} answers, and does not say how it is: stop it first", peer.name))
            }
            Err(_) => Ok(unreached),
        }
    }

    /// A member that refuses to hear this node, and so lives, as far as was heard of it within the time of a canvass. The
    /// other data node is asked in another way.
    async fn refusing(&self, config: &Config) -> Option<Member> {
        let began = clock::boot();
        loop {
            let refuses = |member: &&Member| {
                member.kind == Kind::Witness && self.voter().links().acquaintance(member.id).is_refused
            };
            let member = config.others(self.me()).find(refuses)?;
            if clock::boot().saturating_duration_since(began) >= CANVASS_WITHIN {
                return Some(member.clone());
            }
            tokio::time::sleep(CANVASS_AGAIN).await;
        }
    }

    async fn taken(&self, how: Taking) -> Result<Config, Refusal> {
        let mut ordered = std::pin::pin!(self.order(|told| Order::Force { told, how }));
        loop {
            match tokio::time::timeout(ELECTED_WITHIN, &mut ordered).await {
                Ok(taken) => return taken,
                Err(_) if self.voter().view().now().reigns() => {} // It opens its store.
                Err(_) => {
                    return Err(Refusal::begun("a majority would have elected this node, and has not yet; try again"));
                }
            }
        }
    }

    /// Does what an order to take over asks of this node, which does not lead; who waits until it does, if so.
    pub(super) async fn take(&self, told: Told, how: Taking) -> Option<Told> {
        let parts = &self.0.parts;
        if parts.node.copying().ok().flatten().is_some() || !parts.log.is_begun() {
            drop(told.send(refuse("this node has no whole copy of the chats: it is still being made")));
            return None;
        }
        let taken = match how {
            Taking::Look => {
                drop(told.send(Ok(self.config().now())));
                return None;
            }
            Taking::Vote => self.order_voter(Input::Stand).await,
            Taking::Force => {
                tracing::warn!("an operator forces this node to take over");
                self.0.seat.is_cleared.store(true, Ordering::Relaxed);
                self.order_voter(Input::Force).await
            }
        };
        match taken {
            Ok(()) => Some(told),
            Err(why) => {
                drop(told.send(refuse(why)));
                None
            }
        }
    }

    /// Without a witness: whether the primary of before may go on although its peer has not said that it follows.
    pub(super) async fn can_resume_alone(&self) -> Result<(), Refusal> {
        if let Some(why) = self.outside() {
            return refuse(why);
        }
        let config = self.config().now();
        if config.register == Rule::Majority {
            return refuse(
                "a majority says who leads: this node does once it is elected, and `llmchat status` says what it waits for",
            );
        }
        let Some((peer, peers)) = config.peer_of(self.me()).cloned().zip(self.peers()) else { return Ok(()) };
        match peers.exchange(&peer, &self.standing(), ASK_WITHIN).await {
            Ok(theirs) => match self.hear(&theirs).await {
                Err(HearError::NoMemory(_)) => Ok(()),
                _ => refuse(self.why_waiting(&self.voter().view().now())),
            },
            Err(error) if error.has_answered() => refuse(error.told(&peer.name)),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::admit::tests::{add_witness, pair};
    use super::*;

    fn three() -> Config {
        let mut config = pair();
        add_witness(&mut config, "w", "10.0.0.20:7443").unwrap();
        config
    }

    /// What node 2 finds where 1 and 3 answer so.
    fn finds(config: &Config, one: Answer, witness: Answer) -> Found {
        find(config, 2, |member| if member == 1 { one } else { witness })
    }

    #[test]
    fn a_majority_that_would_elect_it_is_used_and_a_member_that_hears_the_primary_is_in_the_way() {
        let (three, away, hears) = (three(), None, Some(Err(Why::Lease)));
        assert_eq!(finds(&three, away, Some(Ok(()))), Found::Majority);
        assert_eq!(finds(&three, Some(Ok(())), away), Found::Majority);
        assert_eq!(finds(&three, away, hears), Found::Hears(3));
        assert_eq!(finds(&three, hears, away), Found::Hears(1));
        let names = |found| match found {
            Found::Nobody(members) => members.into_iter().map(|member| member.name).collect(),
            _ => vec![],
        };
        assert_eq!(names(finds(&three, away, away)), ["n1", "w"]);
        // It is there, and would be told: nothing has to be done about it.
        assert_eq!(names(finds(&three, away, Some(Err(Why::NotInSync)))), ["n1"]);
        let behind = Config { isr: vec![1], ..three };
        assert_eq!(names(finds(&behind, away, Some(Ok(())))), ["n1"], "votes are for members in sync");
        assert_eq!(names(finds(&pair(), away, away)), ["n1"]);
    }

    fn names(off: &[&str]) -> Vec<String> {
        off.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_member_that_is_not_reached_has_to_be_named() {
        let others: Vec<Member> = three().others(2).cloned().collect();
        for off in [&[][..], &["n1"], &["w"], &["n1,w"], &["N1", "w"]] {
            let asked = unconfirmed(&others, &names(off), "nothing").unwrap();
            let says_all = asked.starts_with("not reached: n1 (") && asked.contains(", w (10.0.0.20:7443)");
            assert!(
                says_all && asked.contains("gives up: nothing.") && asked.ends_with("--off n1,w`"),
                "{off:?} {asked}"
            );
        }
        assert_eq!(unconfirmed(&others, &names(&["w", "n1"]), "nothing"), None);
        assert_eq!(unconfirmed(&[], &[], "nothing"), None);
    }

    #[test]
    fn who_names_a_node_that_is_there_is_told_so() {
        let why = |off: &[&str], answers: Answer| {
            mistaken(&three(), 2, &names(off), |member| if member == 3 { answers } else { None })
        };
        assert_eq!(why(&["n1", "w"], None), None);
        assert!(why(&["w"], Some(Ok(()))).unwrap().contains("w answers here"));
        assert!(why(&["n1", "w"], Some(Err(Why::NotInSync))).unwrap().contains("w answers here"));
        assert!(why(&["n2"], None).unwrap().contains("is this node"));
        assert!(why(&["n1,w"], None).unwrap().contains("no member is called n1,w"));
    }

    #[test]
    fn what_a_force_gives_up_is_said_before_it_is_done() {
        let alone = Config { isr: vec![1], ..pair() };
        assert!(loss(&alone, 2).contains("n1 has gone on alone"));
        assert!(loss(&pair(), 2).contains("nothing is lost, unless n1 has gone on alone"));
        let safe = Config { mode: Mode::MaxProtection, ..pair() };
        assert!(loss(&safe, 2).ends_with("nothing that was acknowledged is lost"));
        assert!(loss(&Config { isr: vec![1], ..safe }, 2).contains("is given up"));
        let quick = Config { mode: Mode::MaxPerformance, ..pair() };
        assert!(loss(&quick, 2).contains("not sent yet"));
        assert!(loss(&pair(), 1).contains("unless another node has led"));
    }

    #[test]
    fn what_a_member_may_answer_in_another_way_a_moment_later_is_asked_again() {
        for passing in [Why::Lease, Why::Promised, Why::OldConfig] {
            assert!(!is_final(Some(Err(passing))), "{passing:?}");
        }
        assert!(!is_final(None) && is_final(Some(Ok(()))) && is_final(Some(Err(Why::NotInSync))));
    }
}
