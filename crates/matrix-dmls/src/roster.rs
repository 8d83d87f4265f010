//! Who is in an epoch: leaf index → member.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    credential::{Device, Identity},
    crypto::sha256,
    wire::tls::Writer,
};

/// What a leaf says of its owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The credential's identity.
    pub identity: Identity,
    /// The leaf's Ed25519 signature key.
    pub signature_key: [u8; 32],
}

impl Member {
    /// The Matrix device.
    pub const fn device(&self) -> &Device {
        &self.identity.device
    }
}

/// The members of an epoch by their leaf index (RFC 9420 §4.1). Cloning is cheap enough for one
/// commit: members are shared, not copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    leaves: BTreeMap<u32, Arc<Member>>,
}

impl Roster {
    /// A roster without members.
    pub const fn new() -> Self {
        Self { leaves: BTreeMap::new() }
    }

    /// The member at a leaf index.
    pub fn get(&self, leaf: u32) -> Option<&Arc<Member>> {
        self.leaves.get(&leaf)
    }

    /// All members, by rising leaf index.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u32, &Arc<Member>)> {
        self.leaves.iter().map(|(leaf, member)| (*leaf, member))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The leaf of exactly this device: same user, same ID, same device key.
    pub fn leaf_of(&self, device: &Device) -> Option<u32> {
        self.iter().find(|(_, member)| member.device() == device).map(|(leaf, _)| leaf)
    }

    /// The leaf of exactly this device with a credential of this `seq`: a device that has replaced its
    /// MLS key is not in the epochs of the old one any more.
    pub fn leaf_of_identity(&self, identity: &Identity) -> Option<u32> {
        let leaf = self.leaf_of(&identity.device)?;
        self.get(leaf).filter(|member| member.identity.seq == identity.seq).map(|_| leaf)
    }

    /// Whether the user has a leaf.
    pub fn has_user(&self, user_id: &str) -> bool {
        self.leaves.values().any(|member| member.device().user_id == user_id)
    }

    /// The lowest leaf index that is free, where RFC 9420 §7.7 puts the next member.
    pub fn lowest_free(&self) -> u32 {
        (0..)
            .zip(self.leaves.keys())
            .find(|(free, used)| free != *used)
            .map_or_else(|| u32::try_from(self.leaves.len()).unwrap_or(u32::MAX), |(free, _)| free)
    }

    /// The number of leaves of the tree, blank ones included: a power of two (RFC 9420 §7.7), or 0
    /// without members. What is wider than 2^31, as no tree is, counts as that.
    pub fn tree_width(&self) -> u32 {
        self.leaves
            .keys()
            .next_back()
            .map_or(0, |last| last.saturating_add(1).checked_next_power_of_two().unwrap_or(1 << 31))
    }

    /// Puts a member at a leaf index; gives back who was there.
    pub fn insert(&mut self, leaf: u32, member: Arc<Member>) -> Option<Arc<Member>> {
        self.leaves.insert(leaf, member)
    }

    /// Blanks a leaf; gives back who was there.
    pub fn remove(&mut self, leaf: u32) -> Option<Arc<Member>> {
        self.leaves.remove(&leaf)
    }

    /// SHA-256 over all leaves: equal exactly for equal rosters, so each is stored once.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut out = Writer::new();
        for (leaf, member) in self.iter() {
            out.u32(leaf);
            out.opaque(&member.identity.to_bytes());
            out.raw(&member.signature_key);
        }
        sha256(&[b"dmls roster v1", &out.into_bytes()])
    }
}

impl FromIterator<(u32, Arc<Member>)> for Roster {
    fn from_iter<I: IntoIterator<Item = (u32, Arc<Member>)>>(iter: I) -> Self {
        Self { leaves: iter.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Arc<Member> {
        let device = Device {
            user_id: format!("@{name}:example.org"),
            device_id: "D".to_owned(),
            device_key: [1; 32],
        };
        Arc::new(Member { identity: Identity::new(device, 1, [0; 64]), signature_key: [2; 32] })
    }

    #[test]
    fn fills_the_lowest_gap_and_grows_by_powers_of_two() {
        let mut roster = Roster::new();
        assert_eq!((roster.lowest_free(), roster.tree_width()), (0, 0));
        for (leaf, name) in ["a", "b", "c"].into_iter().enumerate() {
            roster.insert(leaf as u32, member(name));
        }
        assert_eq!((roster.lowest_free(), roster.tree_width()), (3, 4));
        roster.remove(1);
        assert_eq!((roster.lowest_free(), roster.tree_width()), (1, 4));
        roster.remove(2);
        assert_eq!((roster.lowest_free(), roster.tree_width()), (1, 1));
        for leaf in [1 << 31, u32::MAX] {
            roster.insert(leaf, member("far"));
            assert_eq!(roster.tree_width(), 1 << 31);
        }
    }

    #[test]
    fn the_hash_sees_leaf_member_and_order() {
        let one: Roster = [(0, member("a")), (1, member("b"))].into_iter().collect();
        let two: Roster = [(1, member("a")), (0, member("b"))].into_iter().collect();
        assert_ne!(one.content_hash(), two.content_hash());
        assert_eq!(one.content_hash(), one.clone().content_hash());
    }
}
