//! Devices that come into the group by themselves, with external commits (protocol §6), and those
//! that may not.

use matrix_sdk_crypto_mls::{Readiness, RoomSettings, dmls::ExternalJoins};

use crate::support::{
    DAY, MINUTE, NOW, SOON, alice_and_bob, all_read, all_talk, commit_in_outbox, commits,
    devices_in, homeserver, reads, room_of, time_unites, tip, user, user_with,
};

#[tokio::test]
async fn two_devices_that_come_in_at_once_end_in_one_epoch() {
    let (mut alice, mut bob, room, _) = alice_and_bob().await;
    for user in [&mut alice, &mut bob] {
        let device = user.log_in().await.unwrap();
        device.sync(SOON).await.unwrap();
        // It is made, and nobody else knows of it.
        commit_in_outbox(device, &room).await;
    }
    let mut said = Vec::new();
    for (user, text) in [(&mut alice, "from Alice's tablet"), (&mut bob, "from Bob's tablet")] {
        let device = user.device(1).unwrap();
        device.pump().await.unwrap();
        said.push((device.say(&room, text).await.unwrap(), text));
    }
    assert_ne!(said[0].0.node, said[1].0.node);

    let everybody = &mut [&mut alice, &mut bob];
    time_unites(&room, everybody, 10 * MINUTE).await;
    // The two that came in were not in one another's epochs.
    for user in &mut *everybody {
        for (sent, text) in &said {
            reads(user.first(), &room, &sent.event_id, text).await;
        }
    }
    all_talk(&room, everybody).await;
    for user in everybody {
        let id = user.id().to_owned();
        assert_eq!(devices_in(user.first(), &room, &id).await, 2);
    }
}

#[tokio::test]
async fn who_comes_in_beside_a_members_commit_is_taken_along() {
    let (mut alice, mut bob, room, _) = alice_and_bob().await;
    let desktop = bob.log_in().await.unwrap();
    desktop.sync(SOON).await.unwrap();
    commit_in_outbox(desktop, &room).await;
    alice.first().update_keys(&room).await.unwrap();
    let members = alice.first().say(&room, "on the members' branch").await.unwrap();
    desktop.pump().await.unwrap();
    let sent = desktop.say(&room, "did I come in?").await.unwrap();
    assert_ne!(members.node, sent.node);
    // A member's commit comes before a newcomer's.
    alice.first().sync(SOON).await.unwrap();
    assert_eq!(tip(alice.first(), &room).await, members.node);

    let everybody = &mut [&mut alice, &mut bob];
    time_unites(&room, everybody, 10 * MINUTE).await;
    for user in &mut *everybody {
        // What she said before the desktop came is not for it.
        reads(user.first(), &room, &members.event_id, "on the members' branch").await;
    }
    all_read(&room, &sent, "did I come in?", everybody).await;
    all_talk(&room, everybody).await;
    let id = bob.id().to_owned();
    assert_eq!(devices_in(alice.first(), &room, &id).await, 2);
}

/// Where strangers are not let in unasked, one asks, and a member lets one in.
#[tokio::test]
async fn a_stranger_asks_where_nobody_may_come_in_alone() {
    let http = homeserver().await;
    let mut settings = RoomSettings::default();
    settings.external = ExternalJoins::Forbidden;
    let mut alice = user_with(&http, "alice", 1, settings).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    reads(bob.first(), &room, &first.event_id, "before").await;

    alice.first().invite(&room, carol.id()).await.unwrap();
    carol.join(&room).await.unwrap();
    let before = commits(alice.first(), &room).await.len();
    for _ in 0..5 {
        let readiness = carol.first().mls.prepare_room(&room).await.unwrap();
        assert!(!matches!(readiness, Readiness::Ready { .. }));
        carol.first().pump().await.unwrap();
        carol.first().sync(NOW).await.unwrap();
    }
    assert_eq!(commits(alice.first(), &room).await.len(), before);

    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_unites(&room, everybody, 5 * MINUTE).await;
    assert_eq!(commits(everybody[0].first(), &room).await.len(), before + 1);
    all_talk(&room, everybody).await;
}

/// It has kept its keys and not the group: the others have gone on where it cannot follow.
#[tokio::test]
async fn who_is_left_behind_comes_back_over_its_own_leaf() {
    let (mut alice, mut bob, room, _) = alice_and_bob().await;
    // Both sides go on without hearing of one another, until what they left is erased.
    bob.first().update_keys(&room).await.unwrap();
    let left = bob.first().say(&room, "on my own branch").await.unwrap();
    for _ in 0..3 {
        alice.first().mls.update_keys(&room).await.unwrap();
        alice.first().pump().await.unwrap();
    }
    assert_ne!(tip(alice.first(), &room).await, left.node);
    let everybody = &mut [&mut alice, &mut bob];
    for user in &mut *everybody {
        user.first().set_forward(8 * DAY);
        user.first().pump().await.unwrap();
    }
    let mut left_behind = 0;
    for user in &mut *everybody {
        user.first().sync(NOW).await.unwrap();
        let since = user.first().mls.is_left_behind_since(&room).await.unwrap();
        left_behind += usize::from(since.is_some());
    }
    assert_eq!(left_behind, 1);
    time_unites(&room, everybody, 30 * MINUTE).await;
    all_talk(&room, everybody).await;
    let id = bob.id().to_owned();
    assert_eq!(devices_in(alice.first(), &room, &id).await, 1);
}
