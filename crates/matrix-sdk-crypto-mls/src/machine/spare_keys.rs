//! Epoch keys that somebody has given us: whether they read anything, and those beside the one that the
//! group holds (protocol §6).
//!
//! Nobody signs a key. That it is the epoch's shows when it reads a message, whose sender has signed it. Who
//! gives a false key can make up messages of its own that it reads; so other keys are held as well, and
//! each message is read by the one that can.

use std::collections::BTreeSet;

use matrix_dmls::{DecryptedMessage, EpochKey, HistoryPolicy, NodeId, NodeStatus, SealedEpochKey};
use ruma::OwnedUserId;

use super::{MlsMachine, Room, heavy::heavy, room_events::EventHead};
use crate::{
    error::MlsError,
    room::{KeyRequest, KeyRequests, SpareKey},
    store::Changes,
    types::events::MlsEncryptedEventContent,
};

const DAY: u64 = 24 * 3600 * 1000;

/// At most this many keys of an epoch are held beside the group's, and this many in a room.
const MAX_OF_EPOCH: usize = 8;
const MAX_IN_ROOM: usize = 64;

/// How long a key is held that has read nothing: as long as messages wait.
const UNREAD_AGE: u64 = 30 * DAY;

/// At most this many of the messages that wait are tried with a key that somebody has given us.
const MAX_TRIED: usize = 16;

impl MlsMachine {
    /// A key that somebody has given us, and whether it reads anything that waits; none if it cannot be
    /// this epoch's.
    pub(super) async fn try_given_key(
        &self,
        room: &Room,
        node: NodeId,
        request: &KeyRequest,
        sealed: SealedEpochKey,
    ) -> Result<Option<(EpochKey, bool)>, MlsError> {
        let waiting = self.waiting_in(room, node).await?;
        let (secret, id) = (request.secret.clone(), request.id.clone());
        let tried = heavy(&room.group, move |group| {
            let key = group.open_epoch_key(node, &secret, &id, &sealed)?;
            let has_read = waiting.iter().any(|(sender, ciphertext)| {
                let message = key.decrypt(ciphertext);
                message.is_ok_and(|m| m.sender.device().user_id == sender.as_str())
            });
            Ok((key, has_read))
        });
        Ok(tried.await.ok())
    }

    /// Some of the messages that wait for an epoch, and who has sent them: of different users, if there
    /// are.
    async fn waiting_in(
        &self,
        room: &Room,
        node: NodeId,
    ) -> Result<Vec<(OwnedUserId, Vec<u8>)>, MlsError> {
        let mut waiting: Vec<_> = self
            .inner
            .store
            .queued_events(&room.id, &node)
            .await?
            .iter()
            .filter_map(|event| EventHead::read(&event.json))
            .filter_map(|head| {
                let content: MlsEncryptedEventContent = head.content()?;
                Some((head.sender, content.ciphertext.0))
            })
            .collect();
        let mut senders = BTreeSet::new();
        waiting.sort_by_cached_key(|(sender, _)| !senders.insert(sender.clone()));
        waiting.truncate(MAX_TRIED);
        Ok(waiting)
    }

    /// Reads a message by a key that is held beside the group's. The first one that reads anything becomes
    /// the group's.
    pub(super) async fn read_by_spare_key(
        &self,
        room: &mut Room,
        node: NodeId,
        ciphertext: &[u8],
    ) -> Result<Option<DecryptedMessage>, MlsError> {
        let Some(spare) = room.view.keys.spare.get(&node) else { return Ok(None) };
        let Some(roster) = room.group.roster(&node) else { return Ok(None) };
        let read = spare.iter().enumerate().find_map(|(place, spare)| {
            let key = spare.key(node, std::sync::Arc::clone(&roster))?;
            Some((place, key.decrypt(ciphertext).ok()?, key))
        });
        let Some((place, message, key)) = read else { return Ok(None) };
        let mut keys = room.view.keys.clone();
        let mut changes = Changes::default();
        let Some(spare) = keys.spare.get_mut(&node) else { return Ok(None) };
        if room.group.epoch_key(&node).is_none() {
            spare.remove(place);
            changes.room(&room.id).group = room.group.take_epoch_key(key);
        } else if let Some(spare) = spare.get_mut(place) {
            spare.has_read = true;
        }
        keys.spare.retain(|_, spare| !spare.is_empty());
        if keys != room.view.keys {
            let mut view = room.view.clone();
            view.keys = keys;
            changes.room(&room.id).view = Some(view);
            self.save(room, changes).await?;
        }
        Ok(Some(message))
    }
}

impl SpareKey {
    fn key(&self, node: NodeId, roster: std::sync::Arc<matrix_dmls::Roster>) -> Option<EpochKey> {
        let (tree, sender) = (self.encryption_secret.clone(), self.sender_data_secret.clone());
        EpochKey::new(node, self.group_context.0.clone(), tree, sender, roster).ok()
    }
}

/// Holds a key beside the group's. Over the limit those go first that have read nothing, then the oldest.
pub(super) fn hold(keys: &mut KeyRequests, key: &EpochKey, has_read: bool, now: u64) {
    let Some(secret) = key.encryption_secret() else { return };
    let spare = SpareKey {
        at: now,
        has_read,
        group_context: key.group_context().to_vec().into(),
        encryption_secret: secret.clone(),
        sender_data_secret: key.sender_data_secret().clone(),
    };
    let is_same = |other: &SpareKey| {
        other.encryption_secret == spare.encryption_secret
            && other.sender_data_secret == spare.sender_data_secret
            && other.group_context == spare.group_context
    };
    let of_epoch = keys.spare.entry(key.node()).or_default();
    if let Some(same) = of_epoch.iter_mut().find(|other| is_same(other)) {
        same.has_read |= has_read;
        return;
    }
    of_epoch.push(spare);
    if of_epoch.len() > MAX_OF_EPOCH {
        let first = of_epoch.iter().enumerate().min_by_key(|(_, spare)| (spare.has_read, spare.at));
        if let Some(first) = first.map(|(place, _)| place) {
            of_epoch.remove(first);
        }
    }
    if keys.spare.values().map(Vec::len).sum::<usize>() > MAX_IN_ROOM {
        let all = keys.spare.iter().flat_map(|(node, spare)| {
            spare.iter().enumerate().map(move |(place, s)| ((s.has_read, s.at), *node, place))
        });
        if let Some((_, node, place)) = all.min()
            && let Some(spare) = keys.spare.get_mut(&node)
        {
            spare.remove(place);
        }
    }
    keys.spare.retain(|_, spare| !spare.is_empty());
}

/// Drops the keys whose time is over: of epochs that we have entered since, those that have read nothing,
/// and those that the epoch's history policy does not let us keep.
pub(super) fn drop_old(room: &Room, keys: &mut KeyRequests, now: u64) {
    let graph = room.group.graph();
    for (node, spare) in &mut keys.spare {
        let policy = graph.get(node).map(|record| record.extension.history);
        let longest = match policy.filter(|_| graph.status(node) == Some(NodeStatus::Seen)) {
            Some(HistoryPolicy::Keep) => u64::MAX,
            Some(HistoryPolicy::Days(days)) => u64::from(days.get()) * DAY,
            Some(HistoryPolicy::None) | None => 0,
        };
        spare.retain_mut(|spare| {
            spare.at = spare.at.min(now);
            let longest = if spare.has_read { longest } else { longest.min(UNREAD_AGE) };
            now.saturating_sub(spare.at) < longest
        });
    }
    keys.spare.retain(|_, spare| !spare.is_empty());
}
