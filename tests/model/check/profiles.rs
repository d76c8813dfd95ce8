//! What is searched, and what is known of each clause that is left out.

/// In well under two minutes: every line holds, and reaches all that it names.
pub const SMALL: [&str; 12] = [
    "counters=3",
    "counters=3 writes=1 parts=1",
    "hands=1",
    "refusals=1",
    "disks=1 lose=4 versions=2 writes=1",
    "disks=1 lose=3 versions=4 writes=1",
    "spare=1 versions=2 writes=1",
    "start=1 versions=3 writes=1",
    "start=1 versions=3 writes=1 alone=1",
    "start=2 versions=2 writes=1 alone=1 hands=1 resumes=1",
    "start=2 versions=2 writes=1 alone=1 resumes=1 back=1",
    "spare=1 versions=2 writes=1 back=1",
];

/// Three reigns, with everything that may happen to three members that keep their disks; and the others, further than in
/// the small profile.
pub const FULL: [&str; 6] = [
    "counters=3 versions=2 crashes=2 writes=3 hands=1 parts=1 seconds=540",
    "counters=3 refusals=1 seconds=90",
    "counters=3 disks=1 lose=4 versions=2 seconds=90",
    "disks=1 lose=3 versions=4 seconds=60",
    "counters=3 spare=1 versions=2 writes=1 alone=1 back=1 seconds=60",
    "counters=3 start=1 versions=3 alone=1 back=1 seconds=60",
];

/// So many states have to be seen by these in all.
pub const FULL_STATES: usize = 10_000_000;

/// Clauses whose absence is seen, each in the smallest search that is known to see it.
pub const CAUGHT: [&str; 19] = [
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
    "without=IdCounts disks=1 lose=2 writes=1 versions=4",
    "without=OneMember spare=1 writes=1",
    "without=OneMember disks=1 lose=4 counters=3 writes=1",
    "without=BackKeepsRule start=2 versions=1 writes=1 alone=1 resumes=1 back=1",
    "without=EpochNamesMinter counters=3 writes=1",
    "without=PersistFirst",
    // Each of these two survives alone: the other one covers it.
    "without=VoteNeedsInSync without=CampaignInSync",
];

/// Clauses whose absence no search has seen yet, and which others cover each: reported, not hidden. A cluster has three
/// members at most; with more of them some of this would not hold.
pub const SURVIVES: [(&str, &str); 12] = [
    (
        "without=VoteAbovePromise writes=1",
        "R3 covers it: who is elected by votes below what the voters have promised needs a majority that stores that, and \
         of two majorities one member has promised more. What was stored before is known to that member, so that R1 asks \
         it of the later candidate. Two votes in one epoch are for one candidate, as an epoch names its minter",
    ),
    ("without=VoteNeedsInSync", "CampaignInSync covers it: both left out are caught"),
    ("without=CampaignInSync", "VoteNeedsInSync covers it: both left out are caught"),
    (
        "without=VoteNeedsMember disks=1 lose=4 versions=2 writes=1",
        "VoteNeedsConfig and VoteNeedsInSync cover it: a candidate is in its own configuration, which is not older than \
         the voter's; where that one has no such member the candidate's is newer, and goes before it",
    ),
    ("without=VoteNeedsMember disks=1 lose=3 versions=4 writes=1", "as before, of a data node that was removed"),
    (
        "without=BlankIsNobody disks=1 lose=4 versions=2 writes=1",
        "IdCounts and the new id cover it: what was promised under the old id counts for nobody, and a node that has never \
         promised anything under the new one has forgotten nothing",
    ),
    (
        "without=BlankStoresOwn disks=1 lose=4 versions=2 writes=1",
        "BlankIsNobody covers it, which goes by the members of what is stored: what does not name it makes it none",
    ),
    (
        "without=BlankIsNobody without=BlankStoresOwn disks=1 lose=4 versions=2 writes=1",
        "what one has stored that does not name it only makes it vote for fewer",
    ),
    (
        "without=OldMajority start=1 versions=3 writes=1",
        "OneMember covers it: majorities of two sets that differ by one member meet",
    ),
    ("without=AllOfNew start=1 versions=3 writes=1", "OneMember covers it, as before"),
    (
        "without=OldMajority without=AllOfNew spare=1 versions=2 writes=1",
        "OneMember covers both: a majority of the new ones is left, and meets every majority of the old ones",
    ),
    (
        "start=1 versions=3 writes=1 without=VoteAbovePromise without=VoteNeedsInSync without=VoteNeedsMember \
         without=BlankIsNobody without=BlankStoresOwn without=OldMajority without=AllOfNew",
        "nor do all of these cover each other: what is kept covers them",
    ),
];
