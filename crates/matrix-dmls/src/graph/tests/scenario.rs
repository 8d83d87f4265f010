//! Scenarios written as text:
//!
//! ```text
//! root: by a +b +b/2 +c      # a founds the group with two devices of b, and c
//! b1: root by b -c +d        # b removes c and adds d, on root
//! c1: b1 ext c               # c comes back by an external commit
//! ```
//!
//! `b/2` is another device of the user `b`, `b/2'` the same with another device key. The name of a
//! node, in ASCII, is its node ID: names sort as IDs do. Leaf indices are those of RFC 9420 §7.7.

use std::{collections::HashMap, sync::Arc};

use crate::{
    credential::{Device, Identity},
    extension::GroupExtension,
    graph::{Graph, NodeStatus},
    ids::{InstanceId, NodeId},
    record::{Author, CommitRecord},
    roster::{Member, Roster},
};

pub(crate) fn id(name: &str) -> NodeId {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    NodeId::from_bytes(bytes)
}

pub(crate) fn name(id: NodeId) -> String {
    String::from_utf8(id.as_bytes().iter().copied().take_while(|byte| *byte != 0).collect())
        .unwrap()
}

pub(crate) fn device(name: &str) -> Device {
    let (plain, device_key) = match name.strip_suffix('\'') {
        Some(plain) => (plain, [2; 32]),
        None => (name, [1; 32]),
    };
    let (user, device) = plain.split_once('/').unwrap_or((plain, "1"));
    Device { user_id: format!("@{user}:example.org"), device_id: device.to_owned(), device_key }
}

pub(crate) fn member(name: &str) -> Arc<Member> {
    let identity = Identity::new(device(name), 1, [0; 64]);
    Arc::new(Member { identity, signature_key: [3; 32] })
}

#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    Member(&'a str),
    Joiner(&'a str),
}

#[derive(Clone, Default)]
pub(crate) struct Scenario {
    pub(crate) records: Vec<Arc<CommitRecord>>,
    /// Computed commit by commit, for comparison with what the graph replays.
    pub(crate) rosters: HashMap<NodeId, Roster>,
}

impl Scenario {
    pub(crate) fn new(text: &str) -> Self {
        Self::default().and(text)
    }

    /// The scenario with more commits.
    pub(crate) fn and(mut self, text: &str) -> Self {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (node, rest) = line.split_once(": ").unwrap();
            let mut words: Vec<_> = rest.split_whitespace().collect();
            let parent = if words[0] == "by" { None } else { Some(words.remove(0)) };
            let by = match words[0] {
                "by" => By::Member(words[1]),
                "ext" => By::Joiner(words[1]),
                other => panic!("{other} in {line}"),
            };
            let with = |sign| {
                let words = words[2..].iter();
                words.filter_map(|word| word.strip_prefix(sign)).collect::<Vec<_>>()
            };
            self.commit(node, parent, by, &with('-'), &with('+'));
        }
        self
    }

    /// Makes a commit, as RFC 9420 §12.4 applies one: removals, additions, then the author's leaf.
    pub(crate) fn commit(
        &mut self,
        node: &str,
        parent: Option<&str>,
        by: By<'_>,
        removed: &[&str],
        added: &[&str],
    ) {
        let (By::Member(author) | By::Joiner(author)) = by;
        let mut roster = match parent {
            Some(parent) => self.rosters[&id(parent)].clone(),
            None => [(0, member(author))].into_iter().collect(),
        };
        let epoch = match parent {
            Some(parent) => self.record(parent).epoch + 1,
            None => 1,
        };
        let old_leaf = roster.leaf_of(&device(author));
        let leaf = match by {
            By::Member(author) => Some(old_leaf.unwrap_or_else(|| panic!("{author} has no leaf"))),
            By::Joiner(_) => None,
        };
        let mut gone = Vec::new();
        for gone_device in removed
            .iter()
            .map(|name| device(name))
            .chain((leaf.is_none() && old_leaf.is_some()).then(|| device(author)))
        {
            let leaf = roster.leaf_of(&gone_device).unwrap();
            gone.push((leaf, roster.remove(leaf).unwrap()));
        }
        let mut seat = |member: Arc<Member>| {
            let leaf = roster.lowest_free();
            assert!(roster.leaf_of(member.device()).is_none());
            roster.insert(leaf, Arc::clone(&member));
            (leaf, member)
        };
        let added: Vec<_> = added.iter().map(|name| seat(member(name))).collect();
        let updated = match leaf {
            Some(leaf) => (leaf, member(author)),
            None => seat(member(author)),
        };
        self.rosters.insert(id(node), roster);
        self.records.push(Arc::new(CommitRecord {
            node: id(node),
            parent: parent.map(id),
            epoch,
            author: Author { leaf, member: member(author) },
            removed: gone,
            added,
            updated: Some(updated),
            confirmed_transcript_hash: [0; 32],
            extension: extension(),
            resolves: Vec::new(),
        }));
    }

    pub(crate) fn record(&self, name: &str) -> &Arc<CommitRecord> {
        self.records.iter().find(|record| record.node == id(name)).unwrap()
    }

    /// The graph of all commits, as someone has it who entered them all.
    pub(crate) fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for record in &self.records {
            graph.insert(Arc::clone(record), NodeStatus::Entered);
        }
        graph
    }

    /// The name of the tip that everybody chooses.
    pub(crate) fn tip(&self) -> String {
        name(self.graph().choose_tip().unwrap())
    }
}

fn extension() -> GroupExtension {
    GroupExtension {
        instance: InstanceId::from_bytes([9; 32]),
        trust: crate::TrustRequirement::All,
        external: crate::ExternalJoins::Allowed,
        history: crate::HistoryPolicy::Keep,
    }
}

/// The names of those who have a leaf at a node, by leaf.
pub(crate) fn names_at(scenario: &Scenario, node: &str) -> Vec<String> {
    let members = scenario.rosters[&id(node)].iter().map(|(_, member)| member.device());
    let named = members.map(|device| {
        let user = device.user_id.trim_start_matches('@').trim_end_matches(":example.org");
        let again = if device.device_key == [2; 32] { "'" } else { "" };
        match device.device_id.as_str() {
            "1" => format!("{user}{again}"),
            number => format!("{user}/{number}{again}"),
        }
    });
    named.collect()
}
