//! Standing up for the room (protocol §5): commits that somebody other than a removal's author makes,
//! so that the removal prevails. Who makes them, and when, follows from the graph, so that one or two
//! devices do it and not all.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

use super::Group;
use crate::{credential::Device, ids::NodeId, record::CommitRecord};

/// How long the first in rank waits after it has heard of a removal, in milliseconds.
const FIRST: u64 = 5 * 1000;

/// How much longer each next user waits.
const PER_RANK: u64 = 5 * 1000;

/// How much longer a user's next device waits.
const PER_DEVICE: u64 = 60 * 1000;

/// Users of a higher rank do nothing.
const MAX_RANK: usize = 40;

/// So many other users are to have committed below a removal.
const ENOUGH: usize = 2;

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
    /// justifies that a device is removed, `heard` when the commit of a node was first heard of, in
    /// milliseconds since 1970; commits without such a time are left alone.
    ///
    /// A removal is to be confirmed that only removes unwanted devices, and is either on the chosen
    /// branch with commits of fewer than two users of its parent's tree below it, or not on it while
    /// the chosen tip has a leaf that it removed; and that our user has not confirmed, and did not
    /// make.
    pub fn confirmations(
        &self,
        own: &Device,
        unwanted: impl Fn(&Device) -> bool,
        heard: impl Fn(&NodeId) -> Option<u64>,
    ) -> Vec<Confirmation> {
        let Some(chosen) = self.chosen_tip() else { return Vec::new() };
        let path: HashSet<_> =
            std::iter::once(chosen).chain(self.graph.ancestors(&chosen)).collect();
        let mut confirmations: Vec<_> = self
            .states
            .keys()
            .filter_map(|node| {
                let record = self.graph.get(node)?;
                let heard = heard(node)?;
                let is_rival = !path.contains(node);
                if !self.needs_confirmation(record, is_rival.then_some(chosen), &unwanted) {
                    return None;
                }
                let due = heard.saturating_add(self.turn(record, own)?);
                let on = self.graph.choose_entered_tip_below(node, |id| self.can_commit_on(id))?;
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
        unwanted: impl Fn(&Device) -> bool,
    ) -> bool {
        let mut removed =
            record.removes_without_readding().map(|(_, member)| member.device()).peekable();
        if removed.peek().is_none() || !removed.all(unwanted) {
            return false;
        }
        if let Some(chosen) = rival_of {
            let Some(roster) = self.graph.roster_of(&chosen) else { return false };
            return record
                .removes_without_readding()
                .any(|(_, member)| roster.leaf_of(member.device()).is_some());
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
    fn turn(&self, removal: &CommitRecord, own: &Device) -> Option<u64> {
        let author = &removal.author.member.device().user_id;
        let below = self.graph.committed_below(&removal.node);
        if own.user_id == *author || below.iter().any(|device| device.user_id == own.user_id) {
            return None;
        }
        let roster = self.graph.roster_of(&removal.node)?;
        let ranks: BTreeMap<[u8; 32], &str> = roster
            .iter()
            .map(|(_, member)| member.device().user_id.as_str())
            .filter(|user| user != author)
            .map(|user| {
                let hash = Sha256::new_with_prefix(removal.node.as_bytes()).chain_update(user);
                (hash.finalize().into(), user)
            })
            .collect();
        let rank = ranks.values().position(|user| *user == own.user_id)?;
        let device = roster
            .iter()
            .map(|(_, member)| member.device())
            .filter(|device| device.user_id == own.user_id)
            .position(|device| device == own)?;
        let times =
            |count: usize, each: u64| each.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX));
        (rank <= MAX_RANK).then(|| FIRST + times(rank, PER_RANK) + times(device, PER_DEVICE))
    }
}
