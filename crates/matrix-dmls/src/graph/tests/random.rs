//! Random scenarios: up to 12 commits by 5 users, valid ones only.

use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, RngSeed},
};

use super::scenario::{By, Scenario, device};

/// Five users and a sixth who never founds; some have two devices, or one that was made again under
/// its old ID.
pub(super) const DEVICES: [&str; 9] = ["a", "b", "c", "d", "e", "a/2", "b/2", "m/9", "c'"];

/// The same 1,000 cases in every run, nothing written to disk. `PROPTEST_CASES` asks for more.
pub(crate) fn config() -> Config {
    let cases = Config::default().cases.max(1000);
    Config {
        cases,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(0x00d3_1517),
        ..Config::default()
    }
}

/// One commit, in numbers that fit any tree.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    parent: usize,
    author: usize,
    target: usize,
    kind: Kind,
    /// First character of the node's name, so that the order of IDs is not that of the commits.
    id: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Update,
    Add,
    Remove,
    Replace,
    Sweep,
    Join,
}

pub(crate) fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        4 => Just(Kind::Update),
        1 => Just(Kind::Add),
        4 => Just(Kind::Remove),
        1 => Just(Kind::Replace),
        1 => Just(Kind::Sweep),
        2 => Just(Kind::Join),
    ];
    let step = (0..64usize, 0..64usize, 0..64usize, kind, b'0'..=b'z');
    let step = step.prop_map(|(parent, author, target, kind, id)| Step {
        // Enough commits on the founding to have branches with something below them.
        parent: if parent % 3 == 0 { 0 } else { parent },
        author,
        target,
        kind,
        id,
    });
    prop::collection::vec(step, 0..max)
}

/// Makes a scenario of at most one commit more than there are steps.
pub(crate) fn scenario(steps: &[Step]) -> Scenario {
    let mut scenario = Scenario::new("~: by a +b +c +d +a/2");
    for (number, step) in steps.iter().enumerate() {
        extend(&mut scenario, number, step);
    }
    scenario
}

fn extend(scenario: &mut Scenario, number: usize, step: &Step) {
    let parent = scenario.records[step.parent % scenario.records.len()].node;
    let roster = &scenario.rosters[&parent];
    let parent = super::scenario::name(parent);
    let is_in = |name: &&&str| roster.leaf_of(&device(name)).is_some();
    let members: Vec<&str> = DEVICES.iter().filter(is_in).copied().collect();
    let strangers: Vec<&str> = DEVICES.iter().filter(|name| !is_in(name)).copied().collect();
    let author = members[step.author % members.len()];
    let others: Vec<&str> = members.iter().filter(|name| **name != author).copied().collect();
    let pick = |from: &[&'static str]| from.get(step.target % from.len().max(1)).copied();

    let mut by = By::Member(author);
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    match step.kind {
        Kind::Update => {}
        Kind::Add => added.extend(pick(&strangers)),
        Kind::Remove => removed.extend(pick(&others)),
        Kind::Replace => {
            removed.extend(pick(&others));
            added.extend(pick(&others));
        }
        Kind::Sweep => removed = others,
        Kind::Join => by = By::Joiner(DEVICES[step.target % DEVICES.len()]),
    }
    let name = format!("{}{number}", char::from(step.id));
    scenario.commit(&name, Some(&parent), by, &removed, &added);
}
