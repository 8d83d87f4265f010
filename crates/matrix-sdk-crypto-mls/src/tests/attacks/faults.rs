//! Standing up for the room with a store that fails at its n-th write, for every n.

use matrix_dmls::CommitPlan;

use super::*;
use crate::testing::Insider;

/// What happens at the n-th write.
#[derive(Clone, Copy, Debug)]
enum At {
    Fails,
    AnswerIsLost,
    Crashes,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_fail() {
    at_every_write(At::Fails).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_not_answered() {
    at_every_write(At::AnswerIsLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_dies() {
    at_every_write(At::Crashes).await;
}

async fn at_every_write(at: At) {
    let mut nth = 0;
    while story(at, nth).await {
        nth += 1;
    }
    assert!(nth > 8, "only {nth} writes");
}

/// Bob objects to a commit, and then goes on beside another one. Gives whether it came to a fault.
async fn story(at: At, nth: usize) -> bool {
    let (server, devices) = room_of(&["alice", "bob", "mallory"]).await;
    let all: Vec<_> = devices.iter().collect();
    let (mallory, honest) = (all[2], &all[..2]);
    let bob = honest[1];
    bob.crashes_on_faults(matches!(at, At::Crashes));
    match at {
        At::Fails => bob.store().fail_at(nth),
        At::AnswerIsLost => bob.store().lose_answer_at(nth),
        At::Crashes => bob.store().die_at(nth),
    }
    let before = bob.store().attempts();
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let node = mallory.node().await.unwrap();
    let (bad, _) = insider.updates_against(node, &[bob], &[]).await;
    insider.posts(&bad);
    settle(honest).await;
    seconds_pass(&server, honest, 75).await;
    let objection = bob.node().await.unwrap();
    assert_eq!(chosen(honest[0]).await, objection, "{at:?} at {nth}");

    let invented = insider.invents("bob", "GHOST").await;
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let add = vec![invented.key_package().key_package];
    let stuffed = insider.commits(node, CommitPlan { add, ..CommitPlan::default() });
    // On an old epoch that is no matter; and where all are, it is.
    insider.posts(&stuffed);
    mallory.syncs().await;
    let mut insider = Insider::with_the_keys_of(mallory).await;
    let add = vec![invented.key_package().key_package];
    let stuffed = insider.commits(objection, CommitPlan { add, ..CommitPlan::default() });
    insider.posts(&stuffed);
    settle(honest).await;
    let event = bob.says("not to ghosts").await;
    settle(honest).await;
    honest[0].has_read(&event, "not to ghosts");
    seconds_pass(&server, honest, 30).await;
    bob.store().heal();
    assert_all_is_well(&server, honest, &all).await;
    bob.store().attempts() - before > nth
}
