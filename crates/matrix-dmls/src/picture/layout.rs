//! Where everything goes: one row per node, and a lane for each branch that is under way there.

use std::collections::HashMap;

use super::EpochGraph;
use crate::ids::NodeId;

/// The rows from the top, in an order in which parents come before their children.
pub(super) struct Layout {
    pub(super) rows: Vec<Row>,
    /// How many lanes there are side by side at most.
    pub(super) lanes: usize,
}

pub(super) struct Row {
    /// Which of the picture's nodes it is.
    pub(super) index: usize,
    pub(super) lane: usize,
    /// The lanes that pass by here, this one not included.
    pub(super) passing: Vec<usize>,
    /// The lane goes on below.
    pub(super) goes_on: bool,
    /// The lanes that branch off below, by rising number.
    pub(super) opens: Vec<usize>,
}

/// What a lane is kept for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Free,
    /// The chosen branch, which has not begun yet.
    Chosen,
    /// The child that comes next in it.
    For(NodeId),
}

impl Layout {
    pub(super) fn new(graph: &EpochGraph) -> Self {
        let chosen = graph.chosen_path();
        let sizes = subtree_sizes(graph);
        let mut children: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        let known: HashMap<_, _> =
            graph.nodes.iter().enumerate().map(|(index, node)| (node.node, index)).collect();
        for node in &graph.nodes {
            if let Some(parent) = node.parent.filter(|parent| known.contains_key(parent)) {
                children.entry(parent).or_default().push(node.node);
            }
        }

        // The leftmost lane belongs to the chosen branch.
        let mut lanes = vec![if chosen.is_empty() { Lane::Free } else { Lane::Chosen }];
        let mut rows = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let id = node.node;
            let kept = lanes.iter().position(|lane| *lane == Lane::For(id));
            let lane = match kept {
                Some(lane) => lane,
                None if chosen.contains(&id) => 0,
                None => free(&mut lanes),
            };
            let mut others = children.remove(&id).unwrap_or_default();
            // The chosen child goes straight on, else the one with most below it.
            let main = others
                .iter()
                .enumerate()
                .max_by_key(|(at, child)| {
                    (chosen.contains(child), sizes.get(child), std::cmp::Reverse(*at))
                })
                .map(|(at, _)| at)
                .map(|at| others.remove(at));
            set(&mut lanes, lane, main.map_or(Lane::Free, Lane::For));
            let passing: Vec<_> = lanes
                .iter()
                .enumerate()
                .filter(|(at, kept)| *at != lane && matches!(kept, Lane::For(_)))
                .map(|(at, _)| at)
                .collect();
            let mut opens: Vec<_> = others
                .into_iter()
                .map(|child| {
                    let at = free(&mut lanes);
                    set(&mut lanes, at, Lane::For(child));
                    at
                })
                .collect();
            opens.sort_unstable();
            rows.push(Row { index, lane, passing, goes_on: main.is_some(), opens });
        }
        Self { rows, lanes: lanes.len() }
    }
}

fn set(lanes: &mut [Lane], at: usize, lane: Lane) {
    if let Some(place) = lanes.get_mut(at) {
        *place = lane;
    }
}

/// The lowest lane that nobody uses.
fn free(lanes: &mut Vec<Lane>) -> usize {
    lanes.iter().position(|lane| *lane == Lane::Free).unwrap_or_else(|| {
        lanes.push(Lane::Free);
        lanes.len() - 1
    })
}

/// How many nodes there are at and below each one.
fn subtree_sizes(graph: &EpochGraph) -> HashMap<NodeId, usize> {
    let mut sizes: HashMap<_, _> = graph.nodes.iter().map(|node| (node.node, 1)).collect();
    for node in graph.nodes.iter().rev() {
        let size = sizes.get(&node.node).copied().unwrap_or_default();
        if let Some(parent) = node.parent.and_then(|parent| sizes.get_mut(&parent)) {
            *parent += size;
        }
    }
    sizes
}
