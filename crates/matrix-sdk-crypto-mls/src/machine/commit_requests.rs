//! Asking other devices for commits that the room's history does not have, and answering them
//! (protocol §6).

use std::collections::BTreeMap;

use matrix_dmls::{Device, NodeId, TrustRequirement};
use ruma::{
    OwnedDeviceId, OwnedRoomId, OwnedUserId, TransactionId, UserId, events::StaticEventContent,
};
use sha2::{Digest, Sha256};
use tracing::debug;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use super::{DeviceName, MlsMachine, Room, again::again, gaps::user_of, identity};
use crate::{
    error::MlsError,
    room::{Gap, Gaps, GraphRequest},
    store::{Changes, OutboxRequestKind},
    types::events::{ToDeviceCommitRequestEventContent, ToDeviceGraphEventContent},
};

const MINUTE: u64 = 60 * 1000;

/// At most this many requests a minute are made in a room.
const PER_MINUTE: usize = 3;

/// How many devices are asked for it: the one that has named it, and two others.
const TARGETS: usize = 3;

/// How long an answer is waited for after each try, in milliseconds.
const PATIENCE: [u64; Gap::MAX_TRIES as usize] =
    [20 * 1000, 20 * 1000, 5 * MINUTE, 60 * MINUTE, 60 * MINUTE];

/// At most this many requests are remembered.
const MAX_REQUESTS: usize = 32;

/// A device is answered so often, in milliseconds.
const ANSWER_PAUSE: u64 = MINUTE;

/// At most this many devices are remembered that were answered within that time; who comes then has to
/// ask again.
const MAX_ANSWERED: usize = 1000;

/// The size of an answer's content, in bytes: with what is around it, it fits into a to-device message.
pub(super) const MAX_GRAPH: usize = 48 * 1024;

/// Signatures of requests: by user, and by the name of the key.
pub(crate) type Signatures = BTreeMap<OwnedUserId, BTreeMap<String, String>>;

/// The devices that were answered within the last minute, by commits or by epoch keys (true), and when.
pub(super) type Answered = BTreeMap<(OwnedRoomId, DeviceName, bool), u64>;

impl MlsMachine {
    /// When the next request is due.
    pub(super) fn next_request(&self, gaps: &Gaps) -> Option<u64> {
        let next =
            gaps.nodes.values().filter(|gap| may_be_asked_for(gap)).map(|gap| gap.next).min();
        let mut times: Vec<_> = gaps.requests.iter().map(|request| request.at).collect();
        times.sort_unstable();
        let free = times.iter().rev().nth(PER_MINUTE - 1).map(|time| time.saturating_add(MINUTE));
        next.map(|next| next.max(free.unwrap_or_default()))
    }

    /// Makes the requests whose time has come, as far as that is allowed.
    pub(super) async fn ask_for_commits(&self, room: &mut Room) -> Result<(), MlsError> {
        while self.next_request(&room.view.gaps).is_some_and(|due| due <= self.now()) {
            self.ask_once(room).await?;
        }
        Ok(())
    }

    async fn ask_once(&self, room: &mut Room) -> Result<(), MlsError> {
        let now = self.now();
        let mut gaps = room.view.gaps.clone();
        let due = gaps.nodes.iter_mut().filter(|(_, gap)| may_be_asked_for(gap) && gap.next <= now);
        let mut target: Option<DeviceName> = None;
        let mut nodes = Vec::new();
        for (node, gap) in due {
            let whom = self.target(room, node, gap);
            if target.is_none() {
                target.clone_from(&whom);
            }
            if whom.is_some() && whom != target {
                continue;
            }
            if nodes.len() == ToDeviceCommitRequestEventContent::MAX_NODES {
                break;
            }
            gap.next = now.saturating_add(
                PATIENCE.get(usize::from(gap.tries)).copied().unwrap_or(60 * MINUTE),
            );
            // Where there is nobody to ask, time passes all the same.
            gap.tries = gap.tries.saturating_add(1);
            if whom.is_some() {
                nodes.push(*node);
            }
        }
        let mut changes = Changes::default();
        if let Some((user_id, device_id)) = target {
            debug!(room_id = %room.id, %user_id, nodes = nodes.len(), "Asking for commits");
            let id = TransactionId::new().to_string();
            let mut content = ToDeviceCommitRequestEventContent::new(
                room.id.clone(),
                id.clone(),
                nodes,
                self.known_nodes(room),
            );
            content.signatures = self.signatures_of(&content.signed_json()?).await?;
            gaps.requests.push(GraphRequest {
                id,
                asked: user_id.clone(),
                at: now,
                answered: false,
            });
            let over = gaps.requests.len().saturating_sub(MAX_REQUESTS);
            gaps.requests.drain(..over);
            let kind = OutboxRequestKind::ToDevice {
                event_type: ToDeviceCommitRequestEventContent::TYPE.to_owned(),
                messages: vec![(user_id, device_id, serde_json::to_string(&content)?)],
            };
            self.put_into_outbox(room, &mut changes, kind);
        }
        let mut view = room.view.clone();
        view.gaps = gaps;
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await
    }

    /// Our device's signature over a request, as the request carries it.
    pub(crate) async fn signatures_of(&self, signed_json: &str) -> Result<Signatures, MlsError> {
        let signature = identity::sign(&self.inner.olm, signed_json).await?;
        let key = format!("ed25519:{}", self.device_id());
        let keys = [(key, STANDARD_NO_PAD.encode(signature))].into();
        Ok([(self.user_id().to_owned(), keys)].into())
    }

    /// Who is asked for an epoch next: first the device that has named it, then two others, who are
    /// others for everybody who asks.
    fn target(&self, room: &Room, node: &NodeId, gap: &Gap) -> Option<DeviceName> {
        let own = self.inner.local.device();
        let tip = room.group.sending_tip()?;
        let roster = room.group.roster(&tip)?;
        let mut devices: Vec<_> = roster
            .iter()
            .map(|(_, member)| member.device())
            .filter(|device| *device != own && room.view.is_joined(&device.user_id))
            .collect();
        devices.sort_by_cached_key(|device| {
            let has_named = device.user_id == gap.named_by.as_str()
                && gap.device.as_ref().is_none_or(|named| named.as_str() == device.device_id);
            let hash: [u8; 32] = Sha256::new_with_prefix(node.as_bytes())
                .chain_update(own.device_key)
                .chain_update(device.device_key)
                .finalize()
                .into();
            (!has_named, hash)
        });
        // Two devices of one user have mostly seen the same.
        let mut targets: Vec<&Device> = Vec::new();
        for device in devices {
            if targets.len() < TARGETS && targets.iter().all(|t| t.user_id != device.user_id) {
                targets.push(device);
            }
        }
        let place = usize::from(gap.tries).checked_rem(targets.len())?;
        let device = targets.get(place)?;
        Some((user_of(device)?, OwnedDeviceId::from(device.device_id.as_str())))
    }

    /// What we say that we know: where our nodes begin, and the ends below.
    fn known_nodes(&self, room: &Room) -> Vec<NodeId> {
        let graph = room.group.graph();
        let roots = graph.roots().filter(|root| graph.roster_of(root).is_some());
        let mut known: Vec<_> = roots.collect();
        for tip in room.group.chosen_tip().into_iter().chain(graph.tips()) {
            if !known.contains(&tip) {
                known.push(tip);
            }
        }
        known.truncate(ToDeviceCommitRequestEventContent::MAX_TIPS);
        known
    }

    /// Somebody asks us for commits.
    pub(super) async fn take_commit_request(
        &self,
        sender: &UserId,
        content: &ToDeviceCommitRequestEventContent,
    ) -> Result<(), MlsError> {
        let Some((device_id, signature)) = signature_of(sender, &content.signatures) else {
            return Ok(());
        };
        let name = (sender.to_owned(), device_id);
        if !content.is_within_limits()
            || (name.0 == self.user_id() && name.1 == self.device_id())
            || !self.may_answer(&content.room_id, &name, false)
        {
            return Ok(());
        }
        again!(self.answer(&name, content, &signature))
    }

    /// Whether a device can be answered again: by commits, or by epoch keys.
    pub(super) fn may_answer(&self, room_id: &OwnedRoomId, name: &DeviceName, keys: bool) -> bool {
        let now = self.now();
        let answered = &mut self.transient().answered;
        answered.retain(|_, time| now.saturating_sub(*time) < ANSWER_PAUSE);
        let name = (room_id.clone(), name.clone(), keys);
        answered.len() < MAX_ANSWERED && !answered.contains_key(&name)
    }

    pub(super) fn has_answered(&self, room_id: &OwnedRoomId, name: &DeviceName, keys: bool) {
        let now = self.now();
        self.transient().answered.insert((room_id.clone(), name.clone(), keys), now);
    }

    async fn answer(
        &self,
        name: &DeviceName,
        content: &ToDeviceCommitRequestEventContent,
        signature: &[u8],
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(&content.room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let Some(tip) = room.group.sending_tip() else { return Ok(()) };
        let trust = room.extension(&tip).map(|extension| extension.trust).unwrap_or_default();
        let json = content.signed_json()?;
        if self.asking_device(room, name, trust, &json, signature).await?.is_none() {
            return Ok(());
        }
        let graph = self.graph_for(room, &content.nodes, &content.tips, MAX_GRAPH).await?;
        let Some(graph) = graph else { return Ok(()) };
        self.has_answered(&room.id, name, false);
        let mut view = room.view.clone();
        for node in &content.nodes {
            self.plan_relay(room, &mut view.gaps, node);
        }
        debug!(room_id = %room.id, commits = graph.commits.len(), "Answering a request for commits");
        let answer =
            ToDeviceGraphEventContent::new(room.id.clone(), content.request_id.clone(), graph);
        let kind = OutboxRequestKind::ToDevice {
            event_type: ToDeviceGraphEventContent::TYPE.to_owned(),
            messages: vec![(name.0.clone(), name.1.clone(), serde_json::to_string(&answer)?)],
        };
        let mut changes = Changes::default();
        self.put_into_outbox(room, &mut changes, kind);
        if view != room.view {
            changes.room(&room.id).view = Some(view);
        }
        self.save(room, changes).await?;
        self.mind_gaps(room).await
    }

    /// The Matrix key of a device, if the room's group is to have the device and it has signed this
    /// request.
    pub(super) async fn asking_device(
        &self,
        room: &Room,
        (user_id, device_id): &DeviceName,
        trust: TrustRequirement,
        signed_json: &str,
        signature: &[u8],
    ) -> Result<Option<[u8; 32]>, MlsError> {
        if !room.view.wanted_users().any(|wanted| wanted == user_id) {
            return Ok(None);
        }
        let Some(device) = self.inner.olm.get_device(user_id, device_id, None).await? else {
            return Ok(None);
        };
        if trust == TrustRequirement::CrossSigned && !device.is_cross_signed_by_owner() {
            return Ok(None);
        }
        let key = device.ed25519_key().map(|key| *key.as_bytes());
        let has_signed =
            |key: &[u8; 32]| matrix_dmls::verify_device_signature(key, signed_json, signature);
        Ok(key.filter(has_signed))
    }

    /// Somebody answers us.
    pub(super) async fn take_graph(
        &self,
        sender: &OwnedUserId,
        content: &ToDeviceGraphEventContent,
    ) -> Result<(), MlsError> {
        again!(async {
            let mut guard = self.lock_room(&content.room_id).await?;
            let Some(room) = guard.as_mut() else { return Ok(()) };
            let is_open = |request: &GraphRequest| {
                request.id == content.request_id && request.asked == *sender && !request.answered
            };
            if !room.view.gaps.requests.iter().any(is_open) {
                debug!(room_id = %room.id, "A graph that nobody has asked for");
                return Ok(());
            }
            let before = room.group.graph().len();
            Box::pin(self.absorb(room, &content.graph)).await?;
            let brought_some = room.group.graph().len() > before;
            // Last, so that an answer is taken again if the store has failed in between.
            let mut gaps = room.view.gaps.clone();
            gaps.requests.iter_mut().filter(|request| is_open(request)).for_each(|request| {
                request.answered = true;
            });
            if brought_some {
                // What did not fit comes with the next answer.
                let next = self.now().saturating_add(ANSWER_PAUSE);
                for gap in gaps.nodes.values_mut().filter(|gap| gap.tries > 0) {
                    (gap.tries, gap.next) = (0, next);
                }
            }
            self.save_gaps(room, gaps).await?;
            self.look_ahead(room).await
        })
    }
}

fn may_be_asked_for(gap: &Gap) -> bool {
    gap.searched && gap.is_open()
}

/// The device that has signed a request, and its signature, if there is exactly one.
pub(super) fn signature_of(
    sender: &UserId,
    signatures: &Signatures,
) -> Option<(OwnedDeviceId, Vec<u8>)> {
    let keys = signatures.get(sender).filter(|keys| keys.len() == 1)?;
    let (key, signature) = keys.first_key_value()?;
    let device_id = key.strip_prefix("ed25519:")?;
    Some((OwnedDeviceId::from(device_id), STANDARD_NO_PAD.decode(signature).ok()?))
}
