//! Removals without cause, and revenge.

use serde_json::json;

use super::*;
use crate::testing::{Insider, SimEvent};

/// The removed one is not heard by a single vote, and is let in again by the next who speaks.
#[tokio::test]
async fn who_is_falsely_removed_is_added_again() {
    let (server, devices) = room_of(&["alice", "bob", "carol", "mallory"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[3], &all[..3]);
    let carol = honest[2];
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let removal = insider.removes(mallory.node().await.unwrap(), &[carol]);
    insider.posts(&removal);
    settle(honest).await;
    assert_eq!(chosen(carol).await, removal.node);
    assert!(carol.mls().is_left_behind_since(carol.room()).await.unwrap().is_some());
    let before = commits(&server, mallory);
    seconds_pass(&server, honest, 75).await;
    assert_eq!((commits(&server, mallory), objections(carol)), (before + 1, 1));
    let event = honest[0].says("come back, Carol").await;
    settle(honest).await;
    carol.has_read(&event, "come back, Carol");
    assert_all_is_well(&server, honest, &all).await;
}

/// It asks when everybody has had its turn to object: nobody has to say something first. Mallory, who is
/// asked first, does not answer.
#[tokio::test]
async fn who_is_falsely_removed_is_let_in_again_though_nobody_speaks() {
    let (server, devices) = room_of(&["alice", "bob", "carol", "mallory"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[3], &all[..3]);
    let carol = honest[2];
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let removal = insider.removes(mallory.node().await.unwrap(), &[carol]);
    insider.posts(&removal);
    settle(honest).await;
    let is_outside = async || carol.mls().is_left_behind_since(carol.room()).await.unwrap();
    seconds_pass(&server, honest, 115).await;
    assert_eq!((objections(carol), is_outside().await.is_some()), (1, true));
    let before = commits(&server, mallory);
    seconds_pass(&server, honest, 95).await;
    assert_eq!((commits(&server, mallory), is_outside().await), (before + 1, None));
    assert_all_is_well(&server, honest, &all).await;
}

/// Control: who is removed with cause does not object.
#[tokio::test]
async fn who_is_rightly_removed_does_not_object() {
    let (server, devices) = room_of(&["alice", "bob", "carol"]).await;
    let all: Vec<_> = devices.iter().collect();
    let carol = all[2];
    all[0].kicks(carol);
    settle(&all).await;
    all[0].says("without Carol").await;
    settle(&all).await;
    seconds_pass(&server, &all, 15).await;
    let before = commits(&server, carol);
    assert_eq!(carol.mls().is_left_behind_since(carol.room()).await.unwrap(), None);
    seconds_pass(&server, &all, 300).await;
    assert_eq!((commits(&server, carol), objections(carol)), (before, 0));
    assert_all_is_well(&server, &all[..2], &all[..2]).await;
}

/// Mallory's device is deleted, and it has the lowest leaf. It removes who removed it, and its
/// accomplice, a member, goes on from there.
async fn retaliates(with_accomplice: bool) {
    let (server, devices) = room_of(&["mallory", "eve", "alice", "bob", "carol"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, eve, honest) = (all[0], all[1], &all[2..]);
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let mut accomplice = Insider::with_the_keys_of(eve).await;
    let node = mallory.node().await.unwrap();
    server.deletes_device(mallory.name());
    settle(honest).await;
    let event = honest[0].says("without Mallory").await;
    let revenge = insider.removes(node, &[honest[0]]);
    insider.posts(&revenge);
    if with_accomplice {
        accomplice.enters(&revenge);
        let support = accomplice.commits(revenge.node, matrix_dmls::CommitPlan::default());
        accomplice.posts(&support);
    }
    settle(honest).await;
    honest.iter().for_each(|device| device.has_read(&event, "without Mallory"));
    for device in &honest[1..] {
        let tip = chosen(device).await;
        let graph = device.mls().epoch_graph(device.room()).await.unwrap();
        let chosen = graph.nodes.iter().find(|known| known.node == tip).unwrap();
        assert!(tip == revenge.node || chosen.parent == Some(revenge.node), "it is ahead at first");
    }
    seconds_pass(&server, honest, 60).await;
    // What is said is said without Mallory in any case.
    assert_all_is_well(&server, honest, &all[1..]).await;
}

#[tokio::test]
async fn a_removed_device_that_retaliates_alone_is_outvoted() {
    retaliates(false).await;
}

#[tokio::test]
async fn a_removed_device_that_retaliates_with_an_accomplice_is_outvoted() {
    retaliates(true).await;
}

/// As two servers see it that are cut off from one another while two admins throw one another out.
#[tokio::test]
async fn two_members_that_remove_one_another_are_both_in_at_the_end() {
    let (server, devices) = room_of(&["alice", "bob", "carol", "dave", "erin"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (dave, erin) = (all[3], all[4]);
    for (who, other) in [(dave, erin), (erin, dave)] {
        hears(&server, who, other, "leave").await;
        let event = who.starts_to_say_without(other).await;
        assert_eq!(event, 1);
    }
    dave.pumps().await;
    erin.pumps().await;
    for (who, other) in [(dave, erin), (erin, dave)] {
        hears(&server, who, other, "join").await;
    }
    settle(&all).await;
    let graph = all[0].mls().epoch_graph(all[0].room()).await.unwrap();
    assert_eq!(graph.tips().len(), 2);
    seconds_pass(&server, &all, 75).await;
    all[0].says("be friends").await;
    settle(&all).await;
    seconds_pass(&server, &all, 75).await;
    assert_all_is_well(&server, &all, &all).await;
}

/// One device hears of another user's membership what the others do not.
async fn hears(server: &SimServer, who: &SimDevice, other: &SimDevice, membership: &str) {
    let event = SimEvent {
        event_id: ruma::EventId::new_v1(ruma::server_name!("example.org")),
        event_type: "m.room.member".to_owned(),
        state_key: Some(other.user_id().to_string()),
        sender: other.user_id().clone(),
        content: json!({ "membership": membership }),
        timestamp: crate::Clock::now(server.clock()),
        replaces: None,
    };
    let json = event.to_json();
    who.mls().receive_room_events(who.room(), &[], &[json]).await.unwrap();
}

impl SimDevice {
    /// Makes the commit without another device, and does not send it. Gives how many commits wait.
    async fn starts_to_say_without(&self, other: &Self) -> usize {
        assert!(self.sees(other).await);
        self.starts_to_update_keys().await;
        self.store_outbox().await.len()
    }
}
