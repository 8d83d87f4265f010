//! Whose keys are new on which branch (protocol §8, "Merging").

use std::collections::HashSet;

use super::Graph;
use crate::{credential::Device, ids::NodeId, record::CommitRecord};

impl Graph {
    /// Whether a device has renewed its keys on another branch after it last did on the way to
    /// `node`: then its leaf there still has keys that it has given up elsewhere.
    pub fn has_lost_update(&self, node: &NodeId, device: &Device) -> bool {
        let renews = |record: &CommitRecord| {
            let author = record.author.member.device() == device;
            // Founders and external joiners begin with keys of their own.
            let own = author && (record.updated.is_some() || record.author.leaf.is_none());
            own || record.added.iter().any(|(_, member)| member.device() == device)
        };
        let mut way = HashSet::new();
        let mut since = *node;
        for id in std::iter::once(*node).chain(self.ancestors(node)) {
            way.insert(id);
            since = id;
            if self.get(&id).is_some_and(|record| renews(record)) {
                break;
            }
        }
        self.descendants(&since).filter(|id| !way.contains(id)).any(|id| {
            self.get(&id).is_some_and(|record| {
                record.author.member.device() == device && record.updated.is_some()
            })
        })
    }
}
