//! Devices and users as small numbers, so that the choice compares and counts those and not strings;
//! and who is a leaf of a tree in terms of them.
//!
//! The numbers follow the order of insertion. They are compared for equality only, and so can never
//! influence a choice.

use std::collections::{HashMap, HashSet};

use crate::{
    credential::Device,
    record::CommitRecord,
    roster::{Member, Roster},
};

/// A device (user, device ID and device key) and its user.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Voter {
    device: usize,
    pub(super) user: usize,
}

/// All devices that some record or given roster names.
#[derive(Clone, Default)]
pub(super) struct Voters {
    devices: HashMap<Device, Voter>,
    users: HashMap<String, usize>,
    /// By device, the highest `seq` of its credentials.
    seqs: Vec<u64>,
}

/// What the choice needs to know of a commit.
#[derive(Clone)]
pub(super) struct Deed {
    pub(super) author: Voter,
    /// Whom it removes without putting them back itself. A device that comes back by an external
    /// commit is put back: its new leaf is among those that the commit sets.
    pub(super) removed: Box<[Voter]>,
    /// The leaves that it sets, in order.
    seated: Box<[(u32, Voter)]>,
    /// The leaves that it blanks before.
    blanked: Box<[u32]>,
}

impl Voters {
    fn number(&mut self, device: &Device) -> Voter {
        if let Some(voter) = self.devices.get(device) {
            return *voter;
        }
        let next = self.users.len();
        let user = *self.users.entry(device.user_id.clone()).or_insert(next);
        let voter = Voter { device: self.devices.len(), user };
        self.devices.insert(device.clone(), voter);
        self.seqs.push(0);
        voter
    }

    /// The number of a leaf's owner, whose credential is noted.
    pub(super) fn member(&mut self, member: &Member) -> Voter {
        let voter = self.number(member.device());
        if let Some(seq) = self.seqs.get_mut(voter.device) {
            *seq = member.identity.seq.max(*seq);
        }
        voter
    }

    /// The highest `seq` of a device's credentials; `None` if none was seen.
    pub(super) fn highest_seq(&self, device: &Device) -> Option<u64> {
        self.seqs.get(self.devices.get(device)?.device).copied()
    }

    pub(super) fn deed(&mut self, record: &CommitRecord) -> Deed {
        let author = self.member(&record.author.member);
        let seated: Box<[_]> = record
            .added
            .iter()
            .chain(&record.updated)
            .map(|(leaf, member)| (*leaf, self.member(member)))
            .collect();
        let back: HashSet<_> = seated.iter().map(|(_, voter)| *voter).collect();
        let removed = record
            .removed
            .iter()
            .map(|(_, member)| self.member(member))
            .filter(|gone| !back.contains(gone))
            .collect();
        let blanked = record.removed.iter().map(|(leaf, _)| *leaf).collect();
        Deed { author, removed, seated, blanked }
    }
}

/// A tree's leaves, as far as they are known by number: nobody else can have a part in a choice.
pub(super) struct Leaves {
    by_leaf: HashMap<u32, Voter>,
    voters: HashSet<Voter>,
}

impl Leaves {
    pub(super) fn new(roster: &Roster, voters: &Voters) -> Self {
        let by_leaf: HashMap<_, _> = roster
            .iter()
            .filter_map(|(leaf, member)| Some((leaf, *voters.devices.get(member.device())?)))
            .collect();
        let voters = by_leaf.values().copied().collect();
        Self { by_leaf, voters }
    }

    /// Goes on to the tree after a commit.
    pub(super) fn apply(&mut self, deed: &Deed) {
        for leaf in &deed.blanked {
            if let Some(gone) = self.by_leaf.remove(leaf) {
                self.voters.remove(&gone);
            }
        }
        for (leaf, voter) in &deed.seated {
            if let Some(before) = self.by_leaf.insert(*leaf, *voter) {
                self.voters.remove(&before);
            }
            self.voters.insert(*voter);
        }
    }

    pub(super) fn contains(&self, voter: Voter) -> bool {
        self.voters.contains(&voter)
    }
}

/// How often each device authored a commit, or was removed by one, in a part of the graph. Counts
/// and not sets, so that a part can be taken off again.
#[derive(Default)]
pub(super) struct Tally {
    authors: Counts,
    removed: Counts,
}

#[derive(Default)]
struct Counts(HashMap<Voter, usize>);

impl Tally {
    pub(super) fn add(&mut self, deed: &Deed) {
        self.authors.add(deed.author);
        for voter in &deed.removed {
            self.removed.add(*voter);
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.authors.subtract(&other.authors);
        self.removed.subtract(&other.removed);
    }

    pub(super) fn subtract_one(&mut self, deed: &Deed) {
        let mut one = Self::default();
        one.add(deed);
        self.subtract(&one);
    }

    /// The devices that authored a commit.
    pub(super) fn authors(&self) -> impl Iterator<Item = Voter> {
        self.authors.0.keys().copied()
    }

    /// The devices that a commit removed without putting them back itself.
    pub(super) fn removed(&self) -> impl Iterator<Item = Voter> {
        self.removed.0.keys().copied()
    }

    pub(super) fn has_removed(&self, voter: Voter) -> bool {
        self.removed.0.contains_key(&voter)
    }
}

impl Counts {
    fn add(&mut self, voter: Voter) {
        *self.0.entry(voter).or_default() += 1;
    }

    fn subtract(&mut self, other: &Self) {
        for (voter, count) in &other.0 {
            if let Some(left) = self.0.get_mut(voter) {
                *left = left.saturating_sub(*count);
                if *left == 0 {
                    self.0.remove(voter);
                }
            }
        }
    }
}
