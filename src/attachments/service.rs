use super::links::Links;
use super::settings::Settings;
use crate::base::{Owner, UnixMillis};
use crate::clock;
use crate::protocol::attachment::{Attached, Takes, UploadName, composed};
use crate::protocol::chat::{Invalid, Message, Problem};
use crate::protocol::media::Media;
use crate::store::{
    AttachmentRow, AttachmentSource, AuditEntry, CHUNK_BYTES, Draft, Listed, NewAttachment, Page, Pending, Snapshot,
    Store, StoreError,
};
use bytes::Bytes;
use std::time::Duration;

/// Of one file, as the API promises.
pub(crate) const FILE_BYTES_MAX: usize = 20 << 20;

/// A commit takes some milliseconds; one that takes so long waits for a disk that has stopped, or for the other node.
const STORED_WITHIN: Duration = Duration::from_secs(5);

/// Why a file is not taken, or is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachmentsError {
    #[error("files of this kind are not taken")]
    Kind,
    #[error("the file is longer than {FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the file is empty")]
    Empty,
    /// Also for those who may not know that there is one.
    #[error("there is no such file")]
    Unknown,
    #[error("the store did not take the file")]
    Store(#[from] StoreError),
}

/// Why a question's files are not good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTheirs {
    #[error(transparent)]
    Invalid(Invalid),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A file as its sender describes it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) bytes: Bytes,
    pub(crate) original_name: String,
    /// What its sender says that it is.
    pub(crate) claimed_type: String,
    pub(crate) source: AttachmentSource,
}

/// The door to the files. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Attachments {
    store: Store,
    links: Links,
    settings: Settings,
}

impl Attachments {
    pub(crate) fn new(store: Store, cookie_key: &[u8; 32], settings: Settings) -> Self {
        let links = Links::new(cookie_key, settings.public_url.as_deref(), settings.link_life);
        Self { store, links, settings }
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Begins to take files of `owner`, which are there once all of them have come.
    pub(crate) fn send(&self, owner: &Owner) -> Sending {
        Sending { files: self.clone(), owner: owner.clone(), taken: Vec::new(), drafts: Vec::new() }
    }

    pub(crate) async fn find(&self, name: &UploadName) -> Result<Snapshot<Option<AttachmentRow>>, StoreError> {
        self.store.attachment(name.as_str()).await
    }

    /// The `place`th piece of a file; `None` where it has gone meanwhile.
    pub(crate) async fn piece(&self, file: &AttachmentRow, place: usize) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.attachment_piece(file, place).await
    }

    /// Files, the newest first: those of `owner`, or everybody's.
    pub(crate) async fn list(
        &self,
        owner: Option<&Owner>,
        page: Page,
    ) -> Result<Snapshot<Listed<AttachmentRow>>, StoreError> {
        self.store.attachments(owner, page).await
    }

    /// Removes a file, of `owner` where one is given.
    pub(crate) async fn remove(
        &self,
        name: &UploadName,
        owner: Option<&Owner>,
        entry: AuditEntry,
    ) -> Result<(), AttachmentsError> {
        let removed = stored(self.store.attachment_remove(name.as_str(), owner, entry)?).await?;
        if removed { Ok(()) } else { Err(AttachmentsError::Unknown) }
    }

    /// Whether every file of ours that goes along with a question is there and `owner`'s. Addresses that a client has made
    /// whole are made paths again.
    pub(crate) async fn check(&self, owner: &Owner, attached: &mut [Attached]) -> Result<(), NotTheirs> {
        let last = attached.len().saturating_sub(1);
        let mut named = Vec::new();
        for (index, attached) in attached.iter_mut().enumerate() {
            for (field, url) in attached.urls() {
                let Some(name) = UploadName::of_path(url).or_else(|| self.links.within(url)) else { continue };
                *url = name.path();
                // Those of the question may stand beside it, which is where most front ends put them.
                let field = if index == last { field } else { format!("messages[{index}].{field}") };
                named.push((field, name.as_str().to_owned()));
            }
        }
        if named.is_empty() {
            return Ok(());
        }
        let asked = named.iter().map(|(_, name)| name.clone()).collect();
        let theirs = self.store.attachments_of(owner, asked).await?;
        let missing = named.into_iter().filter(|(_, name)| !theirs.contains(name));
        let rule = "must be an attachment of yours that is still there";
        let problems: Vec<_> = missing.map(|(field, _)| Problem { field, rule: rule.to_owned() }).collect();
        if problems.is_empty() { Ok(()) } else { Err(NotTheirs::Invalid(Invalid { problems })) }
    }

    /// A message as an upstream is told of it, with its files.
    pub(crate) fn compose(&self, message: &Message, attached: &Attached, takes: Takes) -> Message {
        let now = clock::unix_millis();
        composed(message, attached, takes, |name| self.links.make(name, now))
    }
}

/// Files on their way into the store. Dropped before [`Sending::finish`] has come to its end, none of them is there.
pub(crate) struct Sending {
    files: Attachments,
    owner: Owner,
    taken: Vec<NewAttachment>,
    drafts: Vec<Draft>,
}

impl Sending {
    /// Takes one file: once this returns its content is on both disks.
    pub(crate) async fn take(&mut self, sent: Sent) -> Result<(), AttachmentsError> {
        let Sent { bytes, original_name, claimed_type, source } = sent;
        if bytes.is_empty() {
            return Err(AttachmentsError::Empty);
        }
        if bytes.len() > FILE_BYTES_MAX {
            return Err(AttachmentsError::TooLarge);
        }
        let (media, bytes, original_name, claimed_type) =
            judged(bytes, original_name, claimed_type).await.ok_or(AttachmentsError::Kind)?;
        let Attachments { store, settings, .. } = &self.files;
        let beside = self.taken.iter().map(|file| file.size).sum();
        let limits = (settings.quota, clock::unix_millis());
        let draft = stored(store.attachment_begin(&self.owner, (bytes.len(), beside), limits)?).await?;
        self.drafts.push(draft);
        for place in 0..bytes.len().div_ceil(CHUNK_BYTES) {
            let begin = place * CHUNK_BYTES;
            let piece = bytes.slice(begin..bytes.len().min(begin + CHUNK_BYTES));
            // One after the other: many people's pieces, and their questions, share the writer.
            stored(store.attachment_chunk(draft, place, piece)?).await?;
        }
        self.taken.push(NewAttachment {
            draft,
            name: UploadName::random(media).as_str().to_owned(),
            original_name,
            media_type: media.media_type(&claimed_type),
            size: bytes.len(),
            source,
        });
        Ok(())
    }

    /// Makes files of all that was taken; and when.
    pub(crate) async fn finish(mut self) -> Result<(Vec<NewAttachment>, UnixMillis), AttachmentsError> {
        let Attachments { store, settings, .. } = &self.files;
        let at = clock::unix_millis();
        stored(store.attachments_put(&self.owner, self.taken.clone(), (settings.quota, at))?).await?;
        self.drafts.clear();
        Ok((std::mem::take(&mut self.taken), at))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.drafts.is_empty() {
            // One that is a file after all, as its end was not heard of, has no draft any more.
            self.files.store.attachments_give_up(std::mem::take(&mut self.drafts));
        }
    }
}

async fn stored<T>(pending: Pending<T>) -> Result<T, StoreError> {
    let stored = tokio::time::timeout(STORED_WITHIN, pending).await;
    stored.unwrap_or(Err(StoreError::OutcomeUnknown)).map(|stored| stored.value)
}

/// What the bytes are; some 20 MiB are looked through, where that keeps nobody waiting.
async fn judged(bytes: Bytes, name: String, claimed: String) -> Option<(Media, Bytes, String, String)> {
    let judged = tokio::task::spawn_blocking(move || {
        Media::of(&bytes, (&name, &claimed)).map(|media| (media, bytes, name, claimed))
    });
    judged.await.ok().flatten()
}
