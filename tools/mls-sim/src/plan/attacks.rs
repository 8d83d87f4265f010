//! Runs with insiders.

use super::{Draw, Weights};
use crate::{
    action::{Action, Attack},
    scenario::{Scenario, Setup},
};

/// How much happens before an attack, and after it.
const AROUND: usize = 12;

/// Whether the users of three insiders are fewer than half.
fn are_many(setup: &Setup) -> bool {
    setup.users - setup.outside > 6
}

/// Nobody else comes or goes, so that it is the attack that is seen.
const TALK: Weights = Weights { come_and_go: 0, devices: 0, ..Weights::CALM };

impl Draw {
    /// An attack amid ordinary life. The insider is the third user's second device, which can be
    /// removed while its user stays; a second insider is the fourth user's first one, a third the second
    /// user's second one.
    pub(super) fn attack(&mut self, scenario: Scenario, setup: &Setup) {
        let evil = (setup.users + 2).min(setup.devices - 1);
        let second = 3.min(setup.users - 1);
        let third = (setup.users + 1).min(setup.devices - 1);
        if scenario == Scenario::Insiders {
            let third = Some(third).filter(|_| are_many(setup));
            return self.insiders([evil, second], third);
        }
        if scenario == Scenario::LoneFounder {
            return self.lone_founder(setup);
        }
        self.some(AROUND, &TALK);
        self.actions.push(Action::Settle);
        match scenario {
            Scenario::RetaliationOne => self.retaliation(evil, Attack::RemoveOnOld(vec![0])),
            Scenario::RetaliationAll => self.retaliation(evil, Attack::RemoveOnOld(Vec::new())),
            Scenario::Accomplice => {
                let all = [second, third];
                let accomplices = &all[..1 + self.rng.below(1 + usize::from(are_many(setup)))];
                let spared = |user: &usize| *user == 2 || *user == second || *user == 1;
                let everybody = (0..setup.users).filter(|user| !spared(user)).collect();
                let victims = if self.rng.chance(50) { vec![0] } else { everybody };
                self.retaliation(evil, Attack::RemoveOnOld(victims));
                for accomplice in accomplices {
                    self.does(*accomplice, Attack::Support(evil));
                }
            }
            Scenario::OldBranch => {
                self.does(evil, Attack::Remember);
                self.removed_long_ago(evil);
                let count = 5 + self.rng.below(10);
                self.does(evil, Attack::Grow(count));
            }
            Scenario::OldBranchAccounts => {
                self.does(evil, Attack::Remember);
                self.removed_long_ago(evil);
                let count = 3 + self.rng.below(8);
                self.does(evil, Attack::GrowWithAccounts(count, 3));
            }
            Scenario::WelcomeFromRemoved => {
                let guest = setup.users - 1;
                self.actions.push(Action::Kick(0, guest));
                // Who speaks has to know of it, or the guest stays in, and cannot be added again.
                self.actions.extend([Action::Settle, Action::Say(0), Action::Settle]);
                self.does(evil, Attack::Remember);
                self.removed_long_ago(evil);
                self.actions.extend([
                    Action::Invite(0, guest),
                    Action::Settle,
                    Action::Join(guest),
                ]);
                self.does(evil, Attack::Welcome(guest));
                self.actions.extend([Action::Settle, Action::Say(0)]);
            }
            Scenario::MutualRemoval => {
                self.does(evil, Attack::Remember);
                self.does(second, Attack::Remember);
                self.does(evil, Attack::RemoveOnOld(vec![second]));
                self.does(second, Attack::RemoveOnOld(vec![2]));
            }
            Scenario::ManyDevices => self.many_devices(),
            Scenario::Withheld => {
                let held: Vec<_> =
                    (0..setup.devices).filter(|d| d % 2 == 1 && *d != evil).collect();
                self.actions.extend(held.iter().map(|d| Action::HoldTimeline(*d, true)));
                self.does(evil, Attack::Flood(3));
                self.some(AROUND, &TALK);
                self.actions.extend(held.iter().map(|d| Action::HoldTimeline(*d, false)));
            }
            Scenario::FalseContext => {
                self.does(evil, Attack::FalseContext);
                self.some(3, &TALK);
                self.does(evil, Attack::FalseTag);
            }
            Scenario::Resolve => {
                self.does(evil, Attack::Remember);
                self.actions.extend([Action::Update(0), Action::Update(1), Action::Settle]);
                self.does(evil, Attack::Resolve);
            }
            other => {
                let attack = self.plain(other, setup);
                self.does(evil, attack);
            }
        }
        self.some(AROUND, &TALK);
    }

    /// Attacks that need nothing before them.
    fn plain(&mut self, scenario: Scenario, setup: &Setup) -> Attack {
        let victim = self.rng.below(setup.users);
        match scenario {
            Scenario::Unprocessable => Attack::Unprocessable,
            Scenario::HalfProcessable => Attack::HalfProcessable,
            Scenario::FalseRemoval => Attack::Remove(vec![if victim == 2 { 1 } else { victim }]),
            Scenario::RemoveEverybody => Attack::Remove(Vec::new()),
            Scenario::Double => Attack::Double(2 + self.rng.below(6)),
            Scenario::Flood => Attack::Flood(80),
            Scenario::Stuffing => Attack::Stuff(10),
            Scenario::ExternalAs => Attack::ExternalAs(victim),
            Scenario::FakeGroup => Attack::FakeGroup,
            _ => Attack::Withhold,
        }
    }

    fn does(&mut self, d: usize, attack: Attack) {
        self.actions.push(Action::Attack(d, attack));
    }

    /// A device is deleted, removed from the group, and strikes back before anybody has confirmed it.
    fn retaliation(&mut self, evil: usize, attack: Attack) {
        self.does(evil, Attack::Remember);
        self.actions.extend([Action::LogOut(evil), Action::Sync(0), Action::Say(0)]);
        self.does(evil, attack);
        let seconds = u64::try_from(self.rng.below(10)).unwrap_or_default();
        self.actions.push(Action::Wait(seconds));
    }

    fn removed_long_ago(&mut self, evil: usize) {
        self.actions.extend([Action::LogOut(evil), Action::Settle, Action::Say(0), Action::Settle]);
        self.some(2 * AROUND, &TALK);
    }

    /// One user has many devices; one of them is removed, and the others stand by it.
    fn many_devices(&mut self) {
        let first = self.devices;
        self.actions.extend((0..5).map(|_| Action::LogIn(2)));
        self.actions.extend([Action::Settle, Action::Say(0), Action::Settle]);
        self.does(first, Attack::Remember);
        self.actions.extend([Action::LogOut(first), Action::Sync(0), Action::Say(0)]);
        self.does(first, Attack::RemoveOnOld(vec![0]));
        for d in first + 1..first + 5 {
            self.does(d, Attack::Support(first));
        }
        self.actions.push(Action::Wait(20));
    }

    /// The founder forks where it was alone, long after.
    fn lone_founder(&mut self, setup: &Setup) {
        self.does(0, Attack::Remember);
        // It follows the rules until then.
        for user in 1..setup.users {
            self.actions.extend([Action::Invite(0, user), Action::Settle, Action::Join(user)]);
        }
        self.actions.extend([Action::Settle, Action::Say(1), Action::Settle]);
        self.some(3 * AROUND, &Weights { update: 15, ..TALK });
        // Until two others have committed, nobody's voice is against it; from then on the anchor moves.
        self.actions.extend([Action::Settle, Action::Update(1), Action::Settle, Action::Update(2)]);
        self.actions.extend([Action::Settle, Action::Wait(600)]);
        let attack = match self.rng.below(3) {
            0 => Attack::Grow(10),
            1 => Attack::GrowWithAccounts(6, 3),
            _ => Attack::Resolve,
        };
        self.does(0, attack);
        self.some(AROUND, &TALK);
    }

    /// Two or three insiders do anything, while everything goes wrong.
    fn insiders(&mut self, two: [usize; 2], third: Option<usize>) {
        let third = third.filter(|_| self.rng.chance(50));
        let evil: Vec<_> = two.into_iter().chain(third).collect();
        self.some(AROUND, &Weights::MIXED);
        for d in &evil {
            self.does(*d, Attack::Remember);
        }
        for _ in 0..5 {
            let n = self.rng.below(evil.len());
            let other = (n + 1 + self.rng.below(evil.len() - 1)) % evil.len();
            let attack = self.any_attack(evil[other]);
            self.does(evil[n], attack);
            self.some(AROUND / 2, &Weights::MIXED);
        }
        self.some(AROUND, &Weights::MIXED);
    }

    fn any_attack(&mut self, other: usize) -> Attack {
        let user = self.user();
        match self.rng.below(20) {
            0 => Attack::Remember,
            1 => Attack::Remove(vec![user]),
            2 => Attack::RemoveOnOld(vec![user]),
            3 => Attack::RemoveOnOld(Vec::new()),
            4 => Attack::Grow(1 + self.rng.below(5)),
            5 => Attack::GrowWithAccounts(3, 2),
            6 => Attack::Support(other),
            7 => Attack::Stuff(1 + self.rng.below(4)),
            8 => Attack::Double(2 + self.rng.below(4)),
            9 => Attack::Welcome(user),
            10 => Attack::Unprocessable,
            11 => Attack::HalfProcessable,
            12 => Attack::FalseContext,
            13 => Attack::ExternalAs(user),
            14 => Attack::FakeGroup,
            15 => Attack::Remove(Vec::new()),
            16 => Attack::Flood(2 + self.rng.below(20)),
            17 => Attack::FalseTag,
            18 => Attack::Withhold,
            _ => Attack::Resolve,
        }
    }
}
