//! Join requests that are not what they should be (protocol §6). Each test shows first, or last, that
//! a true one is answered.

use serde_json::{Value, json};

use super::{
    alice_and_bob, assert_one_epoch, commits_in, left_behind::bob_is_left_behind, settle,
    time_passes,
};
use crate::{
    Clock, Notice, RoomSettings,
    dmls::TrustRequirement,
    store::MlsStore,
    testing::{Fault, RequestKind, SimDevice, SimServer, SimSync, TestClock},
};

const REQUEST: &str = "io.github.matrix-mls.dmls.v1.join_request";

async fn left_behind() -> (SimServer, SimDevice, SimDevice, SimDevice) {
    bob_is_left_behind(RoomSettings { trust: TrustRequirement::All, ..RoomSettings::default() })
        .await
}

fn request_in(sync: &SimSync) -> Value {
    let events = sync.to_device.iter().map(|e| serde_json::from_str(e.json().get()).unwrap());
    events.into_iter().find(|event: &Value| event["type"] == REQUEST).expect("a join request")
}

/// Bob's request, taken away on its way to Carol and Alice.
async fn bobs_request(server: &SimServer, bob: &SimDevice, others: [&SimDevice; 2]) -> Value {
    time_passes(&[bob], 11 * 1000).await;
    let [one, other] = others.map(|device| request_in(&server.sync(device.name())));
    for field in ["request_id", "sent_at", "tip", "room_id"] {
        assert_eq!(one["content"][field], other["content"][field]);
    }
    assert_ne!(one["content"]["key_package"], other["content"]["key_package"]);
    one
}

/// How many commits come of a request to Carol, and what that does to Bob.
async fn comes_of(server: &SimServer, request: Value, online: &[&SimDevice]) -> usize {
    let carol = online[0];
    let before = commits_in(carol);
    server.forges_to_device(carol.name(), request);
    settle(online).await;
    time_passes(online, 2 * TestClock::MINUTE).await;
    commits_in(carol) - before
}

#[tokio::test]
async fn altered_requests_are_refused() {
    let (server, alice, bob, carol) = left_behind().await;
    let request = bobs_request(&server, &bob, [&carol, &alice]).await;
    // Somebody else's request, in somebody else's name, or with another content.
    let mut others = Vec::new();
    let mut altered = request.clone();
    altered["sender"] = json!(alice.user_id());
    others.push(altered);
    for (field, value) in [
        ("sent_at", json!(request["content"]["sent_at"].as_u64().unwrap() + 1)),
        ("request_id", json!("another")),
        ("tip", json!(bob.node().await.unwrap())),
        ("tip", Value::Null),
        ("signatures", json!({})),
        ("algorithm", json!("m.megolm.v1.aes-sha2")),
        ("key_package", json!("AAAA")),
    ] {
        let mut altered = request.clone();
        altered["content"][field] = value;
        others.push(altered);
    }
    // A true key package of another device, and a true signature of another device.
    let other = server.device("bob", "OTHER").logs_in().await.looks_with(&alice);
    let events: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
    other.mls().receive_room_events(alice.room(), &[], &events).await.unwrap();
    time_passes(&[&other], 6 * TestClock::MINUTE).await;
    settle(&[&carol]).await;
    let foreign = request_in(&server.sync(alice.name()));
    let mut mixed = request.clone();
    mixed["content"]["key_package"] = foreign["content"]["key_package"].clone();
    others.push(mixed);
    let mut mixed = request.clone();
    mixed["content"]["signatures"] = foreign["content"]["signatures"].clone();
    others.push(mixed);
    let view = |device: &SimDevice| {
        let (store, room) = (device.store(), device.room().to_owned());
        async move {
            let room = MlsStore::load_room(&*store, &room).await.unwrap().unwrap();
            room.view.join_requests
        }
    };
    for forged in others {
        server.forges_to_device(alice.name(), forged.clone());
        settle(&[&alice]).await;
        assert_eq!(view(&alice).await, [], "{forged}");
    }
    server.forges_to_device(alice.name(), request.clone());
    settle(&[&alice]).await;
    assert_eq!(view(&alice).await.len(), 1);
    // And it is answered.
    time_passes(&[&alice], 3 * TestClock::MINUTE).await;
    settle(&[&bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
}

/// The second try uses the same key package on the same epoch, and is another commit all the same.
#[tokio::test]
async fn who_is_refused_by_the_server_lets_in_later() {
    let (server, alice, bob) = alice_and_bob().await;
    let dave = server.device("dave", "DEVICE").logs_in().await;
    alice.invites(&dave);
    let dave = dave.joins(&alice).await;
    let all = [&alice, &bob, &dave];
    settle(&all).await;
    time_passes(&[&dave], 6 * TestClock::MINUTE).await;
    let before = commits_in(&alice);
    server.next_goes_wrong(alice.name(), RequestKind::Commit, Fault::Refused);
    settle(&[&alice]).await;
    time_passes(&[&alice], 3 * TestClock::MINUTE).await;
    assert_eq!(commits_in(&alice), before);
    let refused = |notice: &Notice| matches!(notice, Notice::CommitRefused { .. });
    assert!(alice.takes_notices().iter().any(refused));
    time_passes(&[&alice], 12 * TestClock::MINUTE).await;
    assert_eq!(commits_in(&alice), before + 1);
    settle(&all).await;
    assert_one_epoch(&all).await;
}

#[tokio::test]
async fn who_has_left_lets_nobody_in_and_does_not_look_for_it() {
    let (server, alice, bob) = alice_and_bob().await;
    let dave = server.device("dave", "DEVICE").logs_in().await;
    alice.invites(&dave);
    let dave = dave.joins(&alice).await;
    settle(&[&alice, &bob, &dave]).await;
    time_passes(&[&dave], 6 * TestClock::MINUTE).await;
    bob.syncs().await;
    let stored = MlsStore::load_room(&*bob.store(), bob.room()).await.unwrap().unwrap();
    assert_eq!(stored.view.join_requests.len(), 1);
    bob.leaves();
    bob.syncs().await;
    let before = commits_in(&alice);
    let end = server.clock().now() + 30 * TestClock::MINUTE;
    let mut looks = 0;
    while let Some(due) = bob.mls().next_deadline().filter(|due| *due < end) {
        server.clock().advance(due.saturating_sub(server.clock().now()).max(1));
        bob.pumps().await;
        looks += 1;
        assert!(looks < 10, "it looks all the time");
    }
    assert_eq!(commits_in(&alice), before);
    // Control: the other one that was asked does it.
    settle(&[&alice, &dave]).await;
    time_passes(&[&alice], 3 * TestClock::MINUTE).await;
    settle(&[&alice, &dave]).await;
    assert_one_epoch(&[&alice, &dave]).await;
}

#[tokio::test]
async fn a_request_is_replayed_in_vain() {
    let (server, alice, bob, carol) = left_behind().await;
    let request = bobs_request(&server, &bob, [&carol, &alice]).await;
    assert_eq!(comes_of(&server, request.clone(), &[&carol, &bob]).await, 1);
    assert_one_epoch(&[&carol, &bob]).await;
    // To the same one, and to one that has not answered it; at once, after a restart, and much later.
    assert_eq!(comes_of(&server, request.clone(), &[&carol, &bob]).await, 0);
    carol.restarts().await;
    assert_eq!(comes_of(&server, request.clone(), &[&carol, &bob]).await, 0);
    settle(&[&alice]).await;
    assert_eq!(comes_of(&server, request.clone(), &[&alice, &bob]).await, 0);
    bob.updates_keys().await;
    server.clock().advance(2 * TestClock::HOUR);
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    assert_eq!(comes_of(&server, request.clone(), &all).await, 0);
    alice.restarts().await;
    assert_eq!(comes_of(&server, request, &all).await, 0);
    assert_one_epoch(&all).await;
    let event = bob.says("still here").await;
    settle(&all).await;
    alice.has_read(&event, "still here");
}

#[tokio::test]
async fn nobody_lets_in_whom_the_room_does_not_want() {
    for banned in [false, true] {
        let (server, alice, bob, carol) = left_behind().await;
        let request = bobs_request(&server, &bob, [&carol, &alice]).await;
        if banned {
            alice.bans(&bob);
        }
        settle(&[&alice, &carol]).await;
        let commits = comes_of(&server, request, &[&carol, &alice]).await;
        if banned {
            // Until somebody sends, he only is not let in.
            assert_eq!(commits, 0);
            carol.says("without Bob").await;
            assert!(!carol.sees(&bob).await);
            time_passes(&[&carol, &alice], TestClock::HOUR).await;
            assert!(!carol.sees(&bob).await);
        } else {
            assert_eq!(commits, 1);
            settle(&[&bob]).await;
            assert_one_epoch(&[&alice, &carol, &bob]).await;
        }
    }
}

/// A user who is banned between its request and the answer.
#[tokio::test]
async fn a_request_of_somebody_who_is_banned_meanwhile_is_not_answered() {
    let (server, alice, bob, carol) = left_behind().await;
    let request = bobs_request(&server, &bob, [&carol, &alice]).await;
    server.forges_to_device(carol.name(), request);
    settle(&[&carol]).await;
    alice.bans(&bob);
    settle(&[&carol, &alice]).await;
    time_passes(&[&carol, &alice], 5 * TestClock::MINUTE).await;
    for device in [&carol, &alice] {
        device.says("is he gone?").await;
        settle(&[&carol, &alice]).await;
        assert!(!device.sees(&bob).await);
    }
}

/// Whoever asks again and again is let in now and then only.
#[tokio::test]
async fn asking_all_the_time_costs_the_others_little() {
    let (server, alice, bob) = alice_and_bob().await;
    let commits = commits_in(&alice);
    for _ in 0..20 {
        // As if his store was lost each time.
        server.clock().advance(10 * 1000);
        bob.restarts_from(std::sync::Arc::new(crate::testing::FaultyStore::new())).await;
        bob.pumps().await;
        let events: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
        bob.mls().receive_room_events(alice.room(), &[], &events).await.unwrap();
        time_passes(&[&alice, &bob], 50 * 1000).await;
    }
    let made = commits_in(&alice) - commits;
    assert!((2..=5).contains(&made), "{made} commits in 20 minutes");
}

/// Whose commits the server refuses lets nobody in for ten minutes, and does not look at it every ten
/// seconds either.
#[tokio::test]
async fn who_is_refused_lets_in_later() {
    let (server, alice, bob, carol) = left_behind().await;
    let request = bobs_request(&server, &bob, [&carol, &alice]).await;
    server.forges_to_device(carol.name(), request);
    settle(&[&carol]).await;
    server.next_goes_wrong(carol.name(), RequestKind::Commit, Fault::Refused);
    let before = commits_in(&carol);
    // It is her turn, and she is refused.
    time_passes(&[&carol], TestClock::MINUTE).await;
    let notices = carol.takes_notices();
    assert!(notices.iter().any(|notice| matches!(notice, Notice::CommitRefused { .. })));
    let wait = carol.mls().next_deadline().unwrap() - Clock::now(server.clock());
    assert!(wait > 8 * TestClock::MINUTE, "{wait}");
    assert_eq!(commits_in(&carol), before);
    time_passes(&[&carol], 10 * TestClock::MINUTE).await;
    assert_eq!(commits_in(&carol), before + 1);
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &carol, &bob]).await;
}

/// Of many who might be asked only one is in the group, and nothing says who: the room's history is not
/// to be had. Whoever has named the group is asked first, then all by turns.
#[tokio::test]
async fn without_a_tip_everybody_is_asked_by_turns() {
    for founder_is_there in [true, false] {
        let server = SimServer::new(1);
        let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
        alice.says("hello").await;
        let carol = server.device("carol", "TABLET").logs_in().await;
        alice.invites(&carol);
        let carol = carol.joins(&alice).await;
        alice.syncs().await;
        alice.says("welcome").await;
        carol.syncs().await;
        let mut others = Vec::new();
        for user in 0..12 {
            let other = server.device(&format!("u{user}"), "D").logs_in().await;
            alice.invites(&other);
            others.push(other.joins(&alice).await);
        }
        let bob = &others[0];
        for _ in 0..100 {
            server.next_goes_wrong(bob.name(), RequestKind::GetMessages, Fault::Refused);
        }
        assert!(bob.tries_to_say("hello").await.is_err());
        let member = if founder_is_there { &alice } else { &carol };
        let mut minutes = 0;
        while bob.status().await.is_none() {
            minutes += 1;
            assert!(minutes < 60, "nobody who could answer was asked");
            server.clock().advance(TestClock::MINUTE);
            // Bob still wants to send.
            let _ = bob.tries_to_say("hello").await;
            for _ in 0..3 {
                member.syncs().await;
                bob.syncs().await;
            }
        }
        assert!(!founder_is_there || minutes <= 3, "{minutes}");
    }
}
