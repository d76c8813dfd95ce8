/// What keeps two nodes from acknowledging against each other, clause by clause, by the names of the rules in the
/// specification of the register. Every one is kept always; a build with `--cfg faults` can leave one out, so that the
/// model checker and the simulator are seen to miss it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clause {
    /// R1: a vote is for an epoch above everything that was promised.
    VoteAbovePromise,
    /// R1: the candidate's configuration is not older than the voter's.
    VoteNeedsConfig,
    /// R1: the candidate is in its own in-sync set.
    VoteNeedsInSync,
    /// R1: the candidate is a member, as the voter knows them.
    VoteNeedsMember,
    /// R2: a majority of the members elects.
    ElectedByMajority,
    /// R2: an elected node serves once a majority has stored that it leads.
    ServeWhenStored,
    /// R3: nothing is stored of an epoch below what was promised.
    StoreAbovePromise,
    /// R3: nor what is not newer.
    StoreNewer,
    /// R4: a member that is dropped is needed until that is stored.
    DropWhenStored,
    /// R4: one that is added is needed from the proposal on.
    AddAtOnce,
    /// R5: one is added that has everything that was acknowledged.
    AddNeedsAcknowledged,
    /// R5: and the whole journal that the reign began with.
    AddNeedsInherited,
    /// R6: records are taken from the primary of the promised epoch, and from nobody else.
    AppendAbovePromise,
    /// R6: who votes for another, or stores another's reign, leads no more.
    VoteDemotes,
    /// R7: one change is under way at a time.
    OnePending,
    /// R7: members of the in-sync set campaign, and nobody else.
    CampaignInSync,
    /// R8: who is no member, or does not remember that it is one, does not vote.
    BlankIsNobody,
    /// R8: it stores what makes it a member, and nothing else.
    BlankStoresOwn,
    /// R8: what a former member has flushed does not count for the one in its place.
    IdCounts,
    /// R9: a change of members is stored by a majority of the old ones.
    OldMajority,
    /// R9: and by all of the new ones.
    AllOfNew,
    /// R9: members change one at a time.
    OneMember,
    /// R9: a change of members is taken back under the rule that it was proposed with.
    BackKeepsRule,
    /// R9: votes and what is stored count from members, and from nobody else.
    MembersCount,
    /// An epoch is minted by one member: it has its number in it.
    EpochNamesMinter,
    /// Promises are on disk before anybody hears of them.
    PersistFirst,
}

#[cfg(faults)]
impl Clause {
    pub const ALL: [Self; 26] = [
        Self::VoteAbovePromise,
        Self::VoteNeedsConfig,
        Self::VoteNeedsInSync,
        Self::VoteNeedsMember,
        Self::ElectedByMajority,
        Self::ServeWhenStored,
        Self::StoreAbovePromise,
        Self::StoreNewer,
        Self::DropWhenStored,
        Self::AddAtOnce,
        Self::AddNeedsAcknowledged,
        Self::AddNeedsInherited,
        Self::AppendAbovePromise,
        Self::VoteDemotes,
        Self::OnePending,
        Self::CampaignInSync,
        Self::BlankIsNobody,
        Self::BlankStoresOwn,
        Self::IdCounts,
        Self::OldMajority,
        Self::AllOfNew,
        Self::OneMember,
        Self::BackKeepsRule,
        Self::MembersCount,
        Self::EpochNamesMinter,
        Self::PersistFirst,
    ];
}
