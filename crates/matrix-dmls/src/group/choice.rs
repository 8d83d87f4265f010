//! Which tip to send on, remembered: the graph's choice goes through everything below its start, and
//! is asked for with every message.

use std::sync::OnceLock;

use super::Group;
use crate::ids::NodeId;

/// What was chosen, once it was asked for. [`Group::apply`] and [`Group::set_root`] forget it when
/// what it depends on changes: the records, the states that are held, the root, the anchor
/// and what is deserted.
#[derive(Clone, Debug, Default)]
pub(super) struct Choice {
    chosen: OnceLock<Option<NodeId>>,
    sending: OnceLock<Option<NodeId>>,
}

impl Group {
    /// The tip that everybody should be on (protocol §8); perhaps one that we cannot enter.
    ///
    /// Remembered until a record, a state, the root, the anchor or what is deserted changes.
    pub fn chosen_tip(&self) -> Option<NodeId> {
        *self.choice.chosen.get_or_init(|| self.graph.choose_tip())
    }

    /// The best tip that we can send on: the choice, confined to nodes whose state we hold.
    ///
    /// Remembered until a record, a state, the root, the anchor or what is deserted changes.
    pub fn sending_tip(&self) -> Option<NodeId> {
        let choose = || self.graph.choose_entered_tip(|node| self.states.contains_key(node));
        *self.choice.sending.get_or_init(choose)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        graph::{NodeStatus, tests::random},
        group::{GraphEntry, GroupChanges, NodeState},
        storage::Entries,
    };

    /// What changes, in numbers that fit any scenario.
    #[derive(Clone, Debug)]
    enum Change {
        Record { number: usize, entered: bool, holds: bool },
        State { number: usize, holds: bool },
        Aim { root: Option<usize>, anchor: Option<usize> },
        Deserted(Vec<usize>),
        Pending,
    }

    fn change() -> impl Strategy<Value = Change> {
        let number = 0..16usize;
        prop_oneof![
            4 => (number.clone(), any::<bool>(), any::<bool>())
                .prop_map(|(number, entered, holds)| Change::Record { number, entered, holds }),
            2 => (number.clone(), any::<bool>())
                .prop_map(|(number, holds)| Change::State { number, holds }),
            1 => (prop::option::of(number.clone()), prop::option::of(number))
                .prop_map(|(root, anchor)| Change::Aim { root, anchor }),
            1 => prop::collection::vec(0..16usize, 0..3).prop_map(Change::Deserted),
            1 => Just(Change::Pending),
        ]
    }

    fn state() -> Arc<NodeState> {
        Arc::new(NodeState {
            entries: Entries::default(),
            own_leaf: 0,
            context: Vec::new(),
            confirmation_tag: [0; 32],
        })
    }

    proptest! {
        #![proptest_config(random::config())]

        #[test]
        fn what_is_remembered_is_what_would_be_chosen(
            steps in random::steps(12),
            changes in prop::collection::vec((change(), any::<bool>()), 1..24),
        ) {
            let scenario = random::scenario(&steps);
            let record = |number: usize| &scenario.records[number % scenario.records.len()];
            let mut group = Group::new("!room:example.org");
            for (change, asks) in changes {
                match change {
                    Change::Record { number, entered, holds } => {
                        let status = if entered { NodeStatus::Entered } else { NodeStatus::Seen };
                        let record = Arc::clone(record(number));
                        let mut changes = GroupChanges::default();
                        if holds {
                            changes.states.insert(record.node, Some(state()));
                        }
                        changes
                            .records
                            .insert(record.node, GraphEntry { record, status, roster: None, summary: None });
                        group.apply(changes);
                    }
                    Change::State { number, holds } => {
                        let mut changes = GroupChanges::default();
                        changes.states.insert(record(number).node, holds.then(state));
                        group.apply(changes);
                    }
                    Change::Aim { root, anchor } => {
                        let name = |number: Option<usize>| number.map(|n| record(n).node);
                        group.set_root(name(root), name(anchor));
                    }
                    Change::Deserted(numbers) => {
                        group.set_deserted(numbers.into_iter().map(|n| record(n).node).collect());
                    }
                    Change::Pending => group.apply(group.discard(record(0).node)),
                }
                // Not every time: what was remembered before must not outlive several changes.
                if asks {
                    prop_assert_eq!(group.chosen_tip(), group.graph.choose_tip());
                    let held = |node: &NodeId| group.states.contains_key(node);
                    prop_assert_eq!(group.sending_tip(), group.graph.choose_entered_tip(held));
                    prop_assert_eq!(group.clone().sending_tip(), group.sending_tip());
                }
            }
        }
    }
}
