//! Our own commits: accepted, refused, or nobody knows.

use super::{alice_and_bob, assert_one_epoch, settle, welcomes_sent};
use crate::{
    MlsError, Notice, Readiness,
    store::MlsStore as _,
    testing::{Fault, RequestKind, SimDevice, SimError, SimServer, TestClock},
};

const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";

#[tokio::test]
async fn nothing_is_entered_before_the_server_has_it() {
    let (_, alice, bob) = alice_and_bob().await;
    let before = alice.node().await;
    alice.starts_to_update_keys().await;
    assert_eq!(alice.node().await, before);
    assert_eq!(alice.readiness().await, Readiness::NeedsRequests);
    alice.pumps().await;
    assert_ne!(alice.node().await, before);
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn a_message_goes_on_where_a_commit_was_refused() {
    let (server, alice, bob) = alice_and_bob().await;
    let before = alice.node().await;
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::Refused);
    alice.starts_to_update_keys().await;
    alice.pumps().await;
    let refused = |notice: &Notice| matches!(notice, Notice::CommitRefused { .. });
    assert!(alice.takes_notices().iter().any(refused));
    let event = alice.says("as before").await;
    assert_eq!(alice.node().await, before);
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "as before");

    // Not even a new device is worth another try, for ten minutes.
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    alice.syncs().await;
    let commits = server.count(alice.room(), COMMIT);
    alice.says("the desktop has to wait").await;
    assert_eq!(server.count(alice.room(), COMMIT), commits);
    assert!(matches!(alice.mls().update_keys(alice.room()).await, Err(MlsError::CommitsRefused)));
    server.clock().advance(11 * TestClock::MINUTE);
    let event = alice.says("now").await;
    settle(&[&alice, &bob, &desktop]).await;
    desktop.has_read(&event, "now");
    assert_one_epoch(&[&alice, &bob, &desktop]).await;
}

/// A server may refuse what it has posted, so refused commits are kept; not all of them for ever.
#[tokio::test]
async fn a_server_that_refuses_for_ever_does_not_fill_the_store() {
    let (server, alice, bob) = alice_and_bob().await;
    let before = alice.node().await;
    let mut refused = Vec::new();
    for _ in 0..12 {
        server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::Refused);
        alice.starts_to_update_keys().await;
        alice.pumps().await;
        refused.extend(alice.takes_notices().into_iter().filter_map(|notice| match notice {
            Notice::CommitRefused { node, .. } => Some(node),
            _ => None,
        }));
        server.clock().advance(11 * TestClock::MINUTE);
    }
    assert_eq!(refused.len(), 12);
    let stored = alice.store().load_room(alice.room()).await.unwrap().unwrap();
    assert!(stored.group.pending.keys().all(|node| refused[4..].contains(node)));
    assert_eq!(stored.group.pending.len(), 8);
    assert_eq!(alice.node().await, before);
    alice.restarts().await;
    alice.updates_keys().await;
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn nothing_is_said_to_the_removed_when_the_removal_was_refused() {
    let (server, alice, bob) = alice_and_bob().await;
    alice.kicks(&bob);
    alice.syncs().await;
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::Refused);
    for _ in 0..2 {
        assert!(matches!(
            alice.tries_to_say("a secret").await,
            Err(SimError::Machine(MlsError::CommitsRefused))
        ));
    }
    server.clock().advance(11 * TestClock::MINUTE);
    alice.says("a secret").await;
    assert!(!alice.sees(&bob).await);
}

#[tokio::test]
async fn a_server_that_lies_about_a_refusal_loses_nobody() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice).await;
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::ResponseLost);
    alice.tries_to_pump().await.unwrap();
    starts_to_say(&alice).await;
    // It has it, but says that it has not.
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::Refused);
    alice.pumps().await;
    assert!(alice.store_outbox().await.is_empty());
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    assert!(alice.sees(&carol).await);
}

#[tokio::test]
async fn an_answer_that_is_lost_comes_by_sync() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice).await;
    let welcomes = welcomes_sent(&server, &alice);
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::ResponseLost);
    starts_to_say(&alice).await;
    assert_eq!(alice.epoch().await, Some(1));
    // Nothing else is committed while its fate is open.
    assert!(matches!(alice.mls().update_keys(alice.room()).await, Ok(Readiness::NeedsRequests)));
    assert_eq!(alice.store_outbox().await.len(), 1);
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::RequestLost);
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    assert_eq!(alice.epoch().await, Some(2));
    assert_eq!(welcomes_sent(&server, &alice), welcomes + 1);
    let entered = |notice: &Notice| matches!(notice, Notice::EpochEntered { .. });
    assert_eq!(alice.takes_notices().into_iter().filter(entered).count(), 1);
    assert_eq!(server.count(alice.room(), COMMIT), 2);
}

#[tokio::test]
async fn an_answer_that_is_lost_is_asked_for_again() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice).await;
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::ResponseLost);
    starts_to_say(&alice).await;
    // The same transaction: the server does it once.
    alice.pumps().await;
    assert_eq!(alice.epoch().await, Some(2));
    assert_eq!(server.count(alice.room(), COMMIT), 2);
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    assert_eq!(welcomes_sent(&server, &alice), 2);
}

#[tokio::test]
async fn an_answer_that_comes_after_the_echo_changes_nothing() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice).await;
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::Late);
    starts_to_say(&alice).await;
    assert_eq!(alice.epoch().await, Some(1));
    alice.syncs().await;
    assert_eq!(alice.epoch().await, Some(2));
    alice.gets_late_answers().await;
    assert_eq!(alice.epoch().await, Some(2));
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    assert_eq!(welcomes_sent(&server, &alice), 2);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_echo_is_enough() {
    let (server, alice, bob) = alice_and_bob().await;
    server.holds_back_timeline_of(alice.name(), true);
    alice.updates_keys().await;
    let event = alice.says("without having seen my own commit").await;
    settle(&[&bob]).await;
    bob.has_read(&event, "without having seen my own commit");
    server.holds_back_timeline_of(alice.name(), false);
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn after_a_crash_the_commit_is_sent_under_the_same_transaction() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice).await;
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::ResponseLost);
    starts_to_say(&alice).await;
    let before = alice.store_outbox().await;
    alice.restarts().await;
    assert_eq!(alice.store_outbox().await, before);
    alice.pumps().await;
    assert_eq!(server.count(alice.room(), COMMIT), 2);
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    let event = alice.says("I am back").await;
    settle(&[&alice, &bob, &carol]).await;
    carol.has_read(&event, "I am back");
}

#[tokio::test]
async fn after_a_crash_the_welcome_is_sent() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice).await;
    server.next_goes_wrong(alice.name(), RequestKind::ToDevice, Fault::RequestLost);
    starts_to_say(&alice).await;
    let outbox = alice.store_outbox().await;
    assert_eq!(outbox.len(), 1, "the Welcome waits");
    settle(&[&carol]).await;
    assert!(carol.status().await.is_none());
    alice.restarts().await;
    server.next_goes_wrong(alice.name(), RequestKind::ToDevice, Fault::ResponseLost);
    alice.pumps().await;
    assert_eq!(alice.store_outbox().await, outbox, "the same transaction");
    alice.restarts().await;
    alice.pumps().await;
    assert!(alice.store_outbox().await.is_empty());
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn who_commits_on_ours_has_seen_it() {
    let (server, alice, bob) = alice_and_bob().await;
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::ResponseLost);
    server.holds_back_timeline_of(alice.name(), true);
    alice.starts_to_update_keys().await;
    alice.tries_to_pump().await.unwrap();
    bob.syncs().await;
    bob.updates_keys().await;
    // Of all that happened she hears only of Bob's commit.
    let last = server.events(alice.room()).last().unwrap().to_json();
    alice.mls().receive_room_events(alice.room(), &[], &[last]).await.unwrap();
    alice.pumps().await;
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn who_may_not_commit_can_talk_and_read() {
    let server = SimServer::new(1);
    let options = crate::testing::RoomOptions {
        events: [(COMMIT.to_owned(), 50)].into(),
        ..Default::default()
    };
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room_with(options).await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    alice.says("hello").await;
    settle(&[&alice, &bob]).await;
    let carol = newcomer(&server, &alice).await;
    bob.syncs().await;
    let event = bob.says("I cannot add Carol").await;
    settle(&[&alice, &bob]).await;
    alice.has_read(&event, "I cannot add Carol");
    assert!(!bob.sees(&carol).await);
}

#[tokio::test]
async fn a_refused_upload_of_key_packages_is_not_repeated_at_once() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in_quietly().await;
    server.next_goes_wrong(alice.name(), RequestKind::KeysUpload, Fault::Refused);
    server.next_goes_wrong(alice.name(), RequestKind::KeysUpload, Fault::Refused);
    alice.pumps().await;
    assert!(server.requests_of(alice.name()).is_empty());
    // The next sync says what is missing.
    alice.syncs().await;
    alice.syncs().await;
    let package = "io.github.matrix-mls.dmls.v1.key_package.1";
    assert_eq!(server.one_time_key_count(alice.name(), package), 50);
}

#[tokio::test]
async fn an_upload_of_key_packages_whose_answer_is_lost_is_repeated() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in_quietly().await;
    server.next_goes_wrong(alice.name(), RequestKind::KeysUpload, Fault::ResponseLost);
    alice.pumps().await;
    alice.pumps().await;
    let requests = server.requests_of(alice.name());
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0], requests[1]);
    let package = "io.github.matrix-mls.dmls.v1.key_package.1";
    assert_eq!(server.one_time_key_count(alice.name(), package), 50);
}

/// Carol has joined the room, and Alice knows it.
async fn newcomer(server: &SimServer, alice: &SimDevice) -> SimDevice {
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(alice).await;
    alice.syncs().await;
    carol
}

/// Does what must come before a message, as far as it goes.
async fn starts_to_say(device: &SimDevice) {
    match device.tries_to_prepare().await {
        Ok(_) | Err(SimError::Machine(MlsError::NotReady(_))) => {}
        Err(error) => panic!("{error}"),
    }
}
