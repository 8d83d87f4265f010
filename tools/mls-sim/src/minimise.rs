//! Makes the trace of a failing run short: delta debugging (Zeller's ddmin).

use crate::{
    action::Action,
    outcome::{Outcome, run},
    plan::Plan,
};

/// So many runs at most.
const MAX_RUNS: usize = 400;

/// Takes out of a failing plan what the failure does not need. Two failures are the same if the same
/// check failed.
pub fn minimise(plan: &Plan, outcome: &Outcome) -> Plan {
    let Some(check) = outcome.failure.as_ref().map(|failure| failure.check.clone()) else {
        return plan.clone();
    };
    let mut runs = 0;
    let actions = shortest(&plan.actions, |actions| {
        runs += 1;
        let tried = Plan { actions: actions.to_vec(), ..plan.clone() };
        runs <= MAX_RUNS && run(&tried).failure.is_some_and(|failure| failure.check == check)
    });
    Plan { actions, ..plan.clone() }
}

/// A part of the actions, in their order, of which none can be left out.
fn shortest(actions: &[Action], mut fails: impl FnMut(&[Action]) -> bool) -> Vec<Action> {
    let mut actions = actions.to_vec();
    let mut parts = 2;
    while actions.len() >= 2 {
        let size = actions.len().div_ceil(parts);
        let shorter = (0..actions.len()).step_by(size).find_map(|from| {
            let to = (from + size).min(actions.len());
            let without = [&actions[..from], &actions[to..]].concat();
            fails(&without).then_some(without)
        });
        match shorter {
            Some(shorter) => {
                actions = shorter;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(actions.len()),
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_failure_does_not_need_goes() {
        let actions: Vec<_> = (0..50).map(Action::Say).collect();
        let needs = [Action::Say(7), Action::Say(31)];
        let fails = |actions: &[Action]| needs.iter().all(|needed| actions.contains(needed));
        assert_eq!(shortest(&actions, fails), needs);
        assert_eq!(shortest(&actions, |_| false), actions);
    }
}
