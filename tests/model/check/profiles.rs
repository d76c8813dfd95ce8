//! What is searched, and what is known of each clause that is left out.

/// In well under two minutes: every line holds, and reaches all that it names.
pub const SMALL: [&str; 16] = [
    "counters=3",
    "counters=3 writes=1 parts=1",
    "hands=1",
    "refusals=1",
    "disks=1 lose=4 versions=2 writes=1",
    "disks=1 lose=3 versions=4 writes=1",
    "spare=1 versions=2 writes=1",
    "places=1 disks=1 lose=4 versions=2 writes=1 crashes=0",
    "removed=1 writes=1",
    "forgot=1 versions=0 writes=1",
    "backs=1 back=4 writes=1 crashes=0",
    "start=1 versions=3 writes=1",
    "start=1 versions=3 writes=1 alone=1",
    "start=2 versions=2 writes=1 alone=1 hands=1 resumes=1",
    "start=2 versions=2 writes=1 alone=1 resumes=1 retracts=1",
    "spare=1 versions=2 writes=1 retracts=1",
];

/// Further, each line to its end: three reigns, a line for each kind of events, as all of them at once come to no end in
/// any time. Lines have states in common, which are counted in each.
pub const FULL: [&str; 17] = [
    "counters=3 versions=2 crashes=2",
    "counters=3 versions=2 writes=3",
    "counters=3 versions=2 hands=1",
    "counters=3 versions=2 parts=1",
    "counters=3 refusals=1 writes=1",
    "counters=3 disks=1 lose=4 versions=2 writes=1",
    "counters=3 disks=1 lose=3 versions=4 writes=1",
    "counters=3 spare=1 versions=2 alone=1",
    "counters=3 start=1 versions=3",
    "counters=3 start=1 versions=3 alone=1",
    "counters=3 start=2 versions=2 writes=1 alone=1 hands=1 resumes=1",
    "spare=1 versions=2 writes=1 alone=1 retracts=1",
    "start=2 versions=2 writes=1 alone=1 hands=1 resumes=1 retracts=1",
    // Two reigns only: who has lost its memory may be told anything again, so that no packet can be forgotten.
    "places=1 disks=1 lose=4 versions=2 writes=1",
    "backs=1 back=4 writes=1",
    "backs=1 back=2 writes=1",
    "backs=1 back=1 writes=1",
];

/// So many states have to be seen by these in all.
pub const FULL_STATES: usize = 10_000_000;

/// Clauses whose absence is seen, each in the smallest search that is known to see it.
pub const CAUGHT: [&str; 23] = [
    "without=VoteAbovePromise",
    "without=VoteNeedsConfig",
    "without=ElectedByMajority",
    "without=ServeWhenStored",
    "without=StoreAbovePromise",
    "without=StoreNewer versions=3 writes=1",
    "without=DropWhenStored",
    "without=AddAtOnce counters=3 versions=2",
    "without=AddNeedsAcknowledged counters=3 versions=2",
    "without=AddNeedsInherited counters=3 writes=1 parts=1",
    "without=AppendAbovePromise counters=3",
    "without=VoteDemotes",
    "without=OnePending versions=3 writes=1",
    // In a world in which a member without its memory has its old id: with a new one MembersCount backs it, see below.
    "without=BlankIsNobody forgot=1 versions=0 writes=1",
    "without=IdCounts disks=1 lose=2 writes=1 versions=4",
    "without=OneMember spare=1 writes=1",
    "without=OneMember disks=1 lose=4 counters=3 writes=1",
    "without=BackKeepsRule start=2 versions=1 writes=1 alone=1 resumes=1 retracts=1",
    "without=EpochNamesMinter counters=3 writes=1",
    "without=PersistFirst",
    // R8, which is not the register's but its driver's: nobody looks at what one that was put back had shown.
    "trusts=1 backs=1 back=4 writes=1 crashes=0",
    "trusts=1 backs=1 back=2 writes=1 crashes=0",
    "trusts=1 backs=1 back=1 writes=1 crashes=0",
];

/// What the rules do not promise, and the search finds: no member may be put back from a copy of what it had promised.
pub const OPEN: [(&str, &str); 1] = [(
    "late=1 backs=1 back=4 writes=1 crashes=0",
    "what a member had said before it was put back is heard after it has greeted again: R8 is of the best effort",
)];

/// Two clauses that back each other: within the same bounds each of them can be left out alone, and not both.
pub struct Backed {
    /// The bounds, and what is left out besides in each of the three searches.
    pub within: &'static str,
    pub clauses: [&'static str; 2],
}

impl Backed {
    pub fn alone(&self) -> [String; 2] {
        self.clauses.map(|clause| format!("{} without={clause}", self.within))
    }

    pub fn both(&self) -> String {
        let [one, other] = self.clauses;
        format!("{} without={one} without={other}", self.within)
    }
}

/// What shows that each clause of [`SURVIVES`] is one: with the other of its pair gone too, its absence is seen.
pub const BACKED: [Backed; 5] = [
    Backed { within: "", clauses: ["VoteNeedsInSync", "CampaignInSync"] },
    Backed { within: "removed=1 versions=0 writes=1", clauses: ["VoteNeedsMember", "VoteNeedsConfig"] },
    Backed {
        within: "places=1 disks=1 lose=4 versions=2 writes=1 crashes=0",
        clauses: ["MembersCount", "BlankIsNobody"],
    },
    Backed {
        within: "places=1 disks=1 lose=4 versions=2 writes=1 crashes=0",
        clauses: ["MembersCount", "BlankStoresOwn"],
    },
    Backed {
        within: "spare=1 campaigns=2 versions=2 writes=1 without=OneMember",
        clauses: ["OldMajority", "AllOfNew"],
    },
];

/// Clauses whose absence alone no search has seen, as others make up for each: reported, not hidden. A cluster has three
/// members at most; with more of them some of this would not hold.
pub const SURVIVES: [(&str, &str); 8] = [
    ("without=VoteNeedsInSync", "who is not in the set does not campaign either (CampaignInSync)"),
    ("without=CampaignInSync", "nobody would vote for who is not in the set (VoteNeedsInSync)"),
    (
        "without=VoteNeedsMember disks=1 lose=3 versions=4 writes=1",
        "a candidate is in its own in-sync set, and so in its own configuration. Where the voter's has no such member, \
         either that one is newer, and VoteNeedsConfig refuses, or the candidate's is, which this voter has not stored: \
         then it is not among the members of that (AllOfNew), and its vote does not count",
    ),
    (
        "without=MembersCount places=1 disks=1 lose=4 versions=2 writes=1 crashes=0",
        "who is no member is asked only where it is in the place of one, and then it is blank: it neither votes \
         (BlankIsNobody) nor stores what does not name it (BlankStoresOwn)",
    ),
    (
        "without=BlankStoresOwn places=1 disks=1 lose=4 versions=2 writes=1 crashes=0",
        "what it stores that does not name it is said under an id that is no member there, and does not count (MembersCount)",
    ),
    (
        "without=OldMajority start=1 versions=3 writes=1",
        "majorities of two sets that differ by one member meet (OneMember); and all of the new members are a majority of \
         the old ones, but where two become one, which was the whole in-sync set before (AllOfNew)",
    ),
    (
        "without=AllOfNew start=1 versions=3 writes=1",
        "majorities meet, as before: it keeps a change from resting on a member that has not stored yet that it is one",
    ),
    (
        "without=OldMajority without=AllOfNew spare=1 versions=2 writes=1",
        "a majority of the new members is still asked for, and meets every majority of the old ones (OneMember): with that \
         left out too, one of the two is needed",
    ),
];
