//! Welcomes that come late, twice, again, to the wrong device or for nobody (protocol §6).

use matrix_mls_tests::{MlsDevice, SyncUpdate};
use matrix_sdk_crypto_mls::Notice;
use ruma::{events::AnyToDeviceEvent, serde::Raw};

use crate::support::{
    MINUTE, NOW, SOON, about_to_add, all_read, all_talk, reads, time_passes, time_unites,
};

/// Syncs, and keeps back what came directly.
async fn syncs_without_letters(device: &mut MlsDevice) -> Vec<Raw<AnyToDeviceEvent>> {
    let response = device.sync_raw(SOON).await.unwrap();
    let mut update = device.process_sync(response).await.unwrap();
    let letters = std::mem::take(&mut update.to_device_raw);
    device.process(&update).await.unwrap();
    letters
}

/// Gives a device what came directly to it, or to another one.
async fn gets(device: &mut MlsDevice, letters: &[Raw<AnyToDeviceEvent>]) {
    let update = SyncUpdate { to_device_raw: letters.to_vec(), ..SyncUpdate::default() };
    device.process(&update).await.unwrap();
}

/// How many Welcomes a device has said that it cannot use.
fn dropped(device: &MlsDevice) -> usize {
    let is_dropped = |notice: &&Notice| matches!(notice, Notice::WelcomeDropped { .. });
    device.notices.iter().filter(is_dropped).count()
}

#[tokio::test]
async fn a_welcome_that_is_late_and_comes_thrice_is_used_once() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    let sent = alice.first().say(&room, "welcome, Dave").await.unwrap();
    let device = dave.first();
    let letters = syncs_without_letters(device).await;
    assert!(!letters.is_empty());
    assert!(device.event(&room, &sent.event_id).unwrap().is_waiting());
    for _ in 0..2 {
        gets(device, &letters).await;
    }
    device.restart().await.unwrap();
    gets(device, &letters).await;
    let joined = |notice: &&Notice| matches!(notice, Notice::Joined { .. });
    assert_eq!(device.notices.iter().filter(joined).count(), 1);
    all_read(&room, &sent, "welcome, Dave", &mut [&mut bob, &mut dave]).await;
    all_talk(&room, &mut [&mut alice, &mut bob, &mut dave]).await;

    // Nor does it bring back who was removed.
    alice.first().kick(&room, dave.id()).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    let without = alice.first().say(&room, "without Dave").await.unwrap();
    dave.first().sync(NOW).await.unwrap();
    gets(dave.first(), &letters).await;
    assert!(!dave.first().holds(&room, without.node).await.unwrap());
    all_read(&room, &without, "without Dave", &mut [&mut alice, &mut bob]).await;
}

#[tokio::test]
async fn a_welcome_for_somebody_else_is_reported_and_ones_own_works_afterwards() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    let sent = alice.first().say(&room, "welcome, Dave").await.unwrap();
    let letters = syncs_without_letters(dave.first()).await;
    // As a server would that mixes up its users.
    let mut erin = crate::support::user(&alice.first().http.clone(), "erin", 1).await;
    alice.first().invite(&room, erin.id()).await.unwrap();
    erin.join(&room).await.unwrap();
    gets(erin.first(), &letters).await;
    assert_eq!(dropped(erin.first()), 1, "{:?}", erin.first().notices);
    assert!(erin.first().status(&room).await.unwrap().is_none());
    gets(dave.first(), &letters).await;
    reads(dave.first(), &room, &sent.event_id, "welcome, Dave").await;
    alice.first().sync(SOON).await.unwrap();
    all_talk(&room, &mut [&mut alice, &mut bob, &mut dave, &mut erin]).await;
}

/// He has declined before he hears that he was added: nothing comes of it, and when he comes after all
/// he is added again.
#[tokio::test]
async fn a_welcome_to_a_room_that_one_is_not_in_waits_and_does_no_harm() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    alice.first().say(&room, "welcome, Dave").await.unwrap();
    dave.first().leave(&room).await.unwrap();
    let letters = syncs_without_letters(dave.first()).await;
    assert!(!letters.is_empty());
    gets(dave.first(), &letters).await;
    bob.first().sync(SOON).await.unwrap();
    let without = bob.first().say(&room, "he is gone").await.unwrap();
    reads(alice.first(), &room, &without.event_id, "he is gone").await;
    dave.first().sync(NOW).await.unwrap();
    assert!(!dave.first().holds(&room, without.node).await.unwrap());

    alice.first().invite(&room, dave.id()).await.unwrap();
    dave.join(&room).await.unwrap();
    alice.first().sync(SOON).await.unwrap();
    all_talk(&room, &mut [&mut alice, &mut bob, &mut dave]).await;
}

/// Who has lost the key package that a Welcome is for asks to be let in.
#[tokio::test]
async fn a_welcome_that_nobody_can_open_any_more_is_made_up_for() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    alice.first().say(&room, "welcome, Dave").await.unwrap();
    let letters = syncs_without_letters(dave.first()).await;
    dave.first().set_forward(MINUTE);
    dave.first().lose_mls_store().await.unwrap();
    dave.first().sync(NOW).await.unwrap();
    gets(dave.first(), &letters).await;
    assert_eq!(dropped(dave.first()), 1, "{:?}", dave.first().notices);
    assert!(dave.first().status(&room).await.unwrap().is_none());
    let everybody = &mut [&mut alice, &mut bob, &mut dave];
    time_unites(&room, everybody, 10 * MINUTE).await;
    all_talk(&room, everybody).await;
}

/// The commit is gone before the newcomer has looked at it: a Welcome alone says too little.
#[tokio::test]
async fn a_welcome_whose_commit_is_gone_is_made_up_for() {
    let (mut alice, mut bob, mut dave, room, _) = about_to_add().await;
    let sent = alice.first().say(&room, "welcome, Dave").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "welcome, Dave").await;
    alice.first().redact(&room, sent.commit_event.as_ref().unwrap()).await.unwrap();
    dave.first().sync(NOW).await.unwrap();
    assert!(dave.first().status(&room).await.unwrap().is_none());
    let everybody = &mut [&mut alice, &mut bob, &mut dave];
    time_passes(everybody, MINUTE).await;
    time_unites(&room, everybody, 10 * MINUTE).await;
    all_talk(&room, everybody).await;
}
