//! Commits that not everybody can process.

use matrix_dmls::CommitPlan;

use super::*;
use crate::{Clock as _, testing::Insider, tests::time_passes};

async fn left_behind(device: &SimDevice) -> Option<u64> {
    device.mls().is_left_behind_since(device.room()).await.unwrap()
}

/// Mallory has the lowest leaf, so it wins every tie.
#[tokio::test]
async fn a_commit_that_half_of_the_members_can_process_does_not_split_the_room() {
    let (server, devices) = room_of(&["mallory", "alice", "bob", "carol", "dave"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[0], &all[1..]);
    let (can, cannot) = ([all[1], all[2]], [all[3], all[4]]);
    let before = commits(&server, mallory);
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let node = mallory.node().await.unwrap();
    let (bad, others) = insider.updates_against(node, &cannot, &can).await;
    assert!(others.is_empty(), "{others:?}");
    insider.posts(&bad);
    settle(honest).await;
    for device in honest {
        assert_eq!(chosen(device).await, bad.node);
    }
    for device in cannot {
        assert!(left_behind(device).await.is_some());
        assert_eq!(device.node().await, Some(node));
    }
    for device in can {
        assert_eq!((left_behind(device).await, device.node().await), (None, Some(bad.node)));
        assert_eq!(device.mls().next_deadline(), None);
    }
    // Meanwhile nobody is mute for long.
    server.clock().advance(10 * SECOND);
    let there = can[0].says("in the bad epoch").await;
    let here = cannot[0].says("where I can").await;
    settle(honest).await;
    can[1].has_read(&there, "in the bad epoch");
    assert!(cannot.iter().all(|device| device.text(&there).is_none()));
    honest.iter().for_each(|device| device.has_read(&here, "where I can"));
    assert_eq!(commits(&server, mallory), before + 1, "nobody objects at once");

    seconds_pass(&server, honest, 75).await;
    assert_eq!(commits(&server, mallory), before + 3);
    for device in honest {
        assert_eq!(
            objections(device),
            usize::from(cannot.iter().any(|d| d.name() == device.name()))
        );
    }
    assert_all_is_well(&server, honest, &all).await;
    seconds_pass(&server, honest, 300).await;
    assert_eq!(commits(&server, mallory), before + 3);
}

/// Control: an update that everybody can process is objected to by nobody.
#[tokio::test]
async fn an_ordinary_update_is_objected_to_by_nobody() {
    let (server, devices) = room_of(&["mallory", "alice", "bob"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[0], &all[1..]);
    let before = commits(&server, mallory);
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let good = insider.commits(mallory.node().await.unwrap(), CommitPlan::default());
    insider.posts(&good);
    settle(honest).await;
    seconds_pass(&server, honest, 75).await;
    assert_eq!(commits(&server, mallory), before + 1);
    for device in honest {
        assert_eq!((device.node().await, objections(device)), (Some(good.node), 0));
    }
    assert_all_is_well(&server, honest, &all).await;
}

/// Of an author's many commits on one epoch only some are entered, and the one that is chosen.
#[tokio::test]
async fn the_chosen_one_of_a_flood_is_entered() {
    let (server, devices) = room_of(&["mallory", "alice", "bob"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[0], &all[1..]);
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let node = mallory.node().await.unwrap();
    let mut flood: Vec<_> = (0..8).map(|_| insider.commits(node, CommitPlan::default())).collect();
    // The lowest ID is chosen, and comes last.
    flood.sort_by_key(|commit| std::cmp::Reverse(commit.node));
    flood.iter().for_each(|commit| insider.posts(commit));
    settle(honest).await;
    for device in honest {
        assert_eq!(device.node().await, Some(flood[7].node));
        let graph = device.mls().epoch_graph(device.room()).await.unwrap();
        let held = |commit: &&crate::testing::ForgedCommit| {
            graph.nodes.iter().any(|known| known.node == commit.node && known.held)
        };
        assert_eq!(flood.iter().filter(held).count(), 5);
    }
    seconds_pass(&server, honest, 75).await;
    assert!(honest.iter().all(|device| objections(device) == 0));
    assert_all_is_well(&server, honest, &all).await;
}

/// What is beside it for those who would join by themselves is broken too.
#[tokio::test]
async fn a_commit_that_nobody_can_process_is_outvoted() {
    let (server, devices) = room_of(&["mallory", "alice", "bob", "carol"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[0], &all[1..]);
    let before = commits(&server, mallory);
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let node = mallory.node().await.unwrap();
    let (mut bad, _) = insider.updates_against(node, honest, &[]).await;
    bad.content.group_info = Some(vec![7; 300].into());
    bad.content.tree = Some(vec![7; 300].into());
    insider.posts(&bad);
    settle(honest).await;
    for device in honest {
        assert_eq!(chosen(device).await, bad.node);
        assert_eq!(device.node().await, Some(node));
    }
    // Somebody comes meanwhile, and is let in where the others are.
    let erin = server.device("erin", "DEVICE").logs_in().await;
    honest[0].invites(&erin);
    let erin = erin.joins(honest[0]).await;
    seconds_pass(&server, honest, 75).await;
    assert!(commits(&server, mallory) <= before + 4);
    honest[0].says("welcome").await;
    let honest: Vec<_> = honest.iter().copied().chain([&erin]).collect();
    settle(&honest).await;
    let all: Vec<_> = all.into_iter().chain([&erin]).collect();
    assert_all_is_well(&server, &honest, &all).await;
}

/// A store that was restarted from remembers since when, and how often.
#[tokio::test]
async fn who_is_restarted_objects_all_the_same_and_once() {
    let (server, devices) = room_of(&["mallory", "alice", "bob", "carol"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[0], &all[1..]);
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let node = mallory.node().await.unwrap();
    let (bad, _) = insider.updates_against(node, &honest[2..], &honest[..2]).await;
    insider.posts(&bad);
    settle(honest).await;
    let carol = honest[2];
    let (since, due) = (left_behind(carol).await.unwrap(), carol.mls().next_deadline().unwrap());
    assert!((since + 10 * SECOND..since + 70 * SECOND).contains(&due), "{since} {due}");
    server.clock().advance(5 * SECOND);
    carol.restarts().await;
    // Anything in the room makes it look.
    honest[0].says("in the bad epoch").await;
    settle(honest).await;
    assert_eq!(left_behind(carol).await, Some(since));
    // Before that she asks for the key of what was said there.
    let asks = server.clock().now() + 20 * SECOND;
    assert_eq!(carol.mls().next_deadline(), Some(due.min(asks)));
    let before = commits(&server, mallory);
    seconds_pass(&server, honest, 75).await;
    assert_eq!(commits(&server, mallory), before + 1);
    assert_eq!(objections(carol), 1);
    // One against Mallory does not help. Until somebody lets her in, she is heard where she is.
    assert!(left_behind(carol).await.is_some());
    let event = carol.says("here I am").await;
    settle(honest).await;
    honest.iter().for_each(|device| device.has_read(&event, "here I am"));
    carol.restarts().await;
    seconds_pass(&server, honest, 300).await;
    assert_eq!((left_behind(carol).await, objections(carol)), (None, 0));
    assert_eq!(commits(&server, mallory), before + 2);
    assert_all_is_well(&server, honest, &all).await;
}

/// Three against two, who then leave: their voices hold a branch that nobody can let anybody into.
#[tokio::test]
async fn a_branch_that_its_authors_have_left_behind_them_does_not_hold_the_room() {
    let (server, devices) = room_of(&["mallory", "alice", "eve", "trent", "bob"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (insiders, honest) = ([all[0], all[2], all[3]], [all[1], all[4]]);
    let mut node = all[0].node().await.unwrap();
    let mut branch = Vec::new();
    for device in insiders {
        let mut insider = Insider::with_the_keys_of(device).await;
        branch.iter().for_each(|commit| insider.enters(commit));
        let mut commit = if branch.is_empty() {
            let (commit, others) = insider.updates_against(node, &honest, &insiders[1..]).await;
            assert!(others.is_empty(), "{others:?}");
            commit
        } else {
            insider.commits(node, CommitPlan::default())
        };
        commit.content.group_info = None;
        insider.posts(&commit);
        node = commit.node;
        branch.push(commit);
    }
    settle(&honest).await;
    seconds_pass(&server, &honest, 300).await;
    for device in honest {
        assert_eq!((objections(device), chosen(device).await), (1, node));
        assert!(left_behind(device).await.is_some());
    }
    insiders.iter().for_each(|device| device.leaves());
    settle(&honest).await;
    time_passes(&honest, 24 * TestClock::MINUTE).await;
    for device in honest {
        assert_eq!(chosen(device).await, node, "nobody gives up so soon");
    }
    time_passes(&honest, 10 * TestClock::MINUTE).await;
    for device in honest {
        assert_eq!(
            (left_behind(device).await, device.node().await),
            (None, Some(chosen(device).await))
        );
        device.restarts().await;
    }
    let [alice, bob] = honest;
    let event = alice.says("we are alone").await;
    settle(&honest).await;
    bob.has_read(&event, "we are alone");
    assert_eq!((bob.devices_in_group().await.len(), bob.node().await), (2, alice.node().await));
    // Somebody has a part in it again.
    alice.invites(insiders[1]);
    insiders[1].joins(alice).await;
    settle(&honest).await;
    assert_eq!(chosen(alice).await, node);
}
