//! Standing up for the room (protocol §5): commits that are made for the choice's sake alone. Who
//! makes them, where and when, follows from the graph, so that one or two devices do it and not all.
//! Here are confirmations, and all the times.

mod objection;
mod repair;

use std::collections::HashSet;

pub use self::{
    objection::{Departure, Objection},
    repair::Repair,
};
use super::Group;
use crate::{
    credential::Device,
    ids::NodeId,
    ranking::rank_of,
    record::CommitRecord,
    roster::{Member, Roster},
};

const SECOND: u64 = 1000;

/// How long the first in rank waits after it has heard of what is to be confirmed or repaired, in
/// milliseconds.
const FIRST: u64 = 5 * SECOND;

/// How much longer each next user waits.
const PER_RANK: u64 = 5 * SECOND;

/// How much longer a user's next device waits.
const PER_DEVICE: u64 = 60 * SECOND;

/// Users of a higher rank do nothing.
const MAX_RANK: usize = 40;

/// So many other users are to have committed below a removal.
const ENOUGH: usize = 2;

/// How long everybody waits with an objection, in milliseconds: the missing piece may be under way.
const OBJECTION_FIRST: u64 = 10 * SECOND;

/// Over how long objections are spread besides, at least.
const OBJECTION_SPREAD: u64 = 60 * SECOND;

/// The same for each leaf, where that is more.
const OBJECTION_PER_LEAF: u64 = SECOND / 2;

/// A removal that this device may have to confirm by a commit below it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confirmation {
    /// The removal.
    pub removal: NodeId,
    /// The epoch to commit on: the best one below the removal that we can commit on.
    pub on: NodeId,
    /// When it is our turn, in milliseconds since 1970.
    pub due: u64,
    /// The removal is not on the chosen branch, whose tip still has a leaf that it removed: who has
    /// something to send need not wait for its turn (protocol §5, "vote").
    pub is_rival: bool,
}

impl Group {
    /// The removals that `own` is to confirm, the most urgent first. `unwanted` says whether the room
    /// justifies that a leaf is removed, `heard` when the commit of a node was first heard of, in
    /// milliseconds since 1970; commits without such a time are left alone, and so is what lies at or
    /// below `avoid`, the commit of a [`Repair`].
    ///
    /// A removal is to be confirmed that only removes unwanted leaves, and is either on the chosen
    /// branch with commits of fewer than two users of its parent's tree below it, or not on it while
    /// the chosen tip has an unwanted leaf of a device that it removed; and that our user has not
    /// confirmed, and did not make.
    pub fn confirmations(
        &self,
        own: &Device,
        unwanted: impl Fn(&Member) -> bool,
        avoid: Option<&NodeId>,
        heard: impl Fn(&NodeId) -> Option<u64>,
    ) -> Vec<Confirmation> {
        let (Some(start), Some(chosen)) = (self.graph.start(), self.chosen_tip()) else {
            return Vec::new();
        };
        let path: HashSet<_> =
            std::iter::once(chosen).chain(self.graph.ancestors(&chosen)).collect();
        let mut confirmations: Vec<_> = self
            .states
            .keys()
            .filter_map(|node| {
                let record = self.graph.get(node)?;
                let heard = heard(node)?;
                let is_rival = !path.contains(node);
                if !self.needs_confirmation(record, is_rival.then_some(chosen), &unwanted)
                    || avoid.is_some_and(|avoid| self.graph.is_at_or_below(avoid, node))
                    // A vote there would bring back what was given up.
                    || self.graph.is_deserted_below(&start, node)
                {
                    return None;
                }
                let due = heard.saturating_add(self.turn_to_confirm(record, own)?);
                let allowed = |id: &NodeId| {
                    self.can_commit_on(id)
                        && avoid.is_none_or(|avoid| !self.graph.is_at_or_below(avoid, id))
                };
                let on = self.graph.choose_entered_tip_below(node, allowed)?;
                Some(Confirmation { removal: *node, on, due, is_rival })
            })
            .collect();
        confirmations.sort_by_key(|confirmation| (confirmation.due, confirmation.removal));
        confirmations
    }

    fn can_commit_on(&self, node: &NodeId) -> bool {
        self.states.contains_key(node) && self.vaults.contains_key(node)
    }

    /// `rival_of` is the chosen tip if the removal is not on its branch.
    fn needs_confirmation(
        &self,
        record: &CommitRecord,
        rival_of: Option<NodeId>,
        unwanted: impl Fn(&Member) -> bool,
    ) -> bool {
        let mut removed = record.removes_without_readding().map(|(_, member)| member).peekable();
        if removed.peek().is_none() || !removed.all(|member| unwanted(member)) {
            return false;
        }
        if let Some(chosen) = rival_of {
            let Some(roster) = self.graph.roster_of(&chosen) else { return false };
            // The device may have come back with a new key, which is another leaf.
            return record.removes_without_readding().any(|(_, member)| {
                let leaf = roster.leaf_of(member.device()).and_then(|leaf| roster.get(leaf));
                leaf.is_some_and(|member| unwanted(member))
            });
        }
        let Some(before) = record.parent.and_then(|parent| self.graph.roster_of(&parent)) else {
            return false;
        };
        let below = self.graph.committed_below(&record.node);
        let users: HashSet<_> = below
            .iter()
            .filter(|device| before.leaf_of(device).is_some())
            .map(|device| &device.user_id)
            .collect();
        users.len() < ENOUGH
    }

    /// How long after hearing of a removal it is our turn; none if it never is.
    fn turn_to_confirm(&self, removal: &CommitRecord, own: &Device) -> Option<u64> {
        let below = self.graph.committed_below(&removal.node);
        let roster = self.graph.roster_of(&removal.node)?;
        let is_ours = |device: &&Device| device.user_id == own.user_id;
        // Devices that were invented in our user's name below do not speak for it.
        if below.iter().filter(is_ours).any(|device| roster.leaf_of(device).is_some()) {
            return None;
        }
        let author = &removal.author.member.device().user_id;
        turn(&removal.node, &roster, Some(author), own)
    }

    /// How long `own` waits, in milliseconds, until it posts a commit again that is missing in the room
    /// (protocol §2): by the ranks and times of confirmations, among all who are members there. None if
    /// it leaves that to others.
    pub fn turn_to_relay(&self, node: &NodeId, own: &Device) -> Option<u64> {
        turn(node, &*self.graph.roster_of(node)?, None, own)
    }

    /// Whether a user's voice counts already for the branch beside a node that leads to `on`: it has
    /// committed at or below the child of the node's parent that `on` is, or lies below, with a device
    /// that has a leaf in that parent's tree. What it has committed on a third branch helps neither. If
    /// `on` is the parent itself, there is no branch to go on with, and any commit beside the node counts.
    fn has_voice_beside(&self, node: &NodeId, on: &NodeId, user: &str) -> bool {
        let Some(parent) = self.graph.parent(node) else { return false };
        let Some(voices) = self.graph.roster_of(&parent) else { return false };
        let is_theirs = |id: &NodeId| self.is_voice_of(id, user, &voices);
        self.graph
            .children(&parent)
            .filter(|child| child != node)
            .filter(|child| *on == parent || self.graph.is_at_or_below(child, on))
            .any(|child| {
                is_theirs(&child) || self.graph.descendants(&child).any(|id| is_theirs(&id))
            })
    }

    /// Whether a user has made a commit with a device that has a leaf in a tree. Others may be invented
    /// in its name.
    fn is_voice_of(&self, node: &NodeId, user: &str, voices: &Roster) -> bool {
        let record = self.graph.get(node);
        let author = record.map(|record| record.author.member.device());
        author.is_some_and(|author| author.user_id == user && voices.leaf_of(author).is_some())
    }

    /// The best epoch beside a node that we can commit on and that is `fit`, else its parent.
    fn best_beside(
        &self,
        node: &NodeId,
        parent: &NodeId,
        fit: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let allowed =
            |id: &NodeId| self.can_commit_on(id) && !self.graph.is_at_or_below(node, id) && fit(id);
        self.graph
            .choose_entered_tip_below(parent, allowed)
            .or_else(|| self.can_commit_on(parent).then_some(*parent))
    }
}

/// How long after hearing of a commit it is the turn of `own` to answer it: by the rank of its user
/// among those of a tree, without the author's if one is given, and by the place of its leaf among its user's. None
/// if it never is.
fn turn(node: &NodeId, roster: &Roster, author: Option<&str>, own: &Device) -> Option<u64> {
    let users = roster.iter().map(|(_, member)| member.device().user_id.as_str());
    let rank = rank_of(node, users.filter(|user| Some(*user) != author), &own.user_id)?;
    let device = roster
        .iter()
        .map(|(_, member)| member.device())
        .filter(|device| device.user_id == own.user_id)
        .position(|device| device == own)?;
    let times =
        |count: usize, each: u64| each.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX));
    (rank <= MAX_RANK).then(|| FIRST + times(rank, PER_RANK) + times(device, PER_DEVICE))
}
