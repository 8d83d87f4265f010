//! The story: all that a machine does, told from one device's side.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
};

use matrix_sdk_crypto_mls::testing::{DeviceName, RoomOptions, SimDevice, SimServer};
use ruma::{RoomId, device_id, events::room::member::MembershipState as Membership, user_id};

use super::device::{Command, Report};

const KEY_PACKAGE: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

/// The device in danger, wherever it runs.
pub trait Victim {
    /// Does something, whatever it takes: once the story goes on, it is done.
    async fn does(&mut self, command: Command) -> Report;
}

/// Everybody else.
pub struct World {
    pub server: SimServer,
    /// The victim's name.
    pub vera: DeviceName,
    alice: SimDevice,
    bob: SimDevice,
}

impl World {
    pub async fn begins() -> Self {
        let server = SimServer::new(1);
        let alice = server.device("alice", "PHONE").logs_in().await;
        let bob = server.device("bob", "LAPTOP").logs_in().await;
        let vera = (user_id!("@vera:example.org").to_owned(), device_id!("TABLET").to_owned());
        Self { server, vera, alice, bob }
    }

    /// Whether the victim has said something already.
    pub fn has_heard(&self, text: &str) -> bool {
        self.server.sent_messages().iter().any(|message| message.text == text)
    }

    fn changes(&self, by: &DeviceName, room: &RoomId, of: &DeviceName, to: &Membership) {
        self.server.set_membership(&by.0, room, &of.0, to).unwrap();
    }

    /// From beginning to end, with what has to be true then.
    pub async fn tells(&self, victim: &mut impl Victim) {
        let Self { server, vera, alice, bob } = self;
        victim.does(Command::Pump).await;

        // She founds a room, and somebody comes.
        let room = server.creates_room(&vera.0, RoomOptions::default());
        self.changes(vera, &room, alice.name(), &Membership::Invite);
        let alice = alice.in_room(&room);
        alice.joins(&alice).await;
        victim.does(Command::Sync).await;
        self.says(victim, &room, "founded").await;
        alice.syncs().await;
        alice.says("hello").await;
        victim.does(Command::Sync).await;

        // She adds somebody.
        self.changes(vera, &room, bob.name(), &Membership::Invite);
        let bob_here = bob.in_room(&room);
        bob_here.joins(&bob_here).await;
        victim.does(Command::Sync).await;
        self.says(victim, &room, "welcome, Bob").await;
        self.settles(victim).await;
        bob_here.says("thanks").await;

        // Two commit at the same time, and somebody merges.
        victim.does(Command::Sync).await;
        alice.syncs().await;
        alice.starts_to_update_keys().await;
        victim.does(Command::UpdateKeys(room.clone())).await;
        alice.pumps().await;
        victim.does(Command::Pump).await;
        alice.says("on one branch").await;
        self.says(victim, &room, "on the other").await;
        self.settles(victim).await;
        self.says(victim, &room, "together again").await;
        self.settles(victim).await;

        // Messages before their commits.
        server.holds_back_timeline_of(vera, true);
        alice.updates_keys().await;
        alice.says("in a new epoch").await;
        bob_here.syncs().await;
        bob_here.updates_keys().await;
        bob_here.says("and one more").await;
        server.holds_back_timeline_of(vera, false);
        server.reverses_timeline_of(vera);
        self.settles(victim).await;

        // Key packages run out.
        server.drops_one_time_keys(vera, KEY_PACKAGE, false);
        victim.does(Command::Sync).await;
        assert!(server.one_time_key_count(vera, KEY_PACKAGE) > 0);

        // She is let into another room.
        let other = bob.creates_room().await;
        self.changes(bob.name(), other.room(), vera, &Membership::Invite);
        self.changes(vera, other.room(), vera, &Membership::Join);
        bob.syncs().await;
        other.says("here, too").await;
        self.settles(victim).await;
        self.says(victim, other.room(), "nice here").await;

        // She throws somebody out, who reads no more.
        self.changes(vera, &room, bob.name(), &Membership::Leave);
        victim.does(Command::Sync).await;
        self.says(victim, &room, "without Bob").await;
        self.settles(victim).await;
        let readers = server.sent_messages().pop().unwrap().readers;
        assert!(!readers.contains(bob.name()) && readers.contains(vera), "{readers:?}");

        // New keys for the end.
        victim.does(Command::UpdateKeys(room.clone())).await;
        victim.does(Command::Pump).await;
        self.says(victim, &room, "goodbye").await;
        self.settles(victim).await;
        alice.says("the end").await;
        self.settles(victim).await;
        self.is_whole(victim, &[&alice, &other]).await;
    }

    /// The steps of a message, one by one.
    async fn says(&self, victim: &mut impl Victim, room: &RoomId, text: &str) {
        victim.does(Command::Prepare(room.to_owned())).await;
        victim.does(Command::Say(room.to_owned(), text.to_owned())).await;
        assert!(self.has_heard(text));
        victim.does(Command::Pump).await;
    }

    /// Everybody syncs until nothing new comes.
    async fn settles(&self, victim: &mut impl Victim) {
        for _ in 0..100 {
            let mut news = false;
            for device in [&self.alice, &self.bob] {
                news |= self.server.has_news_for(device.name());
                device.syncs().await;
            }
            if self.server.has_news_for(&self.vera) {
                news = true;
                victim.does(Command::Sync).await;
            }
            if !news {
                return;
            }
        }
        panic!("they never come to rest");
    }

    /// Nothing is lost, doubled or torn, and all are in one epoch.
    async fn is_whole(&self, victim: &mut impl Victim, others: &[&SimDevice]) {
        let messages = self.server.sent_messages();
        let mut used = BTreeSet::new();
        let mut said = BTreeSet::new();
        for message in &messages {
            let key = (&message.room_id, message.node, &message.sender, message.generation);
            assert!(used.insert(key), "used twice: {key:?}");
            assert!(said.insert(&message.text), "said twice: {}", message.text);
        }
        let events = messages
            .iter()
            .map(|message| {
                let event = self.server.event(&message.room_id, &message.event_id);
                (message.room_id.clone(), event.to_json())
            })
            .collect();
        let report = victim.does(Command::Report(events)).await;
        for message in &messages {
            assert!(message.readers.contains(&self.vera), "{message:?}");
            assert_eq!(report.readings[&message.event_id], Ok(message.text.clone()));
            for other in others {
                // What was said before they came, and after they went, is not theirs.
                if message.readers.contains(other.name()) {
                    other.has_read(&message.event_id, &message.text);
                    let info = other.encryption_info(&message.event_id);
                    assert!(!info.generation_reused, "{message:?}");
                }
            }
        }
        assert_eq!(report.tips.len(), 2);
        for other in others {
            let node = other.node().await.unwrap().to_base64();
            assert_eq!(report.tips[other.room()].0, node, "{other:?}");
        }
        assert_eq!(report.problems, Vec::<String>::new());
        assert_eq!(report.outbox, 0);
    }
}

/// Tells stories in which something happens at the n-th write of every command, for every n until it
/// never does; two at a time. `tell` gives how often it did. How many stories there were, and how
/// often it did in all.
pub fn at_every_write<F: Future<Output = usize>>(tell: impl Fn(u32) -> F + Sync) -> (u32, usize) {
    let (next, times) = (AtomicU32::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let runtime = { runtime }.enable_all().build().unwrap();
                loop {
                    let happened = runtime.block_on(tell(next.fetch_add(1, Ordering::SeqCst)));
                    times.fetch_add(happened, Ordering::SeqCst);
                    if happened == 0 {
                        break;
                    }
                }
            });
        }
    });
    (next.into_inner(), times.into_inner())
}
