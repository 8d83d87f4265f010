//! Messages there and back.

use serde_json::{Value, json};

use super::{alice_and_bob, assert_one_epoch, settle};
use crate::testing::{Reading, SimServer};

#[tokio::test]
async fn a_room_of_one_can_be_talked_in() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    let note = alice.says("a note to myself").await;
    assert!(alice.reading(&note).is_none(), "the echo has not come");
    alice.syncs().await;
    alice.has_read(&note, "a note to myself");
    assert_eq!(alice.epoch().await, Some(1));
    let named = "io.github.matrix-mls.dmls.v1.group";
    assert_eq!(server.count(alice.room(), named), 1, "the group is named");
}

#[tokio::test]
async fn everybody_reads_everybody_and_themselves() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    let all = [&alice, &bob, &carol];
    for (speaker, text) in [(&alice, "one"), (&bob, "two"), (&alice, "three")] {
        let event = speaker.says(text).await;
        settle(&all).await;
        for device in all {
            device.has_read(&event, text);
        }
    }
    let event = carol.says("four").await;
    settle(&all).await;
    for device in all {
        device.has_read(&event, "four");
        assert_eq!(device.encryption_info(&event).sender.device_id, "TABLET");
    }
    assert_one_epoch(&all).await;
}

#[tokio::test]
async fn a_relation_stands_outside_as_servers_need_it() {
    let (server, alice, bob) = alice_and_bob().await;
    let question = bob.says("shall we?").await;
    let relation = json!({ "rel_type": "m.thread", "event_id": question });
    let content = json!({ "msgtype": "m.text", "body": "yes", "m.relates_to": relation });
    let answer = alice.tries_to_send(content).await.unwrap();
    settle(&[&alice, &bob]).await;

    let event = server.event(alice.room(), &answer);
    assert_eq!(event.content["m.relates_to"], relation);
    assert!(!event.content.to_string().contains("yes"));
    let Some(Reading::Clear(read)) = bob.reading(&answer) else { panic!() };
    let content: Value = read.event.get_field("content").unwrap().unwrap();
    assert_eq!(content["m.relates_to"], relation);
    assert_eq!(read.event.get_field::<String>("type").unwrap().unwrap(), "m.room.message");
    bob.has_read(&answer, "yes");
}
