//! What the graph keeps of a commit (protocol §8), and the check that a commit is one at all (§2).

#[cfg(test)]
mod tests;
mod well_formed;

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};

pub(crate) use self::well_formed::check_entrance;
pub use self::well_formed::{IllFormed, ParentView, check_founding, check_well_formed};
use crate::{
    extension::GroupExtension,
    ids::{HASH_LENGTH, NodeId},
    roster::{Member, Roster},
};

/// The record of a well-formed commit: everything that the choice of a tip needs, and no secrets.
///
/// Made only by [`check_well_formed`] and [`check_founding`], from the commit's bytes and what is
/// known of its parent, so everybody's records of a node are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// The node that the commit makes.
    pub node: NodeId,
    /// The node that it was made on; none for a founding commit.
    pub parent: Option<NodeId>,
    /// The number of the epoch that the commit makes: the parent's and one.
    pub epoch: u64,
    /// Who made it.
    pub author: Author,
    /// The leaves that it removes, in the commit's order, with who was there.
    pub removed: Vec<(u32, Arc<Member>)>,
    /// The leaves that it adds, in the commit's order; of an external commit, the joiner's.
    pub added: Vec<(u32, Arc<Member>)>,
    /// What the path makes of the author's leaf; none without a path, or if the author joins.
    pub updated: Option<(u32, Arc<Member>)>,
    /// The confirmed transcript hash of the epoch that the commit makes (RFC 9420 §8.2).
    pub confirmed_transcript_hash: [u8; HASH_LENGTH],
    /// The group extension of that epoch.
    pub extension: GroupExtension,
    /// Losing tips that the author knew.
    pub resolves: Vec<NodeId>,
}

/// The author of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The leaf in the parent's tree; none for one who joins by this commit, even if it replaces a
    /// leaf of its own.
    pub leaf: Option<u32>,
    /// Who that is: of a member, as the parent's tree has it.
    pub member: Arc<Member>,
}

impl CommitRecord {
    /// The roster of the epoch that the commit makes, from that of the epoch it was made in.
    pub fn roster_after(&self, parent: &Roster) -> Roster {
        let mut roster = parent.clone();
        for (leaf, _) in &self.removed {
            roster.remove(*leaf);
        }
        for (leaf, member) in self.added.iter().chain(&self.updated) {
            roster.insert(*leaf, Arc::clone(member));
        }
        roster
    }

    /// The leaves that the commit removes without putting the same device (user, device and device
    /// key) back itself.
    pub fn removes_without_readding(&self) -> impl Iterator<Item = (u32, &Arc<Member>)> {
        let added: HashSet<_> = self.added.iter().map(|(_, member)| member.device()).collect();
        self.removed
            .iter()
            .filter(move |(_, member)| !added.contains(member.device()))
            .map(|(leaf, member)| (*leaf, member))
    }
}
