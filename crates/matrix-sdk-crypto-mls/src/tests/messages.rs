//! Messages there and back.

use ruma::events::room::member::MembershipState;
use serde_json::{Value, json};

use super::{alice_and_bob, assert_one_epoch, settle};
use crate::{
    Notice,
    testing::{Fault, Reading, RequestKind, SimServer},
};

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

#[tokio::test]
async fn a_sync_that_comes_twice_is_as_if_it_came_once() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    alice.syncs().await;
    alice.updates_keys().await;
    let event = alice.says("hello, both").await;
    alice.updates_keys().await;
    for device in [&alice, &bob, &carol] {
        device.syncs().await;
        let (status, writes) = (device.status().await.unwrap(), device.store().writes());
        device.takes_notices();
        device.syncs_the_same_again().await;
        let again = device.status().await.unwrap();
        assert_eq!((again.node, again.tips), (status.node, status.tips));
        assert_eq!(device.store().writes(), writes, "nothing new is stored");
        assert!(device.takes_notices().is_empty());
        device.has_read(&event, "hello, both");
    }
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn a_message_before_its_commit_waits_and_is_announced() {
    let (server, alice, bob) = alice_and_bob().await;
    alice.updates_keys().await;
    let event = alice.says("too early").await;
    // The message comes alone; its commit cannot be had either, for now.
    let message = server.event(bob.room(), &event).to_json();
    server.holds_back_timeline_of(bob.name(), true);
    server.next_goes_wrong(bob.name(), RequestKind::GetEvent, Fault::RequestLost);
    bob.drops_what_came();
    bob.reads_event(bob.room(), &message).await.unwrap();
    bob.pumps().await;
    assert_eq!(bob.reason(&event), "UnknownEpoch");
    bob.restarts().await;
    bob.pumps().await;
    bob.has_read(&event, "too early");
    let notices = bob.takes_notices();
    let readable = notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Readable { event_id, .. } if *event_id == event));
    assert_eq!(readable.count(), 1);
}

#[tokio::test]
async fn members_that_came_by_no_event_are_added() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    // A server that loads members lazily: the events are never seen, the list is.
    alice.drops_what_came();
    let members = [&alice, &bob, &carol].map(|d| (d.user_id().clone(), MembershipState::Join));
    alice.mls().set_room_members(alice.room(), members.clone()).await.unwrap();
    let event = alice.says("welcome").await;
    settle(&[&alice, &bob, &carol]).await;
    carol.has_read(&event, "welcome");
    // Who is not in the list is gone.
    let fewer = members.into_iter().filter(|(user, _)| user != bob.user_id());
    alice.mls().set_room_members(alice.room(), fewer).await.unwrap();
    alice.says("without Bob").await;
    assert!(!alice.sees(&bob).await && alice.sees(&carol).await);
}
