//! The rule at one branch point: which child wins (protocol §8, steps 1 to 5).

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use super::voters::{Leaves, Tally, Voter};
use crate::ids::NodeId;

/// Which step of §8's rule decided at a branch point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Step 1: most distinct users of the branch point's tree have committed there.
    Users,
    /// Step 2: a removal beats the removed.
    Removal,
    /// Step 3: fewest distinct users of the branch point's tree were removed there.
    Swept,
    /// Step 4: the child's author has the lower leaf index, external joiners last.
    Leaf,
    /// Step 5: the child has the lower node ID.
    Id,
}

/// A child that was a candidate at a branch point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The child.
    pub node: NodeId,
    /// Distinct users with a leaf of the branch point's tree that authored commits in its subtree.
    pub users: usize,
    /// Distinct users with a leaf of the branch point's tree that commits in its subtree removed.
    pub swept: usize,
    /// Its author's leaf in the branch point's tree; `None` for an external joiner.
    pub leaf: Option<u32>,
}

/// One decision on the way down to the tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceStep {
    /// The branch point.
    pub at: NodeId,
    /// Its children, by rising node ID.
    pub candidates: Vec<Candidate>,
    /// The child that won.
    pub chosen: NodeId,
    /// The step of the rule that left it alone.
    pub by: Rule,
}

/// A child with all that its subtree brings with it: S(c) in §8.
pub(super) struct Share {
    pub(super) node: NodeId,
    /// Where it is among what the choice has passed.
    pub(super) place: usize,
    pub(super) author: Voter,
    pub(super) leaf: Option<u32>,
    pub(super) tally: Tally,
}

/// Lets the rule decide between the children of `at`, whose tree is `leaves`. `None` without
/// children.
pub(super) fn decide(at: NodeId, leaves: &Leaves, shares: &[Share]) -> Option<ChoiceStep> {
    let standings: Vec<_> = shares.iter().map(|share| (candidate(leaves, share), share)).collect();
    let candidates = standings.iter().map(|(candidate, _)| *candidate).collect();
    let mut tied: Vec<_> = standings.iter().collect();

    for by in [Rule::Users, Rule::Removal, Rule::Swept, Rule::Leaf, Rule::Id] {
        match by {
            Rule::Users => keep_least(&mut tied, |c| Reverse(c.users)),
            Rule::Removal => drop_removed(&mut tied, leaves),
            Rule::Swept => keep_least(&mut tied, |c| c.swept),
            Rule::Leaf => keep_least(&mut tied, |c| (c.leaf.is_none(), c.leaf)),
            Rule::Id => keep_least(&mut tied, |c| c.node),
        }
        if let [(winner, _)] = tied.as_slice() {
            return Some(ChoiceStep { at, candidates, chosen: winner.node, by });
        }
    }
    None
}

type Standing<'a> = (Candidate, &'a Share);

fn candidate(leaves: &Leaves, share: &Share) -> Candidate {
    Candidate {
        node: share.node,
        users: distinct_users(leaves, share.tally.authors()),
        swept: distinct_users(leaves, share.tally.removed()),
        leaf: share.leaf,
    }
}

fn distinct_users(leaves: &Leaves, voters: impl Iterator<Item = Voter>) -> usize {
    let mut users: Vec<_> =
        voters.filter(|voter| leaves.contains(*voter)).map(|voter| voter.user).collect();
    users.sort_unstable();
    users.dedup();
    users.len()
}

fn keep_least<K: Ord>(tied: &mut Vec<&Standing<'_>>, key: impl Fn(&Candidate) -> K) {
    if let Some(least) = tied.iter().map(|(candidate, _)| key(candidate)).min() {
        tied.retain(|(candidate, _)| key(candidate) == least);
    }
}

/// Step 2. A child is out if another one's commits remove its author, a leaf of the tree, and its
/// own commits do not remove that one's author, unless that put all of them out.
fn drop_removed(tied: &mut Vec<&Standing<'_>>, leaves: &Leaves) {
    let authors: HashSet<_> = tied
        .iter()
        .map(|(_, share)| share.author)
        .filter(|author| leaves.contains(*author))
        .collect();
    // For each author that is removed somewhere: the authors of the children where that was done.
    // A child that is itself among those needs no exception, it has removed its own author too.
    let mut removers: HashMap<Voter, HashSet<Voter>> = HashMap::new();
    for (_, share) in tied.iter() {
        for author in authors.iter().filter(|author| share.tally.has_removed(**author)) {
            removers.entry(*author).or_default().insert(share.author);
        }
    }
    let stays = |share: &Share| {
        // Whoever has no leaf in the tree is not removed from it, on either side.
        let strikes_back =
            |remover: &Voter| leaves.contains(*remover) && share.tally.has_removed(*remover);
        removers.get(&share.author).is_none_or(|removers| removers.iter().all(strikes_back))
    };
    if tied.iter().any(|(_, share)| stays(share)) {
        tied.retain(|(_, share)| stays(share));
    }
}
