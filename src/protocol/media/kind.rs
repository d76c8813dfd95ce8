use super::sniff;

/// A kind of file that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Png,
    Jpeg,
    Gif,
    Webp,
    Svg,
    Pdf,
    Docx,
    Xlsx,
    Pptx,
    Txt,
    Csv,
    Dxf,
    Dwg,
    Webm,
    Ogg,
    Wav,
    Mp3,
    M4a,
}

impl Media {
    pub const ALL: [Self; 18] = [
        Self::Png,
        Self::Jpeg,
        Self::Gif,
        Self::Webp,
        Self::Svg,
        Self::Pdf,
        Self::Docx,
        Self::Xlsx,
        Self::Pptx,
        Self::Txt,
        Self::Csv,
        Self::Dxf,
        Self::Dwg,
        Self::Webm,
        Self::Ogg,
        Self::Wav,
        Self::Mp3,
        Self::M4a,
    ];

    /// Its ending and its type.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Png => ("png", "image/png"),
            Self::Jpeg => ("jpg", "image/jpeg"),
            Self::Gif => ("gif", "image/gif"),
            Self::Webp => ("webp", "image/webp"),
            Self::Svg => ("svg", "image/svg+xml"),
            Self::Pdf => ("pdf", "application/pdf"),
            Self::Docx => ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
            Self::Xlsx => ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
            Self::Pptx => ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
            Self::Txt => ("txt", "text/plain"),
            Self::Csv => ("csv", "text/csv"),
            Self::Dxf => ("dxf", "image/vnd.dxf"),
            Self::Dwg => ("dwg", "image/vnd.dwg"),
            Self::Webm => ("webm", "video/webm"),
            Self::Ogg => ("ogg", "audio/ogg"),
            Self::Wav => ("wav", "audio/wav"),
            Self::Mp3 => ("mp3", "audio/mpeg"),
            Self::M4a => ("m4a", "audio/mp4"),
        }
    }

    /// Of a name: without a dot.
    pub fn ending(self) -> &'static str {
        self.names().0
    }

    /// Its media type. Sound alone in a container for both is `claimed` to be that by its sender, and by nobody else.
    pub fn media_type(self, claimed: &str) -> &'static str {
        let is_sound = claimed.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("audio/"));
        if self == Self::Webm && is_sound { "audio/webm" } else { self.names().1 }
    }

    /// Whether a browser may show it as a part of our own pages: pictures that can do nothing.
    pub fn is_inline(media_type: &str) -> bool {
        [Self::Png, Self::Jpeg, Self::Gif, Self::Webp].iter().any(|media| media.names().1 == media_type)
    }

    /// What `bytes` are; `None` where they are nothing that is taken. Text is a table where its sender says so, by its
    /// `name` or the type that is `claimed`: nothing else of what is said counts.
    pub fn of(bytes: &[u8], (name, claimed): (&str, &str)) -> Option<Self> {
        sniff::binary(bytes).or_else(|| sniff::text(bytes, (name, claimed)))
    }
}
