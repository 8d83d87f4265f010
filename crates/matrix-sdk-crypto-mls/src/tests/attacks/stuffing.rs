//! Devices that do not exist.

use matrix_dmls::CommitPlan;

use super::*;
use crate::testing::{ForgedCommit, Insider};

/// Adds five users who never were members and five devices of Bob's that he does not have; they join
/// and commit, each of them.
async fn stuffs(mallory: &SimDevice) -> (ForgedCommit, Vec<Insider>) {
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let mut invented = Vec::new();
    for number in 0..5 {
        invented.push(insider.invents(&format!("nobody{number}"), "DEVICE").await);
        invented.push(insider.invents("bob", &format!("GHOST{number}")).await);
    }
    let packages: Vec<_> = invented.iter().map(Insider::key_package).collect();
    let add = packages.iter().map(|package| package.key_package.clone()).collect();
    let node = mallory.node().await.unwrap();
    let stuffed = insider.commits(node, CommitPlan { add, ..CommitPlan::default() });
    insider.posts(&stuffed);
    for (device, package) in invented.iter_mut().zip(&packages) {
        device.joins(&stuffed, package);
    }
    (stuffed, invented)
}

/// They speak up for the branch that they are on.
fn vote(stuffed: &ForgedCommit, invented: &mut [Insider]) {
    let mut on = stuffed.node;
    for voter in 0..invented.len() {
        let commit = invented[voter].commits(on, CommitPlan::default());
        for (place, device) in invented.iter_mut().enumerate() {
            if place != voter {
                device.enters(&commit);
            }
        }
        invented[voter].posts(&commit);
        on = commit.node;
    }
}

fn reports(device: &SimDevice) -> Vec<usize> {
    let notices = device.takes_notices();
    let reports = notices.iter().filter_map(|notice| match notice {
        Notice::InventedDevices { devices, .. } => Some(devices.len()),
        _ => None,
    });
    reports.collect()
}

/// Mallory has the lowest leaf, so it wins every tie.
#[tokio::test]
async fn ten_invented_devices_get_no_voice() {
    let (server, devices) = room_of(&["mallory", "alice", "bob", "carol", "dave"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[0], &all[1..]);
    let before = commits(&server, mallory);
    let (stuffed, mut invented) = stuffs(mallory).await;
    settle(honest).await;
    for device in honest {
        assert_eq!(chosen(device).await, stuffed.node);
        assert!(device.mls().next_deadline().is_some());
        assert_eq!(reports(device), [10]);
    }
    vote(&stuffed, &mut invented);
    settle(honest).await;
    assert_eq!(commits(&server, mallory), before + 11);
    seconds_pass(&server, honest, 60).await;
    // Two are enough.
    assert_eq!(commits(&server, mallory), before + 13);
    for device in honest {
        assert_eq!(reports(device), [0_usize; 0], "once is enough");
    }
    assert_all_is_well(&server, honest, &all).await;
    // Nor do they read anything.
    let node = honest[0].node().await.unwrap();
    let graph = honest[0].mls().epoch_graph(honest[0].room()).await.unwrap();
    assert!(graph.nodes.iter().any(|known| known.node == node));
    // An hour later nothing has been added to it.
    seconds_pass(&server, honest, 300).await;
    assert_eq!(commits(&server, mallory), before + 13);
    assert_all_is_well(&server, honest, &all).await;
}

/// Who has something to say does not wait, and says it to nobody who is invented.
#[tokio::test]
async fn a_sender_goes_on_beside_at_once() {
    let (server, devices) = room_of(&["mallory", "alice", "bob", "carol"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[0], &all[1..]);
    let (stuffed, mut invented) = stuffs(mallory).await;
    settle(honest).await;
    let alice = honest[0];
    let event = alice.says("not to ghosts").await;
    // She alone does not outweigh Mallory, and need not wait for that.
    assert_eq!(chosen(alice).await, stuffed.node);
    assert_ne!(alice.node().await, Some(stuffed.node));
    let names = all.iter().map(|device| device.name().clone()).collect();
    assert_eq!(alice.devices_in_group().await, names);
    vote(&stuffed, &mut invented);
    let again = alice.says("nor later").await;
    settle(honest).await;
    for device in honest {
        device.has_read(&event, "not to ghosts");
        device.has_read(&again, "nor later");
    }
    // The next who speaks is the second.
    let event = honest[1].says("nor I").await;
    settle(honest).await;
    honest.iter().for_each(|device| device.has_read(&event, "nor I"));
    seconds_pass(&server, honest, 60).await;
    assert_all_is_well(&server, honest, &all).await;
}

/// Control: a device that is deleted was none that was invented, and is removed below as ever.
#[tokio::test]
async fn a_deleted_device_is_removed_below() {
    let (server, devices) = room_of(&["mallory", "alice", "bob"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (alice, bob) = (all[1], all[2]);
    let tablet = server.device("bob", "TABLET").logs_in().await.looks_with(bob);
    settle(&[all[0], alice, bob, &tablet]).await;
    bob.says("I have a tablet").await;
    settle(&all).await;
    seconds_pass(&server, &all, 15).await;
    server.deletes_device(tablet.name());
    settle(&all).await;
    let before = commits(&server, alice);
    let with_it = alice.node().await.unwrap();
    alice.says("Bob has no tablet any more").await;
    settle(&all).await;
    let graph = alice.mls().epoch_graph(alice.room()).await.unwrap();
    let removal = graph.nodes.iter().find(|known| Some(known.node) == graph.chosen).unwrap();
    assert_eq!(removal.parent, Some(with_it));
    assert_eq!(commits(&server, alice), before + 1);
    for device in &all {
        assert_eq!(reports(device), [0_usize; 0]);
    }
    seconds_pass(&server, &all, 60).await;
    assert_all_is_well(&server, &all, &all).await;
}

/// With nobody to help, the evidence is not believed for ever: the only honest one goes on below.
#[tokio::test]
async fn who_is_alone_with_it_gives_in_after_five_minutes() {
    let (server, devices) = room_of(&["mallory", "alice"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, alice) = (all[0], all[1]);
    let (stuffed, _) = stuffs(mallory).await;
    settle(&[alice]).await;
    alice.says("beside").await;
    assert_eq!(chosen(alice).await, stuffed.node);
    seconds_pass(&server, &[alice], 310).await;
    alice.says("below").await;
    let graph = alice.mls().epoch_graph(alice.room()).await.unwrap();
    assert_eq!(graph.chosen, alice.node().await);
    assert_all_is_well(&server, &[alice], &all).await;
}
