//! Repairing beside, not below: an insider has stuffed the tree with devices that do not exist, and
//! in the epochs below they would have a voice (protocol §5).

use std::{collections::HashSet, sync::Arc};

use super::{Group, turn};
use crate::{credential::Device, ids::NodeId, roster::Member};

/// A commit on the chosen branch that added invented devices, and where to go instead of below it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repair {
    /// The commit.
    pub commit: NodeId,
    /// Who made it.
    pub author: Device,
    /// The devices that it added.
    pub invented: Vec<Device>,
    /// The epoch to commit on: the best one beside the commit without such devices, else its parent.
    pub on: NodeId,
    /// Our user has committed on that branch: nothing more is made for this commit's sake alone.
    pub is_done: bool,
    /// When it is our turn, in milliseconds since 1970; none if it never is, or is not any more.
    pub due: Option<u64>,
}

impl Group {
    /// The members that were added by a commit beside which we could still commit: if they were
    /// invented there is something to repair.
    pub fn suspects(&self) -> impl Iterator<Item = (NodeId, &Arc<Member>)> {
        self.states
            .keys()
            .flat_map(|node| self.graph.children(node))
            .filter_map(|child| self.graph.get(&child))
            .flat_map(|record| record.added.iter().map(|(_, member)| (record.node, member)))
    }

    /// What `own` is to repair: the oldest commit of the chosen branch that added an invented device
    /// which has a leaf at the chosen tip, if the state of its parent is held. `invented` says of
    /// [`Group::suspects`] whether they are. A commit that was made by our own user, or is `left_alone`,
    /// is none. `heard` is as for [`Group::confirmations`].
    pub fn repair(
        &self,
        own: &Device,
        invented: impl Fn(&Member) -> bool,
        left_alone: impl Fn(&NodeId) -> bool,
        heard: impl Fn(&NodeId) -> Option<u64>,
    ) -> Option<Repair> {
        let all: HashSet<&Device> = self
            .suspects()
            .filter(|(_, member)| invented(member))
            .map(|(_, member)| member.device())
            .collect();
        if all.is_empty() {
            return None;
        }
        let (chosen, start) = (self.chosen_tip()?, self.graph.start()?);
        let roster = self.graph.roster_of(&chosen)?;
        let is_seated = |device: &Device| roster.leaf_of(device).is_some();
        let seated: HashSet<&Device> =
            all.iter().copied().filter(|device| is_seated(device)).collect();
        // Beside what is at or above the start nothing counts.
        let way = std::iter::once(chosen).chain(self.graph.ancestors(&chosen));
        let oldest = way.take_while(|node| *node != start).filter_map(|node| {
            let record = self.graph.get(&node)?;
            let parent = record.parent.filter(|parent| self.can_commit_on(parent))?;
            let of = |(_, member): &(u32, Arc<Member>)| seated.get(member.device()).copied();
            let invented: Vec<_> = record.added.iter().filter_map(of).cloned().collect();
            (!invented.is_empty()).then_some((record, parent, invented))
        });
        let (record, parent, invented) = oldest.last()?;
        let author = record.author.member.device();
        if author.user_id == own.user_id || left_alone(&record.node) {
            return None;
        }
        let is_clean = |node: &NodeId| {
            let roster = self.graph.roster_of(node);
            roster.is_some_and(|r| r.iter().all(|(_, member)| !all.contains(member.device())))
        };
        let on = self.best_beside(&record.node, &parent, is_clean)?;
        let is_done = self.has_voice_beside(&record.node, &on, &own.user_id);
        let turn = self
            .graph
            .roster_of(&parent)
            .filter(|_| !is_done)
            .and_then(|roster| turn(&record.node, &roster, Some(&author.user_id), own));
        let due = heard(&record.node).zip(turn).map(|(heard, turn)| heard.saturating_add(turn));
        Some(Repair { commit: record.node, author: author.clone(), invented, on, is_done, due })
    }
}
