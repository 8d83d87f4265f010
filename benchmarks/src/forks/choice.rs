//! Choosing among the tips of a large graph.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use matrix_dmls::{Author, CommitRecord, Device, Graph, Identity, Member, NodeId, NodeStatus};

use super::Options;
use crate::{
    report::{Row, number},
    sample::Samples,
    store::extension,
};

/// In a small and in a large group.
pub(super) fn measure(options: &Options) -> Result<Vec<Row>> {
    [options.devices, 10 * options.devices].into_iter().map(|n| choose(options, n)).collect()
}

/// A new commit has come, and everything is counted anew: the choice has no memory that could save it
/// from that.
fn choose(options: &Options, devices: usize) -> Result<Row> {
    let mut times = Samples::default();
    let mut graph = graph(options, devices)?;
    ensure!(graph.len() == options.nodes, "another number of nodes");
    ensure!(graph.tips().count() == options.tips, "another number of tips");
    for run in 0..options.runs {
        // On a tip, so that their number stays.
        let tip = graph.choose_tip().context("no tip")?;
        let author = run % devices;
        let record = record(options.nodes + run, Some((tip, &graph)), author, Vec::new());
        graph.insert(record, NodeStatus::Seen);
        let chosen = times.time_now(|| graph.choose_tip());
        ensure!(chosen.is_some(), "no tip");
    }
    let summary = times.summary();
    Ok(Row {
        what: format!(
            "choose among {} tips in a graph of {} nodes, at {devices} devices",
            options.tips, options.nodes
        ),
        bound: Some("1 ms".to_owned()),
        measured: format!("{} ms ({})", number(summary.median), number(summary.p95)),
        holds: Some(summary.median <= 1.0),
        values: vec![("median_ms".to_owned(), summary.median), ("p95_ms".to_owned(), summary.p95)],
    })
}

/// One device founds with all others; half of the commits are a trunk, and the branches, all of about
/// the same length, leave it at even distances. Authors take turns, each another user.
fn graph(options: &Options, devices: usize) -> Result<Graph> {
    let mut graph = Graph::new();
    let others = (1..devices).map(|leaf| (leaf, member(leaf))).collect();
    let founding = record(0, None, 0, others);
    let mut trunk = vec![founding.node];
    graph.insert(founding, NodeStatus::Entered);
    let length = options.nodes / 2;
    let branches = options.tips - 1;
    let mut number = 1;
    let mut add = |graph: &mut Graph, parent: NodeId| {
        let record = record(number, Some((parent, &*graph)), number % devices, Vec::new());
        let node = record.node;
        graph.insert(record, NodeStatus::Entered);
        number += 1;
        node
    };
    for _ in 1..length {
        let parent = trunk.last().copied().context("no trunk")?;
        trunk.push(add(&mut graph, parent));
    }
    let rest = options.nodes - length;
    for branch in 0..branches {
        let from = branch * (length - 1) / branches;
        let mut at = trunk.get(from).copied().context("no such node")?;
        for _ in 0..(rest * (branch + 1) / branches - rest * branch / branches) {
            at = add(&mut graph, at);
        }
    }
    Ok(graph)
}

fn member(number: usize) -> Arc<Member> {
    let device = Device {
        user_id: format!("@user{number}:example.org"),
        device_id: format!("DEVICE{number}"),
        device_key: [1; 32],
    };
    let identity = Identity::new(device, 1, [0; 64]);
    Arc::new(Member { identity, signature_key: [3; 32] })
}

/// Somebody renews its keys.
fn record(
    number: usize,
    parent: Option<(NodeId, &Graph)>,
    author: usize,
    added: Vec<(usize, Arc<Member>)>,
) -> Arc<CommitRecord> {
    let mut node = [0; 32];
    // As far from one another as hashes are.
    let spread = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    node[..8].copy_from_slice(&spread);
    node[8..16].copy_from_slice(&(number as u64).to_be_bytes());
    let leaf = |leaf: usize| u32::try_from(leaf).unwrap_or(u32::MAX);
    Arc::new(CommitRecord {
        node: NodeId::from_bytes(node),
        parent: parent.map(|(parent, _)| parent),
        epoch: parent.and_then(|(parent, graph)| graph.epoch(&parent)).unwrap_or(0) + 1,
        author: Author { leaf: Some(leaf(author)), member: member(author) },
        removed: Vec::new(),
        added: added.into_iter().map(|(index, member)| (leaf(index), member)).collect(),
        updated: Some((leaf(author), member(author))),
        confirmed_transcript_hash: [0; 32],
        extension: extension(),
        resolves: Vec::new(),
    })
}
