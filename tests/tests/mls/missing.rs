//! Commits that a sync leaves out: the device finds them in the room's history.

use matrix_mls_tests::{Exchange, Liar, User};
use matrix_sdk_crypto_mls::RoomSettings;
use ruma::api::client::filter::RoomEventFilter;
use serde_json::json;

use crate::support::{
    COMMIT, NOW, alice_and_bob, all_agree, homeserver, reads, room_of, tip, user,
};

/// More than a page of them.
const MISSED: usize = 120;
/// Four pages of them.
const LONG_MISSED: usize = 350;

#[tokio::test]
async fn a_limited_sync_over_many_commits_is_caught_up_with() {
    let (mut alice, mut bob, room, _) = alice_and_bob().await;

    for _ in 0..MISSED {
        alice.first().update_keys(&room).await.unwrap();
    }
    let last = alice.first().say(&room, "what did you miss?").await.unwrap();

    // Bob's next sync has the message and nothing before it.
    let mut timeline = RoomEventFilter::default();
    timeline.limit = Some(1_u8.into());
    bob.first().device.sync_filter.room.timeline = timeline;
    let response = bob.first().sync_raw(NOW).await.unwrap();
    let update = bob.first().process_sync(response).await.unwrap();
    let news = update.joined.get(&room).unwrap();
    assert!(news.limited);
    let types: Vec<Option<String>> =
        news.timeline.iter().map(|event| event.get_field("type").unwrap()).collect();
    assert!(!types.contains(&Some(COMMIT.to_owned())), "{types:?}");
    bob.first().process(&update).await.unwrap();
    reads(bob.first(), &room, &last.event_id, "what did you miss?").await;
    assert!(bob.first().holds(&room, last.node).await.unwrap());
    all_agree(&room, last.node, &mut [&mut alice, &mut bob]).await;

    let answer = bob.first().say(&room, "nothing, I hope").await.unwrap();
    assert_eq!(tip(alice.first(), &room).await, answer.node);
    reads(alice.first(), &room, &answer.event_id, "nothing, I hope").await;
}

/// Away for hundreds of commits. The server fails in the middle of the way back, the application is
/// closed and opened again, and goes on with the page that it had not got.
#[tokio::test]
async fn hundreds_of_commits_are_caught_up_with_over_a_restart() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let liar = Liar::before(&http.base_url).unwrap();
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = User::register_on_disk(&http, "bob", 1, RoomSettings::default(), folder.path())
        .await
        .unwrap();
    bob.first().device.http.base_url.clone_from(&liar.url);
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    reads(bob.first(), &room, &first.event_id, "before").await;
    let bob = bob.stop().await.unwrap();
    for _ in 0..LONG_MISSED {
        alice.first().update_keys(&room).await.unwrap();
    }
    let last = alice.first().say(&room, "what did you miss?").await.unwrap();

    // The server gives two pages, and then none.
    let (before, mut pages) = (liar.seen().len(), 0);
    liar.lie(move |it: &mut Exchange| {
        // What a message names is not to be had either, or that would do.
        let is_page = it.is("GET", "/messages?");
        pages += usize::from(is_page);
        if it.is("GET", "/event/") || (is_page && pages > 2) {
            it.status = 502;
            it.response = json!({ "errcode": "M_UNKNOWN", "error": "Bad gateway" });
        }
    });
    let mut bob = bob.start().await.unwrap();
    bob.first().sync(NOW).await.unwrap_err();
    assert!(bob.first().event(&room, &last.event_id).is_none_or(|event| event.is_waiting()));
    assert!(!bob.first().holds(&room, last.node).await.unwrap());
    let mut bob = bob.stop().await.unwrap().start().await.unwrap();
    liar.lie(|_: &mut Exchange| {});
    reads(bob.first(), &room, &last.event_id, "what did you miss?").await;
    all_agree(&room, last.node, &mut [&mut alice, &mut bob]).await;

    // A hundred commits a page, none of them twice but the one that failed.
    let seen = liar.seen().split_off(before);
    let given = seen.iter().filter(|it| it.is("GET", "/messages?") && it.status == 200);
    let sizes: Vec<usize> =
        given.map(|it| it.response["chunk"].as_array().map_or(0, Vec::len)).collect();
    assert!((4..=5).contains(&sizes.len()), "{sizes:?}");
    assert!(sizes.iter().filter(|size| **size == 100).count() >= 3, "{sizes:?}");
    assert!(sizes.iter().sum::<usize>() <= LONG_MISSED + 100, "{sizes:?}");
}
