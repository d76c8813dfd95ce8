//! What people write to name a conversation, to find one, or to put many in order.

use crate::store::{Key, Order};

/// The longest text to search for, in letters, and its words.
const SOUGHT_CHARS_MAX: usize = 200;
const WORDS_MAX: usize = 10;
/// The longest title, in letters.
const TITLE_CHARS_MAX: usize = 120;

/// What is searched for: its words, of which there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Words(pub(super) Vec<String>);

/// The text is nothing to search for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 10 words, and 200 letters at most")]
pub(crate) struct WordsError;

impl Words {
    pub(crate) fn parse(text: &str) -> Result<Self, WordsError> {
        let words: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
        let is_sane = text.chars().count() <= SOUGHT_CHARS_MAX && (1..=WORDS_MAX).contains(&words.len());
        if is_sane { Ok(Self(words)) } else { Err(WordsError) }
    }
}

/// A title that a person gives: one line, not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Title(pub(super) String);

/// The text is no [`Title`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 120 letters")]
pub(crate) struct TitleError;

impl Title {
    /// What stands around it, and control letters in it, are left out.
    pub(crate) fn parse(text: &str) -> Result<Self, TitleError> {
        let title: String = text.trim().chars().filter(|letter| !letter.is_control()).collect();
        if (1..=TITLE_CHARS_MAX).contains(&title.chars().count()) { Ok(Self(title)) } else { Err(TitleError) }
    }
}

/// The text is nothing to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be createdAt, updatedAt, lastMessageAt, title, agentId or messageCount, and asc or desc")]
pub(crate) struct SortError;

/// What a list is sorted by; the last used first where nothing is said.
pub(crate) fn sort(by: Option<&str>, order: Option<&str>) -> Result<(Key, Order), SortError> {
    let key = match by.unwrap_or_default() {
        "" | "lastMessageAt" => Key::AskedAt,
        "createdAt" => Key::CreatedAt,
        "updatedAt" => Key::UpdatedAt,
        "title" => Key::Title,
        "agentId" => Key::AgentId,
        "messageCount" => Key::Turns,
        _ => return Err(SortError),
    };
    match order.unwrap_or_default() {
        "" | "desc" => Ok((key, Order::Descending)),
        "asc" => Ok((key, Order::Ascending)),
        _ => Err(SortError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_sorted_by_what_is_known_and_nothing_else() {
        assert_eq!(sort(None, None), Ok((Key::AskedAt, Order::Descending)));
        assert_eq!(sort(Some("title"), Some("asc")), Ok((Key::Title, Order::Ascending)));
        for by in ["createdAt", "updatedAt", "lastMessageAt", "agentId", "messageCount"] {
            assert!(sort(Some(by), Some("desc")).is_ok(), "{by}");
        }
        for (by, order) in [("owner", "asc"), ("title; DROP TABLE turns", "asc"), ("title", "ASC"), ("1", "")] {
            assert_eq!(sort(Some(by), Some(order)), Err(SortError), "{by} {order}");
        }
    }

    #[test]
    fn words_and_titles_have_their_limits_in_letters_of_any_language() {
        assert_eq!(Words::parse(" 杭州  weather\n"), Ok(Words(vec!["杭州".into(), "weather".into()])));
        assert!(Words::parse(&"天".repeat(200)).is_ok());
        for bad in ["", "  \t", &"天".repeat(201), "1 2 3 4 5 6 7 8 9 10 11"] {
            assert_eq!(Words::parse(bad), Err(WordsError), "{bad}");
        }
        assert_eq!(Title::parse(" a\nb "), Ok(Title("ab".into())));
        assert!(Title::parse(&"题".repeat(120)).is_ok());
        for bad in ["", " ", "\u{7}", &"题".repeat(121)] {
            assert_eq!(Title::parse(bad), Err(TitleError), "{bad:?}");
        }
    }
}
