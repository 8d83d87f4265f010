//! Asking other devices for epoch keys, and giving them (protocol §6).
//!
//! A device can have a leaf in an epoch that it cannot enter: the state from which it would have to was
//! erased before the commit came, the commit was an external one that came after an hour, or it does
//! not process here. What is said there is for it all the same.

use std::collections::{BTreeMap, BTreeSet};

use matrix_dmls::{EpochKey, Identity, NodeId, NodeStatus};
use ruma::{OwnedDeviceId, OwnedUserId, TransactionId, UserId};
use sha2::{Digest, Sha256};
use tracing::debug;

use super::{
    DeviceName, MlsMachine, Room,
    again::again,
    gaps::user_of,
    heavy::heavy,
    join_requests::has_stayed_since,
    questions::{Asker, free_at, message_to},
    room_events::EventHead,
};
use crate::{
    error::MlsError,
    room::{KeyRequest, KeyRequests, WantedKey},
    store::Changes,
    types::events::{
        Bytes, EncryptedEpochKey, MlsEncryptedEventContent, ToDeviceKeyAnswerEventContent,
        ToDeviceKeyRequestEventContent,
    },
};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long a commit or a Welcome is waited for that may let us in, before a key is asked for.
const FIRST: u64 = 20 * SECOND;

/// How long an answer is waited for after each try, in milliseconds; the last one for all further tries.
const PATIENCE: [u64; 6] = [20 * SECOND, MINUTE, 5 * MINUTE, 20 * MINUTE, HOUR, 6 * HOUR];

/// Once we are in another epoch than when it was asked for last, it is asked for again after this time.
const IN_ANOTHER_EPOCH: u64 = MINUTE;

/// At most this many epochs of a room are asked for at a time.
const MAX_WANTED: usize = 64;

/// How long a key is wanted, in milliseconds: as long as others hold the states by which we show who
/// we are.
const WANTED_AGE: u64 = 7 * DAY;

/// How long an answer is taken, in milliseconds; then the key that it is encrypted to is erased.
const ANSWER_AGE: u64 = DAY;

/// At most this many requests are remembered.
const MAX_REQUESTS: usize = 32;

/// At most this many of the messages that wait are tried with a key that somebody has given us.
const MAX_TRIED: usize = 100;

impl MlsMachine {
    /// A message waits for an epoch that we know and cannot enter. If we have a leaf in it, its key is
    /// asked for.
    pub(super) async fn want_key(&self, room: &mut Room, node: NodeId) -> Result<(), MlsError> {
        let mut keys = room.view.keys.clone();
        if keys.wanted.contains_key(&node)
            || keys.wanted.len() >= MAX_WANTED
            || !self.lacks_key(room, &node)
        {
            return Ok(());
        }
        keys.wanted.insert(node, self.wanted_now());
        self.save_keys(room, keys).await?;
        self.plan_gaps(room);
        Ok(())
    }

    fn wanted_now(&self) -> WantedKey {
        let now = self.now();
        let (next, given) = (now.saturating_add(FIRST), BTreeMap::new());
        WantedKey { since: now, tries: 0, tried_at: 0, next, asked_on: None, given }
    }

    /// Whether an epoch is one that we have a leaf in, and whose key we do not have for certain.
    fn lacks_key(&self, room: &Room, node: &NodeId) -> bool {
        let ours = self.inner.local.identity();
        let group = &room.group;
        group.graph().status(node) == Some(NodeStatus::Seen)
            && (group.epoch_key(node).is_none() || room.view.keys.unsure.contains_key(node))
            && !group.reads_once(node)
            && group.roster(node).is_some_and(|roster| roster.leaf_of_identity(ours).is_some())
    }

    /// Drops what is of no use any more.
    pub(super) async fn mind_keys(&self, room: &mut Room) -> Result<(), MlsError> {
        if room.view.keys.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let mut keys = room.view.keys.clone();
        keys.wanted.retain(|node, wanted| {
            now.saturating_sub(wanted.since) <= WANTED_AGE && self.lacks_key(room, node)
        });
        keys.open.retain(|request| {
            now.saturating_sub(request.at) <= ANSWER_AGE
                && request.nodes.iter().any(|node| keys.wanted.contains_key(node))
        });
        let is_seen = |node: &NodeId| room.group.graph().status(node) == Some(NodeStatus::Seen);
        keys.unsure.retain(|node, _| is_seen(node));
        self.save_keys(room, keys).await
    }

    /// When the next request is due.
    pub(super) fn next_key_request(&self, room: &Room) -> Option<u64> {
        let keys = &room.view.keys;
        let here = (!keys.wanted.is_empty()).then(|| shows_itself_in(room)).flatten();
        let next = keys.wanted.values().filter(|wanted| is_open(wanted));
        let next = next.map(|wanted| due(wanted, here)).min()?;
        Some(next.max(free_at(keys.open.iter().map(|request| request.at))))
    }

    /// Makes the requests whose time has come, as far as that is allowed.
    pub(super) async fn ask_for_keys(&self, room: &mut Room) -> Result<(), MlsError> {
        while self.next_key_request(room).is_some_and(|due| due <= self.now()) {
            self.ask_for_keys_once(room).await?;
        }
        Ok(())
    }

    async fn ask_for_keys_once(&self, room: &mut Room) -> Result<(), MlsError> {
        let now = self.now();
        let mut keys = room.view.keys.clone();
        let here = shows_itself_in(room);
        let mut target: Option<DeviceName> = None;
        let mut nodes = Vec::new();
        for (node, wanted) in &mut keys.wanted {
            if !is_open(wanted) || due(wanted, here) > now {
                continue;
            }
            let whom = here.and_then(|_| self.whom_to_ask_for_key(room, node, wanted));
            if target.is_none() {
                target.clone_from(&whom);
            }
            if nodes.len() == ToDeviceKeyRequestEventContent::MAX_NODES
                || (whom.is_some() && whom != target)
            {
                continue;
            }
            let last = PATIENCE.len() - 1;
            let pause = PATIENCE.get(usize::from(wanted.tries).min(last)).copied();
            wanted.next = now.saturating_add(pause.filter(|_| here.is_some()).unwrap_or(HOUR));
            wanted.tried_at = now;
            wanted.asked_on = here;
            // Where there is nobody to ask, time passes all the same; not before we are somewhere.
            wanted.tries = wanted.tries.saturating_add(u8::from(here.is_some()));
            if whom.is_some() {
                nodes.push(*node);
            }
        }
        let mut changes = Changes::default();
        if let (Some(tip), Some((user_id, device_id))) = (here, target) {
            debug!(room_id = %room.id, %user_id, nodes = nodes.len(), "Asking for epoch keys");
            let id = TransactionId::new().to_string();
            let (secret, public) = matrix_dmls::new_request_key()?;
            let mut content = ToDeviceKeyRequestEventContent::new(
                room.id.clone(),
                id.clone(),
                nodes.clone(),
                tip,
                public,
            );
            let tagged = content.tagged_json()?.into_bytes();
            let tag = heavy(&room.group, move |group| group.key_request_tag(tip, &tagged)).await?;
            content.tag = tag.to_vec().into();
            content.signatures = self.signatures_of(&content.signed_json()?).await?;
            keys.open.push(KeyRequest { id, asked: user_id.clone(), at: now, nodes, secret });
            let over = keys.open.len().saturating_sub(MAX_REQUESTS);
            keys.open.drain(..over);
            let kind = message_to((user_id, device_id), &content)?;
            self.put_into_outbox(room, &mut changes, kind);
        }
        let mut view = room.view.clone();
        view.keys = keys;
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await
    }

    /// Who is asked for an epoch's key next. First a member who is another one for each who asks, then
    /// the author, who has the key for certain, then others.
    fn whom_to_ask_for_key(
        &self,
        room: &Room,
        node: &NodeId,
        wanted: &WantedKey,
    ) -> Option<DeviceName> {
        let own = self.inner.local.device();
        let roster = room.group.roster(node)?;
        let author = room.group.graph().get(node)?.author.member.device().clone();
        let mut targets: Vec<_> = roster
            .iter()
            .map(|(_, member)| member.device())
            .filter(|device| *device != own && room.view.is_joined(&device.user_id))
            .filter(|device| !wanted.given.keys().any(|giver| giver.as_str() == device.user_id))
            .collect();
        targets.sort_by_cached_key(|device| -> [u8; 32] {
            Sha256::new_with_prefix(node.as_bytes())
                .chain_update(own.device_key)
                .chain_update(device.device_key)
                .finalize()
                .into()
        });
        if let Some(place) = targets.iter().position(|device| **device == author)
            && place > 1
        {
            let author = targets.remove(place);
            targets.insert(1, author);
        }
        // Two devices of one user mostly have the same.
        let mut users = BTreeSet::new();
        targets.retain(|device| users.insert(&device.user_id));
        let place = usize::from(wanted.tries).checked_rem(targets.len())?;
        let device = targets.get(place)?;
        Some((user_of(device)?, OwnedDeviceId::from(device.device_id.as_str())))
    }

    /// Somebody asks us for epoch keys.
    pub(super) async fn take_key_request(
        &self,
        sender: &UserId,
        content: &ToDeviceKeyRequestEventContent,
    ) -> Result<(), MlsError> {
        let Some(asker) = self.asker(sender, content) else { return Ok(()) };
        again!(self.give_keys(&asker, content))
    }

    async fn give_keys(
        &self,
        asker: &Asker,
        content: &ToDeviceKeyRequestEventContent,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(&content.room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let Some(tip) = room.group.sending_tip() else { return Ok(()) };
        let Some(device_key) = self.asking_device(room, &tip, asker, content).await? else {
            return Ok(());
        };
        // Making out the rest takes its time.
        self.has_answered(asker, content);
        let name = &asker.name;
        let Some(asks) = member_of(room, content.tip, name, device_key) else { return Ok(()) };
        let is_here =
            room.group.roster(&tip).is_some_and(|roster| roster.leaf_of_identity(&asks).is_some());
        // Whoever took the device's store before that has no part in the epochs after it.
        if !is_here || !has_stayed_since(room, tip, &asks.device, content.tip) {
            debug!(room_id = %room.id, user_id = %name.0, "Epoch keys are asked for from an old epoch");
            return Ok(());
        }
        let Ok(hpke_key) = <[u8; 32]>::try_from(&*content.hpke_key.0) else { return Ok(()) };
        let (nodes, id) = (content.nodes.clone(), content.request_id.clone());
        let (at, tagged, tag) = (content.tip, content.tagged_json()?, content.tag.0.clone());
        let keys = heavy(&room.group, move |group| {
            if !group.is_key_request_tag(at, tagged.as_bytes(), &tag)? {
                return Ok(Vec::new());
            }
            let is_theirs = |node: &NodeId| {
                group.graph().status(node) == Some(NodeStatus::Entered)
                    && group
                        .roster(node)
                        .is_some_and(|roster| roster.leaf_of_identity(&asks).is_some())
            };
            let nodes: BTreeSet<_> = nodes.into_iter().filter(is_theirs).collect();
            let seal = |node| {
                let sealed = group.seal_epoch_key(node, &hpke_key, &id).ok()?;
                Some(EncryptedEpochKey::new(node, sealed))
            };
            Ok(nodes.into_iter().filter_map(seal).collect())
        })
        .await;
        let keys = match keys {
            Ok(keys) if !keys.is_empty() => keys,
            Ok(_) => return Ok(()),
            Err(error) => {
                debug!(room_id = %room.id, %error, "A request for epoch keys cannot be answered");
                return Ok(());
            }
        };
        debug!(room_id = %room.id, user_id = %name.0, keys = keys.len(), "Giving epoch keys");
        let answer =
            ToDeviceKeyAnswerEventContent::new(room.id.clone(), content.request_id.clone(), keys);
        let kind = message_to(name.clone(), &answer)?;
        let mut changes = Changes::default();
        self.put_into_outbox(room, &mut changes, kind);
        self.save(room, changes).await
    }

    /// Somebody gives us epoch keys.
    pub(super) async fn take_key_answer(
        &self,
        sender: &OwnedUserId,
        content: &ToDeviceKeyAnswerEventContent,
    ) -> Result<(), MlsError> {
        again!(async {
            let mut guard = self.lock_room(&content.room_id).await?;
            let Some(room) = guard.as_mut() else { return Ok(()) };
            let mut keys = room.view.keys.clone();
            let is_it = |r: &KeyRequest| r.id == content.request_id && r.asked == *sender;
            let Some(place) = keys.open.iter().position(is_it) else {
                debug!(room_id = %room.id, "Epoch keys that nobody has asked for");
                return Ok(());
            };
            let request = keys.open.remove(place);
            let mut changes = Changes::default();
            let mut taken = Vec::new();
            for given in &content.keys {
                let node = given.epoch;
                if !request.nodes.contains(&node)
                    || taken.contains(&node)
                    || !self.lacks_key(room, &node)
                {
                    continue;
                }
                let opened =
                    room.group.open_epoch_key(node, &request.secret, &request.id, &given.sealed());
                let Ok(key) = opened else { continue };
                let authors = self.authors_of_waiting(room, &key).await?;
                let hash = hash_of(&key);
                let wanted = keys.wanted.get_mut(&node);
                let is_given_by_two = wanted.as_ref().is_some_and(|wanted| {
                    wanted.given.iter().any(|(giver, given)| giver != sender && *given == hash)
                });
                if is_given_by_two || authors.iter().any(|author| author != sender) {
                    keys.unsure.remove(&node);
                } else if room.group.epoch_key(&node).is_none() && !authors.is_empty() {
                    keys.unsure.insert(node, sender.clone());
                } else {
                    if let Some(wanted) = wanted {
                        wanted.given.insert(sender.clone(), hash);
                    }
                    continue;
                }
                keys.wanted.remove(&node);
                changes.room(&room.id).group.extend(room.group.take_epoch_key(key));
                taken.push(node);
            }
            let mut view = room.view.clone();
            view.keys = keys;
            changes.room(&room.id).view = Some(view);
            self.save(room, changes).await?;
            for node in taken {
                Box::pin(self.take_queued(room, node)).await?;
            }
            self.plan_gaps(room);
            Ok(())
        })
    }

    /// The users whose messages, of those that wait, a key reads.
    async fn authors_of_waiting(
        &self,
        room: &Room,
        key: &EpochKey,
    ) -> Result<BTreeSet<OwnedUserId>, MlsError> {
        let waiting = self.inner.store.queued_events(&room.id, &key.node()).await?;
        let mut authors = BTreeSet::new();
        for event in waiting.iter().take(MAX_TRIED) {
            let Some(head) = EventHead::read(&event.json) else { continue };
            let Some(content) = head.content::<MlsEncryptedEventContent>() else { continue };
            let message = key.decrypt(&content.ciphertext.0);
            if message.is_ok_and(|message| message.sender.device().user_id == head.sender.as_str())
            {
                authors.insert(head.sender);
            }
        }
        Ok(authors)
    }

    /// A message was read by a key that somebody has given us. If it is not that one's own, the key is
    /// the epoch's for certain.
    pub(super) async fn has_read(
        &self,
        room: &mut Room,
        node: NodeId,
        sender: &UserId,
    ) -> Result<(), MlsError> {
        if room.view.keys.unsure.get(&node).is_none_or(|giver| giver == sender) {
            return Ok(());
        }
        let mut keys = room.view.keys.clone();
        keys.unsure.remove(&node);
        keys.wanted.remove(&node);
        self.save_keys(room, keys).await
    }

    /// A message cannot be read by the key that is held of its epoch. If that is one that somebody has
    /// given us, and nothing has shown yet that it is the epoch's, somebody else is asked. Whether the
    /// message is to wait for that.
    pub(super) async fn doubts(&self, room: &mut Room, node: NodeId) -> Result<bool, MlsError> {
        let mut keys = room.view.keys.clone();
        let (Some(giver), Some(key)) = (keys.unsure.get(&node), room.group.epoch_key(&node)) else {
            return Ok(false);
        };
        let wanted = keys.wanted.entry(node).or_insert_with(|| self.wanted_now());
        wanted.given.insert(giver.clone(), hash_of(key));
        let waits = is_open(wanted);
        self.save_keys(room, keys).await?;
        self.plan_gaps(room);
        Ok(waits)
    }

    async fn save_keys(&self, room: &mut Room, keys: KeyRequests) -> Result<(), MlsError> {
        if keys == room.view.keys {
            return Ok(());
        }
        let mut view = room.view.clone();
        view.keys = keys;
        let mut changes = Changes::default();
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await
    }
}

/// By which two keys of an epoch are compared.
fn hash_of(key: &EpochKey) -> Bytes {
    let mut hash = Sha256::new_with_prefix(key.group_context());
    for secret in key.encryption_secret().into_iter().chain([key.sender_data_secret()]) {
        hash.update(secret.as_bytes());
    }
    hash.finalize().to_vec().into()
}

const fn is_open(wanted: &WantedKey) -> bool {
    wanted.tries < WantedKey::MAX_TRIES
}

/// When a key is asked for next by a device that is in the epoch `here`.
fn due(wanted: &WantedKey, here: Option<NodeId>) -> u64 {
    if wanted.tried_at > 0 && here.is_some() && wanted.asked_on != here {
        wanted.next.min(wanted.tried_at.saturating_add(IN_ANOTHER_EPOCH))
    } else {
        wanted.next
    }
}

/// The epoch by which we show who we are: of those that we are in, the last one on the way to that
/// which everybody should be in.
fn shows_itself_in(room: &Room) -> Option<NodeId> {
    let graph = room.group.graph();
    let tip = room.group.chosen_tip()?;
    std::iter::once(tip).chain(graph.ancestors(&tip)).find(|node| room.group.state(node).is_some())
}

/// Who a device is in an epoch, if it has a leaf there under this Matrix key.
fn member_of(
    room: &Room,
    node: NodeId,
    (user_id, device_id): &DeviceName,
    device_key: [u8; 32],
) -> Option<Identity> {
    let roster = room.group.roster(&node)?;
    let device = matrix_dmls::Device {
        user_id: user_id.to_string(),
        device_id: device_id.to_string(),
        device_key,
    };
    let leaf = roster.leaf_of(&device)?;
    roster.get(leaf).map(|member| member.identity.clone())
}
