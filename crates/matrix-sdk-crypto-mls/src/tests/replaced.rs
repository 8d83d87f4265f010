//! Devices that have replaced their MLS key (protocol §4, §5), and updates that lost (§8).

use std::sync::Arc;

use matrix_dmls::{CommitRecord, Group};

use super::{alice_and_bob, assert_one_epoch, settle};
use crate::{
    Notice,
    store::MlsStore as _,
    testing::{SimDevice, SimServer, TestClock},
};

const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";
const KEY_PACKAGE: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

/// The commit that made the epoch that a device sends in.
async fn last_commit(device: &SimDevice) -> Arc<CommitRecord> {
    let stored = device.store().load_room(device.room()).await.unwrap().unwrap();
    let mut group = Group::new(device.room().as_str());
    group.apply(stored.group);
    Arc::clone(group.graph().get(&device.node().await.unwrap()).unwrap())
}

/// The device's MLS store is gone, and its old key packages are used up.
async fn starts_over(server: &SimServer, device: &SimDevice) {
    server.clock().advance(TestClock::MINUTE);
    server.drops_one_time_keys(device.name(), KEY_PACKAGE, true);
    device.loses_mls_store().await;
    device.pumps().await;
    device.syncs().await;
}

/// Another room, where its key package is claimed.
async fn meets_elsewhere(alice: &SimDevice, bob: &SimDevice) -> (SimDevice, SimDevice) {
    let elsewhere = alice.creates_room().await;
    elsewhere.says("first").await;
    elsewhere.invites(bob);
    let there = bob.joins(&elsewhere).await;
    elsewhere.syncs().await;
    elsewhere.says("hello").await;
    there.syncs().await;
    (elsewhere, there)
}

#[tokio::test]
async fn a_device_that_has_lost_its_mls_store_comes_back() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    alice.says("welcome").await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    let seq = bob.mls().identity().seq;
    let lost = alice.says("before").await;

    starts_over(&server, &bob).await;
    assert!(bob.mls().identity().seq > seq);
    settle(&all).await;
    let before = server.count(alice.room(), COMMIT);
    // Nobody knows of his new key yet.
    let unread = alice.says("are you there, Bob?").await;
    settle(&all).await;
    assert_eq!(server.count(alice.room(), COMMIT), before);
    assert!(bob.text(&unread).is_none() && bob.text(&lost).is_none());

    meets_elsewhere(&alice, &bob).await;
    // What was seen there is remembered.
    alice.restarts().await;
    let event = alice.says("there you are").await;
    settle(&all).await;
    bob.has_read(&event, "there you are");
    carol.has_read(&event, "there you are");
    assert_eq!(server.count(alice.room(), COMMIT), before + 1);
    let record = last_commit(&carol).await;
    let (removed, added) = (&record.removed[..], &record.added[..]);
    assert_eq!((removed.len(), added.len()), (1, 1));
    assert_eq!(removed[0].1.device(), added[0].1.device());
    assert_eq!(removed[0].1.identity.seq, seq);
    assert_eq!(added[0].1.identity.seq, bob.mls().identity().seq);
    assert_one_epoch(&all).await;

    // To the others he is who he was: nobody has anything to confirm, object to or add.
    for _ in 0..30 {
        server.clock().advance(10 * TestClock::MINUTE / 60);
        for device in all {
            device.pumps().await;
        }
        settle(&all).await;
    }
    for speaker in [&carol, &bob, &alice] {
        let event = speaker.says("all in").await;
        settle(&all).await;
        all.iter().for_each(|device| device.has_read(&event, "all in"));
    }
    assert_eq!(server.count(alice.room(), COMMIT), before + 1);
    assert_one_epoch(&all).await;
    // The epochs of the old key are not his any more, and nothing waits for them for ever.
    bob.restarts().await;
    assert!(bob.text(&lost).is_none() && bob.text(&unread).is_none());
}

/// Nobody else has seen the new key, and would add him by an old one again.
#[tokio::test]
async fn the_old_leaf_stays_until_the_new_one_can_be_added() {
    let (server, alice, bob) = alice_and_bob().await;
    starts_over(&server, &bob).await;
    meets_elsewhere(&alice, &bob).await;
    server.drops_one_time_keys(bob.name(), KEY_PACKAGE, true);
    let before = server.count(alice.room(), COMMIT);
    alice.says("where are your key packages?").await;
    assert_eq!(server.count(alice.room(), COMMIT), before);
    assert!(alice.sees(&bob).await);
    // He makes new ones.
    bob.syncs().await;
    server.clock().advance(2 * TestClock::HOUR);
    let event = alice.says("there they are").await;
    settle(&[&alice, &bob]).await;
    assert_eq!(server.count(alice.room(), COMMIT), before + 1);
    bob.has_read(&event, "there they are");
    assert_one_epoch(&[&alice, &bob]).await;
}

/// An old store, from a backup say, still uploads key packages.
#[tokio::test]
async fn key_packages_of_the_old_key_are_passed_over() {
    let (server, alice, bob) = alice_and_bob().await;
    let old_store = bob.store();
    starts_over(&server, &bob).await;
    meets_elsewhere(&alice, &bob).await;
    alice.says("back").await;
    settle(&[&alice, &bob]).await;
    assert!(alice.sees(&bob).await);

    let new_store = bob.store();
    server.drops_one_time_keys(bob.name(), KEY_PACKAGE, true);
    bob.restarts_from(old_store).await;
    bob.syncs().await;
    bob.pumps().await;
    assert!(server.one_time_key_count(bob.name(), KEY_PACKAGE) > 0);
    let third = alice.creates_room().await;
    third.says("first").await;
    third.invites(&bob);
    let bob_there = bob.joins(&third).await;
    third.syncs().await;
    alice.takes_notices();
    third.says("no old keys, please").await;
    assert!(!third.sees(&bob_there).await);
    let notices = alice.takes_notices();
    let is_passed_over = |notice: &Notice| matches!(notice, Notice::DeviceWithoutMls { reason, .. } if reason.contains("older"));
    assert!(notices.iter().any(is_passed_over), "{notices:?}");

    // Control: with those of the new key he is added.
    server.drops_one_time_keys(bob.name(), KEY_PACKAGE, true);
    bob.restarts_from(new_store).await;
    server.begins_anew(bob.name());
    bob.syncs().await;
    bob.pumps().await;
    server.clock().advance(2 * TestClock::MINUTE);
    let event = third.says("that is better").await;
    bob.syncs().await;
    assert!(third.sees(&bob_there).await);
    bob.has_read(&event, "that is better");
}

/// Two renew their keys at once; who has won, and who has lost.
async fn one_update_loses<'d>(
    alice: &'d SimDevice,
    bob: &'d SimDevice,
) -> (&'d SimDevice, &'d SimDevice) {
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    bob.pumps().await;
    settle(&[alice, bob]).await;
    let winner = last_commit(alice).await.author.member.device().clone();
    if winner.user_id == alice.user_id().as_str() { (alice, bob) } else { (bob, alice) }
}

/// Nobody has anything to add or remove, and keys that were given up elsewhere are not to live on.
#[tokio::test]
async fn a_lost_update_is_made_again_before_sending_a_minute_later() {
    let (server, alice, bob) = alice_and_bob().await;
    let all = [&alice, &bob];
    let (won, lost) = one_update_loses(&alice, &bob).await;
    let commits = || server.count(alice.room(), COMMIT);
    let before = commits();
    server.clock().advance(TestClock::MINUTE - 1);
    lost.says("not so soon").await;
    assert_eq!(commits(), before);
    // That the room agrees with the group is remembered for five seconds.
    server.clock().advance(5001);
    won.says("I have lost nothing").await;
    assert_eq!(commits(), before);
    let event = lost.says("by new keys").await;
    settle(&all).await;
    assert_eq!(commits(), before + 1);
    let record = last_commit(won).await;
    assert_eq!(record.author.member.device().user_id, lost.user_id().as_str());
    assert!(record.updated.is_some() && record.added.is_empty());
    won.has_read(&event, "by new keys");

    // Once is enough.
    server.clock().advance(TestClock::HOUR);
    lost.says("still new").await;
    won.says("as are mine").await;
    settle(&all).await;
    assert_eq!(commits(), before + 1);
    assert_one_epoch(&all).await;
}

/// It is no reason not to send.
#[tokio::test]
async fn who_may_not_renew_lost_keys_sends_all_the_same() {
    let (server, alice, bob) = alice_and_bob().await;
    let all = [&alice, &bob];
    let (_, lost) = one_update_loses(&alice, &bob).await;
    let before = server.count(alice.room(), COMMIT);
    let levels = serde_json::json!({
        "users": { alice.user_id().as_str(): 100 },
        "events": { COMMIT: 101 },
    });
    alice.sets_state("m.room.power_levels", levels);
    settle(&all).await;
    server.clock().advance(2 * TestClock::MINUTE);
    let event = lost.says("by old keys").await;
    settle(&all).await;
    all.iter().for_each(|device| device.has_read(&event, "by old keys"));
    assert_eq!(server.count(alice.room(), COMMIT), before);
}

/// Who has renewed its keys on a branch that lost does it again with its next commit, and makes none
/// for that at once.
#[tokio::test]
async fn a_lost_update_is_made_again_with_the_next_commit() {
    let (server, alice, bob) = alice_and_bob().await;
    let all = [&alice, &bob];
    let (won, lost) = one_update_loses(&alice, &bob).await;
    let before = server.count(alice.room(), COMMIT);
    lost.says("a losing tip forces no commit").await;
    won.says("nor here").await;
    settle(&all).await;
    assert_eq!(server.count(alice.room(), COMMIT), before);

    let mut all = vec![&alice, &bob];
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    all.push(&carol);
    settle(&[&alice, &bob]).await;
    lost.says("welcome, Carol").await;
    settle(&all).await;
    let record = last_commit(lost).await;
    assert_eq!(record.added.len(), 1);
    assert!(record.updated.is_some());
    // Control: who has lost nothing adds without a path.
    let dave = server.device("dave", "DESKTOP").logs_in().await;
    alice.invites(&dave);
    let dave = dave.joins(&alice).await;
    all.push(&dave);
    settle(&[&alice, &bob, &carol]).await;
    lost.says("welcome, Dave").await;
    settle(&all).await;
    let record = last_commit(lost).await;
    assert_eq!((record.added.len(), record.updated.is_some()), (1, false));
    assert_one_epoch(&all).await;
}
