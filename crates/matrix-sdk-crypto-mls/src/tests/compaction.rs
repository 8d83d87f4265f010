//! Records of commits that can have no say any more are forgotten after a year (protocol §9).

use ruma::events::AnySyncTimelineEvent;

use super::{alice_and_bob, assert_one_epoch, settle, time_passes};
use crate::{
    DecryptionError, Notice,
    store::{MlsStore as _, StoredRoom},
    testing::{SimDevice, TestClock},
};

const STEP: u64 = 10 * TestClock::DAY;

async fn stored(device: &SimDevice) -> StoredRoom {
    device.store().load_room(device.room()).await.unwrap().unwrap()
}

#[tokio::test]
async fn two_years_of_commits_stay_bounded() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    let early = alice.says("two years ago").await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    let mut most = 0;
    for number in 0..74 {
        server.clock().advance(STEP);
        all[number % 3].updates_keys().await;
        settle(&all).await;
        time_passes(&all, 5 * TestClock::MINUTE).await;
        let records = stored(&bob).await.group.records.len();
        if number == 35 {
            assert!(records >= 36, "a year is kept: {records}");
        }
        most = most.max(records);
        assert_one_epoch(&all).await;
    }
    assert!(most < 48, "{most}");
    for device in all {
        let stored = stored(device).await;
        assert!(stored.group.records.len() >= 36 && stored.group.records.len() < 48);
        assert!(stored.view.anchors.len() < 60, "{}", stored.view.anchors.len());
        device.restarts().await;
        device.takes_notices();
    }
    // What was kept can be read, and what nobody needs any more is refused, once and for all.
    let old = server.event(bob.room(), &early).to_json();
    assert!(bob.mls().decrypt_room_event(&old, bob.room()).await.is_ok());
    // One from before Carol came: it waits for nothing.
    let hello = &server.sent_messages()[0].event_id;
    let hello = server.event(carol.room(), hello).to_json();
    let reason = carol.mls().decrypt_room_event(&hello, carol.room()).await.unwrap_err();
    assert!(matches!(reason, DecryptionError::KeysExpired), "{reason:?}");
    assert_eq!(carol.store().queued_event_count(carol.room()).await.unwrap(), 0);
    assert!(carol.mls().outgoing_requests().await.unwrap().is_empty());
    let commit = "io.github.matrix-mls.dmls.v1.commit";
    let events = server.events(bob.room());
    let mut commits = events.iter().filter(|event| event.event_type == commit);
    let late: ruma::serde::Raw<AnySyncTimelineEvent> = commits.nth(4).unwrap().to_json();
    let mut late: serde_json::Value = late.deserialize_as_unchecked().unwrap();
    late["event_id"] = "$late".into();
    let late = ruma::serde::Raw::from_json(serde_json::value::to_raw_value(&late).unwrap());
    let writes = bob.store().writes();
    bob.mls().receive_room_events(bob.room(), &[], std::slice::from_ref(&late)).await.unwrap();
    let notices = bob.mls().take_notices();
    let is_dropped = |notice: &Notice| {
        matches!(notice, Notice::CommitDropped { event_id, reason, .. }
            if event_id == "$late" && reason.contains("forgotten"))
    };
    assert!(notices.iter().any(is_dropped), "{notices:?}");
    assert_eq!(bob.store().writes(), writes);
    assert_eq!(bob.store().queued_event_count(bob.room()).await.unwrap(), 0);
    assert!(bob.mls().outgoing_requests().await.unwrap().is_empty());

    // Somebody comes, and all goes on.
    let dave = server.device("dave", "WATCH").logs_in().await;
    alice.invites(&dave);
    let dave = dave.joins(&alice).await;
    alice.syncs().await;
    let all = [&alice, &bob, &carol, &dave];
    for device in all {
        let event = device.says("here").await;
        settle(&all).await;
        for reader in all {
            reader.has_read(&event, "here");
        }
    }
    assert_one_epoch(&all).await;
}

/// Without an anchor there is nothing that could be forgotten safely.
#[tokio::test]
async fn two_users_keep_their_records() {
    let (server, alice, bob) = alice_and_bob().await;
    for _ in 0..5 {
        server.clock().advance(100 * TestClock::DAY);
        alice.updates_keys().await;
        settle(&[&alice, &bob]).await;
    }
    assert!(stored(&bob).await.group.records.len() >= 6);
    assert!(stored(&bob).await.view.anchors.is_empty());
}
