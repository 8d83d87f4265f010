//! What must hold: against the model at every rest, and at the end.

use std::collections::BTreeSet;

use matrix_sdk_crypto_mls::{
    dmls::{EpochGraph, Group, MAX_RETAINED_STATES, NodeId},
    store::MlsStore as _,
    testing::{DeviceName, Reading, SentMessage, SimDevice},
    types::events::MlsEncryptedEventContent,
};
use ruma::{OwnedDeviceId, OwnedUserId, events::room::member::MembershipState};

use crate::{
    failure::Failure,
    insider::follow,
    model::{Device, Id, Knowledge, Model},
    world::World,
};

/// At most so many Welcomes are held (protocol §12).
const MAX_WELCOMES: usize = 32;

/// At most so many events wait (protocol §12).
const MAX_QUEUED: usize = 10_000;

fn name(device: &Device) -> Option<DeviceName> {
    Some((
        OwnedUserId::try_from(device.user.as_str()).ok()?,
        OwnedDeviceId::from(device.id.as_str()),
    ))
}

impl World {
    /// The model of all commits that are in the room, whoever knows them.
    pub(crate) fn model(&self) -> Model {
        let mut model = Model::default();
        for event in self.server.events(&self.room_id) {
            if event.event_type != "io.github.matrix-mls.dmls.v1.commit" {
                continue;
            }
            let event = self.server.with_files(event);
            let commit = event.content.get("commit").and_then(|commit| commit.as_str());
            if let Some(bytes) = commit.and_then(unbase64) {
                model.learn(&bytes);
            }
        }
        model
    }

    /// Everybody's tip, best entered tip and rosters are the model's.
    pub(crate) async fn agrees_with_model(&mut self) -> Result<(), Failure> {
        let commits = self.commits();
        let model = self.model();
        for d in 0..self.devices.len() {
            let Some(device) = self.device(d).filter(|_| !self.devices[d].is_evil) else {
                continue;
            };
            let graph = device.mls().epoch_graph(&self.room_id).await;
            let graph = graph.map_err(|error| Failure::new("error", error.to_string()))?;
            if graph.nodes.len() > commits {
                let found = format!("{device:?} knows {} of {commits} commits", graph.nodes.len());
                return Err(Failure::new("limits", found));
            }
            if !graph.nodes.is_empty() && self.compare(&model, &device, &graph).await? {
                self.stats.compared += 1;
            }
        }
        Ok(())
    }

    /// Whether there was anything to compare: whoever never was in does not send.
    async fn compare(
        &self,
        model: &Model,
        device: &SimDevice,
        graph: &EpochGraph,
    ) -> Result<bool, Failure> {
        let room = device.store().load_room(&self.room_id).await;
        let room = room.map_err(|error| Failure::new("store", error.to_string()))?;
        let view = room.unwrap_or_default().view;
        let id = |node: &NodeId| Id::from(*node.as_bytes());
        let held = graph.nodes.iter().filter(|node| node.held).map(|node| id(&node.node));
        let knowledge = Knowledge {
            known: graph.nodes.iter().map(|node| id(&node.node)).collect(),
            held: held.collect(),
            root: view
                .group
                .as_ref()
                .map(|(sender, group)| (id(&group.founding), sender.to_string())),
            anchor: view.group.as_ref().and_then(|(_, group)| group.anchor.as_ref().map(id)),
            entrance: view.entrance.as_ref().map(id),
            given_up: view.deserted.iter().map(id).collect(),
            joined: view
                .members
                .iter()
                .filter(|(_, membership)| **membership == MembershipState::Join)
                .map(|(user, _)| user.to_string())
                .collect(),
        };
        let differs = |what: &str, theirs: Option<NodeId>, ours: Option<Id>| {
            let found = format!(
                "{device:?}: {what} is {theirs:?}, by the model {:?}\n{graph}",
                ours.map(NodeId::from_bytes)
            );
            Err(Failure::new("model", found))
        };
        if knowledge.held.is_empty() {
            return Ok(false);
        }
        let chosen = model.chosen(&knowledge);
        if graph.chosen.as_ref().map(id) != chosen {
            return differs("the chosen tip", graph.chosen, chosen);
        }
        let entered = model.best_entered(&knowledge);
        if graph.sending.as_ref().map(id) != entered {
            return differs("the best entered tip", graph.sending, entered);
        }
        if let Some(status) = device.status().await {
            let theirs: Vec<_> = status
                .roster
                .iter()
                .map(|(leaf, member)| (leaf, member.device()))
                .map(|(leaf, device)| {
                    (
                        leaf,
                        device.user_id.clone(),
                        device.device_id.clone(),
                        device.device_key.to_vec(),
                    )
                })
                .collect();
            let ours: Vec<_> = model
                .roster(&id(&status.node))
                .unwrap_or_default()
                .iter()
                .map(|(leaf, of)| (*leaf, of.user.clone(), of.id.clone(), of.key.clone()))
                .collect();
            if theirs != ours {
                let found = format!("{device:?}: {theirs:?}, by the model {ours:?}");
                return Err(Failure::new("model", found));
            }
        }
        Ok(true)
    }

    /// Every message was read by those who were entitled, and by nobody else.
    pub(crate) async fn check_messages(&mut self) -> Result<(), Failure> {
        let model = self.model();
        let mut read = 0;
        for message in self.server.sent_messages() {
            let roster = model.roster(&Id::from(*message.node.as_bytes())).unwrap_or_default();
            let entitled: BTreeSet<_> = roster.values().filter_map(name).collect();
            if entitled != message.readers {
                let found = format!("{message:?}: entitled are {entitled:?}");
                return Err(Failure::new("readers", found));
            }
            let gone = self.said.get(&message.event_id).map(|said| said.known_gone.clone());
            let gone = gone.unwrap_or_default();
            for d in 0..self.devices.len() {
                let device = self.devices[d].device.clone();
                let reading = device.reading(&message.event_id);
                let is_clear = reading.as_ref().is_some_and(Reading::is_clear);
                let knew_gone = gone.has(device.name());
                if is_clear && (!entitled.contains(device.name()) || knew_gone) {
                    let found = format!("{device:?} has read {message:?}");
                    return Err(Failure::new("removed-reads", found));
                }
                if is_clear && device.text(&message.event_id).as_deref() != Some(&*message.text) {
                    let found = format!("{device:?} has read {message:?} as something else");
                    return Err(Failure::new("text", found));
                }
                if is_clear && device.encryption_info(&message.event_id).generation_reused {
                    return Err(Failure::new("generation", format!("{message:?}")));
                }
                read += usize::from(is_clear);
                if !is_clear && entitled.contains(device.name()) {
                    self.check_unread(d, &message, reading).await?;
                }
            }
        }
        self.stats.read = read;
        self.check_outsiders(&model).await?;
        self.check_generations()
    }

    /// Somebody who was entitled has not read a message.
    async fn check_unread(
        &mut self,
        d: usize,
        message: &SentMessage,
        reading: Option<Reading>,
    ) -> Result<(), Failure> {
        let device = self.devices[d].device.clone();
        if self.devices[d].is_evil
            || self.devices[d].is_gone
            || !self.is_joined(self.devices[d].user)
        {
            return Ok(());
        }
        let Some(Reading::Unreadable(why)) = reading else {
            // The server has not shown it: it was sent while the user was not in the room, or got lost.
            return Ok(());
        };
        let found = format!("{device:?} has not read {message:?}: {why}");
        // Docs/forks.md, "Late external commits".
        if self.is_lost_with_who_was_there(message.node).await {
            self.stats.gone += 1;
            self.note(&format!("a message has gone with who was there: {found}"));
            return Ok(());
        }
        let known = device.mls().epoch_graph(&self.room_id).await.expect("the store works").nodes;
        let is_known = known.iter().any(|node| node.node == message.node);
        // An insider can shut anybody out of the epochs that it makes; MLS has no means against it. What
        // others say there before they have left it is lost to those.
        if is_known && self.is_below_attack(message.node) {
            self.stats.kept += 1;
            self.note(&format!("an attack has kept a message from a device: {found}"));
            return Ok(());
        }
        Err(Failure::new("unread", found))
    }

    /// Whether an external commit lies at or above an epoch, and nobody who is in the room has the
    /// epoch's key: all who were there have left.
    async fn is_lost_with_who_was_there(&self, node: NodeId) -> bool {
        let parents = self.parents();
        let external = self.external_commits();
        let mut way =
            std::iter::successors(Some(node), |node| parents.get(node).copied().flatten());
        if !way.any(|node| external.contains(&node)) {
            return false;
        }
        for member in self.devices.iter().filter(|member| self.is_joined(member.user)) {
            let room = member.device.store().load_room(&self.room_id).await;
            let room = room.expect("a store in memory works");
            if room.is_some_and(|room| room.group.epoch_keys.contains_key(&node)) {
                return false;
            }
        }
        true
    }

    /// Whoever is not in the room any more, and every insider, is given all commits and messages that
    /// there are, and tries to read with all that it has and has kept.
    async fn check_outsiders(&mut self, model: &Model) -> Result<(), Failure> {
        let commits = self.all_commit_events();
        let mut tries: Vec<(usize, Group)> = Vec::new();
        for (d, insider) in &self.insiders {
            let groups = [Some(&insider.group), insider.old.as_ref()];
            tries.extend(groups.into_iter().flatten().map(|group| (*d, group.clone())));
        }
        for d in 0..self.devices.len() {
            let member = &self.devices[d];
            if member.is_gone || !self.is_joined(member.user) {
                let room = member.device.store().load_room(&self.room_id).await;
                let room = room.map_err(|error| Failure::new("store", error.to_string()))?;
                let Some(room) = room else { continue };
                let mut group = Group::new(self.room_id.as_str());
                group.apply(room.group);
                tries.push((d, group));
            }
        }
        let messages = self.server.sent_messages();
        let bytes = messages.iter().map(|message| {
            let content = self.server.event(&self.room_id, &message.event_id).content;
            let content: MlsEncryptedEventContent =
                serde_json::from_value(content).expect("a message was sent");
            content.ciphertext.0
        });
        let bytes: Vec<_> = bytes.collect();
        for (d, mut group) in tries {
            follow(&mut group, &commits);
            let name = self.devices[d].device.name();
            for (message, bytes) in messages.iter().zip(&bytes) {
                if group.decrypt(bytes).is_err() {
                    continue;
                }
                self.stats.opened += 1;
                let roster = model.roster(&Id::from(*message.node.as_bytes())).unwrap_or_default();
                let is_in = roster.values().filter_map(self::name).any(|reader| reader == *name);
                let gone = self.said.get(&message.event_id).map(|said| &said.known_gone);
                if !is_in || gone.is_some_and(|gone| gone.has(name)) {
                    let found = format!("{name:?} can read {message:?} with what it has kept");
                    return Err(Failure::new("removed-reads", found));
                }
            }
        }
        Ok(())
    }

    /// No device uses a generation twice.
    fn check_generations(&self) -> Result<(), Failure> {
        let mut used = BTreeSet::new();
        for message in self.server.sent_messages() {
            if !used.insert((message.node, message.sender.clone(), message.generation)) {
                return Err(Failure::new("generation", format!("used twice: {message:?}")));
            }
        }
        Ok(())
    }

    /// Memory and store stay within their limits.
    pub(crate) async fn check_limits(&self) -> Result<(), Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::new("store", error.to_string());
        for member in self.devices.iter().filter(|member| !member.is_gone && !member.is_evil) {
            let device = &member.device;
            let store = device.store();
            let retained = device.status().await.map_or(0, |status| status.retained);
            let welcomes = store.held_welcomes(&self.room_id).await.map_err(|e| wrong(&e))?.len();
            let queued = store.queued_event_count(&self.room_id).await.map_err(|e| wrong(&e))?;
            if retained > MAX_RETAINED_STATES + 1 || welcomes > MAX_WELCOMES || queued > MAX_QUEUED
            {
                let found =
                    format!("{device:?}: {retained} states, {welcomes} Welcomes, {queued} events");
                return Err(Failure::new("limits", found));
            }
        }
        Ok(())
    }
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    STANDARD_NO_PAD.decode(text).ok()
}
