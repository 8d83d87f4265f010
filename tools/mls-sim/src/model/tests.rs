//! The examples of protocol §8, so that the model is no copy of the machine's mistakes.

use std::collections::{BTreeMap, BTreeSet};

use super::{Commit, Device, Id, Knowledge, Model};

fn device(user: &str) -> Device {
    Device { user: user.to_owned(), id: "D".to_owned(), key: user.as_bytes().to_vec() }
}

fn id(name: &str) -> Id {
    let mut id = [0; 32];
    id[..name.len()].copy_from_slice(name.as_bytes());
    id
}

#[derive(Default)]
struct Story(Model);

impl Story {
    /// `+` adds and `-` removes.
    fn commit(&mut self, name: &str, by: &str, on: &str, changes: &[&str]) {
        let roster = self.0.roster(&id(on)).unwrap();
        let leaf = |user: &str| *roster.iter().find(|(_, d)| d.user == user).unwrap().0;
        let of = |sign| changes.iter().filter_map(move |change| change.strip_prefix(sign));
        let commit = Commit {
            id: id(name),
            parent: Some(id(on)),
            leaf: Some(leaf(by)),
            removes: of('-').map(leaf).collect(),
            adds: of('+').map(device).collect(),
            path: Some(device(by)),
        };
        self.0.commits.insert(commit.id, commit);
    }

    fn founded(by: &str, with: &[&str]) -> Self {
        let adds = with.iter().map(|user| device(user)).collect();
        let (removes, path) = (Vec::new(), Some(device(by)));
        let commit = Commit { id: id("root"), parent: None, leaf: Some(0), removes, adds, path };
        Self(Model { commits: BTreeMap::from([(commit.id, commit)]), ..Model::default() })
    }

    fn knowledge(&self) -> Knowledge {
        Knowledge {
            known: self.0.commits.keys().copied().collect(),
            held: BTreeSet::new(),
            root: Some((id("root"), "m".to_owned())),
            anchor: None,
            entrance: Some(id("root")),
            given_up: BTreeSet::new(),
            joined: BTreeSet::new(),
        }
    }

    fn tip(&self) -> Id {
        self.0.chosen(&self.knowledge()).unwrap()
    }
}

#[test]
fn the_page_s_examples() {
    let mut race = Story::founded("a", &["b", "c"]);
    race.commit("x", "b", "root", &[]);
    race.commit("y", "c", "root", &[]);
    assert_eq!(race.tip(), id("x"), "b's leaf is lower");
    race.commit("y1", "a", "y", &[]);
    assert_eq!(race.tip(), id("y1"), "two users");

    let mut sweep = Story::founded("m", &["a", "b", "c"]);
    sweep.commit("x", "a", "root", &["-m"]);
    sweep.commit("y", "m", "root", &["-a", "-b", "-c"]);
    assert_eq!(sweep.tip(), id("x"), "one was swept, not three");

    let mut strike = Story::founded("m", &["a", "b", "c"]);
    strike.commit("x", "a", "root", &["-m"]);
    strike.commit("y", "m", "root", &["-a"]);
    assert_eq!(strike.tip(), id("y"), "m's leaf is lower");
    strike.commit("x1", "b", "x", &[]);
    assert_eq!(strike.tip(), id("x1"), "two users");
}

#[test]
fn a_removal_beats_the_removed_and_strangers_have_no_voice() {
    let mut story = Story::founded("m", &["a", "b"]);
    story.commit("x", "a", "root", &["-m"]);
    story.commit("y", "m", "root", &["+s", "+t"]);
    assert_eq!(story.tip(), id("x"));
    story.commit("y1", "s", "y", &[]);
    story.commit("y2", "t", "y1", &[]);
    assert_eq!(story.tip(), id("x"));
}

#[test]
fn the_anchor_and_what_is_held_confine_the_choice() {
    let mut story = Story::founded("m", &["a", "b", "c"]);
    story.commit("x", "a", "root", &[]);
    story.commit("y", "m", "root", &[]);
    story.commit("y1", "b", "y", &[]);
    let mut knowledge = story.knowledge();
    assert_eq!(story.0.chosen(&knowledge), Some(id("y1")));
    knowledge.anchor = Some(id("x"));
    assert_eq!(story.0.chosen(&knowledge), Some(id("x")));
    knowledge.anchor = None;
    knowledge.held = BTreeSet::from([id("x"), id("root")]);
    assert_eq!(story.0.best_entered(&knowledge), Some(id("x")));
}

#[test]
fn a_branch_that_was_given_up_is_passed_by_until_somebody_comes_back() {
    let mut story = Story::founded("m", &["a", "b", "c"]);
    story.commit("x", "a", "root", &[]);
    story.commit("x1", "b", "x", &[]);
    story.commit("y", "m", "root", &[]);
    let mut knowledge = story.knowledge();
    knowledge.given_up = BTreeSet::from([id("x")]);
    knowledge.joined = BTreeSet::from(["b".to_owned(), "m".to_owned()]);
    assert_eq!(story.0.chosen(&knowledge), Some(id("x1")));
    knowledge.joined = BTreeSet::from(["m".to_owned()]);
    assert_eq!(story.0.chosen(&knowledge), Some(id("y")));
    knowledge.held = BTreeSet::from([id("x"), id("y")]);
    assert_eq!(story.0.best_entered(&knowledge), Some(id("y")));
    knowledge.held = BTreeSet::from([id("x")]);
    assert_eq!(story.0.best_entered(&knowledge), Some(id("x")));
}

#[test]
fn leaves_are_filled_from_the_lowest() {
    let mut story = Story::founded("a", &["b", "c"]);
    story.commit("x", "a", "root", &["-b", "+d", "+e"]);
    let roster = story.0.roster(&id("x")).unwrap();
    let users: Vec<_> = roster.iter().map(|(leaf, d)| (*leaf, d.user.as_str())).collect();
    assert_eq!(users, [(0, "a"), (1, "d"), (2, "c"), (3, "e")]);
}
