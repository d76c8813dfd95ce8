use llmchat_model::register::Clause;

/// What a search covers: the bounds of the world, the events in it, and the faults that are planted.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of the command line, and any of them go together")]
pub struct Params {
    /// Reigns, the first among them.
    pub counters: u64,
    pub writes: u8,
    /// Changes of the configuration within a reign.
    pub versions: u32,
    pub crashes: u8,
    pub disks: u8,
    /// Slots whose disks may be lost, as bits.
    pub lose: u8,
    /// How often a member is put back from an older copy of what it had promised.
    pub backs: u8,
    /// Slots that may be, as bits.
    pub back: u8,
    /// Nobody looks at whether one that comes back remembers all that it had shown: the fault that R8 is against.
    pub trusts_memory: bool,
    /// What one that was put back had said before is heard afterwards too; else its connections end with it.
    pub hears_late: bool,
    /// Reigns that are handed over.
    pub hands: u8,
    /// How many members there are at first: {A}, {A, B} or {A, B, W}; all data nodes are in sync.
    pub start: u8,
    /// A has dropped B from the in-sync set at first, and B has not heard of that.
    pub is_dropped: bool,
    /// And A has removed B from the cluster.
    pub is_removed: bool,
    /// And W has come back without its memory, under its own id. No node of the product's does: one without its memory is
    /// given a new id.
    pub has_forgotten: bool,
    /// Slots of data nodes that campaign, as bits.
    pub campaigns: u8,
    /// What was sent to a member that has lost its disk reaches the node in its place.
    pub by_place: bool,
    /// Without a witness the primary alone keeps the configuration; otherwise a majority does, of whoever there is.
    pub is_alone: bool,
    /// A witness that lives may be exchanged for another.
    pub has_spare: bool,
    /// Refusals are delivered too; else they are lost.
    pub has_refusals: bool,
    /// A standby may have flushed a part of what a reign began with.
    pub has_parts: bool,
    /// Operators say that the node that led before goes on alone, where that is so.
    pub resumes: bool,
    /// A change of members that is under way may take too long: it is taken back, or the primary is elected by the new ones.
    pub takes_back: bool,
    /// Messages that can never matter again are dropped: fewer states, and nothing else. 0 is the cross-check.
    pub forgets: bool,
    /// Clauses of the specification that are left out.
    pub without: Vec<Clause>,
    pub seconds: u64,
    pub threads: usize,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            counters: 2,
            writes: 2,
            versions: 1,
            crashes: 1,
            disks: 0,
            lose: 0b0111,
            backs: 0,
            back: 0b0111,
            trusts_memory: false,
            hears_late: false,
            hands: 0,
            start: 3,
            is_dropped: false,
            is_removed: false,
            has_forgotten: false,
            campaigns: 0b0011,
            by_place: false,
            is_alone: false,
            has_spare: false,
            has_refusals: false,
            has_parts: false,
            resumes: false,
            takes_back: false,
            forgets: true,
            without: Vec::new(),
            seconds: 900,
            threads: 2,
        }
    }
}

impl Params {
    /// Reads `key=value` words; `without` may be said more than once.
    pub fn read(words: &str) -> Result<Self, String> {
        let mut params = Self::default();
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word} is not key=value"))?;
            if key == "without" {
                params.without.push(clause(value)?);
                continue;
            }
            let number: u64 = value.parse().map_err(|_| format!("{word}: not a number"))?;
            let small = || u8::try_from(number).map_err(|_| format!("{word}: above 255"));
            match key {
                "counters" => params.counters = number,
                "writes" => params.writes = small()?,
                "versions" => params.versions = small()?.into(),
                "crashes" => params.crashes = small()?,
                "disks" => params.disks = small()?,
                "lose" => params.lose = small()?,
                "backs" => params.backs = small()?,
                "back" => params.back = small()?,
                "trusts" => params.trusts_memory = number > 0,
                "late" => params.hears_late = number > 0,
                "hands" => params.hands = small()?,
                "start" => params.start = small()?,
                "dropped" => params.is_dropped = number > 0,
                "removed" => (params.is_dropped, params.is_removed) = (number > 0, number > 0),
                "forgot" => (params.is_dropped, params.has_forgotten) = (number > 0, number > 0),
                "campaigns" => params.campaigns = small()?,
                "places" => params.by_place = number > 0,
                "alone" => params.is_alone = number > 0,
                "spare" => params.has_spare = number > 0,
                "refusals" => params.has_refusals = number > 0,
                "parts" => params.has_parts = number > 0,
                "resumes" => params.resumes = number > 0,
                "retracts" => params.takes_back = number > 0,
                "forget" => params.forgets = number > 0,
                "seconds" => params.seconds = number,
                "threads" => params.threads = small()?.into(),
                _ => return Err(format!("unknown key {key}")),
            }
        }
        Ok(params)
    }

    pub fn leaves_out(&self, clause: Clause) -> bool {
        self.without.contains(&clause)
    }

    pub fn slots(&self) -> usize {
        if self.has_spare { 4 } else { 3 }
    }
}

fn clause(name: &str) -> Result<Clause, String> {
    let found = Clause::ALL.iter().find(|clause| format!("{clause:?}") == name);
    found.copied().ok_or_else(|| format!("no clause is named {name}"))
}
