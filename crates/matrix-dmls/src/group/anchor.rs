//! Where the choice is to start from now on (protocol §6, §8).

use std::collections::HashSet;

use super::Group;
use crate::{credential::Device, ids::NodeId, roster::Member};

/// A node has to be so old before the anchor moves on to it, and the anchor has to have stood so
/// long, in milliseconds: 7 days.
const AGE: u64 = 7 * 24 * 3600 * 1000;

/// In a tree of fewer users anybody can start another branch that few have a voice in.
const ENOUGH_USERS: usize = 3;

/// So many of them have committed below.
const ENOUGH_AUTHORS: usize = 2;

impl Group {
    /// The node that the room's anchor should be moved to: the first one goes to the oldest node of
    /// the chosen branch whose tree has three users, two of whom have committed below it on that
    /// branch; later ones to the youngest such node that is older than 7 days. None while there is no
    /// such node, or the anchor was moved less than 7 days before `now`, or this device cannot enter
    /// the chosen branch. Never to a node in whose tree somebody `is_invented`, who would be counted
    /// there and have a voice below for good. `heard` is as for [`Group::erase_due`], and a node without
    /// such a time is old; all times are in milliseconds since 1970.
    pub fn next_anchor(
        &self,
        now: u64,
        moved_at: u64,
        is_invented: impl Fn(&Member) -> bool,
        heard: impl Fn(&NodeId) -> Option<u64>,
    ) -> Option<NodeId> {
        let chosen = self.sending_tip().filter(|tip| self.chosen_tip() == Some(*tip))?;
        let start = self.graph.start()?;
        let anchor = self.graph.anchor().filter(|anchor| *anchor == start);
        let age = |time: u64| now.saturating_sub(time);
        if anchor.is_some() && age(moved_at) < AGE {
            return None;
        }
        // From the tip upward, each with how many authors of the list have committed below it.
        let (mut known, mut authors) = (HashSet::new(), Vec::new());
        let mut nodes = Vec::new();
        for node in std::iter::once(chosen).chain(self.graph.ancestors(&chosen)) {
            if anchor == Some(node) {
                break;
            }
            nodes.push((node, authors.len()));
            if let Some(record) = self.graph.get(&node)
                && known.insert(record.author.member.device())
            {
                authors.push(record.author.member.device());
            }
            if node == start {
                break;
            }
        }
        let is_old = |node: &NodeId| age(heard(node).unwrap_or_default()) >= AGE;
        let is_settled = |(node, count): &&(NodeId, usize)| {
            authors.get(..*count).is_some_and(|below| self.is_settled(node, below, &is_invented))
        };
        let found = if anchor.is_some() {
            nodes.iter().filter(|(node, _)| is_old(node)).find(is_settled)
        } else {
            nodes.iter().rev().find(is_settled)
        };
        found.map(|(node, _)| *node)
    }

    fn is_settled(
        &self,
        node: &NodeId,
        below: &[&Device],
        is_invented: impl Fn(&Member) -> bool,
    ) -> bool {
        let Some(roster) = self.graph.roster_of(node) else { return false };
        if roster.iter().any(|(_, member)| is_invented(member)) {
            return false;
        }
        let users: HashSet<_> =
            roster.iter().map(|(_, member)| member.device().user_id.as_str()).collect();
        let authors: HashSet<_> = below
            .iter()
            .filter(|device| roster.leaf_of(device).is_some())
            .map(|device| device.user_id.as_str())
            .collect();
        users.len() >= ENOUGH_USERS && authors.len() >= ENOUGH_AUTHORS
    }
}
