//! Both halves of a room go on by themselves, and come together again.

use std::{collections::BTreeSet, time::Duration};

use matrix_mls_tests::{Federation, Sent, User, come_together};
use ruma::{RoomId, uint};

use crate::{
    rooms::{room_on_both, sees},
    support::{NOW, all_read, devices_in, reads, user},
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

fn takes_long_syncs(user: &mut User) {
    for device in user.devices() {
        device.sync_filter.room.timeline.limit = Some(uint!(100));
    }
}

/// In so many epochs at least something is said on each side of a cut.
const EPOCHS: usize = 10;

/// Everybody renews the keys and says something, by turns.
async fn go_on(said: &mut Vec<(Sent, &'static str)>, room: &RoomId, users: &mut [&mut User]) {
    for round in 0..EPOCHS {
        let user = &mut users[round % users.len()];
        if let Some((last, text)) = said.last() {
            reads(user.first(), room, &last.event_id, text).await;
        }
        user.first().update_keys(room).await.unwrap();
        says(said, user, room, "and on we go").await;
    }
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
    // More is said than a sync brings by default.
    for user in [&mut alice, &mut bob, &mut gina, &mut dave, &mut erin, &mut hank] {
        takes_long_syncs(user);
    }
    takes_long_syncs(&mut carol);
    takes_long_syncs(&mut frank);
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
    go_on(&mut on_a, &room, &mut [&mut alice, &mut bob, &mut carol]).await;

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
    go_on(&mut on_b, &room, &mut [&mut dave, &mut erin, &mut frank]).await;

    for said in [&on_a, &on_b] {
        let epochs: BTreeSet<_> = said.iter().map(|(sent, _)| sent.node).collect();
        assert!(epochs.len() >= EPOCHS, "{}", epochs.len());
    }
    for (sent, text) in &on_a {
        all_read(&room, sent, text, &mut [&mut alice, &mut bob, &mut carol]).await;
    }
    for (sent, text) in &on_b {
        all_read(&room, sent, text, &mut [&mut dave, &mut erin, &mut frank]).await;
    }
    // Each has removed its own, and knows nothing of what the other has done.
    for (half, removed, member) in [(&mut alice, &gina, &hank), (&mut dave, &hank, &gina)] {
        assert_eq!(devices_in(half.first(), &room, removed.id()).await, 0);
        assert_eq!(devices_in(half.first(), &room, member.id()).await, 1);
    }

    net.heal().await.unwrap();

    // Whoever was there when the room fell apart reads what was said on both sides.
    for (sent, text) in on_a.iter().chain(&on_b) {
        all_read(&room, sent, text, &mut [&mut alice, &mut bob, &mut dave, &mut erin]).await;
    }
    for device in alice.devices().chain(bob.devices()).chain(dave.devices()).chain(erin.devices()) {
        for (user, joined) in [(&carol, true), (&frank, true), (&gina, false), (&hank, false)] {
            sees(device, &room, user.id(), joined).await;
        }
    }

    // Whoever writes next, on whichever side, puts into effect what the other side has decided: the
    // removed stay removed, and those who were let in are in.
    let mut after = Vec::new();
    says(&mut after, &mut erin, &room, "together again").await;
    reads(alice.first(), &room, &after[0].0.event_id, "together again").await;
    says(&mut after, &mut alice, &room, "at last").await;
    reads(frank.first(), &room, &after[1].0.event_id, "at last").await;
    says(&mut after, &mut frank, &room, "hello over there").await;
    for (sent, text) in &after {
        let everybody = &mut [&mut alice, &mut bob, &mut carol, &mut dave, &mut erin, &mut frank];
        all_read(&room, sent, text, everybody).await;
    }
    let mut devices: Vec<_> = [&mut alice, &mut bob, &mut carol, &mut dave, &mut erin, &mut frank]
        .into_iter()
        .flat_map(|user| user.devices())
        .collect();
    come_together(&mut devices, &room).await.unwrap();
    let roster = alice.first().status(&room).await.unwrap().unwrap().roster;
    let mut names: Vec<_> = roster.iter().map(|(_, member)| &*member.device().user_id).collect();
    names.sort_unstable();
    let mut expected = [&alice, &alice, &bob, &carol, &dave, &dave, &erin, &frank]
        .map(|user| user.id().to_string());
    expected.sort_unstable();
    assert_eq!(names, expected);

    // The removed read nothing of what was said without them.
    for (removed, said) in [(&mut gina, &on_a), (&mut hank, &on_b)] {
        removed.first().sync(NOW).await.unwrap();
        for (sent, text) in said.iter().chain(&after) {
            assert!(!removed.first().holds(&room, sent.node).await.unwrap(), "{text}");
        }
    }
    for user in [&mut alice, &mut bob, &mut carol, &mut dave, &mut erin, &mut frank] {
        for device in user.devices() {
            assert_eq!(device.refusals.len(), 0, "{:?}", device.refusals);
        }
    }
}

#[tokio::test]
async fn much_is_said_while_the_servers_are_cut_off() {
    let mut net = Federation::from_env().await.unwrap();
    let mut alice = user(&net.a, "alice", 1).await;
    let mut dave = user(&net.b, "dave", 1).await;
    let room = room_on_both(&mut [&mut alice], &mut [&mut dave]).await;
    takes_long_syncs(&mut alice);
    takes_long_syncs(&mut dave);
    let mut before = Vec::new();
    says(&mut before, &mut alice, &room, "hello").await;
    reads(dave.first(), &room, &before[0].0.event_id, "hello").await;

    net.cut().await.unwrap();
    let mut meanwhile = Vec::new();
    for _ in 0..5 {
        alice.first().update_keys(&room).await.unwrap();
        for text in ["are you there?", "still not?", "what a pity"] {
            says(&mut meanwhile, &mut alice, &room, text).await;
        }
    }
    says(&mut meanwhile, &mut dave, &room, "nobody there?").await;
    net.heal().await.unwrap();
    for (sent, text) in &meanwhile {
        all_read(&room, sent, text, &mut [&mut alice, &mut dave]).await;
    }
    come_together(&mut [alice.first(), dave.first()], &room).await.unwrap();
}

/// Nobody is cut off: everything only takes so long that both sides go on before they have heard of one
/// another.
#[tokio::test]
async fn commits_collide_while_the_servers_are_slow() {
    let mut net = Federation::from_env().await.unwrap();
    let mut alice = user(&net.a, "alice", 1).await;
    let mut bob = user(&net.a, "bob", 1).await;
    let mut dave = user(&net.b, "dave", 1).await;
    let mut erin = user(&net.b, "erin", 1).await;
    for user in [&mut alice, &mut bob, &mut dave, &mut erin] {
        takes_long_syncs(user);
    }
    let room = room_on_both(&mut [&mut alice, &mut bob], &mut [&mut dave, &mut erin]).await;
    let mut said = Vec::new();
    says(&mut said, &mut alice, &room, "hello").await;
    all_read(&room, &said[0].0, "hello", &mut [&mut bob, &mut dave, &mut erin]).await;

    net.link.delay(Duration::from_millis(300)).await.unwrap();
    for _ in 0..4 {
        for user in [&mut alice, &mut dave, &mut bob, &mut erin] {
            user.first().update_keys(&room).await.unwrap();
            says(&mut said, user, &room, "all at once").await;
        }
    }
    for (sent, text) in &said {
        let everybody = &mut [&mut alice, &mut bob, &mut dave, &mut erin];
        all_read(&room, sent, text, everybody).await;
    }
    // It did come to branches.
    let graph = alice.first().mls.epoch_graph(&room).await.unwrap();
    let parents: Vec<_> = graph.nodes.iter().filter_map(|node| node.parent).collect();
    assert!(parents.len() > parents.iter().collect::<BTreeSet<_>>().len(), "{graph}");

    net.heal().await.unwrap();
    let devices = &mut [alice.first(), bob.first(), dave.first(), erin.first()];
    come_together(devices, &room).await.unwrap();
}
