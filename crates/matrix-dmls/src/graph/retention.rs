//! What decides how long a node's state is kept (protocol §9). Clocks, and the erasing itself, are
//! the caller's.

use std::collections::BTreeSet;

use super::{Graph, NodeStatus};
use crate::{credential::Device, ids::NodeId};

impl Graph {
    /// The devices that made commits below a node, the node's own commit not counted. When every
    /// current member is among them, nobody needs the node's state for a commit any more.
    pub fn committed_below(&self, id: &NodeId) -> BTreeSet<Device> {
        let records = self.descendants(id).filter_map(|id| self.get(&id));
        let mut devices = BTreeSet::new();
        for record in records {
            let device = record.author.member.device();
            if !devices.contains(device) {
                devices.insert(device.clone());
            }
        }
        devices
    }

    /// How many of a node's children that this device made are entered. §9 sets a limit.
    pub fn entered_children_by(&self, id: &NodeId, device: &Device) -> usize {
        self.children(id)
            .filter(|child| self.status(child) == Some(NodeStatus::Entered))
            .filter_map(|child| self.get(&child))
            .filter(|record| record.author.member.device() == device)
            .count()
    }
}
