//! What a thief gets who takes a whole store and has every event that was ever sent (protocol §9).

mod newcomers;

use std::collections::{BTreeMap, BTreeSet};

use matrix_dmls::{Group, GroupChanges, GroupError, HistoryPolicy, NodeId, Received, SeenBecause};

use super::settle;
use crate::{
    RoomSettings,
    dmls::TrustRequirement,
    store::{MlsStore, StoredRoom},
    testing::{SentMessage, SimDevice, SimServer, TestClock},
    types::events::{CommitEventContent, MlsEncryptedEventContent},
};

/// A copy of a device's store, and all of the room's events.
pub(super) struct Thief {
    room_id: ruma::OwnedRoomId,
    stored: StoredRoom,
    commits: Vec<CommitEventContent>,
    messages: Vec<(SentMessage, Vec<u8>)>,
}

impl Thief {
    pub(super) async fn robs(server: &SimServer, device: &SimDevice) -> Self {
        Self::robs_as_after(server, device, device.store().writes()).await
    }

    /// Takes the store as it was after its first writes.
    pub(super) async fn robs_as_after(
        server: &SimServer,
        device: &SimDevice,
        writes: usize,
    ) -> Self {
        let room_id = device.room().to_owned();
        let store = device.store().as_after(writes).await;
        let events = server.events(&room_id);
        let commits = events
            .iter()
            .filter(|event| event.event_type.ends_with(".commit"))
            .map(|event| serde_json::from_value(event.content.clone()).unwrap())
            .collect();
        let messages = server
            .sent_messages()
            .into_iter()
            .map(|message| {
                let content = server.event(&room_id, &message.event_id).content;
                let content: MlsEncryptedEventContent = serde_json::from_value(content).unwrap();
                (message, content.ciphertext.0)
            })
            .collect();
        let stored = store.load_room(&room_id).await.unwrap().unwrap();
        Self { room_id, stored, commits, messages }
    }

    /// A group in which a state from the store is all that there is, with no memory of what was done
    /// there.
    fn group_at(&self, node: NodeId) -> Group {
        let group = &self.stored.group;
        let mut above = Group::new(self.room_id.as_str());
        above.apply(group.clone());
        let known: BTreeSet<_> = above.graph().ancestors(&node).chain([node]).collect();
        let mut changes = GroupChanges { epoch_keys: BTreeMap::new(), ..group.clone() };
        changes.pending.clear();
        changes.records.retain(|id, _| known.contains(id));
        changes.states.retain(|id, _| *id == node);
        changes.vaults.retain(|id, _| *id == node);
        let mut fresh = Group::new(self.room_id.as_str());
        fresh.apply(changes);
        fresh
    }

    /// Every epoch that can be derived, from every state in the store, by every commit, and from what
    /// that gives again. And why the rest cannot.
    fn derives(&self) -> (Vec<(NodeId, Group)>, Vec<GroupError>) {
        let mut open: Vec<_> =
            self.stored.group.states.keys().map(|node| self.group_at(*node)).collect();
        let (mut derived, mut failures) = (Vec::new(), Vec::new());
        while let Some(mut group) = open.pop() {
            for commit in &self.commits {
                let parent_context = &commit.parent_context.0;
                match group.receive(&commit.commit.as_ref().unwrap().0, parent_context) {
                    Ok(Received::Entered(node, changes)) => {
                        group.apply(*changes);
                        derived.push((node, group.clone()));
                        open.push(group.clone());
                    }
                    Ok(Received::Seen(_, SeenBecause::Inadmissible(error), _)) => {
                        failures.push(error);
                    }
                    _ => {}
                }
            }
        }
        (derived, failures)
    }

    /// The messages that can be read with what was derived, without the epoch keys in the store.
    pub(super) fn reads_what_it_derives(&self) -> BTreeSet<String> {
        let derived = self.derives().0;
        let reads = |(message, bytes): &(SentMessage, Vec<u8>)| {
            derived
                .iter()
                .any(|(_, group)| group.decrypt(bytes).is_ok())
                .then(|| message.text.clone())
        };
        self.messages.iter().filter_map(reads).collect()
    }

    /// The messages that can be read once what waits for the server's answer is taken for accepted, with
    /// nothing else of the store.
    fn accepts_what_is_pending(&self) -> BTreeSet<String> {
        let mut read = BTreeSet::new();
        for node in self.stored.group.pending.keys() {
            let mut group = Group::new(self.room_id.as_str());
            let epoch_keys = BTreeMap::new();
            group.apply(GroupChanges { epoch_keys, ..self.stored.group.clone() });
            let changes = group.accept(*node).unwrap();
            group.apply(changes);
            read.extend(self.reads_with(&group));
        }
        read
    }

    fn reads_with(&self, group: &Group) -> BTreeSet<String> {
        let reads = |(message, bytes): &(SentMessage, Vec<u8>)| {
            group.decrypt(bytes).is_ok().then(|| message.text.clone())
        };
        self.messages.iter().filter_map(reads).collect()
    }

    /// The messages that can be read with the epoch keys in the store.
    pub(super) fn reads_with_the_keys(&self) -> BTreeSet<String> {
        let mut group = Group::new(self.room_id.as_str());
        group.apply(self.stored.group.clone());
        self.reads_with(&group)
    }
}

pub(super) fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

pub(super) async fn room(history: HistoryPolicy) -> (SimServer, SimDevice, SimDevice) {
    let server = SimServer::new(1);
    let settings =
        RoomSettings { trust: TrustRequirement::All, history, ..RoomSettings::default() };
    let alice = server.device("alice", "PHONE").room_settings(settings).logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    alice.says("hello").await;
    settle(&[&alice, &bob]).await;
    (server, alice, bob)
}

/// Bob enters three epochs of Alice's, the first one beside one of his own.
async fn talk(alice: &SimDevice, bob: &SimDevice) {
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    bob.pumps().await;
    alice.says("on Alice's branch").await;
    bob.says("on Bob's branch").await;
    settle(&[alice, bob]).await;
    for number in 1..=2 {
        alice.updates_keys().await;
        alice.says(&format!("number {number}")).await;
        settle(&[alice, bob]).await;
    }
}

/// The branch points are all still held; they are punctured, and that is enough.
#[tokio::test]
async fn epochs_that_were_entered_cannot_be_derived_again() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let before = bob.store().writes();
    talk(&alice, &bob).await;

    // The means are the right ones: robbed before, Bob's state gives everything that is reached by
    // others' commits. His own has secrets that only he ever had.
    let early = Thief::robs_as_after(&server, &bob, before).await;
    let read = early.reads_what_it_derives();
    assert!(read.is_superset(&texts(&["on Alice's branch", "number 1", "number 2"])), "{read:?}");

    let thief = Thief::robs(&server, &bob).await;
    assert!(thief.stored.group.states.len() >= 5);
    let (derived, failures) = thief.derives();
    assert!(derived.is_empty());
    let punctured = failures.iter().filter(|error| error.to_string().contains("puncture")).count();
    // Each commit on the state of its parent.
    assert!(punctured >= 3, "{failures:?}");
    assert_eq!(thief.reads_what_it_derives(), texts(&[]));
}

/// With `keep`, which is the default, the store has the keys of all messages.
#[tokio::test]
async fn kept_history_is_readable_for_a_thief() {
    let (server, alice, bob) = room(HistoryPolicy::Keep).await;
    talk(&alice, &bob).await;
    server.clock().advance(100 * TestClock::DAY);
    bob.syncs().await;
    let thief = Thief::robs(&server, &bob).await;
    let all = ["hello", "on Alice's branch", "on Bob's branch", "number 1", "number 2"];
    assert_eq!(thief.reads_with_the_keys(), texts(&all));

    // It is the keys that read: with nothing but them taken away, the same copy reads nothing. And the
    // policy that keeps them: with `days` they are gone by then.
    let mut without = thief;
    without.stored.group.epoch_keys.clear();
    assert_eq!(without.reads_with_the_keys(), texts(&[]));
    let (server, alice, bob) = room(HistoryPolicy::Days(7.try_into().unwrap())).await;
    talk(&alice, &bob).await;
    assert_eq!(Thief::robs(&server, &bob).await.reads_with_the_keys(), texts(&all));
    server.clock().advance(100 * TestClock::DAY);
    bob.syncs().await;
    // The epoch that Bob sends in stays.
    assert_eq!(Thief::robs(&server, &bob).await.reads_with_the_keys(), texts(&["number 2"]));
}

/// A commit of one's own that waits for the server's answer is there with the epoch that it makes.
#[tokio::test]
async fn a_pending_commit_is_open_to_a_thief_until_it_is_accepted() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let before = bob.store().writes();
    bob.starts_to_update_keys().await;
    let pending = bob.store().writes();
    bob.pumps().await;
    alice.syncs().await;
    alice.says("in Bob's epoch").await;
    settle(&[&alice, &bob]).await;

    // The state of its parent alone does not give it: its secrets are Bob's.
    let early = Thief::robs_as_after(&server, &bob, before).await;
    assert_eq!(early.accepts_what_is_pending(), texts(&[]));
    assert_eq!(early.reads_what_it_derives(), texts(&[]));
    let thief = Thief::robs_as_after(&server, &bob, pending).await;
    assert_eq!(thief.stored.group.pending.len(), 1);
    assert_eq!(thief.accepts_what_is_pending(), texts(&["in Bob's epoch"]));
    let late = Thief::robs(&server, &bob).await;
    assert!(late.stored.group.pending.is_empty());
    assert_eq!(late.accepts_what_is_pending(), texts(&[]));
    assert_eq!(late.reads_what_it_derives(), texts(&[]));
}

/// With `none` the key of a message goes when it is read, what is left of an epoch's keys goes with the
/// state, and nothing that is left brings them back.
#[tokio::test]
async fn history_that_is_not_kept_is_gone() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    talk(&alice, &bob).await;
    // One that Bob has never seen.
    alice.says("lost").await;
    server.drops_timeline_of(bob.name());
    let before = Thief::robs(&server, &bob).await;
    assert_eq!(before.reads_with_the_keys(), texts(&["lost"]));
    alice.updates_keys().await;
    settle(&[&alice, &bob]).await;
    assert_eq!(Thief::robs(&server, &bob).await.reads_with_the_keys(), texts(&["lost"]));

    server.clock().advance(8 * TestClock::DAY);
    bob.syncs().await;
    let thief = Thief::robs(&server, &bob).await;
    assert_eq!(thief.stored.group.states.len(), 1);
    assert_eq!(thief.reads_with_the_keys(), texts(&[]));
    assert_eq!(thief.reads_what_it_derives(), texts(&[]));
}

/// What protocol §9 says that a thief still gets.
#[tokio::test]
async fn a_commit_that_was_not_processed_is_open_to_a_thief() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let copy = bob.store().writes();
    alice.updates_keys().await;
    alice.says("entered").await;
    settle(&[&alice, &bob]).await;
    server.holds_back_timeline_of(bob.name(), true);
    alice.updates_keys().await;
    alice.says("not heard of").await;
    let thief = Thief::robs(&server, &bob).await;
    // What follows the tip, until the next update of Bob's.
    assert_eq!(thief.reads_what_it_derives(), texts(&["not heard of"]));
    let early = Thief::robs_as_after(&server, &bob, copy).await;
    assert_eq!(early.reads_what_it_derives(), texts(&["entered", "not heard of"]));

    // Bob heals it: what comes after an update of his is closed.
    server.holds_back_timeline_of(bob.name(), false);
    settle(&[&alice, &bob]).await;
    bob.updates_keys().await;
    settle(&[&alice, &bob]).await;
    alice.says("healed").await;
    let thief = Thief { stored: thief.stored, ..Thief::robs(&server, &bob).await };
    assert_eq!(thief.reads_what_it_derives(), texts(&["not heard of"]));
}
