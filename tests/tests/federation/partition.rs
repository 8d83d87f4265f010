//! Both halves of a room go on by themselves, and come together again.

use matrix_mls_tests::{DriverError, Federation, Sent, User};
use matrix_sdk_crypto_mls::{MlsError, dmls::Rule};
use ruma::RoomId;

use crate::{
    rooms::{room_on_both, sees},
    support::{NOW, all_agree, all_read, devices_in, reads, tip, user},
};

/// Somebody writes.
async fn says(
    said: &mut Vec<(Sent, &'static str)>,
    by: &mut User,
    room: &RoomId,
    text: &'static str,
) {
    let sent = by.first().say(room, text).await.unwrap();
    assert_eq!(sent.without_mls, [], "{text}");
    said.push((sent, text));
}

#[tokio::test]
async fn both_halves_go_on_by_themselves_and_come_together() {
    let mut net = Federation::from_env().await.unwrap();
    let mut alice = user(&net.a, "alice", 2).await;
    let mut bob = user(&net.a, "bob", 1).await;
    let mut gina = user(&net.a, "gina", 1).await;
    let mut dave = user(&net.b, "dave", 2).await;
    let mut erin = user(&net.b, "erin", 1).await;
    let mut hank = user(&net.b, "hank", 1).await;
    let mut carol = user(&net.a, "carol", 1).await;
    let mut frank = user(&net.b, "frank", 1).await;
    let on_one = &mut [&mut alice, &mut bob, &mut gina];
    let room = room_on_both(on_one, &mut [&mut dave, &mut erin, &mut hank]).await;

    // Key packages, Welcomes and messages go from server to server.
    let mut before = Vec::new();
    says(&mut before, &mut alice, &room, "hello over there").await;
    reads(dave.device(1).unwrap(), &room, &before[0].0.event_id, "hello over there").await;
    says(&mut before, &mut dave, &room, "hello yourself").await;
    assert_eq!(before[0].0.node, before[1].0.node, "one commit has let everybody in");
    for (sent, text) in &before {
        let on_one = &mut [&mut alice, &mut bob, &mut gina, &mut dave, &mut erin, &mut hank];
        all_read(&room, sent, text, on_one).await;
    }

    net.cut().await.unwrap();

    // One half lets Carol in, removes Gina and renews keys.
    alice.first().invite(&room, carol.id()).await.unwrap();
    carol.join(&room).await.unwrap();
    alice.first().kick(&room, gina.id()).await.unwrap();
    sees(bob.first(), &room, carol.id(), true).await;
    sees(bob.first(), &room, gina.id(), false).await;
    let mut on_a = Vec::new();
    says(&mut on_a, &mut bob, &room, "Carol is here").await;
    says(&mut on_a, &mut carol, &room, "here I am").await;
    reads(alice.first(), &room, &on_a[1].0.event_id, "here I am").await;
    alice.first().update_keys(&room).await.unwrap();
    says(&mut on_a, &mut alice, &room, "new keys").await;

    // The other half lets Frank in, removes Hank and renews keys.
    dave.first().invite(&room, frank.id()).await.unwrap();
    frank.join(&room).await.unwrap();
    dave.first().kick(&room, hank.id()).await.unwrap();
    sees(erin.first(), &room, frank.id(), true).await;
    sees(erin.first(), &room, hank.id(), false).await;
    let mut on_b = Vec::new();
    says(&mut on_b, &mut erin, &room, "Frank is here").await;
    reads(frank.first(), &room, &on_b[0].0.event_id, "Frank is here").await;
    frank.first().update_keys(&room).await.unwrap();
    says(&mut on_b, &mut frank, &room, "so are new keys").await;
    reads(dave.first(), &room, &on_b[1].0.event_id, "so are new keys").await;
    says(&mut on_b, &mut dave, &room, "are we alone?").await;

    for (sent, text) in &on_a {
        all_read(&room, sent, text, &mut [&mut alice, &mut bob, &mut carol]).await;
    }
    for (sent, text) in &on_b {
        all_read(&room, sent, text, &mut [&mut dave, &mut erin, &mut frank]).await;
    }
    // Each has removed its own, and knows nothing of what the other has done.
    for (half, removed, member) in [(&mut alice, &gina, &hank), (&mut dave, &hank, &gina)] {
        let half = half.first();
        assert_eq!(devices_in(half, &room, removed.id()).await, 0);
        assert_eq!(devices_in(half, &room, member.id()).await, 1);
        assert_eq!(half.status(&room).await.unwrap().unwrap().tips.len(), 1);
    }

    net.heal().await.unwrap();

    // Whoever was there when the room fell apart reads what was said on both sides, and chooses the
    // side on which more of those who were there have committed.
    for (sent, text) in on_a.iter().chain(&on_b) {
        all_read(&room, sent, text, &mut [&mut alice, &mut bob, &mut dave, &mut erin]).await;
    }
    let winner = on_a[2].0.node;
    all_agree(&room, winner, &mut [&mut alice, &mut bob, &mut carol, &mut dave, &mut erin]).await;
    for device in alice.devices().chain(dave.devices()) {
        let choice = device.mls.explain_choice(&room).await.unwrap();
        assert_eq!(choice.len(), 1);
        assert_eq!((choice[0].at, choice[0].by), (before[0].0.node, Rule::Users));
        // A removal on the other side is no removal here.
        assert_eq!(devices_in(device, &room, gina.id()).await, 0);
        assert_eq!(devices_in(device, &room, hank.id()).await, 1);
        assert_eq!(devices_in(device, &room, frank.id()).await, 0);
    }
    // Frank was let in on the side that loses. He cannot remove Gina there without voting for it.
    let frank_s = frank.first();
    frank_s
        .sync_until("both branches", async |device| {
            Ok(device.mls.explain_choice(&room).await?.len() == 1)
        })
        .await
        .unwrap();
    sees(frank_s, &room, gina.id(), false).await;
    let refused = frank_s.say(&room, "can you hear me?").await;
    assert!(matches!(refused, Err(DriverError::Mls(MlsError::LeftBehind))), "{refused:?}");

    // The next one who writes puts the other side's changes into effect first, on whichever side.
    let mut after = Vec::new();
    sees(erin.first(), &room, gina.id(), false).await;
    sees(erin.first(), &room, carol.id(), true).await;
    says(&mut after, &mut erin, &room, "together again").await;
    let together = after[0].0.node;
    for half in [&mut alice, &mut dave] {
        reads(half.first(), &room, &after[0].0.event_id, "together again").await;
    }
    // After that nobody has to do anything.
    reads(frank.first(), &room, &after[0].0.event_id, "together again").await;
    says(&mut after, &mut frank, &room, "now you hear me").await;
    says(&mut after, &mut alice, &room, "loud and clear").await;
    for (sent, text) in &after {
        assert_eq!(sent.node, together, "{text}");
        let everybody = &mut [&mut alice, &mut bob, &mut carol, &mut dave, &mut erin, &mut frank];
        all_read(&room, sent, text, everybody).await;
    }
    let everybody = &mut [&mut alice, &mut bob, &mut carol, &mut dave, &mut erin, &mut frank];
    all_agree(&room, together, everybody).await;
    let roster = alice.first().status(&room).await.unwrap().unwrap().roster;
    assert_eq!(
        roster.len(),
        8,
        "two of Alice's and Dave's, one of Bob's, Carol's, Erin's, Frank's"
    );
    assert_eq!(tip(bob.first(), &room).await, together);

    // The removed read nothing of what was said without them.
    for (removed, said) in [(&mut gina, &on_a), (&mut hank, &on_b)] {
        removed.first().sync(NOW).await.unwrap();
        for (sent, text) in said.iter().chain(&after) {
            assert!(!removed.first().holds(&room, sent.node).await.unwrap(), "{text}");
        }
        assert_eq!(devices_in(alice.first(), &room, removed.id()).await, 0);
    }
    for user in [&mut alice, &mut bob, &mut carol, &mut dave, &mut erin, &mut frank] {
        for device in user.devices() {
            assert_eq!(device.refusals.len(), 0, "{:?}", device.refusals);
        }
    }
}
