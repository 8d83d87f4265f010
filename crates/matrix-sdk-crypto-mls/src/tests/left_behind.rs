//! Left behind (protocol §8), and back in by a join request or an external commit (§6).

use super::{
    alice_and_bob, assert_no_generation_is_reused, assert_one_epoch, commits_in, joins, settle,
    time_passes,
};
use crate::{
    MlsError, Notice, Readiness, RoomSettings,
    dmls::{ExternalJoins, TrustRequirement},
    testing::{Fault, FaultyStore, RequestKind, SimDevice, SimServer, TestClock},
};

const SECOND: u64 = TestClock::MINUTE / 60;

/// Bob was cut off from the others for longer than states are kept; both sides have gone on, and the
/// others' branch is the chosen one.
pub(super) async fn bob_is_left_behind(
    settings: RoomSettings,
) -> (SimServer, SimDevice, SimDevice, SimDevice) {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").room_settings(settings).logs_in().await;
    let alice = alice.creates_room().await;
    alice.says("hello").await;
    let bob = joins(&server, &alice, "bob").await;
    let carol = joins(&server, &alice, "carol").await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    server.is_cut_between(&[alice.user_id(), carol.user_id()], &[bob.user_id()]);
    for device in [&alice, &carol, &bob] {
        device.updates_keys().await;
        settle(&all).await;
    }
    server.clock().advance(8 * TestClock::DAY);
    settle(&all).await;
    server.heals();
    settle(&all).await;
    for device in all {
        device.takes_notices();
    }
    assert!(alice.status().await.unwrap().is_chosen);
    assert!(!bob.status().await.unwrap().is_chosen);
    (server, alice, bob, carol)
}

fn everybody() -> RoomSettings {
    RoomSettings { trust: TrustRequirement::All, ..RoomSettings::default() }
}

#[tokio::test]
async fn who_is_left_behind_asks_and_is_let_in() {
    let (server, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    let all = [&alice, &bob, &carol];
    let commits = commits_in(&alice);
    // He asks after 10 s, and the first who is asked waits for 20 s.
    time_passes(&all, 9 * SECOND).await;
    assert_eq!(super::welcomes_sent(&server, &bob), 0);
    time_passes(&all, 2 * SECOND).await;
    assert_eq!(super::welcomes_sent(&server, &bob), 1);
    time_passes(&all, 18 * SECOND).await;
    assert_eq!(commits_in(&alice), commits);
    time_passes(&all, 3 * SECOND).await;
    assert_eq!(commits_in(&alice), commits + 1);
    assert_one_epoch(&all).await;
    let joined = |notice: &Notice| matches!(notice, Notice::Joined { .. });
    assert_eq!(bob.takes_notices().iter().filter(|notice| joined(notice)).count(), 1);
    // That is all: nobody does anything more, and he has one leaf.
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(commits_in(&alice), commits + 1);
    assert_eq!(alice.devices_in_group().await.len(), 3);
    let event = bob.says("back").await;
    settle(&all).await;
    alice.has_read(&event, "back");
    carol.has_read(&event, "back");
    assert_no_generation_is_reused(&server, &all);
}

#[tokio::test]
async fn who_is_left_behind_speaks_where_it_is_after_ten_seconds() {
    let (server, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    // Nobody is there to let him in.
    let behind = bob.node().await;
    assert_eq!(bob.readiness().await, Readiness::WaitingForWelcome);
    time_passes(&[&bob], 11 * SECOND).await;
    let commits = commits_in(&bob);
    let event = bob.says("is anybody there?").await;
    assert_eq!((bob.node().await, commits_in(&bob)), (behind, commits));
    assert_eq!(server.sent_messages().last().unwrap().node, behind.unwrap());
    // At the second try he comes in by himself.
    assert!(matches!(bob.readiness().await, Readiness::Ready { .. }));
    time_passes(&[&bob], 3 * TestClock::MINUTE).await;
    assert_eq!(commits_in(&bob), commits + 1);
    let status = bob.status().await.unwrap();
    assert!(status.is_chosen);
    let second = bob.says("now I am").await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    assert_one_epoch(&all).await;
    for device in [&alice, &carol] {
        device.has_read(&second, "now I am");
        assert!(device.text(&event).is_none());
        assert_eq!(device.devices_in_group().await.len(), 3);
    }
    // They could not enter his branch, but had a leaf there.
    time_passes(&all, TestClock::MINUTE).await;
    alice.has_read(&event, "is anybody there?");
    carol.has_read(&event, "is anybody there?");
    // What he asked for first is of no use any more.
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(commits_in(&bob), commits + 1);
}

#[tokio::test]
async fn with_nothing_to_say_it_takes_three_tries_until_one_comes_in_alone() {
    let (_, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    let commits = commits_in(&bob);
    time_passes(&[&bob], 10 * TestClock::MINUTE).await;
    assert_eq!(commits_in(&bob), commits);
    time_passes(&[&bob], 2 * TestClock::MINUTE).await;
    assert_eq!(commits_in(&bob), commits + 1);
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    assert_one_epoch(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(commits_in(&bob), commits + 1);
    assert_eq!(alice.devices_in_group().await.len(), 3);
}

#[tokio::test]
async fn the_next_ones_answer_if_the_first_does_not() {
    let (_, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    let commits = commits_in(&bob);
    // Carol has made the tip, and is away.
    time_passes(&[&alice, &bob], 11 * SECOND).await;
    time_passes(&[&alice, &bob], 70 * SECOND).await;
    assert_eq!(commits_in(&bob), commits);
    time_passes(&[&alice, &bob], 12 * SECOND).await;
    assert_eq!(commits_in(&bob), commits + 1);
    assert_one_epoch(&[&alice, &bob]).await;
    // When she comes she finds that it is done.
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    assert_one_epoch(&all).await;
    assert_eq!(commits_in(&bob), commits + 1);
}

#[tokio::test]
async fn who_commits_anyway_lets_in_who_asks() {
    let (_, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    let all = [&alice, &bob, &carol];
    time_passes(&all, 11 * SECOND).await;
    let commits = commits_in(&alice);
    alice.updates_keys().await;
    settle(&all).await;
    assert_eq!(commits_in(&alice), commits + 1);
    assert_one_epoch(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(commits_in(&alice), commits + 1);
}

#[tokio::test]
async fn restarts_in_between_lose_nothing() {
    for (bob_stops, answers_get_lost) in [(true, false), (false, true), (true, true)] {
        let (server, alice, bob, carol) = bob_is_left_behind(everybody()).await;
        let all = [&alice, &bob, &carol];
        let restarts = async || {
            for device in all {
                if device.name() != bob.name() || bob_stops {
                    device.restarts().await;
                }
            }
        };
        restarts().await;
        // His request is sent twice if its answer gets lost.
        if answers_get_lost {
            let (kind, fault) = (RequestKind::ToDevice, Fault::ResponseLost);
            server.next_goes_wrong(bob.name(), kind, fault);
        }
        settle(&all).await;
        time_passes(&all, 11 * SECOND).await;
        restarts().await;
        settle(&all).await;
        time_passes(&all, 10 * SECOND).await;
        if answers_get_lost {
            server.next_goes_wrong(carol.name(), RequestKind::Commit, Fault::ResponseLost);
            server.next_goes_wrong(carol.name(), RequestKind::ToDevice, Fault::ResponseLost);
        }
        let commits = commits_in(&alice);
        time_passes(&all, 10 * SECOND).await;
        restarts().await;
        settle(&all).await;
        time_passes(&all, TestClock::HOUR).await;
        assert_one_epoch(&all).await;
        assert!(bob.status().await.unwrap().is_chosen);
        assert_eq!(commits_in(&alice), commits + 1);
    }
}

#[tokio::test]
async fn an_external_commit_survives_a_restart() {
    let (server, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    for fault in [Fault::RequestLost, Fault::ResponseLost] {
        server.next_goes_wrong(bob.name(), RequestKind::Commit, fault);
    }
    let commits = commits_in(&bob);
    for _ in 0..30 {
        time_passes(&[&bob], TestClock::MINUTE).await;
        bob.restarts().await;
        bob.syncs().await;
    }
    assert_eq!(commits_in(&bob), commits + 1);
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    assert_one_epoch(&all).await;
}

#[tokio::test]
async fn where_strangers_may_not_come_in_alone_members_may_come_back() {
    let settings = RoomSettings { external: ExternalJoins::Forbidden, ..everybody() };
    let (server, alice, bob, carol) = bob_is_left_behind(settings).await;
    time_passes(&[&bob], 30 * TestClock::MINUTE).await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    assert_one_epoch(&all).await;
    // A stranger has to ask.
    let dave = server.device("dave", "DEVICE").logs_in().await;
    alice.invites(&dave);
    let dave = dave.joins(&alice).await;
    settle(&[&alice, &bob, &carol]).await;
    let commits = commits_in(&alice);
    server.loses_to_device_of(dave.name(), 1);
    let event = bob.says("hello").await;
    settle(&all).await;
    assert_eq!(commits_in(&alice), commits + 1);
    dave.syncs().await;
    // He has a leaf now, of which he has heard only.
    let dave = dave.looks_with(&alice);
    assert!(dave.text(&event).is_none());
    let before = commits_in(&alice);
    let everybody = [&alice, &bob, &carol, &dave];
    time_passes(&everybody, TestClock::HOUR).await;
    assert_one_epoch(&everybody).await;
    assert!(commits_in(&alice) <= before + 1);
}

#[tokio::test]
async fn a_lost_store_is_replaced_by_a_join_request() {
    let (server, alice, bob) = alice_and_bob().await;
    let all = [&alice, &bob];
    server.clock().advance(TestClock::MINUTE);
    bob.restarts_from(std::sync::Arc::new(FaultyStore::new())).await;
    bob.pumps().await;
    // What a client does that has nothing: it gets the room's state and its last events.
    let events: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
    bob.mls().receive_room_events(alice.room(), &[], &events).await.unwrap();
    assert!(bob.status().await.is_none());
    let commits = commits_in(&alice);
    time_passes(&all, TestClock::MINUTE).await;
    assert_eq!(commits_in(&alice), commits + 1);
    assert_one_epoch(&all).await;
    assert_eq!(alice.devices_in_group().await.len(), 2);
    let event = bob.says("with a new key").await;
    settle(&all).await;
    alice.has_read(&event, "with a new key");
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(commits_in(&alice), commits + 1);
}

#[tokio::test]
async fn a_welcome_that_got_lost_is_made_up_for() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    server.loses_to_device_of(carol.name(), 1);
    let event = alice.says("you will hear this later").await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    assert!(carol.status().await.is_none());
    assert!(alice.sees(&carol).await);
    time_passes(&all, TestClock::MINUTE).await;
    assert_one_epoch(&all).await;
    // She had a leaf there, so somebody gives her the key.
    carol.has_read(&event, "you will hear this later");
    let event = carol.says("here I am").await;
    settle(&all).await;
    alice.has_read(&event, "here I am");
    bob.has_read(&event, "here I am");
}

/// It comes when the device has seen from outside what is below it, or has come in by itself.
#[tokio::test]
async fn a_welcome_that_is_late_lets_one_read_all_the_same() {
    for comes_in_alone in [false, true] {
        let (server, alice, bob) = alice_and_bob().await;
        let carol = server.device("carol", "TABLET").logs_in().await;
        alice.invites(&carol);
        let carol = carol.joins(&alice).await;
        alice.syncs().await;
        server.holds_back_to_device_of(carol.name(), true);
        let first = alice.says("can you hear me?").await;
        alice.updates_keys().await;
        let second = alice.says("can you hear me now?").await;
        // The others are not there when she asks.
        carol.syncs().await;
        time_passes(&[&carol], 11 * SECOND).await;
        assert!(carol.status().await.is_none());
        if comes_in_alone {
            carol.says("I am here").await;
        }
        server.holds_back_to_device_of(carol.name(), false);
        let all = [&alice, &bob, &carol];
        settle(&all).await;
        carol.has_read(&first, "can you hear me?");
        carol.has_read(&second, "can you hear me now?");
        assert_one_epoch(&all).await;
        let event = bob.says("she can").await;
        settle(&all).await;
        carol.has_read(&event, "she can");
        time_passes(&all, TestClock::HOUR).await;
        assert_one_epoch(&all).await;
    }
}

/// Bob is let in, does not hear of it, and asks once more; only Carol is there. A key package opens one
/// Welcome only, so both are of use only if they were made for two.
#[tokio::test]
async fn two_welcomes_that_are_late_can_both_be_used() {
    let (server, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    let online = [&bob, &carol];
    server.holds_back_to_device_of(bob.name(), true);
    let mut said = Vec::new();
    let before = commits_in(&carol);
    for minutes in [2, 6] {
        time_passes(&online, minutes * TestClock::MINUTE).await;
        said.push(carol.says("are you there now?").await);
    }
    assert_eq!(commits_in(&carol), before + 2);
    server.holds_back_to_device_of(bob.name(), false);
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    said.iter().for_each(|event| bob.has_read(event, "are you there now?"));
    assert_one_epoch(&all).await;
}

#[tokio::test]
async fn an_orphan_welcome_is_made_up_for() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    // Her key packages are those of a store that she loses.
    let store = std::sync::Arc::new(FaultyStore::new());
    server.clock().advance(TestClock::MINUTE);
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    alice.says("come in").await;
    carol.restarts_from(store).await;
    carol.pumps().await;
    let state: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
    carol.mls().receive_room_events(alice.room(), &[], &state).await.unwrap();
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    let dropped = |notice: &Notice| matches!(notice, Notice::WelcomeDropped { .. });
    assert!(carol.takes_notices().iter().any(dropped));
    assert!(carol.status().await.is_none());
    time_passes(&all, TestClock::MINUTE).await;
    assert_one_epoch(&all).await;
    let event = carol.says("here I am").await;
    settle(&all).await;
    bob.has_read(&event, "here I am");
}

#[tokio::test]
async fn the_welcomer_is_kicked_before_the_welcome_is_used() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.looks_with(&alice);
    bob.syncs().await;
    // Bob lets her in, and is gone before she has joined.
    bob.says("come in").await;
    settle(&[&alice, &bob]).await;
    assert!(alice.sees(&carol).await);
    alice.kicks(&bob);
    alice.syncs().await;
    alice.says("without Bob").await;
    let carol = carol.joins(&alice).await;
    let all = [&alice, &carol];
    settle(&all).await;
    assert!(carol.status().await.is_none());
    time_passes(&all, 10 * TestClock::MINUTE).await;
    assert_one_epoch(&all).await;
    let event = carol.says("here I am").await;
    settle(&all).await;
    alice.has_read(&event, "here I am");
    assert_eq!(alice.devices_in_group().await.len(), 2);
}

#[tokio::test]
async fn who_was_kicked_and_is_back_asks_too() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = joins(&server, &alice, "carol").await;
    settle(&[&alice, &bob, &carol]).await;
    alice.kicks(&carol);
    alice.syncs().await;
    alice.says("without Carol").await;
    settle(&[&alice, &bob, &carol]).await;
    let refused = carol.tries_to_say("what?").await;
    assert!(refused.is_err());
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    // A sync brings what happened while she was away.
    let events: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
    carol.mls().receive_room_events(alice.room(), &[], &events).await.unwrap();
    assert_eq!(carol.readiness().await, Readiness::WaitingForWelcome);
    let commits = commits_in(&alice);
    time_passes(&all, TestClock::MINUTE).await;
    assert_eq!(commits_in(&alice), commits + 1);
    assert_one_epoch(&all).await;
    let event = carol.says("I am back").await;
    settle(&all).await;
    bob.has_read(&event, "I am back");
}

/// A long partition, after which all on one side have lost what they would need. Gives all devices:
/// two of the side that wins, and those who are left behind.
async fn many_are_left_behind(count: usize) -> Vec<SimDevice> {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    alice.says("hello").await;
    let bob = joins(&server, &alice, "bob").await;
    let mut all = vec![alice.clone(), bob.clone()];
    for number in 0..count {
        let device = server.device(&format!("user{number}"), "DEVICE").logs_in().await;
        alice.invites(&device);
        all.push(device.joins(&alice).await);
    }
    alice.syncs().await;
    alice.says("hello to all").await;
    let everybody: Vec<_> = all.iter().collect();
    settle(&everybody).await;
    assert_one_epoch(&everybody).await;

    let ids: Vec<_> = all[2..].iter().map(SimDevice::user_id).collect();
    server.is_cut_between(&[alice.user_id(), bob.user_id()], &ids);
    for device in &all[..3] {
        device.updates_keys().await;
        settle(&everybody).await;
    }
    server.clock().advance(8 * TestClock::DAY);
    settle(&everybody).await;
    server.heals();
    settle(&everybody).await;
    for device in &all[2..] {
        assert!(!device.status().await.unwrap().is_chosen);
    }
    all
}

/// The design's limit for 50 devices.
const MAX_COMMITS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_who_are_left_behind_come_back_with_few_commits() {
    let all = many_are_left_behind(50).await;
    let all: Vec<_> = all.iter().collect();
    let commits = commits_in(all[0]);
    time_passes(&all, 5 * TestClock::MINUTE).await;
    assert_one_epoch(&all).await;
    let made = commits_in(all[0]) - commits;
    eprintln!("50 devices came back with {made} commits");
    assert!(made <= MAX_COMMITS, "{made} commits");
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(commits_in(all[0]), commits + made);
    assert_one_epoch(&all).await;
}

/// Nobody is there to let them in, and all want to talk: the first who comes in alone lets in the
/// others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_who_are_left_behind_help_one_another() {
    let all = many_are_left_behind(50).await;
    let behind: Vec<_> = all[2..].iter().collect();
    let commits = commits_in(behind[0]);
    for _ in 0..10 {
        for device in &behind {
            let readiness = device.mls().prepare_room(device.room()).await.unwrap();
            if readiness == Readiness::NeedsRequests {
                device.pumps().await;
            }
        }
        time_passes(&behind, TestClock::MINUTE).await;
    }
    assert_one_epoch(&behind).await;
    let made = commits_in(behind[0]) - commits;
    eprintln!("50 devices came back by themselves with {made} commits");
    assert!(made <= MAX_COMMITS, "{made} commits");
    let all: Vec<_> = all.iter().collect();
    settle(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    assert_one_epoch(&all).await;
    assert_eq!(commits_in(all[0]), commits + made);
    let event = all[20].says("all together").await;
    settle(&all).await;
    all[0].has_read(&event, "all together");
}

/// Who would have to be removed first is not spoken to, also on another branch.
#[tokio::test]
async fn nobody_speaks_on_a_branch_with_members_that_the_chosen_one_has_removed() {
    let (server, alice, bob, carol) = bob_is_left_behind(everybody()).await;
    // Carol's device is gone, but Bob cannot know yet.
    server.cannot_ask_for_keys_of(carol.user_id(), true);
    server.deletes_device(carol.name());
    settle(&[&bob]).await;
    server.cannot_ask_for_keys_of(carol.user_id(), false);
    settle(&[&alice]).await;
    alice.says("without Carol").await;
    server.cannot_ask_for_keys_of(carol.user_id(), true);
    server.announces_devices_of(carol.user_id());
    bob.syncs().await;
    time_passes(&[&bob], 15 * SECOND).await;
    let refused = bob.tries_to_say("hello").await;
    assert!(
        matches!(refused, Err(crate::testing::SimError::Machine(MlsError::LeftBehind))),
        "{refused:?}"
    );
}
