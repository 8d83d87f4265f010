//! Files that are made of what is too large for an event, before that is sent.

use ruma::{OwnedTransactionId, RoomId, TransactionId, api::client::media::create_content};
use serde::Serialize;

use super::super::{MlsMachine, again::again, membership::CLAIM_PAUSE};
use crate::{
    error::MlsError,
    notice::Notice,
    store::{Changes, OutboxRequest, OutboxRequestKind, WelcomeRecipient},
    types::{
        events::{CommitEventContent, MediaFile},
        requests::{AnyOutgoingRequest, OutgoingRequest},
    },
};

/// What the names of files take in an event, in bytes.
const NAMES: usize = 1024;

/// A part of a commit's event that can be a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    Tree,
    Commit,
}

impl Part {
    const fn suffix(self) -> &'static str {
        match self {
            Self::Tree => ".tree",
            Self::Commit => ".commit",
        }
    }
}

/// The size of the event's content once everything is a file that can be one, in bytes.
pub(in super::super) fn size_with_files(content: &CommitEventContent) -> Result<usize, MlsError> {
    let without = CommitEventContent { commit: None, tree: None, ..content.clone() };
    Ok(size(&without)? + NAMES)
}

fn size(content: &impl Serialize) -> Result<usize, MlsError> {
    Ok(serde_json::to_vec(content)?.len())
}

/// What has to become a file before the event can be sent: first the tree, which only those need who
/// join.
fn parts_to_upload(
    content: &CommitEventContent,
    limit: usize,
) -> Result<Vec<(Part, &[u8])>, MlsError> {
    let mut sent = content.to_be_sent();
    let mut parts = Vec::new();
    if size(&sent)? > limit && sent.tree.take().is_some() {
        parts.extend(content.tree.as_ref().map(|tree| (Part::Tree, &*tree.0)));
    }
    if size(&sent)? > limit && sent.commit.take().is_some() {
        parts.extend(content.commit.as_ref().map(|commit| (Part::Commit, &*commit.0)));
    }
    Ok(parts)
}

/// The commit that a request posts.
fn content_of(kind: &OutboxRequestKind) -> Option<&CommitEventContent> {
    match kind {
        OutboxRequestKind::Commit { content, .. } | OutboxRequestKind::Relay { content, .. } => {
            Some(content)
        }
        _ => None,
    }
}

/// The uploads that a request takes before it can be sent itself.
pub(in super::super) fn uploads(
    request: &OutboxRequest,
    limit: usize,
) -> Result<Vec<OutgoingRequest>, MlsError> {
    let Some(content) = content_of(&request.kind) else { return Ok(Vec::new()) };
    let upload = |(part, bytes): (Part, &[u8])| {
        let mut upload = create_content::v3::Request::new(bytes.to_vec());
        upload.content_type = Some("application/octet-stream".to_owned());
        OutgoingRequest {
            request_id: upload_id(&request.id, part),
            room_id: Some(request.room_id.clone()),
            request: AnyOutgoingRequest::MediaUpload(upload),
        }
    };
    Ok(parts_to_upload(content, limit)?.into_iter().map(upload).collect())
}

fn upload_id(id: &TransactionId, part: Part) -> OwnedTransactionId {
    format!("{id}{}", part.suffix()).into()
}

/// Which request an upload is for, and what of it.
pub(in super::super) fn read_id(id: &TransactionId) -> Option<(OwnedTransactionId, Part)> {
    [Part::Tree, Part::Commit]
        .into_iter()
        .find_map(|part| Some((id.as_str().strip_suffix(part.suffix())?.into(), part)))
}

impl MlsMachine {
    /// A file is in the media repository.
    pub(in super::super) async fn uploaded_file(
        &self,
        request_id: &TransactionId,
        response: &create_content::v3::Response,
    ) -> Result<(), MlsError> {
        let (id, part) = read_id(request_id).ok_or(MlsError::UnknownRequest)?;
        again!(async {
            let room_id = self.outbox_request(&id).await?.room_id;
            let mut guard = self.lock_room(&room_id).await?;
            let Some(room) = guard.as_mut() else { return Err(MlsError::UnknownRequest) };
            let mut request = self.outbox_request(&id).await?;
            let (OutboxRequestKind::Commit { content, .. }
            | OutboxRequestKind::Relay { content, .. }) = &mut request.kind
            else {
                return Err(MlsError::WrongResponse);
            };
            let (bytes, file) = match part {
                Part::Tree => (&content.tree, &mut content.tree_file),
                Part::Commit => (&content.commit, &mut content.commit_file),
            };
            if let (Some(bytes), None) = (bytes, &file) {
                *file = Some(MediaFile::new(response.content_uri.clone(), &bytes.0));
                let mut changes = Changes::default();
                changes.outbox.insert(id.clone(), Some(request));
                self.save(room, changes).await?;
            }
            Ok(())
        })
    }

    /// The server does not take a file. Gives the request that cannot be sent because of that.
    pub(in super::super) async fn upload_refused(
        &self,
        (id, part): (OwnedTransactionId, Part),
    ) -> Result<Option<OwnedTransactionId>, MlsError> {
        let mut request = self.outbox_request(&id).await?;
        let room_id = request.room_id.clone();
        let Some(content) = content_of(&request.kind) else { return Ok(None) };
        let bytes = match part {
            Part::Tree => content.tree.as_ref(),
            Part::Commit => content.commit.as_ref(),
        };
        let bytes = bytes.map_or(0, |bytes| bytes.0.len());
        self.notify(Notice::UploadRefused { room_id: room_id.clone(), bytes });
        // Those whom the commit adds would need the tree; others can do without.
        if part == Part::Tree && content.encrypted_group_info.is_none() {
            again!(self.drop_tree(&room_id, &mut request))?;
            return Ok(None);
        }
        if let OutboxRequestKind::Commit { recipients, .. } = &request.kind {
            // Not again with new key packages as soon as commits are tried again.
            let reason = format!("the server does not take a file of {bytes} bytes");
            let name = |one: &WelcomeRecipient| (one.user_id.clone(), one.device_id.clone());
            let failed = recipients.iter().map(|one| (name(one), reason.clone())).collect();
            self.note_failed_claims(&room_id, failed, CLAIM_PAUSE).await?;
        }
        Ok(Some(id))
    }

    async fn drop_tree(
        &self,
        room_id: &RoomId,
        request: &mut OutboxRequest,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Err(MlsError::UnknownRequest) };
        if let OutboxRequestKind::Commit { content, .. }
        | OutboxRequestKind::Relay { content, .. } = &mut request.kind
        {
            content.tree = None;
        }
        let mut changes = Changes::default();
        changes.outbox.insert(request.id.clone(), Some(request.clone()));
        self.save(room, changes).await
    }
}
