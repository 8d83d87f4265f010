//! How long attacks do harm to honest devices, and what harm.

use std::collections::{BTreeMap, BTreeSet};

use matrix_sdk_crypto_mls::{
    GroupStatus,
    dmls::{CommitMessage, CommitSender, NodeId},
    testing::DeviceName,
};
use ruma::{OwnedDeviceId, UserId};

use super::{World, attack::COMMIT};
use crate::{
    insider::Deed,
    model::{Device, Model},
};

/// What an attack can do to who is on a branch, or cannot get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// Somebody reads whom the room does not want, because an attack has added it, or goes beside the
    /// commit that has removed it.
    Reads,
    /// Somebody whom the room wants has no leaf, because an attack has removed it, or goes beside the
    /// commit that has added it; or cannot enter the chosen branch, which an attack's commit leads to.
    KeptOut,
    /// An honest device has renewed its keys, an attack goes beside that commit, and there it has not got
    /// new ones since.
    Undone,
}

/// The attack that does a harm.
type Harms = BTreeMap<Harm, String>;

/// All commits of the room.
struct Commits {
    model: Model,
    parents: BTreeMap<NodeId, Option<NodeId>>,
    rosters: BTreeMap<NodeId, BTreeSet<DeviceName>>,
}

impl Commits {
    /// A node and what is above it, the lowest first.
    fn way(&self, node: NodeId) -> Vec<NodeId> {
        std::iter::successors(Some(node), |node| self.parent(node)).collect()
    }

    fn parent(&self, node: &NodeId) -> Option<NodeId> {
        self.parents.get(node).copied().flatten()
    }

    fn roster(&self, node: &NodeId) -> Option<&BTreeSet<DeviceName>> {
        self.rosters.get(node)
    }

    /// Whether a commit adds (or removes) a device.
    fn changes(&self, node: &NodeId, device: &DeviceName, adds: bool) -> bool {
        let has = |node: &NodeId| self.roster(node).is_some_and(|roster| roster.contains(device));
        let before = self.parent(node).is_some_and(|parent| has(&parent));
        before != adds && has(node) == adds
    }
}

impl World {
    /// Counts a stretch of time, in milliseconds, for every honest device in the room: whether an attack
    /// does harm to it, and whether it is on a branch that an attack has made beside what others had
    /// done. What no attack is the cause of does not count: that somebody has left whom nobody has
    /// removed yet, say.
    pub(crate) async fn counts_exposure(&mut self, milliseconds: u64) {
        if self.attacked_since.is_none() || milliseconds == 0 {
            return;
        }
        let wanted = self.wanted();
        let commits = self.all_commits();
        let mut known: BTreeMap<NodeId, (Harms, bool)> = BTreeMap::new();
        let mut harmed: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for d in self.honest_inside() {
            let Some(status) = self.devices[d].device.status().await else { continue };
            self.stats.exposed_ms += milliseconds;
            let (harms, is_beside) = known.entry(status.node).or_insert_with(|| {
                let way = commits.way(status.node);
                (self.harms(&commits, &way, &wanted), self.is_beside(&way))
            });
            let (mut harms, is_beside) = (harms.clone(), *is_beside);
            if let Some(deed) = self.kept_out_by(d, &status, &commits).await {
                harms.entry(Harm::KeptOut).or_insert(deed);
            }
            if is_beside {
                self.stats.beside_ms += milliseconds;
            }
            if !harms.is_empty() {
                self.stats.attacked_ms += milliseconds;
            }
            for (harm, attack) in harms {
                let harm = format!("{harm:?} by {attack}");
                harmed.entry(harm.clone()).or_default().push(d);
                *self.stats.harms.entry(harm).or_default() += milliseconds;
            }
        }
        if harmed != self.harmed {
            let since = self.attacked_since.unwrap_or_default();
            let seconds = self.true_time().saturating_sub(since) / 1000;
            self.note(&format!("  harm {seconds} s after the first attack: {harmed:?}"));
            self.harmed = harmed;
        }
    }

    /// Whether an epoch is an attack's, or below one.
    pub(crate) fn is_below_attack(&self, node: NodeId) -> bool {
        let parents = self.parents();
        let way = std::iter::successors(Some(node), |node| parents.get(node).copied().flatten());
        let is_bad =
            |node: &NodeId| self.insiders.values().any(|insider| insider.bad.contains(node));
        way.into_iter().any(|node| is_bad(&node))
    }

    /// The attack that has made an epoch.
    pub(crate) fn deed(&self, node: &NodeId) -> Option<&Deed> {
        self.insiders.values().find_map(|insider| insider.deeds.get(node))
    }

    /// The parents of all commits that are in the room.
    pub(crate) fn parents(&self) -> BTreeMap<NodeId, Option<NodeId>> {
        let messages = self.commit_messages().into_iter();
        messages.map(|message| (message.node_id(), message.aad().parent)).collect()
    }

    /// The external commits that are in the room.
    pub(crate) fn external_commits(&self) -> BTreeSet<NodeId> {
        let external = self.commit_messages().into_iter();
        let external = external.filter(|message| message.sender() == CommitSender::NewMember);
        external.map(|message| message.node_id()).collect()
    }

    fn commit_messages(&self) -> Vec<CommitMessage> {
        let events = self.server.events(&self.room_id).into_iter();
        let commits = events.filter(|event| event.event_type == COMMIT).filter_map(|event| {
            let event = self.server.with_files(event);
            CommitMessage::parse(&unbase64(event.content.get("commit")?.as_str()?)?).ok()
        });
        commits.collect()
    }

    fn all_commits(&self) -> Commits {
        let (model, parents) = (self.model(), self.parents());
        let roster = |node: &NodeId| {
            let roster = model.roster(node.as_bytes())?;
            Some(roster.values().filter_map(name).collect())
        };
        let rosters = parents.keys().filter_map(|node| Some((*node, roster(node)?))).collect();
        Commits { model, parents, rosters }
    }

    fn is_beside(&self, way: &[NodeId]) -> bool {
        way.iter().any(|node| self.deed(node).is_some_and(|deed| deed.is_beside))
    }

    /// The harm that attacks do to who is in an epoch; `way` leads up from it.
    fn harms(&self, commits: &Commits, way: &[NodeId], wanted: &BTreeSet<DeviceName>) -> Harms {
        let mut harms = Harms::new();
        let attacks: Vec<&NodeId> = way.iter().filter(|node| self.deed(node).is_some()).collect();
        let (Some(tip), false) = (way.first(), attacks.is_empty()) else { return harms };
        let Some(seated) = commits.roster(tip) else { return harms };
        let reads = seated.difference(wanted).map(|device| (Harm::Reads, device));
        let lacks = wanted.difference(seated).map(|device| (Harm::KeptOut, device));
        for (harm, device) in reads.chain(lacks) {
            // The last commit on the way that has made it so, or one beside an attack that has undone it.
            let adds = harm == Harm::Reads;
            let maker = way.iter().find(|node| commits.changes(node, device, adds));
            let deed = maker.and_then(|node| self.deed(node)).or_else(|| {
                let undoes = |node: &NodeId| commits.changes(node, device, !adds);
                self.attack_beside(commits, way, &attacks, undoes)
            });
            if let Some(deed) = deed {
                harms.entry(harm).or_insert_with(|| deed.attack.clone());
            }
        }
        let deed = self.honest_inside().into_iter().find_map(|d| {
            let device = self.devices[d].device.name();
            seated.contains(device).then(|| self.undoes_update(commits, way, &attacks, device))?
        });
        if let Some(deed) = deed {
            harms.insert(Harm::Undone, deed.attack.clone());
        }
        harms
    }

    /// The attack on the way that goes beside an honest commit which is such a one.
    fn attack_beside(
        &self,
        commits: &Commits,
        way: &[NodeId],
        attacks: &[&NodeId],
        is_such: impl Fn(&NodeId) -> bool,
    ) -> Option<&Deed> {
        let others = commits.parents.keys().filter(|node| !way.contains(node) && is_such(node));
        others.filter(|node| self.deed(node).is_none()).find_map(|node| {
            let above = commits.way(*node);
            let beside = attacks.iter().rev().find(|attack| !above.contains(attack))?;
            self.deed(beside)
        })
    }

    /// The attack that goes beside a commit by which a device has renewed its keys, if it has not got new
    /// ones on the way since.
    fn undoes_update(
        &self,
        commits: &Commits,
        way: &[NodeId],
        attacks: &[&NodeId],
        device: &DeviceName,
    ) -> Option<&Deed> {
        let renews = |node: &NodeId| {
            let (id, model) = (node.as_bytes(), &commits.model);
            model.commit(id).is_some_and(|commit| commit.path.is_some())
                && model.author(id).as_ref().and_then(name).as_ref() == Some(device)
        };
        // Who is let in anew has new keys too.
        let is_added = |node: &NodeId| {
            let added = commits.model.commit(node.as_bytes()).map(|commit| commit.adds.iter());
            added.into_iter().flatten().filter_map(name).any(|added| added == *device)
        };
        let is_old = |node: &&NodeId| !renews(node) && !is_added(node);
        let since: Vec<_> = way.iter().take_while(is_old).collect();
        let attacks: Vec<_> = attacks
            .iter()
            .copied()
            .filter(|node| since.contains(node))
            .filter(|node| self.deed(node).is_some_and(|deed| deed.is_beside))
            .collect();
        if attacks.is_empty() {
            return None;
        }
        self.attack_beside(commits, way, &attacks, renews)
    }

    /// The attack because of which a device cannot enter the branch that it chooses.
    async fn kept_out_by(
        &self,
        d: usize,
        status: &GroupStatus,
        commits: &Commits,
    ) -> Option<String> {
        if status.is_chosen {
            return None;
        }
        let graph = self.devices[d].device.mls().epoch_graph(&self.room_id).await.ok()?;
        let (there, here) = (commits.way(graph.chosen?), commits.way(status.node));
        let deed =
            there.iter().filter(|node| !here.contains(node)).find_map(|node| self.deed(node));
        deed.map(|deed| deed.attack.clone())
    }
}

fn name(device: &Device) -> Option<DeviceName> {
    Some((UserId::parse(&device.user).ok()?, OwnedDeviceId::from(device.id.as_str())))
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    STANDARD_NO_PAD.decode(text).ok()
}
