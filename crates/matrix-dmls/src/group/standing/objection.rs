//! Objecting to a commit that we cannot enter, so that it does not split the room (protocol §5).

use super::{Group, OBJECTION_FIRST, OBJECTION_PER_LEAF, OBJECTION_SPREAD};
use crate::{credential::Device, graph::NodeStatus, group::LocalMember, ids::NodeId};

/// Where the chosen branch leaves the epochs whose state is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Departure {
    /// The topmost commit of the chosen branch at and below which no state is held.
    pub commit: NodeId,
    /// Its parent, if the state of that is held and the commit was never entered: then it is the
    /// commit itself that keeps us out.
    pub parent: Option<NodeId>,
}

/// A commit that this device is to object to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Objection {
    /// The commit.
    pub commit: NodeId,
    /// Who made it.
    pub author: Device,
    /// The epoch to commit on: the best one beside the commit that we can commit on, or its parent.
    pub on: NodeId,
    /// When it is our turn, in milliseconds since 1970.
    pub due: u64,
}

impl Group {
    /// Where the chosen branch goes where we cannot follow. `None` if we can, or hold no state at
    /// all.
    pub fn departure(&self) -> Option<Departure> {
        let chosen = self.chosen_tip()?;
        if self.states.is_empty() || self.states.contains_key(&chosen) {
            return None;
        }
        let (start, mut commit) = (self.graph.start()?, chosen);
        while commit != start {
            let Some(parent) = self.graph.parent(&commit) else { break };
            if self.states.contains_key(&parent) {
                let seen = self.graph.status(&commit) == Some(NodeStatus::Seen);
                return Some(Departure { commit, parent: seen.then_some(parent) });
            }
            commit = parent;
        }
        Some(Departure { commit, parent: None })
    }

    /// What we are to object to: the commit of [`Group::departure`], which was noticed at the time
    /// `since` (in milliseconds since 1970), if it is not our own user's, does not seat us anew, and
    /// our user has not committed yet on the best branch beside it. Nothing that lies at or below
    /// `avoid`, the commit of a [`super::Repair`]. Whether the room wants us is the caller's to say.
    pub fn objection(
        &self,
        local: &LocalMember,
        since: u64,
        avoid: Option<&NodeId>,
    ) -> Option<Objection> {
        let Departure { commit, parent } = self.departure()?;
        let (record, parent) = (self.graph.get(&commit)?, parent?);
        let (own, author) = (local.device(), record.author.member.device());
        let is_avoided =
            |node: &NodeId| avoid.is_some_and(|avoid| self.graph.is_at_or_below(avoid, node));
        // Who is put back at once has a Welcome under way.
        let is_put_back = record.added.iter().any(|(_, member)| member.device() == own);
        if own.user_id == author.user_id || is_put_back || is_avoided(&commit) {
            return None;
        }
        let on = self.best_beside(&commit, &parent, |node| !is_avoided(node))?;
        if self.has_voice_beside(&commit, &on, &own.user_id) {
            return None;
        }
        let wait = OBJECTION_FIRST.saturating_add(local.draw(&commit, self.spread(&parent)));
        Some(Objection { commit, author: author.clone(), on, due: since.saturating_add(wait) })
    }

    /// How long it takes, in milliseconds, until everybody who cannot enter a child of this node has had
    /// its turn to object to it.
    pub fn objections_take(&self, parent: &NodeId) -> u64 {
        OBJECTION_FIRST.saturating_add(self.spread(parent))
    }

    /// Over how long objections to children of this node are spread, in milliseconds.
    fn spread(&self, parent: &NodeId) -> u64 {
        let leaves = self.graph.roster_of(parent).map_or(0, |roster| roster.len());
        let leaves = u64::try_from(leaves).unwrap_or(u64::MAX);
        OBJECTION_SPREAD.max(leaves.saturating_mul(OBJECTION_PER_LEAF))
    }
}
