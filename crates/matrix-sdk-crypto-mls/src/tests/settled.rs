//! That a room agrees with its group is remembered, and for no longer than it is true.

use std::collections::BTreeMap;

use matrix_sdk_crypto::{DecryptionSettings, EncryptionSyncChanges as OlmSyncChanges, LocalTrust};
use ruma::{
    api::client::{keys::get_keys, sync::sync_events::DeviceLists},
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use serde_json::{Value, json};

use super::{alice_and_bob, settle};
use crate::{
    EncryptionSyncChanges, MlsError, Readiness, RoomSettings, Verdict,
    testing::{SimDevice, SimError, SimServer},
};

/// Alice, Bob and Carol in one room, and Alice has nothing to do before she sends.
async fn three() -> (SimServer, SimDevice, SimDevice, SimDevice) {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    alice.says("hello Carol").await;
    settle(&[&alice, &bob, &carol]).await;
    assert_settled(&alice).await;
    (server, alice, bob, carol)
}

async fn assert_settled(device: &SimDevice) {
    let ready = device.readiness().await;
    assert!(matches!(ready, Readiness::Ready { .. }));
    assert!(device.mls().is_settled(device.room()).await);
    assert_eq!(device.mls().readiness(device.room()).await.unwrap(), ready);
}

/// Asserts that the device sends nothing before something was done, and that looking does nothing.
async fn assert_not_ready(device: &SimDevice) {
    let requests = async || device.mls().outgoing_requests().await.unwrap().len();
    let before = requests().await;
    let readiness = device.mls().readiness(device.room()).await;
    assert_eq!(readiness.unwrap(), Readiness::NeedsRequests);
    assert_eq!(requests().await, before);
    let sent = device.encrypts_and_sends(&json!({ "body": "too early" })).await;
    assert!(
        matches!(sent, Err(SimError::Machine(MlsError::NotReady(Readiness::NeedsRequests)))),
        "{sent:?}"
    );
}

#[tokio::test]
async fn who_leaves_is_removed_before_the_next_message() {
    let (_, alice, _, carol) = three().await;
    carol.leaves();
    alice.syncs().await;
    assert_not_ready(&alice).await;
    alice.says("without you").await;
    assert!(!alice.sees(&carol).await);
}

#[tokio::test]
async fn who_is_kicked_is_removed_before_the_next_message() {
    let (_, alice, _, carol) = three().await;
    alice.kicks(&carol);
    alice.syncs().await;
    assert_not_ready(&alice).await;
    alice.says("without you").await;
    assert!(!alice.sees(&carol).await);
}

#[tokio::test]
async fn who_is_banned_is_removed_before_the_next_message() {
    let (_, alice, _, carol) = three().await;
    alice.bans(&carol);
    alice.syncs().await;
    assert_not_ready(&alice).await;
    alice.says("without you").await;
    assert!(!alice.sees(&carol).await);
}

#[tokio::test]
async fn who_is_not_in_a_complete_list_is_removed_before_the_next_message() {
    let (_, alice, bob, carol) = three().await;
    let members = [&alice, &bob]
        .map(|one| (one.user_id().clone(), ruma::events::room::member::MembershipState::Join));
    alice.mls().set_room_members(alice.room(), members).await.unwrap();
    assert_not_ready(&alice).await;
    alice.says("without you").await;
    assert!(!alice.sees(&carol).await);
}

/// Nothing but the OlmMachine tells of it.
async fn asks_for_all_devices(device: &SimDevice) {
    device.olm().mark_all_tracked_users_as_dirty().await.unwrap();
    device.pumps().await;
}

#[tokio::test]
async fn a_new_device_is_let_in_before_the_next_message() {
    let (server, alice, bob, _) = three().await;
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    assert_settled(&alice).await;
    asks_for_all_devices(&alice).await;
    assert_not_ready(&alice).await;
    alice.says("welcome").await;
    assert!(alice.sees(&desktop).await);
    assert_settled(&alice).await;

    server.deletes_device(desktop.name());
    assert_settled(&alice).await;
    asks_for_all_devices(&alice).await;
    assert_not_ready(&alice).await;
    alice.says("farewell").await;
    assert!(!alice.sees(&desktop).await);
}

#[tokio::test]
async fn a_device_list_that_a_sync_marks_as_changed_is_waited_for() {
    let (_, alice, bob, _) = three().await;
    let mut lists = DeviceLists::new();
    lists.changed.push(bob.user_id().clone());
    let (none, counts) = (Vec::new(), BTreeMap::new());
    let changes = OlmSyncChanges {
        to_device_events: none.clone(),
        changed_devices: &lists,
        one_time_keys_counts: &counts,
        unused_fallback_keys: None,
        next_batch_token: None,
    };
    let sender_device_trust_requirement = matrix_sdk_crypto::TrustRequirement::Untrusted;
    let settings = DecryptionSettings { sender_device_trust_requirement };
    alice.olm().receive_sync_changes(changes, &settings).await.unwrap();
    let changes = EncryptionSyncChanges {
        to_device_events: &none,
        changed_devices: &lists,
        one_time_keys_counts: &counts,
        unused_fallback_keys: None,
    };
    alice.mls().receive_sync_changes(changes).await.unwrap();
    assert_not_ready(&alice).await;
    alice.pumps().await;
    assert_settled(&alice).await;
}

#[tokio::test]
async fn what_nobody_tells_of_is_noticed_after_five_seconds() {
    let (server, alice, ..) = three().await;
    alice.olm().mark_all_tracked_users_as_dirty().await.unwrap();
    assert_settled(&alice).await;
    server.clock().advance(4999);
    assert_settled(&alice).await;
    server.clock().advance(1);
    assert_not_ready(&alice).await;
}

#[tokio::test]
async fn nothing_is_remembered_over_a_restart() {
    let (_, alice, ..) = three().await;
    alice.olm().mark_all_tracked_users_as_dirty().await.unwrap();
    assert_settled(&alice).await;
    alice.restarts().await;
    assert_not_ready(&alice).await;
}

#[tokio::test]
async fn a_commit_of_somebody_else_is_looked_at() {
    let (_, alice, bob, _) = three().await;
    bob.updates_keys().await;
    assert_settled(&alice).await;
    alice.syncs().await;
    assert!(!alice.mls().is_settled(alice.room()).await);
    assert_settled(&alice).await;
    assert_eq!(alice.node().await, bob.node().await);
}

#[tokio::test]
async fn verification_shows_at_the_next_reading() {
    let (_, alice, bob, _) = three().await;
    let event = bob.says("who am I?").await;
    alice.syncs().await;
    assert_eq!(alice.encryption_info(&event).verdict, Verdict::Unsigned);
    let (user, device) = bob.name();
    let device = alice.olm().get_device(user, device, None).await.unwrap().unwrap();
    device.set_local_trust(LocalTrust::Verified).await.unwrap();
    let json = bob.server().event(bob.room(), &event).to_json();
    alice.reads_event(alice.room(), &json).await.unwrap();
    assert_eq!(alice.encryption_info(&event).verdict, Verdict::Verified);
}

/// What a server would answer for a user whose devices' keys are these.
struct Published {
    device_keys: Raw<DeviceKeys>,
    signatures: Value,
    master: Raw<CrossSigningKey>,
    self_signing: Raw<CrossSigningKey>,
}

/// Makes a new cross-signing identity, which signs the device.
async fn signs_itself(device: &SimDevice, device_keys: Raw<DeviceKeys>) -> Published {
    let requests = device.olm().bootstrap_cross_signing(true).await.unwrap();
    let keys = &requests.upload_signing_keys_req;
    let (user, id) = device.name();
    let raw = |key: &Option<_>| Raw::new(key.as_ref().unwrap()).unwrap().cast_unchecked();
    let signed = serde_json::to_value(&requests.upload_signatures_req.signed_keys).unwrap();
    Published {
        device_keys,
        signatures: signed[user.as_str()][id.as_str()]["signatures"][user.as_str()].clone(),
        master: raw(&keys.master_key),
        self_signing: raw(&keys.self_signing_key),
    }
}

/// Tells a device of another's keys, with the signature of its owner on them or without.
async fn hears_of(device: &SimDevice, of: &SimDevice, published: &Published, signed: bool) {
    let (user, id) = of.name();
    let mut keys: Value = published.device_keys.deserialize_as_unchecked().unwrap();
    if signed {
        let signatures = keys["signatures"][user.as_str()].as_object_mut().unwrap();
        signatures.extend(published.signatures.as_object().unwrap().clone());
    }
    let mut response = get_keys::v3::Response::new();
    let keys = Raw::new(&keys).unwrap().cast_unchecked();
    response.device_keys.insert(user.clone(), BTreeMap::from([(id.clone(), keys)]));
    response.master_keys.insert(user.clone(), published.master.clone());
    response.self_signing_keys.insert(user.clone(), published.self_signing.clone());
    let (id, _) = device.olm().query_keys_for_users([user.as_ref()]);
    device.olm().mark_request_as_sent(&id, &response).await.unwrap();
}

async fn own_keys(device: &SimDevice) -> Raw<DeviceKeys> {
    let (user, id) = device.name();
    let device = device.olm().get_device(user, id, None).await.unwrap().unwrap();
    Raw::new(device.as_device_keys()).unwrap().cast_unchecked()
}

#[tokio::test]
async fn cross_signing_that_comes_and_goes_is_noticed() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").room_settings(RoomSettings::default());
    let alice = alice.logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let (alices_keys, bobs_keys) = (own_keys(&alice).await, own_keys(&bob).await);
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    bob.joins(&alice).await;
    alice.syncs().await;
    let alices = signs_itself(&alice, alices_keys).await;
    hears_of(&alice, &alice, &alices, true).await;
    alice.says("alone").await;
    assert_settled(&alice).await;
    assert!(!alice.sees(&bob).await);

    let bobs = signs_itself(&bob, bobs_keys.clone()).await;
    hears_of(&alice, &bob, &bobs, true).await;
    assert_not_ready(&alice).await;
    alice.says("now you are signed").await;
    assert!(alice.sees(&bob).await);
    assert_settled(&alice).await;

    let others = signs_itself(&bob, bobs_keys).await;
    hears_of(&alice, &bob, &others, false).await;
    assert_not_ready(&alice).await;
    alice.says("and now you are not").await;
    assert!(!alice.sees(&bob).await);
}

#[tokio::test]
async fn who_only_looks_is_told_what_is_missing() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    let looks = async |device: &SimDevice| device.mls().readiness(device.room()).await;
    // She would found the group, and does not by looking.
    assert_eq!(looks(&alice).await.unwrap(), Readiness::NeedsRequests);
    assert_eq!(alice.mls().group_status(alice.room()).await.unwrap().map(|it| it.epoch), None);
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    assert_eq!(looks(&bob).await.unwrap(), Readiness::WaitingForWelcome);
    alice.syncs().await;
    alice.says("hello").await;
    settle(&[&alice, &bob]).await;
    let ready = looks(&alice).await.unwrap();
    assert!(matches!(ready, Readiness::Ready { .. }), "{ready:?}");
    // Without anybody having prepared it, too.
    assert_eq!(looks(&bob).await.unwrap(), ready);
    alice.says("and more").await;
    assert_eq!(looks(&alice).await.unwrap(), ready);

    let elsewhere = ruma::room_id!("!elsewhere:example.org");
    let unknown = alice.mls().readiness(elsewhere).await;
    assert!(matches!(unknown, Err(MlsError::NotMls(_))), "{unknown:?}");
    alice.sets_state("m.room.encryption", json!({ "algorithm": "m.megolm.v1.aes-sha2" }));
    alice.syncs().await;
    assert!(matches!(looks(&alice).await, Err(MlsError::Downgraded(_))));
}
