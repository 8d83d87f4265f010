//! Somebody is in the room, but their server cannot be reached.

use matrix_mls_tests::Federation;

use crate::{
    rooms::room_on_both,
    support::{all_agree, all_read, user},
};

#[tokio::test]
async fn whose_server_was_unreachable_is_let_in_when_it_is_there_again() {
    let mut net = Federation::from_env().await.unwrap();
    let mut alice = user(&net.a, "alice", 1).await;
    let mut bob = user(&net.a, "bob", 1).await;
    let mut dave = user(&net.b, "dave", 1).await;
    let room = room_on_both(&mut [&mut alice, &mut bob], &mut [&mut dave]).await;

    // Dave's key package cannot be had. The others talk nevertheless, and know who does not hear it.
    net.cut().await.unwrap();
    let first = alice.first().say(&room, "does Dave hear us?").await.unwrap();
    all_read(&room, &first, "does Dave hear us?", &mut [&mut alice, &mut bob]).await;
    assert_eq!(first.without_mls.len(), 1, "{:?}", first.without_mls);
    assert_eq!(first.without_mls[0].0, dave.id());

    // Alice asks again in a minute; Bob has not asked before.
    net.heal().await.unwrap();
    let second = bob.first().say(&room, "he does now").await.unwrap();
    assert_eq!(second.without_mls, []);
    all_read(&room, &second, "he does now", &mut [&mut alice, &mut bob, &mut dave]).await;
    let third = dave.first().say(&room, "here I am").await.unwrap();
    all_read(&room, &third, "here I am", &mut [&mut alice, &mut bob, &mut dave]).await;
    all_agree(&room, second.node, &mut [&mut alice, &mut bob, &mut dave]).await;
}
