//! Reading messages.

use std::sync::Arc;

use matrix_dmls::{
    ALGORITHM, DecryptError, DecryptedMessage, Device, GroupChanges, GroupError, NodeId, NodeStatus,
};
use ruma::{
    OwnedEventId, OwnedUserId, RoomId,
    events::{AnySyncTimelineEvent, AnyTimelineEvent},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tracing::instrument;

use super::{MlsMachine, Room, again::again, gaps::Naming, room_events::EventHead};
use crate::{
    error::{DecryptionError, MlsError},
    store::{BoundMessage, LedgerEntry, MessageKey},
    trust::Verdict,
    types::events::MlsEncryptedEventContent,
};

/// A decrypted event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DecryptedRoomEvent {
    /// The event with its type and content in the clear.
    pub event: Raw<AnyTimelineEvent>,
    /// Who encrypted it, and how.
    pub encryption_info: MlsEncryptionInfo,
}

/// Who encrypted a message, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MlsEncryptionInfo {
    /// Whose device signed it. Its user is the event's sender.
    pub sender: Device,
    /// How far that device can be trusted.
    pub verdict: Verdict,
    /// The epoch.
    pub node: NodeId,
    /// Its number.
    pub epoch: u64,
    /// The sender's leaf.
    pub leaf: u32,
    /// The sender's count of messages in the epoch.
    pub generation: u32,
    /// The sender has used the same keys for another message: it went back to an old copy of its
    /// store (protocol §7, `GenerationReuse`).
    pub generation_reused: bool,
}

/// What was encrypted.
#[derive(Deserialize)]
struct Plaintext {
    #[serde(rename = "type")]
    event_type: String,
    content: Box<RawValue>,
    room_id: ruma::OwnedRoomId,
}

impl MlsMachine {
    /// Decrypts a message. Nothing is used up: the same event can be decrypted again at any time,
    /// in any order, our own ones too.
    ///
    /// Unless the history policy of its epoch is `none` (protocol §7): then each message can be
    /// decrypted once, our own ones too, and its key is gone from the store before this returns. What
    /// it says is for the application to keep. A failure of this call uses nothing up, and a call that
    /// was cancelled can be repeated. If the process ends between this call's last write and its
    /// return, the message is lost for this device.
    ///
    /// # Errors
    ///
    /// [`DecryptionError`] says why an event cannot be read. After
    /// [`DecryptionError::UnknownEpoch`] the event is kept, and [`crate::Notice::Readable`] comes
    /// when it can be, or [`crate::Notice::NotReadable`] when it turns out that it cannot.
    /// [`DecryptionError::AlreadyRead`] comes where messages are read once.
    #[instrument(skip_all, fields(%room_id))]
    pub async fn decrypt_room_event(
        &self,
        event: &Raw<AnySyncTimelineEvent>,
        room_id: &RoomId,
    ) -> Result<DecryptedRoomEvent, DecryptionError> {
        let malformed = |reason: &str| DecryptionError::Malformed(reason.to_owned());
        let json = event.json().get();
        let head = EventHead::read(json).ok_or_else(|| malformed("not an event"))?;
        let event_id = head.event_id.clone().ok_or_else(|| malformed("an event without ID"))?;
        let content: MlsEncryptedEventContent = serde_json::from_str(head.content.get())
            .map_err(|_| malformed("not an encrypted event"))?;
        if head.event_type != "m.room.encrypted" || content.algorithm != ALGORITHM {
            return Err(malformed("not an event of this algorithm"));
        }
        let header = matrix_dmls::peek(&content.ciphertext.0)
            .map_err(|error| malformed(&error.to_string()))?;
        if header.aad.epoch() != content.epoch {
            return Err(malformed("the event names another epoch than its ciphertext"));
        }

        self.has_come_of(room_id, head.sent_at());
        again!(self.decrypt(event, room_id, &head, &event_id, &content, header.epoch))
    }

    async fn decrypt(
        &self,
        event: &Raw<AnySyncTimelineEvent>,
        room_id: &RoomId,
        head: &EventHead,
        event_id: &OwnedEventId,
        content: &MlsEncryptedEventContent,
        epoch: u64,
    ) -> Result<DecryptedRoomEvent, DecryptionError> {
        let malformed = |reason: &str| DecryptionError::Malformed(reason.to_owned());
        let mut guard = self.lock_room_to_read(room_id, &content.epoch).await?;
        let Some(room) = guard.as_mut() else { return Err(malformed("no room")) };
        let node = content.epoch;
        let read = match room.group.read(&content.ciphertext.0) {
            Err(error @ (GroupError::NoEpochKey(_) | GroupError::Decrypt(_))) => {
                let by_spare = self.read_by_spare_key(room, node, &content.ciphertext.0).await?;
                by_spare.map(|message| (message, GroupChanges::default())).ok_or(error)
            }
            read => read,
        };
        let (message, erased) = match read {
            Ok(read) => read,
            Err(GroupError::Decrypt(DecryptError::KeyErased { leaf, generation })) => {
                let key = MessageKey { node, leaf, generation };
                return self.read_before(room, event_id, &key, &content.ciphertext.0).await;
            }
            // Of an epoch whose key somebody has given us: that may have been a false one.
            Err(GroupError::Decrypt(_)) if self.want_key(room, node, [&*head.sender]).await? => {
                self.queue(room, event_id, node, head).await?;
                return Err(DecryptionError::UnknownEpoch(node));
            }
            Err(GroupError::NoEpochKey(node)) => {
                let reason = self.why_no_key(room, node, epoch);
                if matches!(reason, DecryptionError::UnknownEpoch(_)) {
                    self.queue(room, event_id, node, head).await?;
                    self.want_key(room, node, [&*head.sender]).await?;
                    let naming = Naming {
                        user: &head.sender,
                        device: None,
                        hint: content.epoch_event.as_deref(),
                        hops: 0,
                        needed: true,
                    };
                    self.look_for(room, node, naming).await?;
                    self.mind_gaps(room).await?;
                }
                return Err(reason);
            }
            Err(GroupError::WrongRoom) => return Err(DecryptionError::WrongRoom),
            Err(error) => return Err(malformed(&error.to_string())),
        };
        self.check_sender(&head.sender, &message)?;
        let plaintext: Plaintext = serde_json::from_slice(&message.plaintext)
            .map_err(|_| malformed("the plaintext is not JSON of an event"))?;
        if plaintext.room_id != room_id {
            return Err(DecryptionError::WrongRoom);
        }
        let (key, bound) = binding(event_id, &content.ciphertext.0, &message);
        let before = if erased.is_empty() {
            self.inner.store.note_message(&room.id, &key, bound.clone()).await?
        } else {
            self.inner.store.ledger_entry(&room.id, &key).await?.unwrap_or_default()
        };
        let generation_reused = is_reused(&before, &bound)?;
        let encryption_info = self.encryption_info(room, &message, generation_reused).await?;
        let event =
            in_the_clear(event.json().get(), room_id, &plaintext, content.relates_to.as_deref())
                .map_err(MlsError::from)?;
        let naming = Naming::by_device(&head.sender, message.sender.device());
        self.look_at_tips(room, message.aad.tips(), naming, head.sent_at()).await?;
        let decrypted = DecryptedRoomEvent { event, encryption_info };
        if !erased.is_empty() {
            // Last of all, so that what fails before leaves the message readable.
            self.erase_key_of(room, key, bound, &before, erased, &decrypted).await?;
        }
        Ok(decrypted)
    }

    /// Why there is no key for an epoch.
    fn why_no_key(&self, room: &Room, node: NodeId, epoch: u64) -> DecryptionError {
        let graph = room.group.graph();
        match graph.status(&node) {
            None if graph.is_forgotten(&node, epoch) => return DecryptionError::KeysExpired,
            None => return DecryptionError::UnknownEpoch(node),
            Some(NodeStatus::Entered) => return DecryptionError::KeysExpired,
            Some(NodeStatus::Seen) => {}
        }
        // The epochs of an MLS key that we have lost are not ours any more.
        let ours = self.inner.local.identity();
        let entered_above =
            graph.ancestors(&node).any(|above| graph.status(&above) == Some(NodeStatus::Entered));
        let is_member =
            room.group.roster(&node).is_some_and(|roster| roster.leaf_of_identity(ours).is_some());
        if is_member {
            // A Welcome, or another copy of its commit, may still let us in.
            DecryptionError::UnknownEpoch(node)
        } else if entered_above {
            DecryptionError::AfterOurRemoval
        } else {
            DecryptionError::BeforeOurJoin
        }
    }

    fn check_sender(
        &self,
        sender: &OwnedUserId,
        message: &DecryptedMessage,
    ) -> Result<(), DecryptionError> {
        let signer = message.sender.device();
        if signer.user_id == sender.as_str() {
            return Ok(());
        }
        Err(DecryptionError::InvalidSender { sender: sender.clone(), signer: signer.clone() })
    }

    async fn encryption_info(
        &self,
        room: &Room,
        message: &DecryptedMessage,
        generation_reused: bool,
    ) -> Result<MlsEncryptionInfo, DecryptionError> {
        let sender = message.sender.device();
        let verdict = match self.verdict(&message.sender).await? {
            // The device is gone; what it was then still holds.
            Verdict::UnknownDevice => {
                room.view.verdicts.get(sender).copied().unwrap_or(Verdict::UnknownDevice)
            }
            verdict => verdict,
        };
        let node = message.aad.epoch();
        let epoch = room.group.epoch_key(&node).map(|key| Arc::clone(key).epoch());
        Ok(MlsEncryptionInfo {
            sender: sender.clone(),
            verdict,
            node,
            epoch: epoch.unwrap_or_default(),
            leaf: message.leaf,
            generation: message.generation,
            generation_reused,
        })
    }
}

/// What binds a message to its event.
fn binding(
    event_id: &OwnedEventId,
    ciphertext: &[u8],
    message: &DecryptedMessage,
) -> (MessageKey, BoundMessage) {
    let key = MessageKey {
        node: message.aad.epoch(),
        leaf: message.leaf,
        generation: message.generation,
    };
    (key, BoundMessage::new(event_id.clone(), ciphertext))
}

/// Whether another message had the same keys.
pub(super) fn is_reused(
    before: &LedgerEntry,
    message: &BoundMessage,
) -> Result<bool, DecryptionError> {
    let is_it = |known: &BoundMessage| known.ciphertext_hash == message.ciphertext_hash;
    match before.messages.iter().position(is_it) {
        None => Ok(!before.messages.is_empty()),
        Some(place) => match before.messages.get(place) {
            Some(first) if first.event_id != message.event_id => {
                Err(DecryptionError::Replay { first: first.event_id.clone() })
            }
            _ => Ok(place != 0),
        },
    }
}

/// The event with type and content in the clear, and the relation that stood outside.
fn in_the_clear(
    json: &str,
    room_id: &RoomId,
    plaintext: &Plaintext,
    relates_to: Option<&RawValue>,
) -> Result<Raw<AnyTimelineEvent>, serde_json::Error> {
    let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)?;
    let mut content: serde_json::Value = serde_json::from_str(plaintext.content.get())?;
    if let (Some(content), Some(relates_to)) = (content.as_object_mut(), relates_to) {
        // As with Megolm the outer one counts, since it is what the server aggregates by.
        content.insert("m.relates_to".to_owned(), serde_json::from_str(relates_to.get())?);
    }
    event.insert("type".to_owned(), plaintext.event_type.clone().into());
    event.insert("content".to_owned(), content);
    event.insert("room_id".to_owned(), room_id.as_str().into());
    Ok(Raw::from_json(to_raw_value(&event)?))
}
