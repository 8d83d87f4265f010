//! Whatever happens, in whatever order: in the end everybody who is in can talk to everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use matrix_dmls::{CommitMessage, NodeId};
use ruma::events::room::member::MembershipState;

use super::{assert_no_generation_is_reused, settle, time_passes};
use crate::{
    DecryptionError, MlsError,
    store::MlsStore as _,
    testing::{Fault, Reading, RequestKind, SimDevice, SimError, SimRng, SimServer, TestClock},
    types::events::CommitEventContent,
};

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// How many things happen before everything is delivered.
const ACTIONS: usize = 60;

/// How many messages it takes at most until all are in one epoch after everything was delivered.
const MAX_ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_everybody_can_talk_in_the_end() {
    // One seed, `n`, or some, `n..m`.
    let seeds = std::env::var("DMLS_SEED").unwrap_or_else(|_| "0..10".to_owned());
    let (first, end) = match seeds.split_once("..") {
        Some((first, end)) => (first.parse().expect("a number"), end.parse().expect("a number")),
        None => seeds.parse().map(|seed: u64| (seed, seed + 1)).expect("a number"),
    };
    for seed in first..end {
        Story::begins(seed).await.goes_on_and_ends().await;
    }
}

/// Everything that happens under one seed.
struct Story {
    server: SimServer,
    rng: SimRng,
    devices: Vec<SimDevice>,
    /// What has happened, for whoever has to find out why it went wrong.
    log: String,
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}failed with DMLS_SEED={}", self.log, self.server.seed());
        }
    }
}

impl Story {
    async fn begins(seed: u64) -> Self {
        let server = SimServer::new(seed);
        let mut devices = Vec::new();
        for user in USERS {
            for device in ["PHONE", "LAPTOP"] {
                devices.push(server.device(user, device).logs_in().await);
            }
        }
        let alice = devices[0].creates_room().await;
        alice.says("founded").await;
        for device in &mut devices {
            *device = device.looks_with(&alice);
        }
        settle(&devices.iter().collect::<Vec<_>>()).await;
        Self { server, rng: SimRng::new(seed), devices, log: String::new() }
    }

    async fn goes_on_and_ends(mut self) {
        for _ in 0..ACTIONS {
            self.something_happens().await;
        }
        self.everything_is_delivered().await;
        self.everybody_can_talk().await;
        self.keys_are_given().await;
        self.everybody_has_read_what_was_theirs().await;
    }

    fn any(&mut self) -> SimDevice {
        let at = self.rng.below(self.devices.len());
        self.devices[at].clone()
    }

    fn membership(&self, device: &SimDevice) -> MembershipState {
        self.server.membership(device.room(), device.user_id())
    }

    /// A device of somebody who has joined.
    fn any_in(&mut self) -> SimDevice {
        loop {
            let device = self.any();
            if self.membership(&device) == MembershipState::Join {
                return device;
            }
        }
    }

    async fn something_happens(&mut self) {
        let dice = self.rng.below(100);
        let device = self.any_in();
        match dice {
            0..30 => self.says(&device).await,
            30..52 => {
                let device = self.any();
                self.note(&device, "syncs");
                device.syncs().await;
            }
            52..58 => {
                let guest = self.any();
                if self.membership(&guest) == MembershipState::Leave {
                    self.note(&device, &format!("invites {guest:?}"));
                    device.invites(&guest);
                }
            }
            58..68 => {
                let guest = self.any();
                if self.membership(&guest) == MembershipState::Invite {
                    self.note(&guest, "joins");
                    guest.joins(&guest).await;
                }
            }
            68..70 => {
                // Alice stays: somebody has to.
                if device.user_id() != self.devices[0].user_id() {
                    self.note(&device, "leaves");
                    device.leaves();
                }
            }
            70..73 => {
                if device.user_id() != self.devices[0].user_id() {
                    let alice = self.devices[0].clone();
                    self.note(&alice, &format!("kicks {device:?}"));
                    alice.kicks(&device);
                }
            }
            73..78 => {
                self.note(&device, "renews its keys");
                match device.mls().update_keys(device.room()).await {
                    Ok(_) => {
                        device.pumps().await;
                    }
                    Err(error) => self.excuse(&error.into()),
                }
            }
            78..80 => {
                if self.devices.len() < 12 {
                    let user = device.user_id().localpart().to_owned();
                    let id = format!("NEW{}", self.devices.len());
                    let new = self.server.device(&user, &id).logs_in().await;
                    self.note(&new, "logs in");
                    self.devices.push(new.looks_with(&device));
                }
            }
            80..86 => {
                let kinds = [
                    RequestKind::Commit,
                    RequestKind::Commit,
                    RequestKind::ToDevice,
                    RequestKind::KeysClaim,
                    RequestKind::KeysUpload,
                    RequestKind::GetEvent,
                ];
                let kind = *self.rng.pick(&kinds).unwrap();
                let faults = [Fault::RequestLost, Fault::ResponseLost, Fault::Late];
                let mut fault = *self.rng.pick(&faults).unwrap();
                if kind == RequestKind::Commit && self.rng.chance(20) {
                    fault = Fault::Refused;
                }
                self.note(&device, &format!("will have {kind:?} {fault:?}"));
                self.server.next_goes_wrong(device.name(), kind, fault);
            }
            86..88 => {
                self.note(&device, "gets late answers");
                device.gets_late_answers().await;
            }
            88..90 => {
                let holds = self.rng.chance(50);
                self.note(&device, &format!("holds back its timeline: {holds}"));
                self.server.holds_back_timeline_of(device.name(), holds);
            }
            90..92 => {
                let holds = self.rng.chance(50);
                self.note(&device, &format!("holds back its to-device messages: {holds}"));
                self.server.holds_back_to_device_of(device.name(), holds);
            }
            92..94 => {
                self.note(&device, "gets everything doubled and in disorder");
                self.server.doubles_to_device_of(device.name(), true);
                self.server.shuffles_to_device_of(device.name());
                self.server.shuffles_timeline_of(device.name());
                device.takes_rooms_first(self.rng.chance(50));
            }
            94..96 => {
                let cut = self.rng.chance(60);
                self.note(&device, &format!("sees a partition: {cut}"));
                self.server.heals();
                if cut {
                    let ids: Vec<_> =
                        (0..8).step_by(2).map(|i| self.devices[i].user_id().clone()).collect();
                    let at = 1 + self.rng.below(3);
                    let (one, other) = (ids[..at].iter(), ids[at..].iter());
                    let (one, other): (Vec<_>, Vec<_>) = (one.collect(), other.collect());
                    self.server.is_cut_between(&one, &other);
                }
            }
            96..98 => {
                self.note(&device, "restarts");
                device.restarts().await;
            }
            _ => {
                let minutes = 1 + u64::try_from(self.rng.below(20)).unwrap();
                self.note(&device, &format!("sees {minutes} minutes pass"));
                self.server.clock().advance(minutes * TestClock::MINUTE);
            }
        }
    }

    async fn says(&mut self, device: &SimDevice) {
        let text = format!("message {}", self.server.sent_messages().len());
        self.note(device, &format!("says {text}"));
        match device.tries_to_say(&text).await {
            Ok(_) => device.pumps().await,
            Err(error) => self.excuse(&error),
        }
    }

    /// Whether there was a reason not to do something.
    fn excuse(&mut self, error: &SimError) {
        match error {
            // Requests got lost, or the Welcome is still on its way.
            SimError::Machine(
                MlsError::NotReady(_)
                | MlsError::CommitsRefused
                | MlsError::LeftBehind
                | MlsError::Removed { .. }
                // The room is not known yet.
                | MlsError::NotMls(_),
            )
            // It does not know yet that it is not in the room any more.
            | SimError::Refused(403) => {
                let _ = writeln!(self.log, "    but cannot: {error}");
            }
            other => panic!("{other}"),
        }
    }

    fn note(&mut self, device: &SimDevice, what: &str) {
        let _ = writeln!(self.log, "{device:?} {what}");
    }

    async fn everything_is_delivered(&mut self) {
        self.server.heals();
        let devices: Vec<_> = self.devices.iter().collect();
        for device in &devices {
            self.server.holds_back_timeline_of(device.name(), false);
            self.server.holds_back_to_device_of(device.name(), false);
            // Faults that did not come about.
            self.server.nothing_goes_wrong_any_more(device.name());
            self.server.announces_devices_of(device.user_id());
        }
        // No claim failed, and no commit was refused, less than this time ago.
        self.server.clock().advance(2 * TestClock::HOUR);
        for device in &devices {
            device.gets_late_answers().await;
            device.syncs().await;
            device.pumps().await;
        }
        settle(&devices).await;
    }

    async fn everybody_can_talk(&mut self) {
        let inside: Vec<_> = self
            .devices
            .iter()
            .filter(|device| self.membership(device) == MembershipState::Join)
            .cloned()
            .collect();
        let invited = self.devices.iter().filter(|device| {
            // The history is for them too.
            matches!(self.membership(device), MembershipState::Join | MembershipState::Invite)
        });
        let wanted: BTreeSet<_> = invited.map(|device| device.name().clone()).collect();
        let all: Vec<_> = self.devices.clone();
        let all: Vec<_> = all.iter().collect();
        for round in 0..MAX_ROUNDS {
            let speaker = inside[self.rng.below(inside.len())].clone();
            self.says(&speaker).await;
            settle(&all).await;
            // Whoever is outside asks, and is answered.
            time_passes(&all, TestClock::MINUTE).await;
            let mut nodes = BTreeSet::new();
            for device in &inside {
                nodes.insert(device.node().await);
            }
            if nodes.len() == 1 && inside[0].devices_in_group().await == wanted {
                let _ = writeln!(self.log, "in one epoch after {round} rounds");
                return;
            }
        }
        for device in &inside {
            let status = device.status().await;
            let line = status.map(|s| (s.node, s.epoch, s.is_chosen, s.tips));
            let _ = writeln!(self.log, "{device:?} {line:?}");
            let _ = writeln!(self.log, "  {:?}", device.devices_in_group().await);
            let _ = writeln!(self.log, "  {:?}", device.takes_notices());
            let held = device.store().held_welcomes(device.room()).await.unwrap();
            let held: Vec<_> =
                held.iter().map(|w| (w.content.epoch, &w.content.epoch_event)).collect();
            let _ = writeln!(self.log, "  {held:?}");
        }
        panic!("not in one epoch after {MAX_ROUNDS} messages; wanted {wanted:?}");
    }

    /// Who has a leaf in an epoch that it cannot enter asks others for its key, one after the other, if
    /// it is in the room.
    async fn keys_are_given(&self) {
        let messages = self.server.sent_messages();
        let all: Vec<_> = self.devices.iter().collect();
        let waits = |device: &&SimDevice| {
            self.membership(device) == MembershipState::Join
                && messages.iter().any(|message| {
                    let reading = device.reading(&message.event_id);
                    message.readers.contains(device.name())
                        && matches!(reading, Some(Reading::Unreadable(why))
                            if matches!(*why, DecryptionError::UnknownEpoch(_)))
                })
        };
        for _ in 0..MAX_ROUNDS {
            if !all.iter().any(waits) {
                return;
            }
            time_passes(&all, 2 * TestClock::MINUTE).await;
        }
    }

    async fn everybody_has_read_what_was_theirs(&self) {
        let messages = self.server.sent_messages();
        for device in &self.devices {
            for message in &messages {
                let is_theirs = message.readers.contains(device.name());
                match device.reading(&message.event_id) {
                    // The server has not shown it to them.
                    None => {}
                    Some(Reading::Clear(_)) => {
                        assert!(is_theirs, "{device:?} has read {message:?}");
                        device.has_read(&message.event_id, &message.text);
                    }
                    Some(Reading::Unreadable(why))
                        if matches!(*why, DecryptionError::UnknownEpoch(_))
                            && (self.may_lack_a_welcome(device, &message.node)
                                || self.came_too_late(device, message.node).await) => {}
                    Some(Reading::Unreadable(why)) => {
                        assert!(!is_theirs, "{device:?} has not read {message:?}: {why}");
                    }
                }
            }
        }
        assert_no_generation_is_reused(&self.server, &self.devices.iter().collect::<Vec<_>>());
    }

    /// Whether an epoch is, or lies below, one that was made by an external commit and that a device
    /// could not enter: it takes such commits for an hour only after it has heard of another one
    /// there (protocol §9).
    async fn came_too_late(&self, device: &SimDevice, node: NodeId) -> bool {
        let graph = device.mls().epoch_graph(device.room()).await.unwrap();
        let nodes: BTreeMap<_, _> = graph.nodes.iter().map(|node| (node.node, node)).collect();
        let way = std::iter::successors(nodes.get(&node), |node| nodes.get(&node.parent?));
        let mut unread = way.take_while(|node| !node.readable);
        unread.any(|node| node.commit.as_ref().is_some_and(|commit| commit.is_external))
    }

    /// A Welcome counts only while both users are in the room: who has left may have done so before
    /// it came.
    fn may_lack_a_welcome(&self, device: &SimDevice, node: &NodeId) -> bool {
        let is_in = |user| self.server.membership(device.room(), user) == MembershipState::Join;
        let author = self.server.events(device.room()).into_iter().find_map(|event| {
            let content: CommitEventContent = serde_json::from_value(event.content).ok()?;
            let commit = CommitMessage::parse(&content.commit?.0).ok()?;
            (commit.node_id() == *node).then_some(event.sender)
        });
        !is_in(device.user_id()) || !is_in(&author.expect("the commit is in the room"))
    }
}
