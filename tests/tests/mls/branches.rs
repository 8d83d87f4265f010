//! Two members commit at the same time: nothing is lost, and all end up in the same epoch.

use matrix_mls_tests::MlsDevice;
use matrix_sdk_crypto_mls::Readiness;
use ruma::RoomId;

use crate::support::{SOON, all_agree, all_read, homeserver, reads, room_of, tip, user};

/// Makes a commit and keeps it back: it is sent with the next requests.
async fn commit_unsent(device: &mut MlsDevice, room: &RoomId) {
    device.get_ready(room).await.unwrap();
    let readiness = device.mls.update_keys(room).await.unwrap();
    assert_eq!(readiness, Readiness::NeedsRequests);
}

#[tokio::test]
async fn both_of_two_concurrent_commits_are_entered_and_read() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 2).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    all_read(&room, &first, "before", &mut [&mut alice, &mut bob, &mut carol]).await;

    commit_unsent(alice.first(), &room).await;
    commit_unsent(bob.first(), &room).await;
    alice.first().pump().await.unwrap();
    bob.first().pump().await.unwrap();
    // Neither has heard of the other when they write.
    let left = alice.first().say(&room, "on Alice's branch").await.unwrap();
    let right = bob.first().say(&room, "on Bob's branch").await.unwrap();
    assert!(left.node != right.node && left.node != first.node && right.node != first.node);

    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    all_read(&room, &left, "on Alice's branch", everybody).await;
    all_read(&room, &right, "on Bob's branch", everybody).await;
    for user in everybody.iter_mut() {
        for device in user.devices() {
            device.wait_to_enter(&room, left.node).await.unwrap();
            device.wait_to_enter(&room, right.node).await.unwrap();
        }
    }
    let chosen = tip(carol.first(), &room).await;
    assert!(chosen == left.node || chosen == right.node);
    all_agree(&room, chosen, &mut [&mut alice, &mut bob, &mut carol]).await;

    // It goes on there, and the next commit says that it knows the other branch.
    let after = carol.first().say(&room, "after").await.unwrap();
    assert_eq!(after.node, chosen);
    all_read(&room, &after, "after", &mut [&mut alice, &mut bob, &mut carol]).await;
    carol.first().update_keys(&room).await.unwrap();
    let merged = tip(carol.first(), &room).await;
    all_agree(&room, merged, &mut [&mut alice, &mut bob, &mut carol]).await;
    let last = bob.first().say(&room, "together").await.unwrap();
    assert_eq!(last.node, merged);
    all_read(&room, &last, "together", &mut [&mut alice, &mut bob, &mut carol]).await;
}

#[tokio::test]
async fn two_members_add_the_same_user_at_once_and_the_newcomer_reads_both() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut dave = user(&http, "dave", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    reads(bob.first(), &room, &first.event_id, "before").await;

    alice.first().invite(&room, dave.id()).await.unwrap();
    dave.join(&room).await.unwrap();
    let id = dave.id().to_owned();
    for device in [alice.first(), bob.first()] {
        device
            .sync_until("Dave in the room", async |device| {
                Ok(device.room(&room).is_some_and(|room| room.members().joined.contains(&id)))
            })
            .await
            .unwrap();
    }
    // Each adds him without having heard of the other.
    let left = alice.first().say(&room, "welcome, says Alice").await.unwrap();
    let right = bob.first().say(&room, "welcome, says Bob").await.unwrap();
    assert_ne!(left.node, right.node);
    all_read(&room, &left, "welcome, says Alice", &mut [&mut alice, &mut bob, &mut dave]).await;
    all_read(&room, &right, "welcome, says Bob", &mut [&mut alice, &mut bob, &mut dave]).await;
    let chosen = tip(alice.first(), &room).await;
    all_agree(&room, chosen, &mut [&mut alice, &mut bob, &mut dave]).await;
    let answer = dave.first().say(&room, "thank you both").await.unwrap();
    all_read(&room, &answer, "thank you both", &mut [&mut alice, &mut bob, &mut dave]).await;
}

#[tokio::test]
async fn a_removal_wins_against_the_removed_who_commits_at_the_same_time() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    all_read(&room, &first, "before", &mut [&mut alice, &mut bob, &mut carol]).await;

    // Carol's commit gets in before she is kicked, and nobody has seen it when Alice removes her.
    commit_unsent(carol.first(), &room).await;
    carol.first().pump().await.unwrap();
    let last_words = carol.first().say(&room, "one more thing").await.unwrap();
    alice.first().kick(&room, carol.id()).await.unwrap();
    let response = alice.first().sync_raw(SOON).await.unwrap();
    let mut update = alice.first().process_sync(response).await.unwrap();
    for news in update.joined.values_mut() {
        news.timeline.retain(|event| {
            event.get_field::<String>("type").unwrap().as_deref() == Some("m.room.member")
        });
    }
    alice.first().process(&update).await.unwrap();
    let without = alice.first().say(&room, "without Carol").await.unwrap();
    assert_ne!(without.node, last_words.node);

    all_read(&room, &without, "without Carol", &mut [&mut bob]).await;
    all_read(&room, &last_words, "one more thing", &mut [&mut bob]).await;
    assert_eq!(tip(bob.first(), &room).await, without.node);
    let answer = bob.first().say(&room, "quiet now").await.unwrap();
    reads(alice.first(), &room, &answer.event_id, "quiet now").await;
    assert!(!carol.first().holds(&room, answer.node).await.unwrap());
}
