//! What ought to be chosen, and who ought to be in which epoch: written from the protocol page (§2's
//! rosters, §8) alone, with nothing of the machine's. It remembers nothing between comparisons, but who
//! is in an epoch, which is fixed by the epoch.

mod rule;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

pub use self::wire::{Commit, Device, Id};

/// All commits that were ever sent in a room.
#[derive(Default)]
pub struct Model {
    commits: BTreeMap<Id, Commit>,
    rosters: RefCell<BTreeMap<Id, Rc<Roster>>>,
}

/// Who is in an epoch, by leaf.
pub type Roster = BTreeMap<u32, Device>;

/// What a device knows, and what it has been told.
pub struct Knowledge {
    /// The commits that it knows.
    pub known: BTreeSet<Id>,
    /// Those whose state it holds.
    pub held: BTreeSet<Id>,
    /// The founding commit that the room names, with the user who named it.
    pub root: Option<(Id, String)>,
    /// The anchor that the room names.
    pub anchor: Option<Id>,
    /// Where the device came in first.
    pub entrance: Option<Id>,
    /// The branches that it has given up, by their topmost commits.
    pub given_up: BTreeSet<Id>,
    /// The users who have joined.
    pub joined: BTreeSet<String>,
}

impl Model {
    /// Takes the bytes of a commit that was sent. Gives its ID if it is one.
    pub fn learn(&mut self, message: &[u8]) -> Option<Id> {
        let commit = wire::read(message)?;
        let id = commit.id;
        self.commits.entry(id).or_insert(commit);
        Some(id)
    }

    /// Who is in the epoch that a commit makes, by leaf.
    pub fn roster(&self, id: &Id) -> Option<Rc<Roster>> {
        if let Some(known) = self.rosters.borrow().get(id) {
            return Some(Rc::clone(known));
        }
        let roster = Rc::new(self.counted_roster(id)?);
        self.rosters.borrow_mut().insert(*id, Rc::clone(&roster));
        Some(roster)
    }

    fn counted_roster(&self, id: &Id) -> Option<Roster> {
        let commit = self.commits.get(id)?;
        let mut roster = match &commit.parent {
            Some(parent) => Roster::clone(&*self.roster(parent)?),
            None => BTreeMap::from([(0, commit.path.clone()?)]),
        };
        // Removes, then the Adds in order, or the external joiner, each at the lowest free index, then
        // the path's leaf.
        for leaf in &commit.removes {
            roster.remove(leaf)?;
        }
        let joiner = commit.path.iter().filter(|_| commit.leaf.is_none());
        for device in commit.adds.iter().chain(joiner) {
            let free = (0..).find(|leaf| !roster.contains_key(leaf))?;
            roster.insert(free, device.clone());
        }
        if let (Some(leaf), Some(device)) = (commit.leaf, &commit.path) {
            roster.insert(leaf, device.clone());
        }
        Some(roster)
    }

    /// Who made a commit.
    pub fn author(&self, id: &Id) -> Option<Device> {
        let commit = self.commits.get(id)?;
        match (commit.leaf, &commit.parent) {
            (Some(leaf), Some(parent)) => self.roster(parent)?.get(&leaf).cloned(),
            _ => commit.path.clone(),
        }
    }

    /// A commit's parent.
    pub fn parent(&self, id: &Id) -> Option<Id> {
        self.commits.get(id)?.parent
    }

    /// The commit itself.
    pub fn commit(&self, id: &Id) -> Option<&Commit> {
        self.commits.get(id)
    }
}
