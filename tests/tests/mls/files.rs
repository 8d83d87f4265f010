//! Commits and ratchet trees that do not fit into an event, in the homeserver's media repository.

use matrix_mls_tests::User;
use ruma::OwnedRoomId;
use serde_json::Value;

use crate::support::{
    COMMIT, SOON, all_agree, all_read, commits, content, events, homeserver, room_of, tip, user,
};

/// Smaller than the tree of a few devices.
const SMALL: usize = 4096;

/// Users with a device each, whose events are small, in a room in which the first one has spoken.
async fn talkers(count: usize) -> (Vec<User>, OwnedRoomId) {
    let http = homeserver().await;
    let mut users = Vec::new();
    for number in 0..count {
        let mut user = user(&http, &format!("files{number}"), 1).await;
        user.first().limit_events(SMALL).await.unwrap();
        users.push(user);
    }
    let (first, others) = users.split_first_mut().unwrap();
    let room = room_of(first, &mut others.iter_mut().collect::<Vec<_>>()).await;
    let sent = first.first().say(&room, "hello").await.unwrap();
    let mut all: Vec<_> = users.iter_mut().collect();
    all_read(&room, &sent, "hello", &mut all).await;
    all_agree(&room, sent.node, &mut all).await;
    (users, room)
}

async fn last_commit(user: &mut User, room: &OwnedRoomId) -> Value {
    content(events(user.first(), room, &[COMMIT]).await.last().unwrap())
}

#[tokio::test]
async fn what_does_not_fit_into_an_event_is_in_the_media_repository() {
    let (mut users, room) = talkers(6).await;
    let founding = last_commit(&mut users[0], &room).await;
    for part in ["commit", "tree"] {
        assert!(founding.get(part).is_none(), "{part}");
        assert!(founding[format!("{part}_file")]["url"].as_str().unwrap().starts_with("mxc://"));
    }
    // An update needs no file: the founding commit has the tree that its own follows from.
    let device = users[3].first();
    device.mls.update_keys(&room).await.unwrap();
    device.pump().await.unwrap();
    let node = tip(device, &room).await;
    let update = last_commit(&mut users[3], &room).await;
    assert!(update.get("commit").is_some() && update.get("tree_file").is_none());
    assert!(update.get("tree").is_none());
    all_agree(&room, node, &mut users.iter_mut().collect::<Vec<_>>()).await;
}

/// A new device comes in by itself, by a tree in a file and the commits below it.
#[tokio::test]
async fn a_device_lets_itself_in_where_the_tree_is_a_file() {
    let (mut users, room) = talkers(6).await;
    for user in [2, 4] {
        let device = users[user].first();
        device.sync(SOON).await.unwrap();
        device.mls.update_keys(&room).await.unwrap();
        device.pump().await.unwrap();
    }
    let before = commits(users[4].first(), &room).await.len();
    let desktop = users[5].log_in().await.unwrap();
    desktop.limit_events(SMALL).await.unwrap();
    desktop.sync(SOON).await.unwrap();
    let sent = desktop.say(&room, "I let myself in").await.unwrap();
    assert!(sent.without_mls.is_empty(), "{sent:?}");
    assert_eq!(commits(desktop, &room).await.len(), before + 1);
    let mut all: Vec<_> = users.iter_mut().collect();
    all_read(&room, &sent, "I let myself in", &mut all).await;
    all_agree(&room, sent.node, &mut all).await;
}
