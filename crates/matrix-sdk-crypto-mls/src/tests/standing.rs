//! Standing up for the room (protocol §5).

use matrix_dmls::NodeId;

use super::{alice_and_bob, assert_no_generation_is_reused, assert_one_epoch, settle};
use crate::{
    MlsError,
    store::MlsStore as _,
    testing::{RequestKind, SimDevice, SimError, SimServer, TestClock},
};

const SECOND: u64 = TestClock::MINUTE / 60;

async fn joins(server: &SimServer, by: &SimDevice, name: &str) -> SimDevice {
    let device = server.device(name, "DEVICE").logs_in().await;
    by.invites(&device);
    let device = device.joins(by).await;
    by.syncs().await;
    by.says("welcome").await;
    device.syncs().await;
    device
}

/// What the tip that a device sends on is, and how many commits there were.
async fn tip(device: &SimDevice) -> (NodeId, usize) {
    let status = device.status().await.unwrap();
    assert!(status.is_chosen);
    let commits = device.server().count(device.room(), "io.github.matrix-mls.dmls.v1.commit");
    (status.node, commits)
}

#[tokio::test]
async fn a_removal_is_confirmed_by_two_others() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = joins(&server, &alice, "carol").await;
    let dave = joins(&server, &alice, "dave").await;
    let mallory = joins(&server, &alice, "mallory").await;
    let honest = [&alice, &bob, &carol, &dave];
    settle(&honest).await;
    alice.kicks(&mallory);
    settle(&honest).await;
    let event = alice.says("without Mallory").await;
    settle(&honest).await;
    let (removal, commits) = tip(&alice).await;

    // Nobody is in a hurry, and the author has no part in it.
    for device in honest {
        device.pumps().await;
    }
    assert_eq!(tip(&alice).await, (removal, commits));
    assert_eq!(alice.mls().next_deadline(), None);
    let deadlines: Vec<_> =
        honest[1..].iter().map(|device| device.mls().next_deadline().unwrap()).collect();
    let first = *deadlines.iter().min().unwrap();

    // Each has its turn, and after two it is enough.
    for _ in 0..6 {
        server.clock().advance(5 * SECOND);
        for device in honest {
            device.pumps().await;
            settle(&honest).await;
        }
    }
    let (confirmed, after) = tip(&alice).await;
    assert_eq!(after, commits + 2);
    assert_ne!(confirmed, removal);
    assert_one_epoch(&honest).await;
    for device in honest {
        device.has_read(&event, "without Mallory");
    }
    // Alice, whose room it is, has the anchor to move yet.
    for device in &honest[1..] {
        assert_eq!(device.mls().next_deadline(), None, "after {first}");
    }
    // An hour later nothing has been added to it.
    server.clock().advance(TestClock::HOUR);
    for device in honest {
        device.pumps().await;
    }
    assert_eq!(tip(&alice).await, (confirmed, after));
}

/// In a room where only some may commit the others do not try.
#[tokio::test]
async fn who_may_not_commit_leaves_it_to_the_others() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = joins(&server, &alice, "carol").await;
    let mallory = joins(&server, &alice, "mallory").await;
    let honest = [&alice, &bob, &carol];
    let levels = serde_json::json!({
        "users": { alice.user_id().as_str(): 100, bob.user_id().as_str(): "50" },
        "events": { "io.github.matrix-mls.dmls.v1.commit": 50 },
    });
    alice.sets_state("m.room.power_levels", levels);
    settle(&honest).await;
    alice.kicks(&mallory);
    settle(&honest).await;
    assert!(matches!(
        carol.tries_to_say("without Mallory").await,
        Err(SimError::Machine(MlsError::CommitsRefused))
    ));
    alice.says("without Mallory").await;
    settle(&honest).await;
    assert_eq!(carol.mls().next_deadline(), None);
    assert!(bob.mls().next_deadline().is_some());
    let event = carol.says("I can speak all the same").await;
    settle(&honest).await;
    bob.has_read(&event, "I can speak all the same");
    let requests = server.requests_of(carol.name());
    assert!(requests.iter().all(|(kind, _)| *kind != RequestKind::Commit));
}

/// Whoever leaves by itself is removed by the next who sends, and nobody else is bothered without
/// need.
#[tokio::test]
async fn a_removal_that_is_talked_over_needs_nobody() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = joins(&server, &alice, "carol").await;
    let dave = joins(&server, &alice, "dave").await;
    let all = [&alice, &bob, &carol, &dave];
    settle(&all).await;
    dave.leaves();
    settle(&all).await;
    alice.says("Dave has left").await;
    settle(&all).await;
    for device in [&bob, &carol] {
        device.updates_keys().await;
        settle(&all).await;
    }
    let (node, commits) = tip(&alice).await;
    server.clock().advance(TestClock::HOUR);
    for device in all {
        device.pumps().await;
    }
    assert_eq!(tip(&alice).await, (node, commits));
}

/// Carol is to confirm the removal, and leaves the room. Her server would take nothing from her.
#[tokio::test]
async fn who_has_left_stands_up_for_nothing() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = joins(&server, &alice, "carol").await;
    let mallory = joins(&server, &alice, "mallory").await;
    settle(&[&alice, &bob, &carol]).await;
    alice.kicks(&mallory);
    settle(&[&alice, &bob, &carol]).await;
    alice.says("without Mallory").await;
    carol.syncs().await;
    assert!(carol.mls().next_deadline().is_some());
    let (_, commits) = tip(&alice).await;

    carol.leaves();
    carol.syncs().await;
    carol.takes_notices();
    for _ in 0..6 {
        server.clock().advance(15 * TestClock::MINUTE);
        carol.pumps().await;
    }
    let notices = carol.takes_notices();
    assert!(notices.is_empty(), "{notices:?}");
    assert_eq!(tip(&alice).await.1, commits);
    let stored = carol.store().load_room(carol.room()).await.unwrap().unwrap();
    assert!(stored.group.pending.is_empty());
}

/// The kicked device retaliates: it is senior to who removed it, and wins until others confirm.
#[tokio::test]
async fn a_retaliation_ends_with_the_confirmation() {
    let server = SimServer::new(1);
    let mallory = server.device("mallory", "EVIL").logs_in().await;
    let mallory = mallory.creates_room().await;
    mallory.says("my room").await;
    let alice = joins(&server, &mallory, "alice").await;
    let bob = joins(&server, &mallory, "bob").await;
    let carol = joins(&server, &mallory, "carol").await;
    let honest = [&alice, &bob, &carol];
    settle(&[&mallory, &alice, &bob, &carol]).await;
    let node = mallory.node().await.unwrap();

    // Mallory's device is deleted; its owner's other devices could still post, and so can it here.
    let twin = mallory.mls();
    server.deletes_device(mallory.name());
    settle(&honest).await;
    alice.says("Mallory's device is gone").await;
    settle(&honest).await;
    let (removal, _) = tip(&alice).await;
    // It removes Alice, on the epoch that both were in.
    let retaliation = retaliates(&server, &mallory, &twin, node, &alice).await;
    settle(&honest).await;
    for device in [&bob, &carol] {
        let graph = device.mls().epoch_graph(device.room()).await.unwrap();
        // Mallory has the lower leaf.
        assert_eq!(graph.chosen, Some(retaliation));
    }
    // Who has something to say votes for the removal at once.
    let event = bob.says("no").await;
    settle(&honest).await;
    for device in honest {
        device.has_read(&event, "no");
        let graph = device.mls().epoch_graph(device.room()).await.unwrap();
        assert!(graph.nodes.iter().any(|known| known.node == removal));
        assert_ne!(graph.chosen, Some(retaliation));
        let members = device.devices_in_group().await;
        assert!(!members.contains(mallory.name()), "{members:?}");
        assert!(members.contains(alice.name()), "{members:?}");
    }
    assert_one_epoch(&honest).await;
    for _ in 0..20 {
        server.clock().advance(5 * SECOND);
        for device in honest {
            device.pumps().await;
            settle(&honest).await;
        }
    }
    assert_one_epoch(&honest).await;
    assert_no_generation_is_reused(&server, &honest);
}

/// A commit on an old epoch, posted as the kicked device's user.
async fn retaliates(
    server: &SimServer,
    mallory: &SimDevice,
    twin: &crate::MlsMachine,
    node: NodeId,
    victim: &SimDevice,
) -> NodeId {
    use matrix_dmls::{CommitPlan, Group};

    use crate::{store::MlsStore, types::events::CommitEventContent};

    let stored = mallory.store().load_room(mallory.room()).await.unwrap().unwrap();
    let mut group = Group::new(mallory.room().as_str());
    group.apply(stored.group);
    let roster = group.roster(&node).unwrap();
    let leaf = roster
        .iter()
        .find(|(_, member)| member.device().user_id == victim.user_id().as_str())
        .unwrap()
        .0;
    let account = mallory.store().load_account().await.unwrap().unwrap();
    let local = matrix_dmls::LocalMember::new(twin.identity().clone(), &account.seed).unwrap();
    let plan = CommitPlan { remove: vec![leaf], ..CommitPlan::default() };
    let (retaliation, changes) = group.commit(node, &local, plan).unwrap();
    group.apply(changes);
    let pending = group.pending_commit(&retaliation).unwrap();
    let content =
        CommitEventContent::new(pending.commit.clone(), Some(node), pending.parent_context.clone());
    server.forges_event(
        mallory.room(),
        mallory.user_id(),
        "io.github.matrix-mls.dmls.v1.commit",
        None,
        serde_json::to_value(content).unwrap(),
    );
    retaliation
}
