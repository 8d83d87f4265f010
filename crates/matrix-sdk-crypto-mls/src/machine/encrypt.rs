//! Sending messages.

use matrix_dmls::{ALGORITHM, NodeId};
use ruma::{
    RoomId,
    events::{AnyMessageLikeEventContent, MessageLikeEventContent},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tracing::instrument;

use super::{MlsMachine, prepare::Readiness};
use crate::{error::MlsError, store::Changes, types::events::MlsEncryptedEventContent};

/// The largest content that is encrypted, in bytes: with base64 and what the server adds, the event
/// stays below 65,536.
const MAX_PLAINTEXT: usize = 40 * 1024;

/// At most this many other tips are named in a message (protocol §2).
const MAX_TIPS: usize = 8;

/// An encrypted message, to be sent as an `m.room.encrypted` event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RawEncryptionResult {
    /// The event's content.
    pub content: Raw<AnyMessageLikeEventContent>,
    /// The epoch that it is encrypted in.
    pub node: NodeId,
    /// How many messages this device has sent in the epoch before.
    pub generation: u32,
}

/// What is encrypted: as for Megolm.
#[derive(Serialize)]
struct Plaintext<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
    room_id: &'a RoomId,
}

#[derive(Deserialize)]
struct Relation {
    #[serde(rename = "m.relates_to")]
    relates_to: Option<Box<RawValue>>,
}

impl MlsMachine {
    /// Encrypts the content of a room event. The room must be ready, see
    /// [`MlsMachine::prepare_room`].
    ///
    /// # Errors
    ///
    /// As [`MlsMachine::encrypt_room_event_raw`].
    pub async fn encrypt_room_event(
        &self,
        room_id: &RoomId,
        content: impl MessageLikeEventContent,
    ) -> Result<RawEncryptionResult, MlsError> {
        let event_type = content.event_type().to_string();
        let content = Raw::from_json(to_raw_value(&content)?);
        self.encrypt_room_event_raw(room_id, &event_type, &content).await
    }

    /// Encrypts the content of a room event, given as JSON. The room must be ready, see
    /// [`MlsMachine::prepare_room`].
    ///
    /// The count of our messages is stored before this returns: whatever happens afterwards, the
    /// same keys are never used for another message.
    ///
    /// # Errors
    ///
    /// [`MlsError::NotReady`] when members have to be added or removed first,
    /// [`MlsError::MessageTooLarge`] above 40 KiB, and those of [`MlsMachine::prepare_room`].
    #[instrument(skip_all, fields(%room_id, event_type))]
    pub async fn encrypt_room_event_raw(
        &self,
        room_id: &RoomId,
        event_type: &str,
        content: &Raw<AnyMessageLikeEventContent>,
    ) -> Result<RawEncryptionResult, MlsError> {
        let plaintext =
            serde_json::to_vec(&Plaintext { event_type, content: content.json(), room_id })?;
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(MlsError::MessageTooLarge { bytes: plaintext.len() });
        }
        let relation: Option<Relation> = serde_json::from_str(content.json().get()).ok();

        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else {
            return Err(MlsError::NotMls(room_id.to_owned()));
        };
        let node = match self.prepare(room, false).await? {
            Readiness::Ready { node, .. } => node,
            other => return Err(MlsError::NotReady(other)),
        };
        let generation = room.generations.get(&node).copied().unwrap_or_default();
        let mut changes = Changes::default();
        changes.room(room_id).generations.insert(node, generation.saturating_add(1));
        self.save(room, changes).await?;

        let tips = room.group.graph().tips().filter(|tip| *tip != node).take(MAX_TIPS).collect();
        let ciphertext =
            room.group.encrypt(node, &self.inner.local, generation, tips, &plaintext)?;
        let mut content = MlsEncryptedEventContent::new(ciphertext, node);
        content.epoch_event = room.commit_events.get(&node).cloned();
        content.relates_to = relation.and_then(|relation| relation.relates_to);
        debug_assert_eq!(content.algorithm, ALGORITHM);
        Ok(RawEncryptionResult {
            content: Raw::from_json(to_raw_value(&content)?),
            node,
            generation,
        })
    }
}
