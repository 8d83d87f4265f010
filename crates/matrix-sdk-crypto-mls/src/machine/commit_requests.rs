//! Asking other devices for commits that the room's history does not have, and answering them
//! (protocol §6).

use matrix_dmls::{Device, NodeId};
use ruma::{OwnedDeviceId, OwnedUserId, TransactionId, UserId};
use sha2::{Digest, Sha256};
use tracing::debug;

use super::{
    DeviceName, MlsMachine, Room,
    again::again,
    gaps::user_of,
    questions::{ANSWER_PAUSE, Asker, free_at, message_to},
};
use crate::{
    error::MlsError,
    room::{Gap, Gaps, GraphRequest},
    store::Changes,
    types::events::{ToDeviceCommitRequestEventContent, ToDeviceGraphEventContent},
};

const MINUTE: u64 = 60 * 1000;

/// How many devices are asked for it: the one that has named it, and two others.
const TARGETS: usize = 3;

/// How long an answer is waited for after each try, in milliseconds.
const PATIENCE: [u64; Gap::MAX_TRIES as usize] =
    [20 * 1000, 20 * 1000, 5 * MINUTE, 60 * MINUTE, 60 * MINUTE];

/// At most this many requests are remembered.
const MAX_REQUESTS: usize = 32;

/// The size of an answer's content, in bytes: with what is around it, it fits into a to-device message.
pub(super) const MAX_GRAPH: usize = 48 * 1024;

impl MlsMachine {
    /// When the next request is due.
    pub(super) fn next_request(&self, gaps: &Gaps) -> Option<u64> {
        let next =
            gaps.nodes.values().filter(|gap| may_be_asked_for(gap)).map(|gap| gap.next).min();
        let free = free_at(gaps.requests.iter().map(|request| request.at));
        next.map(|next| next.max(free))
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
            let kind = message_to((user_id, device_id), &content)?;
            self.put_into_outbox(room, &mut changes, kind);
        }
        let mut view = room.view.clone();
        view.gaps = gaps;
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await
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
        let Some(asker) = self.asker(sender, content) else { return Ok(()) };
        again!(self.answer(&asker, content))
    }

    async fn answer(
        &self,
        asker: &Asker,
        content: &ToDeviceCommitRequestEventContent,
    ) -> Result<(), MlsError> {
        let mut guard = self.lock_room(&content.room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(()) };
        let Some(tip) = room.group.sending_tip() else { return Ok(()) };
        if self.asking_device(room, &tip, asker, content).await?.is_none() {
            return Ok(());
        }
        let graph = self.graph_for(room, &content.nodes, &content.tips, MAX_GRAPH).await?;
        let Some(graph) = graph else { return Ok(()) };
        self.has_answered(asker, content);
        let mut view = room.view.clone();
        for node in &content.nodes {
            self.plan_relay(room, &mut view.gaps, node);
        }
        debug!(room_id = %room.id, commits = graph.commits.len(), "Answering a request for commits");
        let answer =
            ToDeviceGraphEventContent::new(room.id.clone(), content.request_id.clone(), graph);
        let kind = message_to(asker.name.clone(), &answer)?;
        let mut changes = Changes::default();
        self.put_into_outbox(room, &mut changes, kind);
        if view != room.view {
            changes.room(&room.id).view = Some(view);
        }
        self.save(room, changes).await?;
        self.mind_gaps(room).await
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
