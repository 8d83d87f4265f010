//! How long epochs' states, secrets and keys are held (protocol §9). The clock is the caller's.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Group, GroupChanges};
use crate::{
    credential::Device, extension::HistoryPolicy, graph::NodeStatus, ids::NodeId, roster::Roster,
};

/// At most this many states are held besides that of the epoch in use.
pub const MAX_RETAINED_STATES: usize = 64;

const HOUR: u64 = 3600 * 1000;
const DAY: u64 = 24 * HOUR;

/// How long the state of an epoch is held after others have followed it, in milliseconds.
const STATE_AGE: u64 = 7 * DAY;

/// How long it is held after every member has committed below it, in milliseconds.
const PASSED_AGE: u64 = HOUR;

/// How long a node takes external commits after its first child was heard of, in milliseconds: so
/// that an ordinary race shuts nobody out.
const EXTERNAL_SECRET_AGE: u64 = HOUR;

impl Group {
    /// Erases what is over the limit: the author with the most retained states loses its oldest, so
    /// that a member that floods the room only hurts itself. No change while the limit is kept.
    ///
    /// Epoch keys stay: what was written there can still be read.
    pub fn enforce_limits(&self) -> GroupChanges {
        self.erase_over(MAX_RETAINED_STATES, &HashSet::new())
    }

    /// Erases what has been held long enough at the time `now`. `heard` says when the commit of a
    /// node was first heard of; both are in milliseconds since 1970. A node without such a time is
    /// taken to be old. Besides, the limit is kept, as by [`Group::enforce_limits`].
    ///
    /// * The *state* of an epoch goes an hour after every current member has committed below it, or
    ///   after 7 days. The 7 days count from its first entered child, or from its own commit where it
    ///   is the end of a branch that lost.
    /// * The *external secret* goes an hour after the first child was heard of.
    /// * The *epoch key* goes as the history policy of that epoch says: never; so many days after its
    ///   first entered child, or its own commit where there is none; or with the state. A later change
    ///   of the policy does not reach back: any member can make one, and could destroy everybody's
    ///   history.
    ///
    /// Nothing is erased of the epoch in use, and nothing at all while there is none.
    pub fn erase_due(&self, now: u64, heard: impl Fn(&NodeId) -> Option<u64>) -> GroupChanges {
        let mut changes = GroupChanges::default();
        let Some(in_use) = self.sending_tip() else { return changes };
        let age = |time: Option<u64>| now.saturating_sub(time.unwrap_or_default());
        let roster = self.graph.roster_of(&in_use).unwrap_or_default();
        let mut erased = HashSet::new();
        for node in self.states.keys().filter(|node| **node != in_use) {
            let superseded = age(self.superseded(node, &heard));
            let passed = self.passed_by_all(node, &roster, &heard);
            if superseded >= STATE_AGE || passed.is_some_and(|time| age(Some(time)) >= PASSED_AGE) {
                changes.extend(self.erase_state(*node));
                erased.insert(*node);
            } else if let Some(first) = self.graph.children(node).map(|child| heard(&child)).min()
                && age(first) >= EXTERNAL_SECRET_AGE
                && let Some(vault) =
                    self.vaults.get(node).filter(|vault| vault.takes_external_commits())
            {
                let mut vault = vault.clone();
                vault.erase_external_secret();
                changes.vaults.insert(*node, Some(vault));
            }
        }
        let over = self.erase_over(MAX_RETAINED_STATES, &erased);
        erased.extend(over.states.keys());
        changes.extend(over);

        for node in self.epoch_keys.keys().filter(|node| **node != in_use) {
            let policy = self.graph.get(node).map(|record| record.extension.history);
            let due = match policy.unwrap_or_default() {
                HistoryPolicy::Keep => false,
                HistoryPolicy::Days(days) => {
                    age(self.superseded(node, &heard)) >= u64::from(days.get()) * DAY
                }
                HistoryPolicy::None => !self.states.contains_key(node) || erased.contains(node),
            };
            if due {
                changes.epoch_keys.insert(*node, None);
            }
        }
        changes
    }

    /// Since when an epoch is not the end of its branch; of one that is, since when there is it.
    fn superseded(&self, node: &NodeId, heard: impl Fn(&NodeId) -> Option<u64>) -> Option<u64> {
        let entered = |child: &NodeId| self.graph.status(child) == Some(NodeStatus::Entered);
        let first = self.graph.children(node).filter(entered).map(|child| heard(&child)).min();
        first.unwrap_or_else(|| heard(node))
    }

    /// When the last of these members made its first commit below a node, if all have.
    fn passed_by_all(
        &self,
        node: &NodeId,
        members: &Roster,
        heard: impl Fn(&NodeId) -> Option<u64>,
    ) -> Option<u64> {
        let mut first: HashMap<&Device, u64> = HashMap::new();
        for id in self.graph.descendants(node) {
            if let Some(record) = self.graph.get(&id) {
                let time = heard(&id).unwrap_or_default();
                let first = first.entry(record.author.member.device()).or_insert(time);
                *first = time.min(*first);
            }
        }
        if first.len() < members.len() {
            return None;
        }
        let times: Option<Vec<_>> =
            members.iter().map(|(_, member)| first.get(member.device()).copied()).collect();
        times?.into_iter().max()
    }

    /// What `erased` names is gone already.
    pub(super) fn erase_over(&self, limit: usize, erased: &HashSet<NodeId>) -> GroupChanges {
        let mut changes = GroupChanges::default();
        let in_use = self.sending_tip();
        let mut by_author: BTreeMap<Option<&Device>, Vec<(u64, NodeId)>> = BTreeMap::new();
        let mut retained = 0;
        for node in self.states.keys() {
            if in_use == Some(*node) || erased.contains(node) {
                continue;
            }
            let author = self.graph.get(node).map(|record| record.author.member.device());
            let epoch = self.graph.epoch(node).unwrap_or_default();
            by_author.entry(author).or_default().push((epoch, *node));
            retained += 1;
        }
        // Oldest last, to be popped.
        by_author.values_mut().for_each(|nodes| nodes.sort_by(|a, b| b.cmp(a)));
        while retained > limit {
            let most = by_author.iter_mut().max_by_key(|(_, nodes)| nodes.len());
            let Some((_, node)) = most.and_then(|(_, nodes)| nodes.pop()) else { break };
            changes.extend(self.erase_state(node));
            retained -= 1;
        }
        changes
    }
}
