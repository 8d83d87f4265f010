//! The way down from the anchor to the tip (protocol §8).
//!
//! One pass brings everything below the start into an order in which a subtree is a stretch, and
//! counts it. At a branch point all children's subtrees but the largest are counted anew, and the
//! largest one's counts are what is left. Every node is therefore counted at most log2(n) times,
//! however many branch points the way has. Deciding at a branch point costs in addition as much as
//! there are devices with commits below it.

use std::collections::HashSet;

use super::{
    ChoiceStep, Graph, Node, NodeStatus,
    rule::{Share, decide},
    voters::{Deed, Leaves, Tally},
};
use crate::ids::NodeId;

impl Graph {
    /// The tip to send on. `None` if there is no node from which to start: none is known, or only
    /// nodes without a roster, or only such as belong to another founding.
    pub fn choose_tip(&self) -> Option<NodeId> {
        self.descend(self.start()?, Way::Open, |_| ())
    }

    /// The tip to send on (§8, "Best entered tip"): the chosen one, if it is entered and `allowed`, which
    /// says of a node whether its state is held and has a leaf of ours; else the rule's descent, confined
    /// to what leads to such nodes. Commits count whether confined or not. `None` if there is no such
    /// node at or below where the choice starts.
    ///
    /// The confined descent may lead elsewhere where the chosen tip is held: it does not see a commit that
    /// was not entered, and which of the others is best may depend on that one.
    pub fn choose_entered_tip(&self, allowed: impl Fn(&NodeId) -> bool) -> Option<NodeId> {
        let is_entered = |tip: &NodeId| {
            let node = self.nodes.get(tip);
            node.is_some_and(|node| node.status == NodeStatus::Entered) && allowed(tip)
        };
        if let Some(tip) = self.choose_tip().filter(is_entered) {
            return Some(tip);
        }
        self.choose_entered_tip_below(&self.start()?, allowed)
    }

    /// The same, from `top` downward instead of from the start: the best tip at or below a node that
    /// the choice may not lead through.
    pub fn choose_entered_tip_below(
        &self,
        top: &NodeId,
        allowed: impl Fn(&NodeId) -> bool,
    ) -> Option<NodeId> {
        let (mut leads, mut leads_astray) = (HashSet::new(), HashSet::new());
        for (id, node) in &self.nodes {
            if node.status != NodeStatus::Entered || !allowed(id) {
                continue;
            }
            let leads =
                if self.is_deserted_below(top, id) { &mut leads_astray } else { &mut leads };
            // What is above a node that leads there leads there too: each node is passed once.
            let mut way = std::iter::once(*id).chain(self.ancestors(id));
            while way.next().is_some_and(|id| leads.insert(id)) {}
        }
        // Better on a deserted branch than nowhere.
        let ways = [leads, leads_astray];
        let leads = ways.iter().find(|leads| leads.contains(top))?;
        self.descend(*top, Way::To(leads), |_| ())
    }

    /// Whether a node lies on a deserted branch that begins below `top`.
    pub(crate) fn is_deserted_below(&self, top: &NodeId, id: &NodeId) -> bool {
        !self.deserted.is_empty()
            && std::iter::once(*id)
                .chain(self.ancestors(id))
                .take_while(|id| id != top)
                .any(|id| self.deserted.contains(&id))
    }

    /// Every decision that leads to [`Graph::choose_tip`], from the top. Nodes with one child need
    /// none.
    pub fn explain(&self) -> Vec<ChoiceStep> {
        let mut steps = Vec::new();
        if let Some(start) = self.start() {
            self.descend(start, Way::Open, |step| steps.push(step));
        }
        steps
    }

    /// Where the choice starts: at the anchor, if that is known and lies below (or at) the oldest
    /// known node, else there. Oldest is the topmost known node above what [`Graph::set_root`] named;
    /// if that is not known, of the roots (but for foundings, which it excludes) the one with the
    /// lowest epoch, then the lowest node ID, and only such as are of the instance that
    /// [`Graph::set_instance`] named.
    pub fn start(&self) -> Option<NodeId> {
        let oldest = self.root.and_then(|root| self.oldest_above(root)).or_else(|| {
            let candidates = self.roots.iter().filter_map(|id| Some((id, self.nodes.get(id)?)));
            candidates
                .filter(|(_, node)| node.has_own_roster())
                .filter(|(_, node)| self.root.is_none() || !node.is_founding())
                .filter(|(_, node)| self.instance.is_none() || node.instance() == self.instance)
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
        way: Way<'_>,
        mut report: impl FnMut(ChoiceStep),
    ) -> Option<NodeId> {
        let subtree = Subtree::of(self, start);
        let mut leaves = Leaves::new(&*self.roster_of(&start)?, &self.voters);
        let mut at = 0;
        let mut below = Tally::of(subtree.below(at).filter_map(Passed::deed));
        loop {
            let mut shares = subtree.share_out(at, below);
            shares.retain(|share| match way {
                Way::Open => !self.deserted.contains(&share.node),
                Way::To(leads) => leads.contains(&share.node),
            });
            if shares.len() > 1 {
                let step = decide(subtree.nodes.get(at)?.id, &leaves, &shares)?;
                shares.retain(|share| share.node == step.chosen);
                report(step);
            }
            let Some(winner) = shares.pop() else { return Some(subtree.nodes.get(at)?.id) };
            at = winner.place;
            below = winner.tally;
            let passed = subtree.nodes.get(at)?;
            if let Some(deed) = passed.deed() {
                below.subtract(&Tally::of([deed].into_iter()));
                match &passed.node.given_roster {
                    Some(roster) => leaves = Leaves::new(roster, &self.voters),
                    None => leaves.apply(deed),
                }
            }
        }
    }
}

/// Where the choice may lead.
#[derive(Clone, Copy)]
enum Way<'w> {
    /// To every tip, but for deserted branches.
    Open,
    /// Along these nodes.
    To(&'w HashSet<NodeId>),
}

/// What is at and below a node, every node right before all that is below it: so a subtree is a
/// stretch of it.
struct Subtree<'g> {
    nodes: Vec<Passed<'g>>,
}

struct Passed<'g> {
    id: NodeId,
    node: &'g Node,
    /// How many nodes its subtree has, it among them.
    size: usize,
}

impl<'g> Passed<'g> {
    fn deed(&self) -> Option<&'g Deed> {
        self.node.commit.as_ref().map(|commit| &commit.deed)
    }
}

impl<'g> Subtree<'g> {
    fn of(graph: &'g Graph, top: NodeId) -> Self {
        let mut nodes: Vec<Passed<'g>> = Vec::new();
        let mut parents = Vec::new();
        let mut open = vec![(top, None)];
        while let Some((id, parent)) = open.pop() {
            let Some(node) = graph.nodes.get(&id) else { continue };
            let place = nodes.len();
            nodes.push(Passed { id, node, size: 1 });
            parents.push(parent);
            // The lowest ID comes next.
            open.extend(graph.children(&id).rev().map(|child| (child, Some(place))));
        }
        // Parents come before their children, so in reverse every size is final when it is used.
        for place in (0..nodes.len()).rev() {
            let size = nodes.get(place).map_or(0, |node| node.size);
            let parent = parents.get(place).copied().flatten();
            if let Some(parent) = parent.and_then(|parent: usize| nodes.get_mut(parent)) {
                parent.size += size;
            }
        }
        Self { nodes }
    }

    /// The nodes of a subtree, it itself among them.
    fn at_and_below(&self, place: usize) -> impl Iterator<Item = &Passed<'g>> {
        let size = self.nodes.get(place).map_or(0, |node| node.size);
        self.nodes.iter().skip(place).take(size)
    }

    fn below(&self, place: usize) -> impl Iterator<Item = &Passed<'g>> {
        self.at_and_below(place).skip(1)
    }

    /// The places of a node's children, by rising node ID.
    fn children(&self, place: usize) -> impl Iterator<Item = usize> {
        let end = place + self.nodes.get(place).map_or(0, |node| node.size);
        let valid = move |child: &usize| *child < end;
        let next = |child: &usize| Some(child + self.nodes.get(*child)?.size);
        std::iter::successors(Some(place + 1).filter(valid), move |child| next(child).filter(valid))
    }

    /// Divides what is below a node among its children, who come by rising node ID.
    fn share_out(&self, place: usize, mut below: Tally) -> Vec<Share> {
        let size = |child: &usize| self.nodes.get(*child).map_or(0, |node| node.size);
        let largest = self.children(place).max_by_key(size);
        let mut shares: Vec<_> = self
            .children(place)
            .filter_map(|place| {
                let child = self.nodes.get(place)?;
                let commit = child.node.commit.as_ref()?;
                let mut tally = Tally::default();
                if largest != Some(place) {
                    tally = Tally::of(self.at_and_below(place).filter_map(Passed::deed));
                    below.subtract(&tally);
                }
                let (author, leaf) = (commit.deed.author, commit.record.author.leaf);
                Some(Share { node: child.id, place, author, leaf, tally })
            })
            .collect();
        if let Some(share) = shares.iter_mut().find(|share| Some(share.place) == largest) {
            share.tally = below;
        }
        shares
    }
}
