//! Who goes first, where one device has to do something and any could (protocol §5, §6).

use std::collections::BTreeSet;

use crate::{crypto::sha256, ids::NodeId};

/// A user's place among users, from 0, by SHA-256(node ID ‖ user ID): everybody who knows the same
/// users ranks them alike, and nobody is always the first. A user that is named twice counts once.
/// `None` if the user is not among them.
pub fn rank_of<'a>(
    node: &NodeId,
    users: impl IntoIterator<Item = &'a str>,
    user: &str,
) -> Option<usize> {
    let hash = |user: &str| sha256(&[node.as_bytes(), user.as_bytes()]);
    let own = hash(user);
    let (mut before, mut is_among) = (BTreeSet::new(), false);
    for other in users {
        let other = hash(other);
        is_among |= other == own;
        if other < own {
            before.insert(other);
        }
    }
    is_among.then_some(before.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_places_are_taken_once_and_depend_on_the_node() {
        let users: Vec<_> = (0..20).map(|number| format!("@user{number}:example.org")).collect();
        let rank = |node: [u8; 32], user: &str| {
            let twice = users.iter().chain(&users).map(String::as_str);
            rank_of(&NodeId::from_bytes(node), twice, user)
        };
        let order = |node: [u8; 32]| -> Vec<_> {
            users.iter().map(|user| rank(node, user).unwrap()).collect()
        };
        let places: BTreeSet<_> = order([1; 32]).into_iter().collect();
        assert_eq!(places, (0..20).collect());
        assert_ne!(order([1; 32]), order([2; 32]));
        assert_eq!(rank([1; 32], "@else:example.org"), None);
    }
}
