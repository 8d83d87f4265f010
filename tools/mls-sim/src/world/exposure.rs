//! How long honest devices are on a branch that an attacker has made.

use std::collections::{BTreeMap, BTreeSet};

use matrix_sdk_crypto_mls::dmls::{CommitMessage, NodeId};

use super::{World, attack::COMMIT};
use crate::insider::Insider;

impl World {
    /// Counts a stretch of time, in milliseconds, for every honest device in the room. Its tip is an
    /// attacker's if it is on a branch that an attacker has made beside what the others did, or below
    /// an epoch that an attack has made, as long as others are in the group than the room wants.
    pub(crate) async fn counts_exposure(&mut self, milliseconds: u64) {
        if self.attacked_since.is_none() || milliseconds == 0 {
            return;
        }
        let wanted = self.wanted();
        let parents = self.parents();
        let of = |list: fn(&Insider) -> &Vec<NodeId>| -> BTreeSet<NodeId> {
            self.insiders.values().flat_map(|insider| list(insider).iter().copied()).collect()
        };
        let (bad, branches) = (of(|insider| &insider.bad), of(|insider| &insider.branches));
        for d in self.honest_inside() {
            let device = self.devices[d].device.clone();
            let Some(tip) = device.node().await else { continue };
            let way = std::iter::successors(Some(tip), |node| parents.get(node).copied().flatten());
            let way: Vec<_> = way.collect();
            let harms = way.iter().any(|node| bad.contains(node))
                && device.devices_in_group().await != wanted;
            self.stats.exposed_ms += milliseconds;
            if harms || way.iter().any(|node| branches.contains(node)) {
                self.stats.attacked_ms += milliseconds;
            }
        }
    }

    /// Whether an epoch is an attack's, or below one.
    pub(crate) fn is_below_attack(&self, node: NodeId) -> bool {
        let parents = self.parents();
        let way = std::iter::successors(Some(node), |node| parents.get(node).copied().flatten());
        let is_bad = |node: &NodeId| {
            let mut insiders = self.insiders.values();
            insiders.any(|insider| insider.bad.contains(node) || insider.branches.contains(node))
        };
        way.into_iter().any(|node| is_bad(&node))
    }

    fn parents(&self) -> BTreeMap<NodeId, Option<NodeId>> {
        let events = self.server.events(&self.room_id).into_iter();
        let commits = events.filter(|event| event.event_type == COMMIT).filter_map(|event| {
            let commit = unbase64(event.content.get("commit")?.as_str()?)?;
            let message = CommitMessage::parse(&commit).ok()?;
            Some((message.node_id(), message.aad().parent))
        });
        commits.collect()
    }
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
    STANDARD_NO_PAD.decode(text).ok()
}
