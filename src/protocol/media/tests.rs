use super::Media;

fn of(bytes: &[u8]) -> Option<Media> {
    Media::of(bytes, ("", ""))
}

/// An archive with empty parts of these names, each said to unpack to 4 GB.
fn archive(parts: &[&str]) -> Vec<u8> {
    let (mut file, mut list) = (Vec::new(), Vec::new());
    for part in parts {
        let at = u32::try_from(file.len()).unwrap();
        let name = u16::try_from(part.len()).unwrap();
        let shared = |into: &mut Vec<u8>| {
            into.extend([20, 0, 0, 0, 8, 0, 0, 0, 0, 0]); // Version, flags, deflated, time, date.
            into.extend(0_u32.to_le_bytes()); // The sum.
            into.extend(0_u32.to_le_bytes());
            into.extend(0xffff_fff0_u32.to_le_bytes());
            into.extend(name.to_le_bytes());
            into.extend(0_u16.to_le_bytes());
        };
        file.extend(b"PK\x03\x04");
        shared(&mut file);
        file.extend(part.as_bytes());
        list.extend(b"PK\x01\x02\x14\x00");
        shared(&mut list);
        list.extend([0; 10]); // The comment's length, the disk, attributes.
        list.extend(at.to_le_bytes());
        list.extend(part.as_bytes());
    }
    let (begin, size) = (u32::try_from(file.len()).unwrap(), u32::try_from(list.len()).unwrap());
    let count = u16::try_from(parts.len()).unwrap();
    file.extend(list);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(size.to_le_bytes());
    file.extend(begin.to_le_bytes());
    file.extend([0, 0]);
    file
}

const TYPES: &str = "[Content_Types].xml";

#[test]
fn every_kind_is_known_by_its_first_bytes_alone() {
    let mut wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wav.extend([0; 16]);
    let webm = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x04";
    let recorded = b"\0\0\0\x1cftypiso5\0\0\x02\0iso5iso6mp41\0\0\0\x08moovhdlr\0\0\0\0soun";
    for (bytes, media) in [
        (&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0"[..], Media::Png),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", Media::Jpeg),
        (b"GIF89a\x01\0\x01\0\0\0\0;", Media::Gif),
        (b"GIF87a\x01\0\x01\0\0\0\0;", Media::Gif),
        (b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0", Media::Webp),
        (b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", Media::Svg),
        (b"\xef\xbb\xbf<?xml version=\"1.0\"?>\n<!-- <html> --><!DOCTYPE svg>\n<svg>\n</svg>", Media::Svg),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", Media::Pdf),
        (&archive(&[TYPES, "_rels/.rels", "word/document.xml"]), Media::Docx),
        (&archive(&["xl/workbook.xml", TYPES]), Media::Xlsx),
        (&archive(&[TYPES, "ppt/presentation.xml"]), Media::Pptx),
        ("杭州\n天气".as_bytes(), Media::Txt),
        (b"<html><svg></svg></html>", Media::Txt),
        (b"  0\nSECTION\n  2\nHEADER\n", Media::Dxf),
        (b"999\r\nmade by hand\r\n0\r\nSECTION\r\n2\r\n", Media::Dxf),
        (b"AutoCAD Binary DXF\r\n\x1a\0\0\0SECTION", Media::Dxf),
        (b"AC1032\0\0\0\0\0\x04\x01\0\0\0\0\0", Media::Dwg),
        (b"AC1015\0\0\0\0\0\x06\x01\0\0\0\0\0", Media::Dwg),
        (webm, Media::Webm),
        (b"OggS\0\x02\0\0\0\0\0\0\0\0", Media::Ogg),
        (&wav, Media::Wav),
        (b"ID3\x04\0\0\0\0\0\0\0\xff", Media::Mp3),
        (b"\xff\xfb\x90\x64\0\0\0\0", Media::Mp3),
        (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42", Media::M4a),
        (recorded, Media::M4a),
    ] {
        assert_eq!(of(bytes), Some(media), "{}", String::from_utf8_lossy(bytes));
        // Whatever it is called.
        assert_eq!(Media::of(bytes, ("x.exe", "application/x-msdownload")), Some(media));
    }
    assert_eq!(Media::of(b"a,b\n1,2\n", ("Table.CSV", "")), Some(Media::Csv));
    assert_eq!(Media::of(b"a,b\n1,2\n", ("", "text/csv")), Some(Media::Csv));
    assert_eq!(Media::of("表.csv".as_bytes(), ("表", "")), Some(Media::Txt));
}

#[test]
fn what_is_none_of_them_is_not_taken_whatever_it_is_called() {
    let video = b"\0\0\0\x1cftypisom\0\0\x02\0isomiso2mp41moovhdlrvidehdlrsoun";
    let large = {
        let mut archive = archive(&[TYPES, "word/document.xml"]);
        let end = archive.len() - 22;
        archive[end + 8..end + 20].fill(0xff); // The large form of the format.
        archive
    };
    for bytes in [
        &b""[..],
        b"\0",
        b"text with a \0 in it",
        b"\xff\xfe\0h\0i",
        b"not \xc3\x28 UTF-8",
        b"MZ\x90\0\x03\0\0\0",
        b"\x7fELF\x02\x01\x01\0",
        b"\x89PNG\r\n\x1a\n\0",
        b"GIF90a\0",
        b"RIFF\x1a\0\0\0AVI \0",
        b"\x1a\x45\xdf\xa3\x9fB\x82\x88matroska\0",
        video,
        b"\xff\xf1\x50\x80\0",               // AAC in frames of its own.
        b"\xff\xfb\xf0\x64\0",               // A bit rate that there is not.
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", // The Office files of before.
        b"PK\x03\x04",
        b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &archive(&[]),
        &archive(&["a.txt"]),
        &archive(&["word/document.xml"]),
        &archive(&[TYPES]),
        &archive(&[TYPES, "word/document.xml", "xl/workbook.xml"]),
        &archive(&[TYPES, "word/document.xml", "word/vbaProject.bin"]),
        &archive(&[TYPES, "word/document.xml/"]),
        &large,
    ] {
        let claimed = ("a.docx", "image/png");
        assert_eq!(Media::of(bytes, claimed), None, "{}", String::from_utf8_lossy(bytes));
    }
}

/// Goal: no archive makes it read or add past its end, or take long. Method: every cut and every byte set to its extremes.
#[test]
fn an_archive_that_lies_is_refused_and_nothing_else_happens() {
    let good = archive(&[TYPES, "word/document.xml"]);
    for at in 0..good.len() {
        // Less than its head is a text of one word.
        let rest = (at > 0 && at < 4).then_some(Media::Txt);
        assert_eq!(of(&good[..at]), rest, "cut at {at}");
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            let _ = of(&bad); // It ends, by itself.
        }
    }
    let mut count = good.clone();
    let end = count.len() - 22;
    count[end + 10..end + 12].copy_from_slice(&19_999_u16.to_le_bytes());
    assert_eq!(of(&count), None, "more parts than are listed");
    let mut commented = good;
    commented.truncate(end + 20);
    commented.extend([0xff, 0xff]);
    commented.extend(vec![b' '; 0xffff]);
    assert_eq!(of(&commented), Some(Media::Docx));
}

#[test]
fn endings_are_one_each_and_pictures_alone_are_shown_in_place() {
    let endings: std::collections::HashSet<_> = Media::ALL.iter().map(|media| media.ending()).collect();
    assert_eq!(endings.len(), Media::ALL.len());
    let inline: Vec<_> =
        Media::ALL.iter().filter(|media| Media::is_inline(media.media_type(""))).map(|media| media.ending()).collect();
    assert_eq!(inline, ["png", "jpg", "gif", "webp"]);
    assert_eq!(Media::Webm.media_type("audio/webm;codecs=opus"), "audio/webm");
    assert_eq!(Media::Webm.media_type("text/html"), "video/webm");
    assert_eq!(Media::Png.media_type("audio/x"), "image/png");
}
