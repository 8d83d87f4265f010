//! Commits that a sync leaves out: the device finds them in the room's history.

use ruma::api::client::filter::RoomEventFilter;

use crate::support::{COMMIT, NOW, all_agree, homeserver, reads, room_of, tip, user};

/// More than a page of them.
const MISSED: usize = 120;

#[tokio::test]
async fn a_limited_sync_over_many_commits_is_caught_up_with() {
    let http = homeserver().await;
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;
    let first = alice.first().say(&room, "before").await.unwrap();
    reads(bob.first(), &room, &first.event_id, "before").await;

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
