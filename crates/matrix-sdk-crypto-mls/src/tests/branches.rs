//! Several members commit at once.

use std::collections::BTreeSet;

use matrix_dmls::NodeId;

use super::{alice_and_bob, assert_one_epoch, settle};
use crate::{
    Notice,
    testing::{SimDevice, SimServer},
};

/// A commit, and the epoch that it is beside another one on.
type Fork = (NodeId, NodeId);

/// A commit, and the ends of the branches that it ends.
type Merge = (NodeId, Vec<NodeId>);

/// What a device was told of branches since the last call.
fn branches(device: &SimDevice) -> (Vec<Fork>, Vec<Merge>) {
    let (mut forks, mut merges) = (Vec::new(), Vec::new());
    for notice in device.takes_notices() {
        match notice {
            Notice::Forked { node, parent, .. } => forks.push((node, parent)),
            Notice::Merged { node, branches, .. } => merges.push((node, branches)),
            _ => {}
        }
    }
    (forks, merges)
}

#[tokio::test]
async fn two_commits_on_one_epoch_are_both_entered_and_one_is_chosen() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = join(&server, &alice, &bob, "carol").await;
    let all = [&alice, &bob, &carol];
    let before = alice.node().await;

    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    bob.pumps().await;
    // Each is on its own branch and speaks there.
    let on_a = alice.says("on Alice's branch").await;
    let on_b = bob.says("on Bob's branch").await;
    assert_ne!(alice.node().await, bob.node().await);

    settle(&all).await;
    for device in all {
        device.has_read(&on_a, "on Alice's branch");
        device.has_read(&on_b, "on Bob's branch");
        let status = device.status().await.unwrap();
        assert_eq!(status.tips.len(), 2);
        assert!(status.is_chosen);
        assert_eq!(device.mls().explain_choice(device.room()).await.unwrap().len(), 1);
    }
    assert_one_epoch(&all).await;
    assert_ne!(alice.node().await, before);
    // All see the same picture, from where they came in.
    let tip = alice.node().await;
    for device in all {
        let picture = device.mls().epoch_graph(device.room()).await.unwrap();
        assert_eq!((picture.chosen, picture.sending), (tip, tip));
        assert_eq!(picture.tips().len(), 2);
        let last = picture.last(1);
        assert!(last.nodes.iter().all(|node| node.held && node.readable));
        let last = last.to_string();
        assert_eq!(last.lines().count(), 5, "{last}");
        assert_eq!(last.lines().nth(1), Some("├─╮"), "{last}");
        assert!(last.contains("alice:example.org/"), "{last}");
    }

    // All are told of the branches, once.
    let tips: BTreeSet<_> = alice.status().await.unwrap().tips.into_iter().collect();
    let losing: Vec<_> = tips.iter().copied().filter(|node| Some(*node) != tip).collect();
    for device in all {
        let (forks, merges) = branches(device);
        assert_eq!(forks.len(), 1);
        assert!(tips.contains(&forks[0].0) && Some(forks[0].1) == before);
        assert!(merges.is_empty());
    }

    let on = carol.says("and on").await;
    settle(&all).await;
    for device in all {
        device.has_read(&on, "and on");
    }
    // The next commit settles it for good.
    carol.updates_keys().await;
    settle(&all).await;
    assert_one_epoch(&all).await;
    let merged = carol.node().await.unwrap();
    for device in all {
        assert_eq!(branches(device), (vec![], vec![(merged, losing.clone())]));
    }
    bob.updates_keys().await;
    settle(&all).await;
    for device in all {
        assert_eq!(branches(device), (vec![], vec![]));
    }
    let last = bob.says("on one branch").await;
    settle(&all).await;
    alice.has_read(&last, "on one branch");
}

#[tokio::test]
async fn two_members_add_the_same_device_at_once() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    bob.syncs().await;
    let from_a = alice.says("Alice welcomes you").await;
    let from_b = bob.says("Bob welcomes you").await;
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    for device in all {
        device.has_read(&from_a, "Alice welcomes you");
        device.has_read(&from_b, "Bob welcomes you");
    }
    assert_one_epoch(&all).await;
    let event = carol.says("thank you both").await;
    settle(&all).await;
    alice.has_read(&event, "thank you both");
    bob.has_read(&event, "thank you both");
    assert_one_epoch(&all).await;
}

#[tokio::test]
async fn who_was_added_on_the_losing_branch_is_added_again() {
    // Whichever branch wins, everybody is in at the end.
    for round in 0..4 {
        let (server, alice, bob) = alice_and_bob().await;
        let carol = server.device("carol", "TABLET").logs_in().await;
        alice.invites(&carol);
        let carol = carol.joins(&alice).await;
        // Only one of them knows of Carol when they commit.
        let (adds, other) = if round % 2 == 0 { (&alice, &bob) } else { (&bob, &alice) };
        adds.syncs().await;
        other.starts_to_update_keys().await;
        adds.says("hello Carol").await;
        other.pumps().await;
        let all = [&alice, &bob, &carol];
        settle(&all).await;
        let event = other.says("are you there, Carol?").await;
        settle(&all).await;
        carol.has_read(&event, "are you there, Carol?");
        assert_one_epoch(&all).await;
        let event = carol.says("I am").await;
        settle(&all).await;
        alice.has_read(&event, "I am");
        bob.has_read(&event, "I am");
        assert_one_epoch(&all).await;
    }
}

#[tokio::test]
async fn after_a_partition_the_branches_come_together() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = join(&server, &alice, &bob, "carol").await;
    let dave = join(&server, &alice, &bob, "dave").await;
    let all = [&alice, &bob, &carol, &dave];
    settle(&all).await;
    assert_one_epoch(&all).await;

    server.is_cut_between(&[alice.user_id(), bob.user_id()], &[carol.user_id(), dave.user_id()]);
    let mut said = Vec::new();
    for (speaker, text) in
        [(&alice, "left 1"), (&carol, "right 1"), (&bob, "left 2"), (&dave, "right 2")]
    {
        speaker.updates_keys().await;
        said.push((speaker.says(text).await, text));
        settle(&all).await;
    }
    assert_one_epoch(&[&alice, &bob]).await;
    assert_one_epoch(&[&carol, &dave]).await;
    assert_ne!(alice.node().await, carol.node().await);
    assert!(carol.reading(&said[0].0).is_none());

    server.heals();
    settle(&all).await;
    assert_one_epoch(&all).await;
    for device in all {
        for (event, text) in &said {
            device.has_read(event, text);
        }
    }
    let event = dave.says("together again").await;
    settle(&all).await;
    for device in all {
        device.has_read(&event, "together again");
    }
}

#[tokio::test]
async fn a_removal_wins_against_the_removed() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = join(&server, &alice, &bob, "carol").await;
    let all = [&alice, &bob, &carol];
    // Bob is thrown out, and commits at the same time.
    bob.starts_to_update_keys().await;
    server.next_goes_wrong(
        bob.name(),
        crate::testing::RequestKind::Commit,
        crate::testing::Fault::ResponseLost,
    );
    bob.tries_to_pump().await.unwrap();
    alice.kicks(&bob);
    alice.drops_what_came();
    let alice_knows = server.events(alice.room());
    let kick = alice_knows.last().unwrap().to_json();
    alice.mls().receive_room_events(alice.room(), &[], &[kick]).await.unwrap();
    let secret = alice.says("without Bob").await;
    for event in &alice_knows {
        let json = event.to_json();
        alice.mls().receive_room_events(alice.room(), &[], &[json]).await.unwrap();
    }
    settle(&all).await;
    assert_one_epoch(&[&alice, &carol]).await;
    assert!(!alice.sees(&bob).await && !carol.sees(&bob).await);
    carol.has_read(&secret, "without Bob");
    assert!(bob.text(&secret).is_none());
    let event = carol.says("still without Bob").await;
    settle(&all).await;
    alice.has_read(&event, "still without Bob");
    assert!(bob.text(&event).is_none());
}

#[tokio::test]
async fn commits_may_come_in_any_order() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = join(&server, &alice, &bob, "carol").await;
    server.holds_back_timeline_of(bob.name(), true);
    let mut said = Vec::new();
    for round in 0..4 {
        let (speaker, other) = if round % 2 == 0 { (&alice, &carol) } else { (&carol, &alice) };
        speaker.updates_keys().await;
        let text = format!("in round {round}");
        said.push((speaker.says(&text).await, text));
        settle(&[speaker, other]).await;
    }
    server.holds_back_timeline_of(bob.name(), false);
    server.reverses_timeline_of(bob.name());
    bob.syncs().await;
    for (event, text) in &said {
        bob.has_read(event, text);
    }
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn shuffled_events_come_to_the_same() {
    for seed in 0..5 {
        let server = SimServer::new(seed);
        let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
        let bob = server.device("bob", "LAPTOP").logs_in().await;
        alice.invites(&bob);
        let bob = bob.joins(&alice).await;
        alice.syncs().await;
        alice.says("hello").await;
        settle(&[&alice, &bob]).await;
        let mut said = Vec::new();
        for round in 0..6 {
            alice.updates_keys().await;
            let text = format!("in round {round}");
            said.push((alice.says(&text).await, text));
        }
        server.shuffles_timeline_of(bob.name());
        bob.syncs().await;
        for (event, text) in &said {
            bob.has_read(event, text);
        }
        assert_one_epoch(&[&alice, &bob]).await;
    }
}

#[tokio::test]
async fn commits_that_were_left_out_are_fetched() {
    let (server, alice, bob) = alice_and_bob().await;
    for _ in 0..3 {
        alice.updates_keys().await;
    }
    alice.syncs().await;
    // A limited timeline: only what comes now is in it.
    server.drops_timeline_of(bob.name());
    let event = alice.says("what did you miss?").await;
    bob.syncs().await;
    bob.has_read(&event, "what did you miss?");
    assert_one_epoch(&[&alice, &bob]).await;
    let readable = bob.takes_notices().iter().any(|n| matches!(n, Notice::Readable { .. }));
    assert!(readable, "the application is told");
}

async fn join(server: &SimServer, alice: &SimDevice, bob: &SimDevice, user: &str) -> SimDevice {
    let device = server.device(user, "TABLET").logs_in().await;
    alice.invites(&device);
    let device = device.joins(alice).await;
    settle(&[alice, bob, &device]).await;
    alice.says(&format!("hello {user}")).await;
    settle(&[alice, bob, &device]).await;
    device
}
