//! What puncturing does not protect: how newcomers come in.

use std::collections::BTreeSet;

use matrix_dmls::{Group, HistoryPolicy, LocalMember, NodeId, Welcome, WelcomeParts};

use super::{Thief, room, texts};
use crate::{
    store::MlsStore as _,
    testing::{SimDevice, SimServer, TestClock},
    tests::{external::newcomer, settle},
    types::events::{CommitEventContent, ToDeviceWelcomeEventContent},
};

const WELCOME: &str = "io.github.matrix-mls.dmls.v1.welcome";

const KEY_PACKAGE: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

/// External commits are protected by no puncture: while the external secret is held, a thief can
/// derive them again, also such as were processed. An hour after the first child it is gone.
#[tokio::test]
async fn external_secrets_go_after_an_hour() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let parent = bob.node().await.unwrap();
    let carol = newcomer(&server, &alice, "carol").await;
    carol.says("hello, I am new").await;
    settle(&[&alice, &bob, &carol]).await;
    let child = bob.node().await.unwrap();
    assert_eq!(bob.group().await.graph().get(&child).unwrap().parent, Some(parent));

    // Bob has entered it and read the message, and both keys are gone. The parent is punctured.
    let takes = |thief: &Thief, node: &NodeId| {
        let vault = thief.stored.group.vaults.get(node).and_then(Option::as_ref);
        vault.map(|vault| vault.takes_external_commits())
    };
    let early = Thief::robs(&server, &bob).await;
    assert_eq!(early.reads_with_the_keys(), texts(&[]));
    assert_eq!((takes(&early, &parent), takes(&early, &child)), (Some(true), Some(true)));
    assert_eq!(early.reads_what_it_derives(), texts(&["hello, I am new"]));

    // The state is held for longer, since Carol can commit there. What external commits need is not.
    server.clock().advance(TestClock::HOUR);
    bob.syncs().await;
    let thief = Thief::robs(&server, &bob).await;
    assert!(thief.stored.group.states.contains_key(&parent));
    assert_eq!((takes(&thief, &parent), takes(&thief, &child)), (Some(false), Some(true)));
    assert_eq!(thief.reads_what_it_derives(), texts(&[]));
}

/// What a thief of a device's key packages reads by the Welcomes that a server has recorded.
async fn reads_by_welcome(
    server: &SimServer,
    device: &SimDevice,
    recorded: &[ToDeviceWelcomeEventContent],
) -> BTreeSet<String> {
    let store = device.store();
    let account = store.load_account().await.unwrap().unwrap();
    let local = LocalMember::new(account.identity, &account.seed).unwrap();
    let thief = Thief::robs(server, device).await;
    let mut read = BTreeSet::new();
    for content in recorded {
        let event = server.event(device.room(), &content.epoch_event).content;
        let commit: CommitEventContent = serde_json::from_value(event).unwrap();
        let info = commit.encrypted_group_info.as_ref().unwrap();
        let whole = Welcome::join(&content.welcome.0, &info.0).unwrap();
        for reference in Welcome::parse(&content.welcome.0).unwrap().recipients() {
            let Some(stored) = store.key_package(&reference).await.unwrap() else { continue };
            let mut group = Group::new(device.room().as_str());
            let parts = WelcomeParts {
                welcome: &whole,
                tree: &commit.tree.as_ref().unwrap().0,
                commit: &commit.commit.as_ref().unwrap().0,
                parent_context: &commit.parent_context.0,
                key_package: &stored.package,
            };
            let (_, changes) = group.join(&local, parts).unwrap();
            group.apply(changes);
            read.extend(thief.reads_with(&group));
        }
    }
    read
}

/// Carol is added by Alice, who says something in the epoch that she makes. Gives the recorded Welcomes,
/// which Carol has not had yet.
async fn carol_is_added(
    server: &SimServer,
    alice: &SimDevice,
    has_one_time_keys: bool,
) -> (SimDevice, Vec<ToDeviceWelcomeEventContent>) {
    let carol = server.device("carol", "DEVICE").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(alice).await;
    if !has_one_time_keys {
        server.drops_one_time_keys(carol.name(), KEY_PACKAGE, false);
    }
    alice.syncs().await;
    alice.says("hello Carol").await;
    let recorded = server.records_to_device_of(carol.name()).into_iter();
    let welcomes = recorded.filter(|event| event["type"].as_str() == Some(WELCOME));
    let welcomes = welcomes.map(|event| serde_json::from_value(event["content"].clone()).unwrap());
    let welcomes: Vec<_> = welcomes.collect();
    assert_eq!(welcomes.len(), 1);
    (carol, welcomes)
}

/// The private keys of a one-time key package go with the join.
#[tokio::test]
async fn a_recorded_welcome_is_open_until_the_join() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let (carol, recorded) = carol_is_added(&server, &alice, true).await;
    let read = reads_by_welcome(&server, &carol, &recorded).await;
    assert_eq!(read, texts(&["hello Carol"]));
    settle(&[&alice, &bob, &carol]).await;
    assert_eq!(carol.node().await, alice.node().await);
    assert_eq!(reads_by_welcome(&server, &carol, &recorded).await, texts(&[]));
}

/// Those of a last-resort package stay for 30 days after another one took its place, and with them what
/// Welcomes for it were used already.
#[tokio::test]
async fn a_recorded_welcome_for_a_last_resort_package_is_open_for_longer() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let (carol, recorded) = carol_is_added(&server, &alice, false).await;
    settle(&[&alice, &bob, &carol]).await;
    assert_eq!(carol.node().await, alice.node().await);
    let read = reads_by_welcome(&server, &carol, &recorded).await;
    assert_eq!(read, texts(&["hello Carol"]));
    server.clock().advance(31 * TestClock::DAY);
    settle(&[&alice, &bob, &carol]).await;
    carol.syncs().await;
    assert_eq!(reads_by_welcome(&server, &carol, &recorded).await, texts(&[]));
}
