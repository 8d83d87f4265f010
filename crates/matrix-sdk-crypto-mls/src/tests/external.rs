//! Coming in by an external commit of one's own (protocol §6).

use serde_json::json;

use super::{
    alice_and_bob, assert_no_generation_is_reused, assert_one_epoch, commits_in, settle,
    time_passes,
};
use crate::{
    Notice, Readiness, RoomSettings,
    dmls::{ExternalJoins, TrustRequirement},
    testing::{Fault, RequestKind, RoomOptions, SimDevice, SimServer, TestClock},
};

const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";

/// A device of a user who has just joined, and who sees what was there before.
pub(super) async fn newcomer(server: &SimServer, by: &SimDevice, name: &str) -> SimDevice {
    let device = server.device(name, "DEVICE").logs_in().await;
    by.invites(&device);
    let device = device.joins(by).await;
    let events: Vec<_> = server.events(by.room()).iter().map(|e| e.to_json()).collect();
    device.mls().receive_room_events(by.room(), &[], &events).await.unwrap();
    device
}

/// Reads the last few events of the room, as a client does that logs in.
async fn reads_the_last_events(device: &SimDevice, count: usize) {
    let events = device.server().events(device.room());
    let from = events.len().saturating_sub(count);
    let state: Vec<_> = events[..from]
        .iter()
        .filter(|event| event.state_key.is_some())
        .map(|event| event.to_json())
        .collect();
    let timeline: Vec<_> = events[from..].iter().map(|event| event.to_json()).collect();
    device.mls().receive_room_events(device.room(), &state, &timeline).await.unwrap();
}

#[tokio::test]
async fn a_newcomer_who_has_something_to_say_lets_itself_in() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice, "carol").await;
    // Nobody else is online.
    let event = carol.says("hello, I am new").await;
    assert_eq!(carol.devices_in_group().await.len(), 3);
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    alice.has_read(&event, "hello, I am new");
    bob.has_read(&event, "hello, I am new");
    assert_one_epoch(&all).await;
    for device in all {
        let by_itself: Vec<_> = device
            .takes_notices()
            .into_iter()
            .filter_map(|notice| match notice {
                Notice::EpochEntered { author, is_external: true, .. } => Some(author.user_id),
                _ => None,
            })
            .collect();
        assert_eq!(by_itself, [carol.user_id().as_str()]);
    }
    let answer = bob.says("welcome").await;
    settle(&all).await;
    carol.has_read(&answer, "welcome");
    carol.updates_keys().await;
    settle(&all).await;
    assert_one_epoch(&all).await;
}

#[tokio::test]
async fn a_new_device_sees_the_group_in_the_last_events_and_comes_in() {
    for seen in [4, 1] {
        let (server, alice, bob) = alice_and_bob().await;
        for device in [&alice, &bob, &alice] {
            device.updates_keys().await;
            settle(&[&alice, &bob]).await;
        }
        bob.says("a message").await;
        settle(&[&alice, &bob]).await;
        let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
        // Commits too, or the message alone, which says where its epoch's commit is.
        reads_the_last_events(&desktop, seen).await;
        server.drops_timeline_of(desktop.name());
        let last = server.events(bob.room()).last().unwrap().to_json();
        desktop.reads_event(bob.room(), &last).await.unwrap();
        let commits = commits_in(&alice);
        let event = desktop.says("from my other device").await;
        assert_eq!(commits_in(&alice), commits + 1);
        let all = [&alice, &bob, &desktop];
        settle(&all).await;
        alice.has_read(&event, "from my other device");
        assert_one_epoch(&all).await;
        assert_eq!(alice.devices_in_group().await.len(), 3);
    }
}

#[tokio::test]
async fn the_founders_second_device_founds_no_second_group() {
    for named in [true, false] {
        let server = SimServer::new(1);
        let options = RoomOptions { history_window: 100, ..RoomOptions::default() };
        let phone = server.device("alice", "PHONE").logs_in().await;
        let phone = phone.creates_room_with(options).await;
        if !named {
            // The group's state event does not get through.
            for _ in 0..9 {
                let fault = Fault::RequestLost;
                server.next_goes_wrong(phone.name(), RequestKind::GroupState, fault);
            }
        }
        phone.says("founded").await;
        let laptop = server.device("alice", "LAPTOP").logs_in().await.looks_with(&phone);
        laptop.syncs().await;
        reads_the_last_events(&laptop, 100).await;
        let event = laptop.says("from my laptop").await;
        let foundings = server
            .events(phone.room())
            .iter()
            .filter(|event| event.event_type == COMMIT && event.content["parent"].is_null())
            .count();
        assert_eq!(foundings, 1);
        settle(&[&phone, &laptop]).await;
        phone.has_read(&event, "from my laptop");
        assert_one_epoch(&[&phone, &laptop]).await;
    }
}

/// Nobody else could let her in: Alice, whose group it is, is away, and Bob is gone for good.
#[tokio::test]
async fn a_newcomer_lets_itself_into_an_epoch_whose_author_has_left() {
    let (server, alice, bob) = alice_and_bob().await;
    bob.updates_keys().await;
    settle(&[&alice, &bob]).await;
    let node = bob.node().await.unwrap();
    alice.kicks(&bob);
    let carol = newcomer(&server, &alice, "carol").await;
    assert_eq!(carol.group().await.chosen_tip(), Some(node));
    let event = carol.says("hello, I am new").await;
    // It is not for him.
    bob.tries_to_sync().await.unwrap();
    assert!(bob.text(&event).is_none());
    let roster = carol.devices_in_group().await;
    assert!(roster.iter().all(|(user, _)| user != bob.user_id()), "{roster:?}");
    let all = [&alice, &carol];
    settle(&all).await;
    alice.has_read(&event, "hello, I am new");
    assert_one_epoch(&all).await;
}

/// Where nothing leads up to what the room names, who has left leads nobody in.
#[tokio::test]
async fn who_has_left_leads_nobody_into_what_hangs_in_the_air() {
    let (server, alice, bob) = alice_and_bob().await;
    bob.updates_keys().await;
    settle(&[&alice, &bob]).await;
    alice.kicks(&bob);
    let carol = server.device("carol", "DEVICE").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    // Of the commits she has the last one only.
    let events = server.events(alice.room());
    let last = events.iter().rposition(|event| event.event_type == COMMIT).unwrap();
    let state: Vec<_> =
        events.iter().filter(|event| event.state_key.is_some()).map(|e| e.to_json()).collect();
    let events = [events[last].to_json()];
    carol.mls().receive_room_events(carol.room(), &state, &events).await.unwrap();
    let commits = commits_in(&alice);
    server.is_cut_between(&[carol.user_id()], &[alice.user_id(), bob.user_id()]);
    carol.tries_to_say("hello").await.unwrap_err();
    assert_eq!((carol.group().await.chosen_tip(), commits_in(&alice)), (None, commits));
}

#[tokio::test]
async fn two_external_commits_at_once() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice, "carol").await;
    let dave = newcomer(&server, &alice, "dave").await;
    // Each makes its commit before it has heard of the other's.
    assert_eq!(carol.readiness().await, Readiness::NeedsRequests);
    assert_eq!(dave.readiness().await, Readiness::NeedsRequests);
    let from_carol = carol.says("Carol is here").await;
    let from_dave = dave.says("so is Dave").await;
    let all = [&alice, &bob, &carol, &dave];
    settle(&all).await;
    for device in [&alice, &bob] {
        device.has_read(&from_carol, "Carol is here");
        device.has_read(&from_dave, "so is Dave");
    }
    // Whoever sends next brings all together.
    let event = bob.says("hello, both").await;
    settle(&all).await;
    assert_one_epoch(&all).await;
    for device in all {
        device.has_read(&event, "hello, both");
        assert_eq!(device.devices_in_group().await.len(), 4);
    }
    let commits = commits_in(&alice);
    time_passes(&all, TestClock::HOUR).await;
    assert_one_epoch(&all).await;
    assert!(commits_in(&alice) <= commits + 1);
    assert_no_generation_is_reused(&server, &all);
}

#[tokio::test]
async fn an_external_commit_that_loses_its_race() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice, "carol").await;
    assert_eq!(carol.readiness().await, Readiness::NeedsRequests);
    // Members come before joiners.
    alice.updates_keys().await;
    let event = carol.says("did I come in?").await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    // What she said there is read, and she is let in where everybody is.
    alice.has_read(&event, "did I come in?");
    bob.has_read(&event, "did I come in?");
    assert!(!carol.status().await.unwrap().is_chosen);
    time_passes(&all, 10 * TestClock::MINUTE).await;
    assert_one_epoch(&all).await;
    assert!(carol.status().await.unwrap().is_chosen);
    assert_eq!(alice.devices_in_group().await.len(), 3);
}

#[tokio::test]
async fn who_may_not_commit_asks() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice, "carol").await;
    server.next_goes_wrong(carol.name(), RequestKind::Commit, Fault::Refused);
    let commits = commits_in(&alice);
    carol.tries_to_say("hello").await.unwrap_err();
    assert_eq!(super::welcomes_sent(&server, &carol), 1);
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    time_passes(&all, TestClock::MINUTE).await;
    assert_eq!(commits_in(&alice), commits + 1);
    assert_one_epoch(&all).await;
    let event = carol.says("let in").await;
    settle(&all).await;
    bob.has_read(&event, "let in");
}

#[tokio::test]
async fn where_the_event_does_not_show_the_group_one_asks() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "DEVICE").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    let events: Vec<_> = server
        .events(alice.room())
        .into_iter()
        .map(|mut event| {
            // As if they had been too large.
            if let Some(content) = event.content.as_object_mut() {
                content.remove("group_info");
                content.remove("tree");
            }
            event.to_json()
        })
        .collect();
    carol.mls().receive_room_events(alice.room(), &[], &events).await.unwrap();
    let commits = commits_in(&alice);
    carol.tries_to_say("hello").await.unwrap_err();
    assert_eq!((commits_in(&alice), super::welcomes_sent(&server, &carol)), (commits, 1));
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    time_passes(&all, TestClock::MINUTE).await;
    assert_one_epoch(&all).await;
}

#[tokio::test]
async fn a_stranger_asks_where_the_group_lets_nobody_in_unasked() {
    let server = SimServer::new(1);
    let settings = RoomSettings {
        trust: TrustRequirement::All,
        external: ExternalJoins::Forbidden,
        ..RoomSettings::default()
    };
    let alice = server.device("alice", "PHONE").room_settings(settings).logs_in().await;
    let alice = alice.creates_room().await;
    alice.says("hello").await;
    let carol = newcomer(&server, &alice, "carol").await;
    let commits = commits_in(&alice);
    carol.tries_to_say("hello").await.unwrap_err();
    assert_eq!((commits_in(&alice), super::welcomes_sent(&server, &carol)), (commits, 1));
    let all = [&alice, &carol];
    settle(&all).await;
    time_passes(&all, TestClock::MINUTE).await;
    assert_one_epoch(&all).await;
    // The same user's second device may come in by itself.
    let tablet = server.device("carol", "TABLET").logs_in().await.looks_with(&carol);
    reads_the_last_events(&tablet, 100).await;
    let commits = commits_in(&alice);
    let event = tablet.says("from my tablet").await;
    assert_eq!(commits_in(&alice), commits + 1);
    settle(&[&alice, &carol, &tablet]).await;
    alice.has_read(&event, "from my tablet");
}

#[tokio::test]
async fn a_newcomers_commit_survives_a_restart() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = newcomer(&server, &alice, "carol").await;
    assert_eq!(carol.readiness().await, Readiness::NeedsRequests);
    let outbox = carol.store_outbox().await;
    carol.restarts().await;
    assert_eq!(carol.store_outbox().await, outbox);
    server.next_goes_wrong(carol.name(), RequestKind::Commit, Fault::ResponseLost);
    carol.pumps().await;
    carol.restarts().await;
    let commits = commits_in(&alice);
    let event = carol.says("still here").await;
    assert_eq!(commits_in(&alice), commits);
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    alice.has_read(&event, "still here");
    assert_one_epoch(&all).await;
}

/// A founding of somebody else's is not the room's group, whatever it promises.
#[tokio::test]
async fn nobody_is_led_into_a_group_of_somebody_elses() {
    let (server, alice, bob) = alice_and_bob().await;
    let mallory = server.device("mallory", "EVIL").logs_in().await;
    let fake = mallory.creates_room().await;
    fake.says("my own group").await;
    alice.invites(&mallory);
    mallory.joins(&alice).await;
    let carol = newcomer(&server, &alice, "carol").await;
    // The commit of another room, and one that only says that it is of this one.
    let events = server.events(fake.room());
    let stolen = events.iter().find(|event| event.event_type == COMMIT).unwrap();
    server.forges_event(alice.room(), mallory.user_id(), COMMIT, None, stolen.content.clone());
    let mut orphan = stolen.content.clone();
    orphan["parent"] = json!(bob.node().await.unwrap());
    server.forges_event(alice.room(), mallory.user_id(), COMMIT, None, orphan);
    carol.syncs().await;
    let event = carol.says("hello").await;
    settle(&[&alice, &bob, &carol]).await;
    alice.has_read(&event, "hello");
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}
