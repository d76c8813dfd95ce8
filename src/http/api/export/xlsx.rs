//! A spreadsheet. It is no file before its end is written, so it is made as a whole, within limits that keep what it takes
//! bounded: its rows wait in a file without a name, and only what they are packed into in memory.

use super::csv::{COLUMNS, Cells, beginning, cells};
use super::read::{Part, Reader};
use crate::http::edge::Edge;
use crate::http::error::{self, ApiError};
use crate::http::levels::Reading;
use rust_xlsxwriter::{Workbook, XlsxError};

/// Rows of one file; a sheet could hold ten times as many.
const ROWS_MAX: usize = 100_000;
/// Of all texts of one file.
const TEXT_BYTES_MAX: usize = 32 << 20;
/// Of one cell, in UTF-16 units, as Excel counts; it takes 67 more.
const CELL_UNITS_MAX: usize = 32_700;
const CUT: &str = " […cut here: see csv or json]";
const RULE: &str = "an xlsx file holds 100000 messages and 32 MiB of text at most, and there are more: narrow the filter, or take csv or json";

/// A file under way.
struct Sheet {
    workbook: Workbook,
    rows: usize,
    bytes: usize,
}

/// Why a file is not made.
enum Failed {
    TooLarge,
    Write(XlsxError),
}

impl From<XlsxError> for Failed {
    fn from(error: XlsxError) -> Self {
        Self::Write(error)
    }
}

impl From<Failed> for ApiError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::TooLarge => error::validation("format", RULE),
            Failed::Write(error) => {
                tracing::error!(%error, "a spreadsheet is not written");
                error::soon("the spreadsheet cannot be written; try again")
            }
        }
    }
}

/// All that `reader` reads. Its client may leave at any time: the work ends with the next page.
pub(super) async fn file(edge: &Edge, reading: &Reading, reader: Reader) -> Result<Vec<u8>, ApiError> {
    // Not after minutes of work.
    if usize::try_from(reader.lines(edge, reading).await?).is_ok_and(|lines| lines <= ROWS_MAX) {
        write(edge, reading, reader).await
    } else {
        Err(Failed::TooLarge.into())
    }
}

async fn write(edge: &Edge, reading: &Reading, mut reader: Reader) -> Result<Vec<u8>, ApiError> {
    let dir = edge.state_dir.clone();
    let mut sheet = aside(move || Sheet::begin(&dir)).await?;
    while let Some(part) = reader.next(edge, reading).await? {
        sheet = aside(move || sheet.with(&part)).await?;
    }
    aside(move || Ok(sheet.workbook.save_to_buffer()?)).await
}

/// Runs what writes files and packs them where it keeps no request waiting.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failed> + Send + 'static) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| error::internal())?;
    done.map_err(ApiError::from)
}

impl Sheet {
    fn begin(dir: &std::path::Path) -> Result<Self, Failed> {
        let mut workbook = Workbook::new();
        workbook.set_tempdir(dir)?;
        workbook.add_worksheet_with_constant_memory()?.set_name("messages")?;
        let mut sheet = Self { workbook, rows: 0, bytes: 0 };
        sheet.write(&COLUMNS.map(ToOwned::to_owned))?;
        Ok(sheet)
    }

    fn with(mut self, part: &Part) -> Result<Self, Failed> {
        for turn in &part.turns {
            cells(&part.session, turn).iter().try_for_each(|cells| self.write(cells))?;
        }
        if part.is_first && part.turns.is_empty() {
            self.write(&beginning(&part.session))?;
        }
        Ok(self)
    }

    /// A row of texts: a cell that is one is never a formula, whatever it begins with.
    fn write(&mut self, cells: &Cells) -> Result<(), Failed> {
        self.bytes = self.bytes.saturating_add(cells.iter().map(String::len).sum());
        if self.rows > ROWS_MAX || self.bytes > TEXT_BYTES_MAX {
            return Err(Failed::TooLarge);
        }
        let row = u32::try_from(self.rows).map_err(|_| Failed::TooLarge)?;
        let sheet = self.workbook.worksheet_from_index(0)?;
        for (column, text) in (0_u16..).zip(cells) {
            sheet.write_string(row, column, fitted(text))?;
        }
        self.rows += 1;
        Ok(())
    }
}

/// As much of `text` as a cell takes, and a word where that is not all.
fn fitted(text: &str) -> String {
    let mut units = 0;
    for (at, letter) in text.char_indices() {
        units += letter.len_utf16();
        if units > CELL_UNITS_MAX {
            return format!("{}{CUT}", &text[..at]);
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{SessionId, UnixMillis};
    use crate::store::{Said, SessionRow, Spent, TurnState};

    fn part(answer: &str) -> Part {
        let session = SessionRow {
            id: SessionId { row: 1, began: UnixMillis(1) },
            owner: "user:1".into(),
            agent_id: "a".into(),
            chat: "c".into(),
            title: "=cmd|' /C calc'!A0".into(),
            is_archived: false,
            turns: 1,
            spent: Spent::default(),
            asked_at: UnixMillis(1),
            updated_at: UnixMillis(1),
        };
        let said = Said {
            place: 1,
            label: "t".into(),
            state: TurnState::Complete,
            question: r#"{"role":"user","content":"+1+1"}"#.into(),
            answer: answer.into(),
            usage: None,
            failure: None,
            asked_at: UnixMillis(1),
            ended_at: None,
        };
        Part { session, is_first: true, turns: vec![said], is_last: true }
    }

    #[test]
    fn a_cell_that_is_too_long_is_cut_and_says_so() {
        let long = "😀".repeat(20_000);
        let cut = fitted(&long);
        assert!(cut.ends_with(CUT) && cut.encode_utf16().count() < 32_767, "{}", cut.len());
        assert_eq!(fitted("天气"), "天气");
    }

    #[test]
    fn a_file_has_its_limits_and_none_is_made_past_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut sheet = Sheet::begin(dir.path()).ok().unwrap();
        sheet = sheet.with(&part("an answer")).ok().unwrap();
        assert_eq!(sheet.rows, 3, "a head and two messages");
        sheet.rows = ROWS_MAX;
        assert!(matches!(sheet.with(&part("x")), Err(Failed::TooLarge)));
        let mut sheet = Sheet::begin(dir.path()).ok().unwrap();
        sheet.bytes = TEXT_BYTES_MAX - 10;
        assert!(matches!(sheet.with(&part("x")), Err(Failed::TooLarge)));
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "its rows wait where nobody finds them");
    }
}
