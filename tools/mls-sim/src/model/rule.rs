//! §8, sentence by sentence.

use std::collections::BTreeSet;

use super::{Device, Id, Knowledge, Model};

impl Model {
    /// The tip that everybody who knows this should be on.
    pub fn chosen(&self, knowledge: &Knowledge) -> Option<Id> {
        let start = self.start(knowledge)?;
        let goals = self.not_deserted(&start, &knowledge.known, knowledge);
        Some(self.descend(start, knowledge, &goals))
    }

    /// "When the chosen tip cannot be entered, the same descent is confined to what leads to nodes whose
    /// state is held."
    pub fn best_entered(&self, knowledge: &Knowledge) -> Option<Id> {
        if let Some(chosen) = self.chosen(knowledge).filter(|tip| knowledge.held.contains(tip)) {
            return Some(chosen);
        }
        let start = self.start(knowledge)?;
        let leads = |goals: &BTreeSet<Id>| {
            goals.iter().any(|goal| self.is_known_way(&start, goal, knowledge))
        };
        // "If it holds none but there, it sends there all the same."
        let mut held = self.not_deserted(&start, &knowledge.held, knowledge);
        if !leads(&held) {
            held.clone_from(&knowledge.held);
        }
        leads(&held).then(|| self.descend(start, knowledge, &held))
    }

    /// Those that lie on no branch that was given up, "as long as nobody who has joined, and has a leaf
    /// above it, has committed there", and that begins below where the choice starts.
    fn not_deserted(&self, start: &Id, of: &BTreeSet<Id>, knowledge: &Knowledge) -> BTreeSet<Id> {
        let has_voice = |top: &Id, commit: &Id| {
            let above = self.parent(top).and_then(|parent| self.roster(&parent));
            self.author(commit).is_some_and(|author| {
                knowledge.joined.contains(&author.user)
                    && above.is_none_or(|roster| roster.values().any(|leaf| *leaf == author))
            })
        };
        let deserted: Vec<_> = knowledge
            .given_up
            .iter()
            .filter(|top| {
                knowledge.known.contains(*top) && !self.is_known_way(top, start, knowledge)
            })
            .filter(|top| !self.subtree(top, knowledge).iter().any(|id| has_voice(top, id)))
            .collect();
        let is_in = |id: &Id| deserted.iter().any(|top| self.is_known_way(top, id, knowledge));
        of.iter().filter(|id| !is_in(id)).copied().collect()
    }

    /// "At the anchor, if it is known and is the oldest known node or lies below it; else at the oldest
    /// known node." Oldest is here the topmost known one above the root, or above the entrance: the choice
    /// among several topmost nodes without either is not in the model.
    pub fn start(&self, knowledge: &Knowledge) -> Option<Id> {
        let known = |id: &Id| knowledge.known.contains(id);
        let by_its_author = |(root, sender): &(Id, String)| {
            known(root) && self.author(root).is_some_and(|author| author.user == *sender)
        };
        let root = knowledge.root.clone().filter(by_its_author).map(|(root, _)| root);
        // "An unconnected entrance never replaces one in use."
        let connected = |root: &Id| {
            knowledge.entrance.is_none_or(|entrance| self.is_known_way(root, &entrance, knowledge))
        };
        let from = root.filter(connected).or(knowledge.entrance)?;
        let mut oldest = from;
        while let Some(parent) = self.parent(&oldest).filter(known) {
            oldest = parent;
        }
        let anchor = knowledge
            .anchor
            .filter(|anchor| known(anchor) && self.is_known_way(&oldest, anchor, knowledge));
        Some(anchor.unwrap_or(oldest))
    }

    /// Whether `above` is above `below` (or the same) by what a device knows.
    fn is_known_way(&self, above: &Id, below: &Id, knowledge: &Knowledge) -> bool {
        let mut at = *below;
        loop {
            if at == *above {
                return true;
            }
            match self.parent(&at).filter(|parent| knowledge.known.contains(parent)) {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }

    /// "Descend into the winner until a node without children: that is the tip."
    fn descend(&self, v: Id, knowledge: &Knowledge, goals: &BTreeSet<Id>) -> Id {
        let leads = |c: &Id| goals.iter().any(|goal| self.is_known_way(c, goal, knowledge));
        let children: Vec<Id> = self.children(&v, knowledge).into_iter().filter(leads).collect();
        match self.winner(&v, children, knowledge) {
            Some(winner) => self.descend(winner, knowledge, goals),
            None => v,
        }
    }

    fn children(&self, v: &Id, knowledge: &Knowledge) -> Vec<Id> {
        knowledge.known.iter().filter(|id| self.parent(id) == Some(*v)).copied().collect()
    }

    /// S(c): "the commits of its subtree, c included".
    fn subtree(&self, c: &Id, knowledge: &Knowledge) -> Vec<Id> {
        let below = self.children(c, knowledge);
        let below = below.iter().flat_map(|child| self.subtree(child, knowledge));
        std::iter::once(*c).chain(below).collect()
    }

    fn winner(&self, v: &Id, children: Vec<Id>, knowledge: &Knowledge) -> Option<Id> {
        let mut tied = children;
        if tied.len() < 2 {
            return tied.pop();
        }
        let voices: BTreeSet<Device> = self.roster(v)?.values().cloned().collect();
        let shares: Vec<(Id, Vec<Id>)> =
            tied.iter().map(|c| (*c, self.subtree(c, knowledge))).collect();
        let share = |c: &Id| &shares.iter().find(|(of, _)| of == c).expect("all have one").1;
        let users = |devices: Vec<Device>| {
            let users = devices.into_iter().filter(|device| voices.contains(device));
            users.map(|device| device.user).collect::<BTreeSet<_>>().len()
        };
        // 1. Most distinct users among the authors.
        let authors =
            |c: &Id| users(share(c).iter().filter_map(|commit| self.author(commit)).collect());
        let most = tied.iter().map(authors).max()?;
        tied.retain(|c| authors(c) == most);
        // 2. A removal beats the removed.
        let removes = |c: &Id, device: &Device| {
            voices.contains(device) && share(c).iter().any(|id| self.removes(id).contains(device))
        };
        let author = |c: &Id| self.author(c);
        let is_out = |c2: &Id| {
            tied.iter().filter(|c| *c != c2).any(|c| {
                let (Some(one), Some(other)) = (author(c), author(c2)) else { return false };
                removes(c, &other) && !removes(c2, &one)
            })
        };
        let stay: Vec<Id> = tied.iter().filter(|c| !is_out(c)).copied().collect();
        if !stay.is_empty() {
            tied = stay;
        }
        // 3. Fewest distinct users removed.
        let swept = |c: &Id| users(share(c).iter().flat_map(|id| self.removes(id)).collect());
        let fewest = tied.iter().map(swept).min()?;
        tied.retain(|c| swept(c) == fewest);
        // 4. The lower leaf, an external joiner last; 5. the lower node ID.
        let rank = |c: &Id| self.commit(c).and_then(|c| c.leaf).map_or(u64::MAX, u64::from);
        tied.into_iter().min_by_key(|c| (rank(c), *c))
    }

    /// Whom a commit removes "without putting it back itself".
    fn removes(&self, id: &Id) -> Vec<Device> {
        let Some(commit) = self.commit(id) else { return Vec::new() };
        let before = commit.parent.and_then(|parent| self.roster(&parent)).unwrap_or_default();
        let joiner = commit.path.iter().filter(|_| commit.leaf.is_none());
        let back: Vec<_> = commit.adds.iter().chain(joiner).collect();
        let removed = commit.removes.iter().filter_map(|leaf| before.get(leaf));
        removed.filter(|device| !back.contains(device)).cloned().collect()
    }
}
