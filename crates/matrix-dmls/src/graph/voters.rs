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

    /// All devices with the highest `seq` of their credentials, in no order.
    pub(super) fn seqs(&self) -> impl Iterator<Item = (&Device, u64)> {
        let seq = |voter: &Voter| self.seqs.get(voter.device).copied().unwrap_or_default();
        self.devices.iter().map(move |(device, voter)| (device, seq(voter)))
    }

    /// Takes note that a device had a credential with this `seq`.
    pub(super) fn note_seq(&mut self, device: &Device, seq: u64) {
        let voter = self.number(device);
        if let Some(highest) = self.seqs.get_mut(voter.device) {
            *highest = seq.max(*highest);
        }
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
    /// By the device's number.
    has_leaf: Vec<bool>,
}

impl Leaves {
    pub(super) fn new(roster: &Roster, voters: &Voters) -> Self {
        let mut leaves = Self {
            by_leaf: HashMap::with_capacity(roster.len()),
            has_leaf: vec![false; voters.devices.len()],
        };
        for (leaf, member) in roster.iter() {
            if let Some(voter) = voters.devices.get(member.device()) {
                leaves.by_leaf.insert(leaf, *voter);
                leaves.set(*voter, true);
            }
        }
        leaves
    }

    /// Goes on to the tree after a commit.
    pub(super) fn apply(&mut self, deed: &Deed) {
        for leaf in &deed.blanked {
            if let Some(gone) = self.by_leaf.remove(leaf) {
                self.set(gone, false);
            }
        }
        for (leaf, voter) in &deed.seated {
            if let Some(before) = self.by_leaf.insert(*leaf, *voter) {
                self.set(before, false);
            }
            self.set(*voter, true);
        }
    }

    fn set(&mut self, voter: Voter, has_leaf: bool) {
        if let Some(place) = self.has_leaf.get_mut(voter.device) {
            *place = has_leaf;
        }
    }

    pub(super) fn contains(&self, voter: Voter) -> bool {
        self.has_leaf.get(voter.device).copied().unwrap_or_default()
    }
}

/// How often each device authored a commit, or was removed by one, in a part of the graph. Counts
/// and not sets, so that a part can be taken off again.
#[derive(Default)]
pub(super) struct Tally {
    authors: Counts,
    removed: Counts,
}

/// By rising number of the device. A count may be 0.
#[derive(Default)]
struct Counts(Vec<(Voter, usize)>);

impl Tally {
    pub(super) fn of<'d>(deeds: impl Iterator<Item = &'d Deed>) -> Self {
        let (mut authors, mut removed) = (Vec::new(), Vec::new());
        for deed in deeds {
            authors.push(deed.author);
            removed.extend_from_slice(&deed.removed);
        }
        Self { authors: Counts::of(authors), removed: Counts::of(removed) }
    }

    /// Takes off a part of it.
    pub(super) fn subtract(&mut self, part: &Self) {
        self.authors.subtract(&part.authors);
        self.removed.subtract(&part.removed);
    }

    /// The devices that authored a commit.
    pub(super) fn authors(&self) -> impl Iterator<Item = Voter> {
        self.authors.present()
    }

    /// The devices that a commit removed without putting them back itself.
    pub(super) fn removed(&self) -> impl Iterator<Item = Voter> {
        self.removed.present()
    }

    pub(super) fn has_removed(&self, voter: Voter) -> bool {
        self.removed.of_device(voter).is_some_and(|count| *count > 0)
    }
}

impl Counts {
    fn of(mut voters: Vec<Voter>) -> Self {
        voters.sort_unstable_by_key(|voter| voter.device);
        let mut counts: Vec<(Voter, usize)> = Vec::new();
        for voter in voters {
            match counts.last_mut() {
                Some((last, count)) if *last == voter => *count += 1,
                _ => counts.push((voter, 1)),
            }
        }
        Self(counts)
    }

    fn place(&self, voter: Voter) -> Option<usize> {
        self.0.binary_search_by_key(&voter.device, |(voter, _)| voter.device).ok()
    }

    fn of_device(&self, voter: Voter) -> Option<&usize> {
        self.0.get(self.place(voter)?).map(|(_, count)| count)
    }

    fn subtract(&mut self, part: &Self) {
        for (voter, count) in &part.0 {
            if let Some(place) = self.place(*voter)
                && let Some((_, left)) = self.0.get_mut(place)
            {
                *left = left.saturating_sub(*count);
            }
        }
    }

    fn present(&self) -> impl Iterator<Item = Voter> {
        self.0.iter().filter(|(_, count)| *count > 0).map(|(voter, _)| *voter)
    }
}
