/// Where a conversation was begun from, as a database of addresses has it: never the address itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region {
    pub class: RegionClass,
    /// Two letters of ISO 3166.
    pub country: String,
    /// Empty where only the country is known.
    pub province: String,
}

/// What an operator tells regions apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RegionClass {
    /// In a known province of the operator's country.
    Local,
    /// In another country.
    Overseas,
    /// In the operator's country, and nobody knows where.
    Unknown,
}

impl RegionClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Overseas => "overseas",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::Local, Self::Overseas, Self::Unknown].into_iter().find(|class| class.as_str() == word)
    }
}
