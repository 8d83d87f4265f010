//! Asking other devices for epoch keys, and giving them (protocol §6).
//!
//! A device can have a leaf in an epoch that it cannot enter: the state from which it would have to was
//! erased before the commit came, the commit was an external one that came after an hour, or it does
//! not process here. What is said there is for it all the same.

use std::collections::{BTreeMap, BTreeSet};

use matrix_dmls::{Device, Identity, NodeId, NodeStatus};
use ruma::{OwnedDeviceId, OwnedUserId, RoomId, TransactionId, UserId};
use sha2::{Digest, Sha256};
use tracing::debug;

use super::{
    DeviceName, MlsMachine, Room,
    again::again,
    gaps::user_of,
    heavy::heavy,
    join_requests::has_stayed_since,
    questions::{Asker, free_at, message_to},
};
use crate::{
    error::MlsError,
    room::{KeyRequest, KeyRequests, RoomView, WantedKey},
    store::Changes,
    types::events::{
        EncryptedEpochKey, ToDeviceKeyAnswerEventContent, ToDeviceKeyRequestEventContent,
    },
};

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long a commit or a Welcome is waited for that may let us in, before a key is asked for.
const FIRST: u64 = 20 * SECOND;

/// How long an answer is waited for after each try, in milliseconds: so many tries with each pause, and
/// all further ones with the last. It may be that only a few of many have the key.
const PATIENCE: [u64; 7] =
    [20 * SECOND, MINUTE, 5 * MINUTE, 20 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR];
const TRIES_PER_PAUSE: usize = 4;

/// Once we are in another epoch than when it was asked for last, it is asked for again after this time,
/// so often.
const IN_ANOTHER_EPOCH: u64 = MINUTE;
const MAX_EARLY: u8 = 8;

/// Nobody is asked again before this time.
const SAME_USER: u64 = MINUTE;

/// At most this many epochs of a room are asked for at a time, and of these so many that one user has
/// made.
const MAX_WANTED: usize = 64;
const MAX_OF_ONE_USER: usize = 10;

/// At most this many who have spoken in a wanted epoch are remembered.
const MAX_SPEAKERS: usize = 8;

/// How long a key is wanted, in milliseconds: as long as messages wait.
const WANTED_AGE: u64 = 30 * DAY;

/// How long an answer is taken, in milliseconds; then the key that it is encrypted to is erased.
const ANSWER_AGE: u64 = DAY;

/// At most this many requests are remembered.
const MAX_REQUESTS: usize = 32;

/// How long a request of somebody else is held that names an epoch which we are not in yet.
const EARLY_AGE: u64 = MINUTE;

/// At most this many are held.
const MAX_HELD: usize = 100;

/// A request that is looked at again when the room's events have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldKeyRequest {
    sender: OwnedUserId,
    content: ToDeviceKeyRequestEventContent,
    at: u64,
}

impl MlsMachine {
    /// Messages of these users wait for an epoch that we know, and that no key reads which we have. If we
    /// have a leaf in it, its key is asked for. Whether it is.
    pub(super) async fn want_key(
        &self,
        room: &mut Room,
        node: NodeId,
        speakers: impl IntoIterator<Item = &UserId>,
    ) -> Result<bool, MlsError> {
        if !self.may_be_given(room, &node) {
            return Ok(false);
        }
        let mut keys = room.view.keys.clone();
        if let Some(wanted) = keys.wanted.get_mut(&node) {
            wanted.open = true;
        } else if make_place(room, &mut keys.wanted, &node) {
            let now = self.now();
            let wanted = WantedKey {
                open: true,
                since: now,
                tries: 0,
                early: 0,
                tried_at: 0,
                next: now.saturating_add(FIRST),
                asked_on: None,
                given: BTreeSet::new(),
                speakers: BTreeSet::new(),
            };
            keys.wanted.insert(node, wanted);
        }
        let is_wanted = if let Some(wanted) = keys.wanted.get_mut(&node) {
            // Who has no leaf there has no key either.
            let roster = room.group.roster(&node);
            let is_member = |user: &UserId| {
                roster.as_ref().is_some_and(|roster| roster.has_user(user.as_str()))
            };
            for speaker in speakers.into_iter().filter(|user| is_member(user)) {
                if wanted.speakers.len() < MAX_SPEAKERS {
                    wanted.speakers.insert(speaker.to_owned());
                }
            }
            true
        } else {
            false
        };
        self.save_keys(room, keys).await?;
        self.plan_gaps(room);
        Ok(is_wanted)
    }

    /// Whether an epoch is one that we have a leaf in and have not entered, and whose key others may
    /// give away.
    fn may_be_given(&self, room: &Room, node: &NodeId) -> bool {
        let ours = self.inner.local.identity();
        let group = &room.group;
        group.graph().status(node) == Some(NodeStatus::Seen)
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
            // A clock that was set back must not keep it for years.
            wanted.since = wanted.since.min(now);
            wanted.tried_at = wanted.tried_at.min(now);
            wanted.next = wanted.next.min(now.saturating_add(DAY));
            now.saturating_sub(wanted.since) <= WANTED_AGE && self.may_be_given(room, node)
        });
        keys.open.retain_mut(|request| {
            request.at = request.at.min(now);
            now.saturating_sub(request.at) <= ANSWER_AGE
                && request.nodes.iter().any(|node| is_open(&keys.wanted, node))
        });
        keys.asked.retain(|(_, at)| *at <= now && now.saturating_sub(*at) < SAME_USER);
        super::spare_keys::drop_old(room, &mut keys, now);
        self.save_keys(room, keys).await
    }

    /// When the next request is due.
    pub(super) fn next_key_request(&self, room: &Room) -> Option<u64> {
        let keys = &room.view.keys;
        let here = (!keys.wanted.is_empty()).then(|| shows_itself_in(room)).flatten();
        let next = keys.wanted.values().filter(|wanted| wanted.open);
        let next = next.map(|wanted| due(wanted, here)).min()?;
        Some(next.max(free_at(keys.asked.iter().map(|(_, at)| *at))))
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
            if !wanted.open || due(wanted, here) > now {
                continue;
            }
            let whom = here.and_then(|_| self.whom_to_ask_for_key(room, node, wanted));
            let asked = |name: &DeviceName| keys.asked.iter().find(|(user, _)| *user == name.0);
            if let Some((_, at)) = whom.as_ref().and_then(asked) {
                // It would not answer, and that would be taken for its having no key.
                wanted.asked_on = here;
                wanted.next = at.saturating_add(SAME_USER).max(now.saturating_add(SECOND));
                continue;
            }
            if target.is_none() {
                target.clone_from(&whom);
            }
            if nodes.len() == ToDeviceKeyRequestEventContent::MAX_NODES
                || (whom.is_some() && whom != target)
            {
                continue;
            }
            let last = PATIENCE.len() - 1;
            let step = usize::from(wanted.tries) / TRIES_PER_PAUSE;
            let pause = PATIENCE.get(step.min(last)).copied();
            let is_early = wanted.asked_on.is_some() && wanted.next > now;
            wanted.early = wanted.early.saturating_add(u8::from(is_early));
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
            keys.asked.push((user_id.clone(), now));
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

    /// Who is asked for an epoch's key next: by turns somebody who has spoken or committed there, the author
    /// (those have it for certain), and any other, so that neither who speaks first nor the author can keep
    /// all others from being asked. In an order that is another for each who asks, one device of each
    /// user first.
    fn whom_to_ask_for_key(
        &self,
        room: &Room,
        node: &NodeId,
        wanted: &WantedKey,
    ) -> Option<DeviceName> {
        let own = self.inner.local.device();
        let roster = room.group.roster(node)?;
        let graph = room.group.graph();
        let author = graph.get(node)?.author.member.device();
        let committers: BTreeSet<_> = graph
            .children(node)
            .filter_map(|child| Some(&graph.get(&child)?.author))
            .filter(|author| author.leaf.is_some())
            .map(|author| author.member.device())
            .collect();
        let mut others: Vec<_> = roster
            .iter()
            .map(|(_, member)| member.device())
            .filter(|device| *device != own && room.view.is_joined(&device.user_id))
            .filter(|device| !wanted.given.iter().any(|giver| giver.as_str() == device.user_id))
            .collect();
        others.sort_by_cached_key(|device| -> [u8; 32] {
            Sha256::new_with_prefix(node.as_bytes())
                .chain_update(own.device_key)
                .chain_update(device.device_key)
                .finalize()
                .into()
        });
        let is_there = others.iter().position(|device| *device == author);
        let author = is_there.map(|place| others.remove(place));
        let mut users = BTreeSet::new();
        let (mut first, second): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|device| users.insert(&device.user_id));
        first.extend(second);
        let (active, silent): (Vec<_>, Vec<_>) = first.iter().copied().partition(|device| {
            committers.contains(device)
                || wanted.speakers.iter().any(|speaker| speaker.as_str() == device.user_id)
        });
        fn nth<'a>(from: &[&'a Device], n: usize) -> Option<&'a Device> {
            from.get(n.checked_rem(from.len())?).copied()
        }
        // Where there is nobody of a kind, nobody else is asked twice for that.
        let rounds = active.len().max(silent.len()).max(1);
        let order: Vec<_> = (0..rounds)
            .flat_map(|round| [nth(&active, round), author, nth(&silent, round)])
            .flatten()
            .collect();
        let device = *order.get(usize::from(wanted.tries).checked_rem(order.len())?)?;
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

    /// Looks at the requests again that came before what they name.
    pub(super) async fn answer_held_requests(&self, room_id: &RoomId) -> Result<(), MlsError> {
        let now = self.now();
        let held: Vec<_> = {
            let held = &mut self.transient().key_requests;
            held.retain(|request| now.saturating_sub(request.at) <= EARLY_AGE);
            held.iter().filter(|request| request.content.room_id == room_id).cloned().collect()
        };
        // They stay until their time is over: who was answered is not answered again so soon.
        for HeldKeyRequest { sender, content, .. } in held {
            self.take_key_request(&sender, &content).await?;
        }
        Ok(())
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
        let name = &asker.name;
        let asks = member_of(room, content.tip, name, device_key).filter(|asks| {
            // Whoever took the device's store before that has no part in the epochs after it.
            let roster = room.group.roster(&tip);
            roster.is_some_and(|roster| roster.leaf_of_identity(asks).is_some())
                && room.group.state(&content.tip).is_some()
                && has_stayed_since(room, tip, &asks.device, content.tip)
        });
        let Some(asks) = asks else {
            // To-device events come before the room's: perhaps we do not know its epoch yet.
            let held = &mut self.transient().key_requests;
            let is_held = held.iter().any(|held| held.content == *content);
            if !is_held && held.len() < MAX_HELD {
                let (sender, content) = (name.0.clone(), content.clone());
                held.push(HeldKeyRequest { sender, content, at: self.now() });
            }
            return Ok(());
        };
        // Making out the rest takes its time.
        self.has_answered(asker, content);
        let Ok(hpke_key) = <[u8; 32]>::try_from(&*content.hpke_key.0) else { return Ok(()) };
        let is_theirs = |node: &NodeId| {
            let roster = room.group.roster(node);
            room.group.graph().status(node) == Some(NodeStatus::Entered)
                && roster.is_some_and(|roster| roster.leaf_of_identity(&asks).is_some())
                && is_no_newer_there(room, *node, content.tip, &asks.device)
        };
        let nodes: BTreeSet<_> = content.nodes.iter().copied().filter(is_theirs).collect();
        let (at, tagged, tag) = (content.tip, content.tagged_json()?, content.tag.0.clone());
        let id = content.request_id.clone();
        let keys = heavy(&room.group, move |group| {
            if !group.is_key_request_tag(at, tagged.as_bytes(), &tag)? {
                return Ok(Vec::new());
            }
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
        let id = content.request_id.clone();
        let answer = ToDeviceKeyAnswerEventContent::new(room.id.clone(), id, keys);
        let kind = message_to(name.clone(), &answer)?;
        let mut changes = Changes::default();
        self.put_into_outbox(room, &mut changes, kind);
        self.save(room, changes).await
    }

    /// Somebody gives us epoch keys.
    pub(crate) async fn take_key_answer(
        &self,
        sender: &OwnedUserId,
        content: &ToDeviceKeyAnswerEventContent,
    ) -> Result<(), MlsError> {
        if content.keys.len() > ToDeviceKeyRequestEventContent::MAX_NODES {
            return Ok(());
        }
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
            let mut reads = Vec::new();
            for node in &request.nodes {
                let given = content.keys.iter().find(|given| given.epoch == *node);
                let Some(given) = given.filter(|_| self.may_be_given(room, node)) else { continue };
                let sealed = given.sealed();
                let Some((key, has_read)) =
                    self.try_given_key(room, *node, &request, sealed).await?
                else {
                    continue;
                };
                let Some(wanted) = keys.wanted.get_mut(node) else { continue };
                wanted.given.insert(sender.clone());
                if has_read {
                    wanted.open = false;
                    reads.push(*node);
                }
                if has_read && room.group.epoch_key(node).is_none() {
                    changes.room(&room.id).group.extend(room.group.take_epoch_key(key));
                } else {
                    super::spare_keys::hold(&mut keys, &key, has_read, self.now());
                }
            }
            let mut view = room.view.clone();
            view.keys = keys;
            changes.room(&room.id).view = Some(view);
            self.save(room, changes).await?;
            for node in reads {
                Box::pin(self.take_waiting(room, node)).await?;
            }
            self.plan_gaps(room);
            Ok(())
        })
    }

    async fn save_keys(&self, room: &mut Room, keys: KeyRequests) -> Result<(), MlsError> {
        if keys == room.view.keys {
            return Ok(());
        }
        let view = RoomView { keys, ..room.view.clone() };
        self.save_view(room, view).await
    }
}

fn is_open(wanted: &BTreeMap<NodeId, WantedKey>, node: &NodeId) -> bool {
    wanted.get(node).is_some_and(|wanted| wanted.open)
}

/// When a key is asked for next by a device that is in the epoch `here`.
fn due(wanted: &WantedKey, here: Option<NodeId>) -> u64 {
    let pause = match wanted.asked_on {
        _ if wanted.tried_at == 0 || here.is_none() || wanted.asked_on == here => {
            return wanted.next;
        }
        // We were nowhere, and could not ask.
        None => FIRST,
        Some(_) if wanted.early < MAX_EARLY => IN_ANOTHER_EPOCH,
        Some(_) => return wanted.next,
    };
    wanted.next.min(wanted.tried_at.saturating_add(pause))
}

/// Sees to it that one more epoch can be wanted: a user that makes many takes only its own places.
fn make_place(room: &Room, wanted: &mut BTreeMap<NodeId, WantedKey>, node: &NodeId) -> bool {
    let graph = room.group.graph();
    let user_of =
        |node: &NodeId| graph.get(node).map(|record| record.author.member.device().user_id.clone());
    let mut by_user: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (node, wanted) in wanted.iter() {
        by_user.entry(user_of(node)).or_default().push((wanted.open, wanted.since, *node));
    }
    let own = by_user.get(&user_of(node)).map_or(0, Vec::len);
    let oldest = if own >= MAX_OF_ONE_USER {
        by_user.remove(&user_of(node)).and_then(|nodes| nodes.into_iter().min())
    } else if wanted.len() >= MAX_WANTED {
        let most = by_user.into_values().max_by_key(Vec::len);
        most.and_then(|nodes| nodes.into_iter().min())
    } else {
        return true;
    };
    oldest.is_some_and(|(_, _, oldest)| wanted.remove(&oldest).is_some())
}

/// Whether a device's leaf in an epoch is not newer than the one that it has in `tip`, by when we heard of
/// the commits that made them. If it is, a copy of its store could be older than that leaf.
fn is_no_newer_there(room: &Room, node: NodeId, tip: NodeId, device: &Device) -> bool {
    let graph = room.group.graph();
    let Some(parting) = graph.common_ancestor(&node, &tip) else { return false };
    let renewed = |from: NodeId| {
        std::iter::once(from)
            .chain(graph.ancestors(&from))
            .take_while(|node| *node != parting)
            .find(|node| {
                graph.get(node).is_some_and(|record| {
                    record.author.member.device() == device
                        || record.added.iter().any(|(_, member)| member.device() == device)
                })
            })
            .map(|node| room.commit_times.get(&node).copied().unwrap_or_default())
    };
    renewed(node).is_none_or(|there| renewed(tip).is_some_and(|here| there <= here))
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
    let device =
        Device { user_id: user_id.to_string(), device_id: device_id.to_string(), device_key };
    let leaf = roster.leaf_of(&device)?;
    roster.get(leaf).map(|member| member.identity.clone())
}
