//! What happens in a run: drawn from its seed.

mod attacks;

use matrix_sdk_crypto_mls::testing::SimRng;
use serde::{Deserialize, Serialize};

use crate::{
    action::{Action, Doing, Kind, Wrong},
    scenario::{Scenario, Setup},
};

/// How much happens before everything is healed.
const ACTIONS: usize = 60;

/// In seconds.
const DAY: u64 = 86_400;

/// A run before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What kind of run it is.
    pub scenario: Scenario,
    /// What it begins with.
    pub setup: Setup,
    /// What happens.
    pub actions: Vec<Action>,
}

/// Draws actions.
pub(crate) struct Draw {
    pub(crate) rng: SimRng,
    pub(crate) devices: usize,
    pub(crate) users: usize,
    pub(crate) actions: Vec<Action>,
}

/// How likely what is, in parts of the sum.
#[derive(Clone, Copy)]
pub(crate) struct Weights {
    pub(crate) say: usize,
    pub(crate) settle: usize,
    pub(crate) sync: usize,
    pub(crate) wait: usize,
    pub(crate) update: usize,
    pub(crate) come_and_go: usize,
    pub(crate) devices: usize,
    pub(crate) fault: usize,
    pub(crate) hold: usize,
    pub(crate) gap: usize,
    pub(crate) cut: usize,
    pub(crate) crash: usize,
}

impl Weights {
    /// Nothing goes wrong.
    pub(crate) const CALM: Self = Self {
        say: 30,
        settle: 30,
        sync: 10,
        wait: 10,
        update: 5,
        come_and_go: 12,
        devices: 3,
        fault: 0,
        hold: 0,
        gap: 0,
        cut: 0,
        crash: 0,
    };

    /// Everything goes wrong.
    pub(crate) const MIXED: Self =
        Self { fault: 8, hold: 6, gap: 2, cut: 3, crash: 4, ..Self::CALM };
}

impl Plan {
    /// The plan of a seed.
    pub fn new(scenario: Scenario, seed: u64, devices: usize) -> Self {
        let number = Scenario::ALL.iter().position(|one| *one == scenario).unwrap_or_default();
        let mut rng = SimRng::new(seed ^ (u64::try_from(number).unwrap_or_default() << 48));
        let attacked = scenario.is_attack();
        // Where there are insiders, everybody has two devices.
        let more = if attacked { 0 } else { rng.below(devices / 2 + 1) };
        let users = (devices / 2 + more).clamp(3.min(devices), devices);
        let setup = Setup {
            seed,
            devices,
            users,
            outside: if users > 4 { rng.below(users / 3 + 1) } else { 0 },
            soft_fails: scenario == Scenario::SoftFailed,
            skewed: rng.chance(50),
            founder_alone: scenario == Scenario::LoneFounder,
            // Every fourth run, and of each scenario every fourth.
            small_events: (seed / Scenario::ALL.len() as u64 + seed) % 4 == 3,
        };
        let mut draw = Draw { rng, devices, users, actions: Vec::new() };
        draw.scenario(scenario, &setup);
        Self { scenario, setup, actions: draw.actions }
    }
}

impl Draw {
    fn scenario(&mut self, scenario: Scenario, setup: &Setup) {
        let calm = Weights::CALM;
        match scenario {
            Scenario::Calm => self.some(ACTIONS, &calm),
            Scenario::Mixed => {
                self.some(ACTIONS / 2, &Weights::MIXED);
                self.days();
                self.some(ACTIONS / 2, &Weights::MIXED);
            }
            Scenario::Race => {
                let race = Weights { settle: 15, update: 35, come_and_go: 4, devices: 0, ..calm };
                self.some(ACTIONS, &race);
            }
            Scenario::Partition | Scenario::SoftFailed => {
                self.some(10, &calm);
                let parts = 2 + u32::try_from(self.rng.below(2)).unwrap_or_default();
                self.cut(parts);
                let busy = Weights { come_and_go: 20, update: 10, ..calm };
                self.some(ACTIONS / 2, &busy);
                self.days();
                self.some(ACTIONS / 2, &busy);
                self.actions.push(Action::Heal);
                self.some(5, &calm);
            }
            Scenario::Crashes => self.some(ACTIONS, &Weights { crash: 25, fault: 8, ..calm }),
            Scenario::Gaps => self.some(ACTIONS, &Weights { gap: 15, hold: 5, update: 15, ..calm }),
            attack => self.attack(attack, setup),
        }
    }

    pub(crate) fn device(&mut self) -> usize {
        self.rng.below(self.devices)
    }

    pub(crate) fn user(&mut self) -> usize {
        self.rng.below(self.users)
    }

    pub(crate) fn cut(&mut self, parts: u32) {
        let part = |rng: &mut SimRng| u32::try_from(rng.next() % u64::from(parts)).unwrap_or(0);
        let mut sides: Vec<u32> = (0..self.users).map(|_| part(&mut self.rng)).collect();
        // The first two can change the room: one on either side.
        sides[0] = 0;
        sides[1] = 1;
        self.actions.push(Action::Cut(sides));
    }

    /// In one run of ten, so many days that states go by the clock (protocol §9).
    fn days(&mut self) {
        if self.rng.chance(10) {
            self.actions.extend((0..8).map(|_| Action::Wait(DAY)));
        }
    }

    pub(crate) fn some(&mut self, count: usize, weights: &Weights) {
        for _ in 0..count {
            let action = self.one(weights);
            self.actions.extend(action);
        }
    }

    fn one(&mut self, w: &Weights) -> Vec<Action> {
        let weights = [
            w.say,
            w.settle,
            w.sync,
            w.wait,
            w.update,
            w.come_and_go,
            w.devices,
            w.fault,
            w.hold,
            w.gap,
            w.cut,
            w.crash,
        ];
        let mut dice = self.rng.below(weights.iter().sum());
        let what = weights.iter().position(|weight| {
            let hit = dice < *weight;
            dice = dice.saturating_sub(*weight);
            hit
        });
        let d = self.device();
        match what {
            Some(1) => vec![Action::Settle],
            Some(2) => vec![Action::Sync(d)],
            Some(3) => {
                let longest = *self.rng.pick(&[5, 30, 300, 3600]).unwrap_or(&5);
                vec![Action::Wait(1 + u64::try_from(self.rng.below(longest)).unwrap_or(0))]
            }
            Some(4) => vec![Action::Update(d)],
            Some(5) => self.comes_or_goes(),
            Some(6) => {
                let user = self.user();
                let new = self.rng.chance(50);
                vec![if new { Action::LogIn(user) } else { Action::LogOut(d) }]
            }
            Some(7) => self.fault(d),
            Some(8) => {
                let hold = self.rng.chance(50);
                match self.rng.below(4) {
                    0 => vec![Action::HoldTimeline(d, hold)],
                    1 => vec![Action::HoldToDevice(d, hold)],
                    2 => vec![Action::Disorder(d)],
                    _ => vec![Action::Offline(d, hold)],
                }
            }
            Some(9) => vec![Action::Gap(d)],
            Some(10) => {
                if self.rng.chance(50) {
                    self.cut(2);
                    return Vec::new();
                }
                vec![Action::Heal]
            }
            Some(11) => self.crash(d),
            _ => vec![Action::Say(d)],
        }
    }

    fn comes_or_goes(&mut self) -> Vec<Action> {
        let (user, by) = (self.user(), self.device());
        match self.rng.below(10) {
            0..4 => vec![Action::Invite(by, user)],
            4..7 => vec![Action::Invite(0, user), Action::Settle, Action::Join(user)],
            7 => vec![Action::Leave(user)],
            8 => vec![Action::Kick(by, user)],
            _ => vec![Action::Kick(self.rng.below(2), user)],
        }
    }

    fn fault(&mut self, d: usize) -> Vec<Action> {
        let kinds = [
            Kind::Commit,
            Kind::Commit,
            Kind::ToDevice,
            Kind::KeysClaim,
            Kind::KeysUpload,
            Kind::GetEvent,
        ];
        let kind = *self.rng.pick(&kinds).unwrap_or(&Kind::Commit);
        let wrongs = [Wrong::RequestLost, Wrong::ResponseLost, Wrong::Late];
        let mut wrong = *self.rng.pick(&wrongs).unwrap_or(&Wrong::Late);
        if kind == Kind::Commit && self.rng.chance(10) {
            wrong = Wrong::Refused;
        }
        if self.rng.chance(30) {
            vec![Action::LateAnswers(d)]
        } else {
            vec![Action::Fault(d, kind, wrong)]
        }
    }

    fn crash(&mut self, d: usize) -> Vec<Action> {
        let doing =
            *self.rng.pick(&[Doing::Say, Doing::Update, Doing::Sync]).unwrap_or(&Doing::Say);
        let count = self.rng.below(8);
        match self.rng.below(3) {
            0 => vec![Action::Restart(d)],
            1 => vec![Action::Crash(d, count)],
            _ => vec![Action::Abort(d, doing, count)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_whatever_the_number_of_devices() {
        for scenario in Scenario::ALL {
            for devices in [3, 8, 24] {
                let plan = Plan::new(*scenario, 5, devices);
                assert_eq!(plan, Plan::new(*scenario, 5, devices));
                assert_eq!(plan.setup.devices, devices);
                let json = serde_json::to_string(&plan).unwrap();
                assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
                assert_eq!(Scenario::named(scenario.name()), Some(*scenario));
            }
        }
        assert_ne!(Plan::new(Scenario::Calm, 5, 8), Plan::new(Scenario::Calm, 6, 8));
    }
}
