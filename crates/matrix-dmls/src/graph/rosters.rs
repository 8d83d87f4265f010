//! Every node's roster, without storing it at every node.
//!
//! A roster is stored only where it was given ([`Graph::set_roster`]); a founding commit needs none.
//! All others are replayed from the nearest such node above. A room with 1,000 leaves would
//! otherwise need some 30 kB for each of thousands of nodes. The last [`CACHED`] results are
//! remembered, so that going down a chain replays one commit at a time. Members are shared, and
//! nodes between which nobody's leaf changed share the whole roster.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Graph;
use crate::{
    ids::NodeId,
    record::CommitRecord,
    roster::{Member, Roster},
};

/// How many replayed rosters are remembered.
const CACHED: usize = 32;

impl Graph {
    /// The roster of a node's tree. `None` if the node is not known, or nothing at or above it tells
    /// one: no founding commit, and no roster that was given.
    pub fn roster_of(&self, id: &NodeId) -> Option<Arc<Roster>> {
        let mut cache = self.rosters.lock();
        let mut replay = Vec::new();
        let mut at = *id;
        let mut roster = loop {
            if let Some(roster) = cache.by_node.get(&at) {
                break Arc::clone(roster);
            }
            let node = self.nodes.get(&at)?;
            if let Some(roster) = &node.given_roster {
                break Arc::clone(roster);
            }
            let record = &node.commit.as_ref()?.record;
            replay.push(record);
            match record.parent {
                Some(parent) => at = parent,
                // The founder's own epoch 0 has nobody else.
                None => {
                    break Arc::new([(0, Arc::clone(&record.author.member))].into_iter().collect());
                }
            }
        };
        if !replay.is_empty() {
            replay.into_iter().rev().for_each(|record| apply(&mut roster, record));
            cache.remember(*id, &roster);
        }
        Some(roster)
    }

    /// The rosters that are in memory: those that were given, and the remembered ones.
    pub(crate) fn cached_rosters(&self, mut report: impl FnMut(&Arc<Roster>)) {
        self.nodes.values().filter_map(|node| node.given_roster.as_ref()).for_each(&mut report);
        self.rosters.lock().by_node.values().for_each(report);
    }
}

/// Goes on to the roster after a commit: removals, then additions, then the path's leaf. An external
/// joiner's leaf is among the additions or the path's.
fn apply(roster: &mut Arc<Roster>, record: &CommitRecord) {
    for (leaf, _) in &record.removed {
        if roster.get(*leaf).is_some() {
            Arc::make_mut(roster).remove(*leaf);
        }
    }
    for (leaf, member) in record.added.iter().chain(&record.updated) {
        // Most updates change nothing that a roster shows.
        if roster.get(*leaf).map(Arc::as_ref) != Some(member.as_ref() as &Member) {
            Arc::make_mut(roster).insert(*leaf, Arc::clone(member));
        }
    }
}

#[derive(Default)]
pub(super) struct RosterCache(Mutex<Cached>);

#[derive(Default)]
struct Cached {
    by_node: HashMap<NodeId, Arc<Roster>>,
    /// The oldest first.
    order: VecDeque<NodeId>,
}

impl RosterCache {
    pub(super) fn clear(&self) {
        *self.lock() = Cached::default();
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        // Nothing panics while it is locked, and it holds only what can be computed again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for RosterCache {
    /// A clone begins empty.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Cached {
    fn remember(&mut self, id: NodeId, roster: &Arc<Roster>) {
        if self.order.len() >= CACHED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_node.remove(&oldest);
        }
        self.order.push_back(id);
        self.by_node.insert(id, Arc::clone(roster));
    }
}
