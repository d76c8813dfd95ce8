use super::Media;
use memchr::memmem;

pub(super) fn binary(bytes: &[u8]) -> Option<Media> {
    type Matcher = fn(&[u8]) -> bool;
    const MATCHERS: [(Matcher, Media); 12] = [
        (is_png, Media::Png),
        (infer::image::is_jpeg, Media::Jpeg),
        (is_gif, Media::Gif),
        (infer::image::is_webp, Media::Webp),
        (|bytes| bytes.starts_with(b"%PDF-"), Media::Pdf),
        (is_dwg, Media::Dwg),
        (|bytes| bytes.starts_with(b"AutoCAD Binary DXF\r\n\x1a\0"), Media::Dxf),
        (is_webm, Media::Webm),
        (infer::audio::is_ogg, Media::Ogg),
        (infer::audio::is_wav, Media::Wav),
        (is_mp3, Media::Mp3),
        (is_m4a, Media::M4a),
    ];
    let found = MATCHERS.iter().find(|(is, _)| is(bytes)).map(|(_, media)| *media);
    found.or_else(|| office(bytes))
}

fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"IHDR")
}

fn is_gif(bytes: &[u8]) -> bool {
    bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a")
}

/// `AC` and four digits: a version of the format.
fn is_dwg(bytes: &[u8]) -> bool {
    let version = bytes.get(2..6).unwrap_or_default();
    let is_version = version.len() == 4 && version.iter().all(u8::is_ascii_digit);
    let is_binary = bytes.get(6..16).is_some_and(|rest| rest.contains(&0));
    is_binary && (infer::image::is_dwg(bytes) || (bytes.starts_with(b"AC1") && is_version))
}

/// Matroska's container, of the kind `webm`.
fn is_webm(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
    head.starts_with(&[0x1a, 0x45, 0xdf, 0xa3]) && memmem::find(head, b"\x42\x82\x84webm").is_some()
}

/// A tag, or a frame whose head is one of layer III.
fn is_mp3(bytes: &[u8]) -> bool {
    let is_frame = matches!(bytes, [0xff, second, third, ..]
        if second & 0xe6 == 0xe2 && second & 0x18 != 0x08 && third & 0xf0 != 0xf0 && third & 0x0c != 0x0c);
    (bytes.starts_with(b"ID3") && bytes.len() > 10) || is_frame
}

/// The brands of a container that may hold sound alone.
const BRANDS: [&[u8; 4]; 8] = [b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"dash"];

/// MPEG-4's container with sound and no pictures: of Apple's brand, or of a general one, as browsers record it.
fn is_m4a(bytes: &[u8]) -> bool {
    let Some(brand) = bytes.get(8..12).filter(|_| bytes.get(4..8) == Some(b"ftyp")) else { return false };
    let has = |kind: &[u8]| memmem::find(bytes, kind).is_some();
    infer::audio::is_m4a(bytes)
        || brand == b"M4B "
        || (BRANDS.iter().any(|general| brand == *general) && has(b"soun") && !has(b"vide"))
}

const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: usize = 0xffff;
const ENTRY_BYTES: usize = 46;
/// Office files have some dozens of parts, and the largest a thousand or two.
const PARTS_MAX: u16 = 20_000;

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?)).ok()
}

/// An Office file: an archive that lists the part that makes it one, and no program.
fn office(bytes: &[u8]) -> Option<Media> {
    if !bytes.starts_with(b"PK\x03\x04") {
        return None;
    }
    let from = bytes.len().checked_sub(END_BYTES)?.saturating_sub(COMMENT_BYTES_MAX);
    let end = from + memmem::rfind(bytes.get(from..)?, b"PK\x05\x06")?;
    bytes.get(end..end.checked_add(END_BYTES)?)?;
    let (count, size, begin) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 12)?, u32_at(bytes, end + 16)?);
    // The large form of the format says all ones here.
    let list = bytes.get(begin..begin.checked_add(size)?).filter(|_| count <= PARTS_MAX)?;
    let (mut at, mut has_types, mut kinds) = (0_usize, false, Vec::new());
    for _ in 0..count {
        if list.get(at..at.checked_add(4)?)? != b"PK\x01\x02" {
            return None;
        }
        let lengths = [28, 30, 32].map(|offset| u16_at(list, at + offset).map(usize::from));
        let [name, extra, comment] = lengths;
        let (name, rest) = (name?, extra?.checked_add(comment?)?);
        let begin = at.checked_add(ENTRY_BYTES)?;
        match list.get(begin..begin.checked_add(name)?)? {
            b"[Content_Types].xml" => has_types = true,
            b"word/document.xml" => kinds.push(Media::Docx),
            b"xl/workbook.xml" => kinds.push(Media::Xlsx),
            b"ppt/presentation.xml" => kinds.push(Media::Pptx),
            part if part.to_ascii_lowercase().ends_with(b"vbaproject.bin") => return None,
            _ => {}
        }
        at = begin.checked_add(name)?.checked_add(rest)?;
    }
    match kinds[..] {
        [kind] if has_types => Some(kind),
        _ => None,
    }
}

/// Text without a zero: a drawing, a picture in XML, or just text.
pub(super) fn text(bytes: &[u8], (name, claimed): (&str, &str)) -> Option<Media> {
    // The head of an archive is text by its letters, and by nothing else.
    if bytes.is_empty() || bytes.starts_with(b"PK\x03\x04") || memchr::memchr(0, bytes).is_some() {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.trim_start_matches('\u{feff}');
    let ends_in_csv = name.len() >= 4 && name.as_bytes()[name.len() - 4..].eq_ignore_ascii_case(b".csv");
    if is_svg(text) {
        Some(Media::Svg)
    } else if is_dxf(text) {
        Some(Media::Dxf)
    } else if ends_in_csv || claimed.eq_ignore_ascii_case("text/csv") {
        Some(Media::Csv)
    } else {
        Some(Media::Txt)
    }
}

/// Whether the first element is `svg`.
fn is_svg(mut text: &str) -> bool {
    loop {
        text = text.trim_start();
        let skipped = if let Some(rest) = text.strip_prefix("<?") {
            rest.split_once("?>")
        } else if let Some(rest) = text.strip_prefix("<!--") {
            rest.split_once("-->")
        } else if let Some(rest) = text.strip_prefix("<!") {
            // A list of entities in it is more than we look through, and more than a picture needs.
            rest.split_once('>')
        } else {
            let rest = text.strip_prefix("<svg").and_then(|rest| rest.chars().next());
            return rest.is_some_and(|next| next.is_whitespace() || matches!(next, '>' | '/'));
        };
        let Some((_, rest)) = skipped else { return false };
        text = rest;
    }
}

/// Pairs of lines, a number and its value: the first is a comment (999) or begins a section (0).
fn is_dxf(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    loop {
        match (lines.next(), lines.next()) {
            (Some("999"), Some(_)) => {}
            (Some("0"), Some("SECTION")) => return true,
            _ => return false,
        }
    }
}
