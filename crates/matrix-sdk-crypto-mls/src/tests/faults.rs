//! A store that fails at its n-th write, for every n.

use matrix_dmls::{HistoryPolicy, TrustRequirement};

use super::{assert_no_generation_is_reused, assert_one_epoch, settle};
use crate::{
    RequestFailure, RoomSettings,
    testing::{FaultyStore, SimDevice, SimServer},
};

/// What happens at the n-th write.
#[derive(Clone, Copy, Debug)]
enum At {
    /// It fails, and what was being done is tried again.
    Fails,
    /// It is done, but reported as failed.
    AnswerIsLost,
    /// The process is killed there.
    Crashes,
}

/// In whose store.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Founder,
    Joiner,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founders_writes_fail() {
    at_every_write(Whose::Founder, At::Fails).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founders_writes_are_not_answered() {
    at_every_write(Whose::Founder, At::AnswerIsLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founder_crashes() {
    at_every_write(Whose::Founder, At::Crashes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_joiners_writes_fail() {
    at_every_write(Whose::Joiner, At::Fails).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_joiners_writes_are_not_answered() {
    at_every_write(Whose::Joiner, At::AnswerIsLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_joiner_crashes() {
    at_every_write(Whose::Joiner, At::Crashes).await;
}

/// The same where each message can be read once: none is lost by a write that fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_read_once_survive_failing_writes() {
    at_every_write_with(Whose::Joiner, At::Fails, HistoryPolicy::None).await;
    at_every_write_with(Whose::Founder, At::Fails, HistoryPolicy::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_read_once_survive_lost_answers() {
    at_every_write_with(Whose::Joiner, At::AnswerIsLost, HistoryPolicy::None).await;
    at_every_write_with(Whose::Founder, At::AnswerIsLost, HistoryPolicy::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_read_once_survive_a_crash() {
    at_every_write_with(Whose::Joiner, At::Crashes, HistoryPolicy::None).await;
    at_every_write_with(Whose::Founder, At::Crashes, HistoryPolicy::None).await;
}

async fn at_every_write(whose: Whose, at: At) {
    at_every_write_with(whose, at, HistoryPolicy::Keep).await;
}

async fn at_every_write_with(whose: Whose, at: At, history: HistoryPolicy) {
    let mut nth = 0;
    // Ends when the story is over before that write.
    while story(whose, at, nth, history).await {
        nth += 1;
    }
    assert!(nth > 20, "only {nth} writes");
}

/// A whole scenario, with a fault at the n-th write. Gives whether it came to that.
async fn story(whose: Whose, at: At, nth: usize, history: HistoryPolicy) -> bool {
    let faulty = FaultyStore::new();
    match at {
        At::Fails => faulty.fail_at(nth),
        At::AnswerIsLost => faulty.lose_answer_at(nth),
        At::Crashes => faulty.die_at(nth),
    }
    let mut stores = [FaultyStore::new(), FaultyStore::new()];
    match whose {
        Whose::Founder => stores[0] = faulty,
        Whose::Joiner => stores[1] = faulty,
    }
    let [alices, bobs] = stores;
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").store(alices).room_settings(RoomSettings {
        trust: TrustRequirement::All,
        history,
        ..RoomSettings::default()
    });
    let alice = alice.logs_in_quietly().await;
    let bob = server.device("bob", "LAPTOP").store(bobs).logs_in_quietly().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    let watched = match whose {
        Whose::Founder => alice.clone(),
        Whose::Joiner => bob.clone(),
    };
    watched.crashes_on_faults(matches!(at, At::Crashes));
    let mut said = Vec::new();

    alice.pumps().await;
    bob.pumps().await;
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    said.push((alice.says("founded").await, "founded"));
    bob.syncs().await;
    said.push((bob.says("joined").await, "joined"));
    // Both commit at once.
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    bob.pumps().await;
    said.push((alice.says("on one branch").await, "on one branch"));
    said.push((bob.says("on the other").await, "on the other"));
    settle(&[&alice, &bob]).await;
    // Events in the wrong order.
    server.holds_back_timeline_of(watched.name(), true);
    let other = if watched.name() == alice.name() { &bob } else { &alice };
    other.updates_keys().await;
    said.push((other.says("one more").await, "one more"));
    other.updates_keys().await;
    said.push((other.says("and another").await, "and another"));
    server.holds_back_timeline_of(watched.name(), false);
    server.reverses_timeline_of(watched.name());
    settle(&[&alice, &bob]).await;
    // Somebody comes.
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    bob.syncs().await;
    let here = watched.looks_with(&alice).says("hello Carol").await;
    settle(&[&alice, &bob, &carol]).await;
    carol.has_read(&here, "hello Carol");
    said.push((here, "hello Carol"));
    let thanks = carol.says("thanks").await;
    settle(&[&alice, &bob, &carol]).await;
    said.push((thanks, "thanks"));

    let context = format!("{whose:?} {at:?} {nth} {history:?}");
    for device in [&alice, &bob] {
        for (event, text) in &said {
            assert_eq!(device.text(event).as_deref(), Some(*text), "{context}: {device:?}");
        }
        assert!(device.store_outbox().await.is_empty(), "{context}: {device:?}");
    }
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    assert_no_generation_is_reused(&server, &[&alice, &bob, &carol]);
    watched.store().attempts() > nth
}

#[tokio::test]
async fn a_failed_write_changes_nothing() {
    let (_, alice, _) = super::alice_and_bob().await;
    let (node, writes) = (alice.node().await, alice.store().writes());
    alice.store().fail_at(0);
    assert!(alice.mls().update_keys(alice.room()).await.is_err());
    assert_eq!((alice.node().await, alice.store().writes()), (node, writes));
    assert!(alice.store_outbox().await.is_empty());
    alice.store().fail_at(0);
    assert!(alice.encrypts_and_sends(&serde_json::json!({})).await.is_err());
    alice.starts_to_update_keys().await;
    let request = alice.store_outbox().await.pop().unwrap();
    alice.store().fail_at(0);
    let failed = alice.mls().mark_request_as_failed(&request.id, RequestFailure::Refused).await;
    assert!(failed.is_err());
    assert_eq!(alice.store_outbox().await, [request]);
}

#[tokio::test]
async fn rooms_do_not_use_one_key_package_twice() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let mut rooms: Vec<SimDevice> = Vec::new();
    for _ in 0..4 {
        let room = alice.creates_room().await;
        room.invites(&bob);
        bob.joins(&room).await;
        alice.syncs().await;
        rooms.push(room);
    }
    // All claim before any commits; the store lets the others have their turn in between.
    for room in &rooms {
        room.readiness().await;
    }
    alice.pumps().await;
    let (a, b, c, d) = tokio::join!(
        rooms[0].readiness(),
        rooms[1].readiness(),
        rooms[2].readiness(),
        rooms[3].readiness()
    );
    assert_eq!([a, b, c, d].len(), 4);
    alice.pumps().await;
    for room in &rooms {
        room.says("hello").await;
    }
    settle(&[&alice, &bob]).await;
    for room in &rooms {
        assert_one_epoch(&[room, &bob.looks_with(room)]).await;
    }
}
