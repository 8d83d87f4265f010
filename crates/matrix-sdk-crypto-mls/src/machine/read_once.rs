//! Messages that are read once, where the history policy is `none` (protocol §7): the key of a message
//! goes in the batch that notes that it was read.

use std::collections::VecDeque;

use matrix_dmls::GroupChanges;
use ruma::{OwnedEventId, OwnedRoomId};

use super::{MlsMachine, Room, decrypt::is_reused, lock};
use crate::{
    DecryptedRoomEvent,
    error::{DecryptionError, MlsError},
    store::{BoundMessage, Changes, LedgerEntry, MessageKey},
};

/// At most this many messages are remembered of which it is not known whether their keys were erased.
const MAX_UNDELIVERED: usize = 64;

/// Messages whose keys were about to be erased, in memory: whether that was done, and who has them,
/// is not known when the store's answer got lost, or the call was cancelled. Asked for again, they are
/// delivered from here.
#[derive(Default)]
pub(super) struct Undelivered(VecDeque<Message>);

struct Message {
    room_id: OwnedRoomId,
    bound: BoundMessage,
    decrypted: DecryptedRoomEvent,
}

impl Undelivered {
    fn remember(&mut self, message: Message) {
        self.take(&message.room_id, &message.bound);
        if self.0.len() >= MAX_UNDELIVERED {
            self.0.pop_front();
        }
        self.0.push_back(message);
    }

    fn take(&mut self, room_id: &OwnedRoomId, bound: &BoundMessage) -> Option<DecryptedRoomEvent> {
        let is_it = |message: &Message| message.room_id == *room_id && message.bound == *bound;
        let place = self.0.iter().position(is_it)?;
        self.0.remove(place).map(|message| message.decrypted)
    }
}

impl MlsMachine {
    /// Erases the key of a message that was read, and notes that it was read. Nothing may fail between
    /// this and the message's delivery.
    pub(super) async fn erase_key_of(
        &self,
        room: &mut Room,
        key: MessageKey,
        bound: BoundMessage,
        before: &LedgerEntry,
        erased: GroupChanges,
        decrypted: &DecryptedRoomEvent,
    ) -> Result<(), MlsError> {
        let message = Message {
            room_id: room.id.clone(),
            bound: bound.clone(),
            decrypted: decrypted.clone(),
        };
        lock(&self.inner.undelivered).remember(message);
        let mut changes = Changes::default();
        let room_changes = changes.room(&room.id);
        room_changes.group = erased;
        room_changes.ledger.extend(before.with(bound.clone()).map(|entry| (key, entry)));
        self.save(room, changes).await?;
        lock(&self.inner.undelivered).take(&room.id, &bound);
        Ok(())
    }

    /// What there is to say of a message whose key is erased. Leaf and generation are what it claims.
    pub(super) async fn read_before(
        &self,
        room: &Room,
        event_id: &OwnedEventId,
        key: &MessageKey,
        ciphertext: &[u8],
    ) -> Result<DecryptedRoomEvent, DecryptionError> {
        let bound = BoundMessage::new(event_id.clone(), ciphertext);
        if let Some(decrypted) = lock(&self.inner.undelivered).take(&room.id, &bound) {
            return Ok(decrypted);
        }
        let before = self.inner.store.ledger_entry(&room.id, key).await?.unwrap_or_default();
        is_reused(&before, &bound)?;
        if before.messages.contains(&bound) {
            Err(DecryptionError::AlreadyRead)
        } else {
            Err(DecryptionError::KeysExpired)
        }
    }
}
