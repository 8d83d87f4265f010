//! Sending messages.

use matrix_dmls::{ALGORITHM, EncryptError, GroupError, MessageAad, NodeId};
use ruma::{
    RoomId,
    events::{AnyMessageLikeEventContent, MessageLikeEventContent},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tracing::instrument;

use super::{MlsMachine, again::again, prepare::Readiness};
use crate::{error::MlsError, types::events::MlsEncryptedEventContent};

/// The largest content that is encrypted, in bytes: with base64 and what the server adds, the event
/// stays below 65,536.
const MAX_PLAINTEXT: usize = 40 * 1024;

/// An encrypted message, to be sent as an `m.room.encrypted` event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RawEncryptionResult {
    /// The event's content.
    pub content: Raw<AnyMessageLikeEventContent>,
    /// The epoch that it is encrypted in.
    pub node: NodeId,
    /// The message's number among this device's in the epoch: higher than those of all before it, and
    /// of no other. Numbers are reserved in blocks of up to 16, so some may be left out where a
    /// process ended, or an operation failed.
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
    /// The message's generation was reserved durably before this returns: whatever happens
    /// afterwards, the same keys are never used for another message.
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

        let relates_to = relation.and_then(|relation| relation.relates_to);
        again!(self.encrypt(room_id, &plaintext, relates_to.as_deref()))
    }

    async fn encrypt(
        &self,
        room_id: &RoomId,
        plaintext: &[u8],
        relates_to: Option<&RawValue>,
    ) -> Result<RawEncryptionResult, MlsError> {
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else {
            return Err(MlsError::NotMls(room_id.to_owned()));
        };
        let node = match self.settled(room) {
            Some(settled) => settled.node,
            None => match Box::pin(self.prepare(room, false)).await? {
                Readiness::Ready { node, .. } => node,
                other => return Err(MlsError::NotReady(other)),
            },
        };
        let tips = self.other_tips(room, node, MessageAad::MAX_TIPS);
        let (generation, ciphertext) = loop {
            let generation = self.take_generation(room, node).await?;
            let tips = tips.clone();
            match room.group.encrypt(node, &self.inner.local, generation, tips, plaintext) {
                // We have read a message of ours that we do not remember: the store was put back to
                // an older copy. It ends at the limit of generations.
                Err(GroupError::Encrypt(EncryptError::KeyErased { .. })) => {}
                other => break (generation, other?),
            }
        };
        let mut content = MlsEncryptedEventContent::new(ciphertext, node);
        content.epoch_event = room.commit_events.get(&node).cloned();
        content.relates_to = relates_to.map(ToOwned::to_owned);
        debug_assert_eq!(content.algorithm, ALGORITHM);
        Ok(RawEncryptionResult {
            content: Raw::from_json(to_raw_value(&content)?),
            node,
            generation,
        })
    }
}
