//! Files that people send, and what they are told of them.

use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

/// A file for a question.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct SentFile {
    /// Of its last part, behind `/` and `\`, 1 to 256 letters in one line are kept.
    #[schema(pattern = r"^([\s\S]*[/\\])?\s*[^/\\\u0000-\u001f\u007f-\u009f]{1,256}\s*$", example = "note.txt")]
    filename: String,
    /// 128 bytes at most. What it says is believed where the content cannot tell: a table from text, sound from a film.
    #[schema(max_length = 128, example = "text/plain")]
    mime_type: String,
    /// Of the file, in bytes.
    #[schema(minimum = 1, maximum = 20_971_520, example = 5)]
    size: u64,
    /// In base64, alone or as a `data:` URL.
    #[schema(example = "aGVsbG8=")]
    data: String,
    source: Option<SentAs>,
}

/// `upload` where nothing is said.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
enum SentAs {
    Upload,
    Voice,
}

/// A file, as one of a question's `attachments`.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct StoredFile {
    id: String,
    name: String,
    /// What it is by its content.
    mime_type: String,
    /// Bytes.
    size: u64,
    /// Whoever knows it may read the file.
    #[schema(pattern = r"^/uploads/[0-9a-f]{32}\.[0-9a-z]+$")]
    url: String,
    source: SentAs,
}

/// Bytes of a file.
pub(in crate::http) enum FileBytes {}

impl PartialSchema for FileBytes {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .into()
    }
}

impl ToSchema for FileBytes {}

/// A form with one file, which has a name and 20 MiB at most. Other fields are passed over.
#[derive(ToSchema)]
pub(in crate::http) struct FileForm {
    #[schema(inline)]
    file: FileBytes,
}

/// A form with files, each with a name and 20 MiB at most; they may be called `files[]` and `file` as well. Other fields are
/// passed over.
#[derive(ToSchema)]
pub(in crate::http) struct FilesForm {
    #[schema(inline, min_items = 1, max_items = 10)]
    files: Vec<FileBytes>,
}

/// A file that stays until somebody removes it, or one of a question.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(in crate::http) struct LibraryFile {
    #[schema(pattern = r"^[0-9a-f]{32}\.[0-9a-z]+$")]
    filename: String,
    original_name: String,
    /// Bytes.
    size: u64,
    /// What it is by its content.
    mimetype: String,
    /// Whoever knows it may read the file.
    #[schema(pattern = r"^/uploads/[0-9a-f]{32}\.[0-9a-z]+$")]
    path: String,
    /// A user's number; of a visitor, a name for them.
    #[schema(schema_with = uploader)]
    uploaded_by: (),
    #[schema(format = DateTime)]
    uploaded_at: String,
}

fn uploader() -> Schema {
    let [number, name] = [Type::Integer, Type::String].map(|kind| ObjectBuilder::new().schema_type(kind));
    AnyOfBuilder::new().item(number).item(name).build().into()
}

#[derive(ToSchema)]
pub(in crate::http) struct RemovedFile {
    filename: String,
    deleted: bool,
}

/// What a client has of a file, and what of it is wanted.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(in crate::http) struct PartOfFile {
    /// One range, as `bytes=0-99`; several, and what is none, are as good as no word.
    #[param(rename = "Range", value_type = String, required = false)]
    range: (),
    /// The range counts only where the file still has this `ETag`.
    #[param(rename = "If-Range", value_type = String, required = false)]
    if_range: (),
    /// The `ETag` of what the client has.
    #[param(rename = "If-None-Match", value_type = String, required = false)]
    known: (),
}
