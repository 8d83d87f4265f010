//! A room's group: the graph of its epochs, and the verbs that work on it.
//!
//! Every verb takes `&self` and gives back [`GroupChanges`]; nothing changes until the caller has
//! stored them and calls [`Group::apply`]. So an operation that fails, or whose changes cannot be
//! stored, has not happened. One operation at a time: of two whose changes were made from the same
//! state, the later one stored would undo the puncture of the other.

mod absorb;
mod anchor;
mod changes;
mod choice;
mod commit;
mod compaction;
mod entrance;
mod error;
mod external;
mod found;
mod hydrated;
mod join;
mod key_package;
mod key_request;
mod local;
mod node;
mod process;
mod retention;
mod signatures;
mod size;
mod standing;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use self::{
    absorb::{MAX_PASSED_ON, PassedOn},
    changes::{GraphEntry, GroupChanges},
    commit::CommitPlan,
    entrance::PublicParts,
    error::GroupError,
    external::PublicState,
    join::WelcomeParts,
    key_package::{OwnKeyPackage, new_key_package},
    key_request::{SealedEpochKey, new_request_key},
    local::LocalMember,
    node::{NewNode, NodeState, PendingCommit},
    retention::MAX_RETAINED_STATES,
    standing::{Confirmation, Departure, Objection, Repair},
};
use self::{choice::Choice, commit::Parent};
pub(crate) use self::{hydrated::CIPHERSUITE, key_package::accepts_key_package};
use crate::{
    authenticated_data::MessageAad,
    epoch_key::{DecryptedMessage, EpochKey, MessageSender},
    extension::{GroupExtension, HistoryPolicy},
    graph::{Graph, NodeStatus},
    ids::{InstanceId, NodeId},
    record::{CommitRecord, ParentView, check_founding, check_well_formed},
    roster::Roster,
    schedule::Vault,
    wire::{commit::CommitMessage, group_info::GroupInfo},
};

/// At most this many children of one author on one parent are entered (protocol §9).
const MAX_CHILDREN_PER_AUTHOR: usize = 4;

/// One room's group.
#[derive(Clone, Debug)]
pub struct Group {
    room_id: String,
    graph: Graph,
    states: BTreeMap<NodeId, Arc<NodeState>>,
    vaults: BTreeMap<NodeId, Vault>,
    epoch_keys: BTreeMap<NodeId, Arc<EpochKey>>,
    pending: BTreeMap<NodeId, Arc<PendingCommit>>,
    choice: Choice,
}

/// What became of a commit that came from the room.
#[derive(Debug)]
#[non_exhaustive]
pub enum Received {
    /// Its node was entered before, or it is an altered copy of a pending commit of our own. Nothing
    /// changes.
    Known(NodeId),
    /// It is our own pending commit, so the server has accepted it: call [`Group::accept`].
    Own(NodeId),
    /// Its epoch was entered.
    Entered(NodeId, Box<GroupChanges>),
    /// Its node was entered before its parent was known, so its record was not what everybody else
    /// has; now it is. If the epoch that we entered is not the one that the commit makes, which its
    /// author alone can bring about, our state of it is erased.
    Completed(NodeId, Box<GroupChanges>),
    /// Its epoch cannot be entered, or not by this copy; the graph knows it (protocol §8).
    Seen(NodeId, SeenBecause, Box<GroupChanges>),
}

/// Why a well-formed commit's epoch was not entered.
#[derive(Debug)]
#[non_exhaustive]
pub enum SeenBecause {
    /// The parent's state was erased, or we were never in it.
    NoState,
    /// The commit removes us.
    RemovesUs,
    /// Its author has made too many commits on that parent.
    TooMany,
    /// It cannot be processed, for this reason; another copy of it may be (protocol §2).
    Inadmissible(GroupError),
}

impl Group {
    /// A room's group of which nothing is known yet.
    pub fn new(room_id: impl Into<String>) -> Self {
        Self {
            room_id: room_id.into(),
            graph: Graph::new(),
            states: BTreeMap::new(),
            vaults: BTreeMap::new(),
            epoch_keys: BTreeMap::new(),
            pending: BTreeMap::new(),
            choice: Choice::default(),
        }
    }

    /// The room ID, which is the MLS group ID.
    pub fn room_id(&self) -> &str {
        &self.room_id
    }

    /// The graph of epochs.
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Tells the graph which founding commit the room names, and which anchor (protocol §6, §8).
    pub fn set_root(&mut self, root: Option<NodeId>, anchor: Option<NodeId>) {
        if self.graph.set_root(root) | self.graph.set_anchor(anchor) {
            self.choice = Choice::default();
        }
    }

    /// Tells the graph which branches are deserted, by their topmost commits (protocol §8).
    pub fn set_deserted(&mut self, deserted: BTreeSet<NodeId>) {
        if self.graph.set_deserted(deserted) {
            self.choice = Choice::default();
        }
    }

    /// Tells the graph which instance the room names (protocol §6).
    pub fn set_instance(&mut self, instance: Option<InstanceId>) {
        if self.graph.set_instance(instance) {
            self.choice = Choice::default();
        }
    }

    /// Gives up every other founding of the group: what is held to go on from its epochs is erased, and
    /// so are commits of ours that are not accepted. Records and epoch keys stay, so what was said there
    /// stays readable.
    pub fn leave_all_but(&self, instance: &InstanceId) -> GroupChanges {
        let is_other =
            |node: &NodeId| self.graph.get(node).is_none_or(|r| r.extension.instance != *instance);
        let mut changes = GroupChanges::default();
        changes.states.extend(self.states.keys().filter(|n| is_other(n)).map(|n| (*n, None)));
        changes.vaults.extend(self.vaults.keys().filter(|n| is_other(n)).map(|n| (*n, None)));
        changes.pending.extend(self.pending.keys().map(|node| (*node, None)));
        changes
    }

    /// A node's state, while it is held.
    pub fn state(&self, node: &NodeId) -> Option<&Arc<NodeState>> {
        self.states.get(node)
    }

    /// A node's vault, while it is held.
    pub fn vault(&self, node: &NodeId) -> Option<&Vault> {
        self.vaults.get(node)
    }

    /// A node's epoch key, while it is held.
    pub fn epoch_key(&self, node: &NodeId) -> Option<&Arc<EpochKey>> {
        self.epoch_keys.get(node)
    }

    /// The nodes whose state is held.
    pub fn entered(&self) -> impl Iterator<Item = NodeId> {
        self.states.keys().copied()
    }

    /// Who is in an epoch, as far as that is known.
    pub fn roster(&self, node: &NodeId) -> Option<Arc<Roster>> {
        self.graph.roster_of(node)
    }

    /// Our commits that are not accepted yet.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<PendingCommit>> {
        self.pending.values()
    }

    /// One of our commits that is not accepted yet.
    pub fn pending_commit(&self, node: &NodeId) -> Option<&Arc<PendingCommit>> {
        self.pending.get(node)
    }

    /// Founds the group: makes its first commit, with the devices whose key packages are given, as
    /// a pending one.
    ///
    /// # Errors
    ///
    /// When a key package is not valid, or two belong to one device.
    pub fn found(
        &self,
        local: &LocalMember,
        extension: &GroupExtension,
        key_packages: Vec<Vec<u8>>,
    ) -> Result<(NodeId, GroupChanges), GroupError> {
        let pending = found::found(&self.room_id, local, extension, key_packages)?;
        Ok(Self::keep_pending(pending, None))
    }

    /// Makes a commit on an entered node, as a pending one.
    ///
    /// # Errors
    ///
    /// When the node's state is not held, or the plan cannot be carried out on it;
    /// [`GroupError::KeyPackage`] when that is for one of the key packages.
    pub fn commit(
        &self,
        parent: NodeId,
        local: &LocalMember,
        plan: CommitPlan,
    ) -> Result<(NodeId, GroupChanges), GroupError> {
        let (state, vault, record, roster) = self.parent(parent)?;
        let on = Parent { record: Some(record), state, vault, roster: &roster };
        let (pending, vault) = commit::commit(&on, &self.room_id, local, plan)?;
        Ok(Self::keep_pending(pending, Some((parent, vault))))
    }

    /// Makes an external commit that adds ourselves, as a pending one (protocol §6). The parent's
    /// record must be in the graph, or it will be an entrance of its own: then nothing but the
    /// devices in the tree says that a server has not invented all of it, so check them.
    ///
    /// # Errors
    ///
    /// When the public state is not valid, its tree is not the one that the graph knows, or its
    /// rules do not let us in.
    pub fn external_commit(
        &self,
        local: &LocalMember,
        parent: PublicState<'_>,
    ) -> Result<(NodeId, GroupChanges), GroupError> {
        let (pending, roster) = external::external_commit(&self.room_id, local, parent)?;
        if self.graph.roster_of(&parent.record.node).is_some_and(|known| *known != roster) {
            return Err(GroupError::WrongTree);
        }
        Ok(Self::keep_pending(pending, None))
    }

    /// Makes an external commit from what a commit's event carries, as a pending one: on the epoch
    /// that this commit makes, whose record must be in the graph (protocol §6).
    ///
    /// # Errors
    ///
    /// When the graph does not know that epoch, when the GroupInfo is not its author's or the tree not
    /// the one that the graph knows, or the group's rules do not let us in.
    pub fn external_commit_on(
        &self,
        local: &LocalMember,
        parts: PublicParts<'_>,
    ) -> Result<(NodeId, GroupChanges), GroupError> {
        let message = CommitMessage::parse(parts.commit)?;
        let node = message.node_id();
        let (Some(record), Some(roster)) = (self.graph.get(&node), self.graph.roster_of(&node))
        else {
            return Err(GroupError::NoState(node));
        };
        let info = GroupInfo::parse(parts.group_info)?;
        entrance::check_info(&self.room_id, &message, record, &roster, &info)?;
        let public = PublicState { record, group_info: parts.group_info, tree: parts.tree };
        self.external_commit(local, public)
    }

    /// The ratchet tree of an epoch, of which the event does not show it: from an epoch above whose event
    /// does, and the commits from there, each made on the one before. Nothing is changed. Who uses the
    /// tree has to compare it with the epoch's GroupContext, as [`Group::external_commit_on`] does.
    ///
    /// # Errors
    ///
    /// When the first one's GroupInfo and tree do not fit, or a commit does not apply.
    pub fn replay_tree(from: PublicParts<'_>, commits: &[Vec<u8>]) -> Result<Vec<u8>, GroupError> {
        entrance::replay(from, commits)
    }

    /// Takes an epoch into the graph whose parent is not known, from what its commit's event carries:
    /// as seen, with the members that its tree has. No change if it is known.
    ///
    /// Only the commit's author can have invented these members; whether the epoch belongs to the
    /// room's group is the caller's to judge.
    ///
    /// # Errors
    ///
    /// When the commit is not well-formed, as far as that can be told, or the GroupInfo and the tree
    /// are not those of the epoch that it makes.
    pub fn see_entrance(
        &self,
        parts: PublicParts<'_>,
    ) -> Result<(NodeId, GroupChanges), GroupError> {
        let message = CommitMessage::parse(parts.commit)?;
        if message.group_id() != self.room_id.as_bytes() {
            return Err(GroupError::WrongRoom);
        }
        let node = message.node_id();
        let mut changes = GroupChanges::default();
        if !self.graph.contains(&node) {
            let (record, roster) = entrance::look_in(&self.room_id, &message, parts)?;
            let (record, roster) = (Arc::new(record), Some(Arc::new(roster)));
            let entry = GraphEntry { record, status: NodeStatus::Seen, roster, summary: None };
            changes.records.insert(node, entry);
        }
        Ok((node, changes))
    }

    fn keep_pending(
        pending: PendingCommit,
        parent: Option<(NodeId, Vault)>,
    ) -> (NodeId, GroupChanges) {
        let node = pending.node.record.node;
        let mut changes = GroupChanges::default();
        changes.vaults.extend(parent.map(|(node, vault)| (node, Some(vault))));
        changes.pending.insert(node, Some(Arc::new(pending)));
        (node, changes)
    }

    /// The server has accepted our pending commit: its epoch is entered.
    ///
    /// # Errors
    ///
    /// [`GroupError::NotPending`] when there is none with this ID.
    pub fn accept(&self, node: NodeId) -> Result<GroupChanges, GroupError> {
        let pending = self.pending.get(&node).ok_or(GroupError::NotPending(node))?;
        let new = &pending.node;
        // Where the parent is not in the graph the roster has nothing to follow from.
        let connected = new.record.parent.is_some_and(|p| self.graph.roster_of(&p).is_some());
        let mut changes = GroupChanges::default();
        changes.enter(new, (!connected).then(|| Arc::clone(&new.roster)));
        changes.pending.insert(node, None);
        Ok(changes)
    }

    /// Gives up a pending commit for good.
    pub fn discard(&self, node: NodeId) -> GroupChanges {
        GroupChanges { pending: [(node, None)].into(), ..GroupChanges::default() }
    }

    /// Takes a commit from the room: MLSMessage bytes and the parent's GroupContext from the same
    /// event, of which the commit signs the hash.
    ///
    /// # Errors
    ///
    /// When it is malformed or not well-formed (drop it), its parent is not known (fetch that first),
    /// or was forgotten ([`GroupError::Forgotten`]; drop it).
    pub fn receive(&self, commit: &[u8], parent_context: &[u8]) -> Result<Received, GroupError> {
        let message = CommitMessage::parse(commit)?;
        if message.group_id() != self.room_id.as_bytes() {
            return Err(GroupError::WrongRoom);
        }
        let node = message.node_id();
        let entered = self.graph.status(&node) == Some(NodeStatus::Entered);
        if entered && !self.graph.is_entrance(&node) {
            return Ok(Received::Known(node));
        }
        if let Some(pending) = self.pending.get(&node) {
            // A copy with other tags says nothing of whether the server has taken ours.
            return if pending.commit == commit {
                Ok(Received::Own(node))
            } else {
                Err(GroupError::AlteredCopy)
            };
        }
        let Some((record, parent_roster)) = self.check(&message, parent_context)? else {
            return match message.aad().parent {
                Some(parent) if !entered => {
                    match self.graph.is_forgotten(&parent, message.epoch()) {
                        false => Err(GroupError::UnknownParent(parent)),
                        // The oldest node itself.
                        true if self.graph.contains(&node) => Ok(Received::Known(node)),
                        true => Err(GroupError::Forgotten(parent)),
                    }
                }
                _ => Ok(Received::Known(node)),
            };
        };
        let Some(parent) = record.parent else {
            let roster = Arc::new(record.roster_after(&parent_roster));
            return Ok(self.see(record, SeenBecause::NoState, Some(roster)));
        };
        if entered {
            return Ok(self.complete(record, &parent_roster));
        }
        match self.enter(parent, &parent_roster, &message, parent_context, &record) {
            Ok(changes) => Ok(Received::Entered(node, Box::new(changes))),
            Err(because) => Ok(self.see(record, because, None)),
        }
    }

    /// The record of a well-formed commit, and its parent's roster; none while its parent is not
    /// known.
    fn check(
        &self,
        message: &CommitMessage,
        parent_context: &[u8],
    ) -> Result<Option<(CommitRecord, Arc<Roster>)>, GroupError> {
        let group_id = self.room_id.as_bytes();
        let Some(parent) = message.aad().parent else {
            let (record, roster) = check_founding(message, parent_context, group_id)?;
            return Ok(Some((record, Arc::new(roster))));
        };
        let (Some(record), Some(roster)) = (self.graph.get(&parent), self.graph.roster_of(&parent))
        else {
            return Ok(None);
        };
        let view = ParentView::new(group_id, record, &roster);
        Ok(Some((check_well_formed(message, parent_context, view)?, roster)))
    }

    fn complete(&self, record: CommitRecord, parent_roster: &Roster) -> Received {
        let node = record.node;
        let roster = record.roster_after(parent_roster);
        let same = self.graph.roster_of(&node).is_some_and(|given| *given == roster);
        let mut changes = if same { GroupChanges::default() } else { self.erase_state(node) };
        let entry = GraphEntry {
            record: Arc::new(record),
            status: NodeStatus::Entered,
            roster: None,
            summary: None,
        };
        changes.records.insert(node, entry);
        Received::Completed(node, Box::new(changes))
    }

    /// Whether the choice leads through a node.
    fn is_chosen(&self, node: &NodeId) -> bool {
        let above = |tip| tip == *node || self.graph.is_ancestor(node, &tip);
        self.graph.contains(node) && self.chosen_tip().is_some_and(above)
    }

    fn enter(
        &self,
        parent: NodeId,
        parent_roster: &Roster,
        message: &CommitMessage,
        parent_context: &[u8],
        record: &CommitRecord,
    ) -> Result<GroupChanges, SeenBecause> {
        let (Some(state), Some(vault)) = (self.states.get(&parent), self.vaults.get(&parent))
        else {
            return Err(SeenBecause::NoState);
        };
        if record.removed.iter().any(|(leaf, _)| *leaf == state.own_leaf) {
            return Err(SeenBecause::RemovesUs);
        }
        let author = record.author.member.device();
        if self.graph.entered_children_by(&parent, author) >= MAX_CHILDREN_PER_AUTHOR
            && !self.is_chosen(&record.node)
        {
            return Err(SeenBecause::TooMany);
        }
        // A context or tag that is not the parent's makes the commit inadmissible, not ill-formed:
        // those who do not hold the parent's state could not tell.
        if *parent_context != state.context || message.aad().parent_tag != state.confirmation_tag {
            return Err(SeenBecause::Inadmissible(GroupError::Mls(
                "made on another state of its parent".to_owned(),
            )));
        }
        let (new, vault) =
            process::process(state, vault, parent_roster, &self.room_id, message, record.clone())
                .map_err(SeenBecause::Inadmissible)?;
        let mut changes = GroupChanges::default();
        changes.vaults.insert(parent, Some(vault));
        changes.enter(&new, None);
        Ok(changes)
    }

    fn see(
        &self,
        record: CommitRecord,
        because: SeenBecause,
        roster: Option<Arc<Roster>>,
    ) -> Received {
        let node = record.node;
        let mut changes = GroupChanges::default();
        if self.graph.get(&node).is_none() || self.graph.is_entrance(&node) {
            let entry = GraphEntry {
                record: Arc::new(record),
                status: NodeStatus::Seen,
                roster,
                summary: None,
            };
            changes.records.insert(node, entry);
        }
        Received::Seen(node, because, Box::new(changes))
    }

    /// Joins by Welcome. Whether the signer may invite is the caller's to check.
    ///
    /// # Errors
    ///
    /// When the Welcome does not belong to the commit, is not for this key package, the commit is not
    /// well-formed or the epoch not the one that it makes, as far as that can be told, or the node
    /// was entered before. The key package is used up only by storing the changes.
    pub fn join(
        &self,
        local: &LocalMember,
        parts: WelcomeParts<'_>,
    ) -> Result<(NodeId, GroupChanges), GroupError> {
        let message = CommitMessage::parse(parts.commit)?;
        if message.group_id() != self.room_id.as_bytes() {
            return Err(GroupError::WrongRoom);
        }
        let node = message.node_id();
        if self.graph.status(&node) == Some(NodeStatus::Entered) {
            return Err(GroupError::AlreadyEntered(node));
        }
        let checked = self.check(&message, parts.parent_context)?;
        let mut new = join::join(&self.room_id, local, &message, parts)?;
        if let Some((record, parent_roster)) = checked {
            // Made from the parent's roster, so it says more than what a joiner can see.
            if record.roster_after(&parent_roster) != *new.roster {
                return Err(GroupError::WrongTree);
            }
            new.record = Arc::new(record);
        } else if let Some(known) = self.graph.get(&node) {
            if self.graph.roster_of(&node).is_some_and(|known| known != new.roster) {
                return Err(GroupError::WrongTree);
            }
            new.record = Arc::clone(known);
        }
        let mut changes = GroupChanges::default();
        let roster = Arc::clone(&new.roster);
        changes.enter(&new, Some(roster));
        Ok((node, changes))
    }

    /// Encrypts a message in an epoch. The generation must never be used twice, so it has to be
    /// durable before this is called.
    ///
    /// # Errors
    ///
    /// When the epoch's key or state is not held, or the message is too long.
    pub fn encrypt(
        &self,
        node: NodeId,
        local: &LocalMember,
        generation: u32,
        tips: Vec<NodeId>,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, GroupError> {
        let key = self.epoch_keys.get(&node).ok_or(GroupError::NoEpochKey(node))?;
        let state = self.states.get(&node).ok_or(GroupError::NoState(node))?;
        let sender = MessageSender {
            leaf: state.own_leaf,
            generation,
            signer: local.signing_key(),
            reuse_guard: random()?,
        };
        Ok(key.encrypt(&sender, &MessageAad::new(node, tips)?, plaintext)?)
    }

    /// Decrypts a message in the epoch that it names. Consumes nothing, see [`Group::read`]; who the Matrix sender is and
    /// whether the message is a replay is the caller's to check (protocol §4, §7).
    ///
    /// # Errors
    ///
    /// [`GroupError::NoEpochKey`] when the epoch's key is not held, else why it cannot be read.
    pub fn decrypt(&self, message: &[u8]) -> Result<DecryptedMessage, GroupError> {
        let header = crate::epoch_key::peek(message)?;
        if header.group_id != self.room_id.as_bytes() {
            return Err(GroupError::WrongRoom);
        }
        let node = header.aad.epoch();
        let key = self.epoch_keys.get(&node).ok_or(GroupError::NoEpochKey(node))?;
        Ok(key.decrypt(message)?)
    }

    /// Decrypts a message as [`Group::decrypt`] does. Where the epoch's messages are read once
    /// ([`Group::reads_once`]), the changes erase the key that was used: the caller stores them
    /// before it lets anybody see the message, together with what is to be known of it afterwards.
    /// Elsewhere nothing changes.
    ///
    /// # Errors
    ///
    /// As [`Group::decrypt`]; [`DecryptError::KeyErased`](crate::DecryptError::KeyErased) when the key
    /// was used before.
    pub fn read(&self, message: &[u8]) -> Result<(DecryptedMessage, GroupChanges), GroupError> {
        let mut changes = GroupChanges::default();
        let node = crate::epoch_key::peek(message)?.aad.epoch();
        let Some(key) = self.epoch_keys.get(&node).filter(|_| self.reads_once(&node)) else {
            return Ok((self.decrypt(message)?, changes));
        };
        if key.group_id() != self.room_id.as_bytes() {
            return Err(GroupError::WrongRoom);
        }
        let (message, after) = key.decrypt_once(message)?;
        changes.epoch_keys.insert(node, Some(Arc::new(after)));
        Ok((message, changes))
    }

    /// Whether the epoch's history policy is `none` (protocol §7): each message can be read once, and
    /// its key is erased with that. The keys of such an epoch are for nobody else: not for the key
    /// backup, not for invitees, not for files.
    pub fn reads_once(&self, node: &NodeId) -> bool {
        self.graph.get(node).is_some_and(|record| record.extension.history == HistoryPolicy::None)
    }

    /// The state, vault, record and roster to work on.
    fn parent(
        &self,
        node: NodeId,
    ) -> Result<(&NodeState, &Vault, &CommitRecord, Arc<Roster>), GroupError> {
        let missing = GroupError::NoState(node);
        match (
            self.states.get(&node),
            self.vaults.get(&node),
            self.graph.get(&node),
            self.graph.roster_of(&node),
        ) {
            (Some(state), Some(vault), Some(record), Some(roster)) => {
                Ok((state, vault, record, roster))
            }
            _ => Err(missing),
        }
    }

    /// Erases a node's state and vault; its record and its epoch key stay (protocol §9).
    pub fn erase_state(&self, node: NodeId) -> GroupChanges {
        GroupChanges {
            states: [(node, None)].into(),
            vaults: [(node, None)].into(),
            ..GroupChanges::default()
        }
    }

    /// Takes stored changes over.
    pub fn apply(&mut self, changes: GroupChanges) {
        if !changes.records.is_empty() || !changes.states.is_empty() {
            self.choice = Choice::default();
        }
        if !changes.forgotten.is_empty() {
            self.graph.forget(&changes.forgotten);
        }
        for (node, entry) in changes.records {
            if let Some(summary) = entry.summary {
                self.graph.set_summary(summary);
            }
            if let Some(roster) = entry.roster {
                self.graph.set_roster(node, entry.record.epoch, roster);
            } else if self.graph.is_entrance(&node) {
                self.graph.complete(Arc::clone(&entry.record));
            }
            self.graph.insert(entry.record, entry.status);
        }
        apply_to(&mut self.states, changes.states);
        apply_to(&mut self.vaults, changes.vaults);
        apply_to(&mut self.epoch_keys, changes.epoch_keys);
        apply_to(&mut self.pending, changes.pending);
    }
}

fn random<const N: usize>() -> Result<[u8; N], GroupError> {
    use openmls_traits::random::OpenMlsRand as _;
    openmls_rust_crypto::RustCrypto::default().random_array().map_err(GroupError::openmls)
}

fn apply_to<T>(map: &mut BTreeMap<NodeId, T>, changes: BTreeMap<NodeId, Option<T>>) {
    for (node, value) in changes {
        match value {
            Some(value) => map.insert(node, value),
            None => map.remove(&node),
        };
    }
}
