//! The way down from the anchor to the tip (protocol §8).
//!
//! One pass counts everything below the start. At a branch point all children's subtrees but the
//! largest are counted anew, and the largest one's counts are what is left. Every node is therefore
//! counted at most log2(n) times, however many branch points the way has. Deciding at a branch point
//! costs in addition as much as there are devices with commits below it.

use std::collections::{HashMap, HashSet};

use super::{
    ChoiceStep, Graph, Node, NodeStatus,
    rule::{Share, decide},
    voters::{Leaves, Tally},
};
use crate::ids::NodeId;

impl Graph {
    /// The tip to send on. `None` if there is no node from which to start: none is known, or only
    /// nodes without a roster, or only such as belong to another founding.
    pub fn choose_tip(&self) -> Option<NodeId> {
        self.descend(self.start()?, None, |_| ())
    }

    /// The tip to send on while the chosen one cannot be entered (§8, "Left behind"): the rule's
    /// descent, confined to what leads to entered nodes that are `allowed`, which says of a node
    /// whether its state is held and has a leaf of ours. Commits count whether confined or not.
    /// `None` if there is no such node at or below where the choice starts.
    pub fn choose_entered_tip(&self, allowed: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        self.choose_entered_tip_below(&self.start()?, allowed)
    }

    /// The same, from `top` downward instead of from the start: the best tip at or below a node that
    /// the choice may not lead through.
    pub fn choose_entered_tip_below(
        &self,
        top: &NodeId,
        allowed: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let mut leads = HashSet::new();
        for (id, node) in &self.nodes {
            if node.status != NodeStatus::Entered || !allowed(id) {
                continue;
            }
            // What is above a node that leads there leads there too: each node is passed once.
            let mut way = std::iter::once(*id).chain(self.ancestors(id));
            while way.next().is_some_and(|id| leads.insert(id)) {}
        }
        if leads.contains(top) { self.descend(*top, Some(&leads), |_| ()) } else { None }
    }

    /// Every decision that leads to [`Graph::choose_tip`], from the top. Nodes with one child need
    /// none.
    pub fn explain(&self) -> Vec<ChoiceStep> {
        let mut steps = Vec::new();
        if let Some(start) = self.start() {
            self.descend(start, None, |step| steps.push(step));
        }
        steps
    }

    /// Where the choice starts: at the anchor, if that is known and lies below (or at) the oldest
    /// known node, else there. Oldest is the topmost known node above what [`Graph::set_root`] named;
    /// if that is not known, of the roots (but for foundings, which it excludes) the one with the
    /// lowest epoch, then the lowest node ID.
    pub fn start(&self) -> Option<NodeId> {
        let oldest = self.root.and_then(|root| self.oldest_above(root)).or_else(|| {
            let candidates = self.roots.iter().filter_map(|id| Some((id, self.nodes.get(id)?)));
            candidates
                .filter(|(_, node)| node.has_own_roster())
                .filter(|(_, node)| self.root.is_none() || !node.is_founding())
                .min_by_key(|(id, node)| (node.epoch, **id))
                .map(|(id, _)| *id)
        })?;
        let below = |anchor: &NodeId| *anchor == oldest || self.is_ancestor(&oldest, anchor);
        Some(self.anchor.filter(below).unwrap_or(oldest))
    }

    /// The topmost node above `id`, or `id`, from which rosters can be told.
    fn oldest_above(&self, id: NodeId) -> Option<NodeId> {
        let way = std::iter::once(id).chain(self.ancestors(&id));
        way.filter(|id| self.nodes.get(id).is_some_and(Node::has_own_roster)).last()
    }

    fn descend(
        &self,
        start: NodeId,
        within: Option<&HashSet<NodeId>>,
        mut report: impl FnMut(ChoiceStep),
    ) -> Option<NodeId> {
        let sizes = self.subtree_sizes(&start);
        let mut leaves = Leaves::new(&*self.roster_of(&start)?, &self.voters);
        let mut below = Tally::default();
        self.descendants(&start).filter_map(|id| self.deed(&id)).for_each(|deed| below.add(deed));

        let mut at = start;
        loop {
            let mut shares = self.share_out(&at, below, &sizes);
            shares.retain(|share| within.is_none_or(|within| within.contains(&share.node)));
            if shares.len() > 1 {
                let step = decide(at, &leaves, &shares)?;
                shares.retain(|share| share.node == step.chosen);
                report(step);
            }
            let Some(winner) = shares.pop() else { return Some(at) };
            at = winner.node;
            below = winner.tally;
            if let Some(node) = self.nodes.get(&at)
                && let Some(commit) = &node.commit
            {
                below.subtract_one(&commit.deed);
                match &node.given_roster {
                    Some(roster) => leaves = Leaves::new(roster, &self.voters),
                    None => leaves.apply(&commit.deed),
                }
            }
        }
    }

    /// Divides what is below a node among its children, who come by rising node ID.
    fn share_out(
        &self,
        at: &NodeId,
        mut below: Tally,
        sizes: &HashMap<NodeId, usize>,
    ) -> Vec<Share> {
        let largest = self.children(at).max_by_key(|child| sizes.get(child));
        let mut shares: Vec<_> = self
            .children(at)
            .filter_map(|node| {
                let commit = self.nodes.get(&node)?.commit.as_ref()?;
                let mut tally = Tally::default();
                if largest != Some(node) {
                    tally.add(&commit.deed);
                    for deed in self.descendants(&node).filter_map(|id| self.deed(&id)) {
                        tally.add(deed);
                    }
                    below.subtract(&tally);
                }
                let (author, leaf) = (commit.deed.author, commit.record.author.leaf);
                Some(Share { node, author, leaf, tally })
            })
            .collect();
        if let Some(share) = shares.iter_mut().find(|share| Some(share.node) == largest) {
            share.tally = below;
        }
        shares
    }

    /// How many nodes the subtree of each node at or below `top` has.
    fn subtree_sizes(&self, top: &NodeId) -> HashMap<NodeId, usize> {
        let order: Vec<_> = std::iter::once(*top).chain(self.descendants(top)).collect();
        let mut sizes: HashMap<_, _> = order.iter().map(|id| (*id, 1)).collect();
        // Parents come before their children, so in reverse every size is final when it is used.
        for id in order.iter().rev() {
            let size = sizes.get(id).copied().unwrap_or_default();
            if let Some(parent) = self.parent(id).and_then(|parent| sizes.get_mut(&parent)) {
                *parent += size;
            }
        }
        sizes
    }
}
