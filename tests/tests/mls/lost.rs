//! Devices that have lost everything: they come back under the old name or a new one, and where
//! nobody is left, the group is founded anew (protocol §6).

use matrix_mls_tests::{MlsDevice, User};
use matrix_sdk_crypto_mls::{MlsError, Notice, Obstacle, dmls::Device};
use ruma::{OwnedRoomId, RoomId, events::StateEventType};
use serde_json::Value;

use crate::support::{
    COMMIT, MINUTE, NOW, all_devices, all_read, all_talk, commits, content, devices_in, events,
    homeserver, reads, room_of, send_raw, time_passes, time_unites, tip, user, user_with,
};

const GROUP: &str = "io.github.matrix-mls.dmls.v1.group";

/// Alice, Bob and Carol, who have all committed and talked.
async fn three() -> (User, User, User, OwnedRoomId) {
    let http = homeserver().await;
    let mut alice = user_with(&http, "alice", 1, all_devices()).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    for speaker in 0..3 {
        let device = everybody[speaker].first();
        if speaker > 0 {
            device.update_keys(&room).await.unwrap();
        }
        let sent = device.say(&room, "hello").await.unwrap();
        all_read(&room, &sent, "hello", everybody).await;
    }
    (alice, bob, carol, room)
}

/// Its MLS store is gone, and it begins with another one, a little later.
async fn loses_everything(device: &mut MlsDevice) {
    device.set_forward(MINUTE);
    device.lose_mls_store().await.unwrap();
    // Synapse may repeat what it answered to the device's very first sync.
    device.sync(NOW).await.unwrap();
    device.sync(NOW).await.unwrap();
}

/// Who came in and who went out with the last commit that a device entered.
fn last_change(device: &MlsDevice) -> (Vec<Device>, Vec<Device>) {
    let entered = device.notices.iter().rev().find_map(|notice| match notice {
        Notice::EpochEntered { added, removed, .. } => Some((added.clone(), removed.clone())),
        _ => None,
    });
    entered.unwrap()
}

/// The group that the room names, as a device has heard.
fn named(device: &MlsDevice, room: &RoomId) -> Value {
    device.room(room).unwrap().content(&StateEventType::from(GROUP), "").unwrap()
}

/// What a device was told of groups that take the place of its own.
fn replacements(device: &MlsDevice) -> Vec<Option<Obstacle>> {
    let replaced = device.notices.iter().filter_map(|notice| match notice {
        Notice::GroupReplaced { obstacle, .. } => Some(*obstacle),
        _ => None,
    });
    replaced.collect()
}

#[tokio::test]
async fn a_device_with_a_new_store_is_let_in_in_place_of_its_old_leaf() {
    let (mut alice, mut bob, mut carol, room) = three().await;
    let before = commits(alice.first(), &room).await.len();
    let old = tip(alice.first(), &room).await;
    loses_everything(bob.first()).await;
    assert!(bob.first().status(&room).await.unwrap().is_none());

    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    let new = time_unites(&room, everybody, 10 * MINUTE).await;
    assert_ne!(new, old);
    all_talk(&room, everybody).await;
    // One commit by one member, which has removed the old leaf too.
    assert_eq!(commits(alice.first(), &room).await.len(), before + 1);
    let lets_in: Vec<_> = [&mut alice, &mut carol]
        .into_iter()
        .map(|user| last_change(user.first()))
        .filter(|(added, _)| !added.is_empty())
        .collect();
    let id = bob.id().to_owned();
    assert!(!lets_in.is_empty());
    for (added, removed) in &lets_in {
        for changed in [added, removed] {
            assert!(
                matches!(&changed[..], [device] if device.user_id == id.as_str()),
                "{changed:?}"
            );
        }
    }
    assert_eq!(devices_in(carol.first(), &room, &id).await, 1);
}

#[tokio::test]
async fn who_logs_in_anew_instead_comes_in_alone_and_the_old_device_goes() {
    let (mut alice, mut bob, mut carol, room) = three().await;
    let account = bob.account.clone();
    let old = bob.first().session.device_id.clone();
    let mut new = bob.log_in_unsigned().await.unwrap();
    new.delete_device(&account, &old).await.unwrap();
    for user in [&mut alice, &mut carol] {
        user.first().wait_for_device(&account.user_id, &old, false).await.unwrap();
    }
    let sent = new.say(&room, "my old phone has drowned").await.unwrap();
    for user in [&mut alice, &mut carol] {
        reads(user.first(), &room, &sent.event_id, "my old phone has drowned").await;
    }
    let answer = alice.first().say(&room, "poor thing").await.unwrap();
    reads(&mut new, &room, &answer.event_id, "poor thing").await;
    reads(carol.first(), &room, &answer.event_id, "poor thing").await;
    assert_eq!(devices_in(carol.first(), &room, &account.user_id).await, 1);
    assert!(!bob.first().holds(&room, answer.node).await.unwrap());
}

#[tokio::test]
async fn when_all_have_lost_their_stores_one_founds_anew_and_the_others_come_in() {
    let (mut alice, mut bob, mut carol, room) = three().await;
    let old = named(alice.first(), &room);
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    for user in &mut *everybody {
        loses_everything(user.first()).await;
    }
    time_passes(everybody, 5 * MINUTE).await;
    assert_eq!(named(everybody[0].first(), &room), old, "not so soon");
    let mut waited = 5;
    while everybody[2].first().status(&room).await.unwrap().is_none() {
        assert!(waited < 60, "nobody has founded anew");
        time_passes(everybody, MINUTE).await;
        waited += 1;
    }
    let new = named(everybody[0].first(), &room);
    assert!(new["founding"] != old["founding"] && new["instance"] != old["instance"]);
    time_unites(&room, everybody, 5 * MINUTE).await;
    all_talk(&room, everybody).await;
}

/// Control: who still has the group lets the others in, and the group stays.
#[tokio::test]
async fn as_long_as_somebody_has_the_group_it_stays() {
    let (mut alice, mut bob, mut carol, room) = three().await;
    let old = named(alice.first(), &room);
    for user in [&mut alice, &mut bob] {
        loses_everything(user.first()).await;
    }
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_unites(&room, everybody, 10 * MINUTE).await;
    all_talk(&room, everybody).await;
    assert_eq!(named(everybody[0].first(), &room)["founding"], old["founding"]);
}

/// Alice alone has lost her store, and has the room name another group at once. Those who are in the
/// old one are told, stay, and go over only when their application says so.
#[tokio::test]
async fn a_living_group_is_left_only_when_the_application_agrees() {
    let (mut alice, mut bob, mut carol, room) = three().await;
    let old = named(alice.first(), &room);
    loses_everything(alice.first()).await;
    // Not before she has asked to be let in.
    let refused = alice.first().mls.found_anew(&room).await;
    assert!(matches!(refused, Err(MlsError::CannotFoundAnew)), "{refused:?}");
    time_passes(&mut [&mut alice], MINUTE).await;
    alice.first().mls.found_anew(&room).await.unwrap();
    alice.first().pump().await.unwrap();
    alice.first().sync(NOW).await.unwrap();
    let new = named(alice.first(), &room);
    assert_ne!(new["founding"], old["founding"]);

    let mut others = [&mut bob, &mut carol];
    time_passes(&mut others, 2 * MINUTE).await;
    for user in &mut others {
        assert_eq!(replacements(user.first()), [Some(Obstacle::OthersAreThere)]);
    }
    let among_us = others[0].first().say(&room, "she has another group").await.unwrap();
    reads(others[1].first(), &room, &among_us.event_id, "she has another group").await;

    for user in &mut others {
        let founding = user.first().mls.replaced_group(&room).await.unwrap().unwrap().founding;
        assert!(user.first().mls.follow_group(&room, &founding).await.unwrap());
        user.first().pump().await.unwrap();
        assert!(user.first().status(&room).await.unwrap().is_none());
    }
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_unites(&room, everybody, 10 * MINUTE).await;
    all_talk(&room, everybody).await;
    // What was said in the old group stays readable to those who were there.
    reads(everybody[2].first(), &room, &among_us.event_id, "she has another group").await;
    assert!(everybody[0].first().event(&room, &among_us.event_id).unwrap().result.is_err());
}

/// What names no founding commit, or one of another group, is followed by nobody.
#[tokio::test]
async fn a_name_without_a_group_behind_it_changes_nothing() {
    let (mut alice, mut bob, mut carol, room) = three().await;
    let device = alice.first();
    let mut forged = named(device, &room);
    forged["founding"] = "A".repeat(43).into();
    device.send_state(&room, GROUP, "", &forged).await.unwrap();
    let last = events(device, &room, &[COMMIT]).await.pop().unwrap();
    let last = content(&last);
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_passes(everybody, 2 * MINUTE).await;
    all_talk(&room, everybody).await;

    // Nor a commit that founds nothing.
    let device = everybody[0].first();
    send_raw(device, &room, COMMIT, &last).await;
    forged["founding"] = tip(device, &room).await.to_base64().into();
    device.send_state(&room, GROUP, "", &forged).await.unwrap();
    time_passes(everybody, 2 * MINUTE).await;
    all_talk(&room, everybody).await;
    for user in everybody {
        let told = replacements(user.first());
        assert!(!told.is_empty() && told.iter().all(Option::is_some), "{told:?}");
        let group = user.first().mls.replaced_group(&room).await.unwrap().unwrap();
        let followed = user.first().mls.follow_group(&room, &group.founding).await;
        assert!(matches!(followed, Err(MlsError::CannotFollow(_))), "{followed:?}");
    }
}
