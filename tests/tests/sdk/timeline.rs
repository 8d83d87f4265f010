//! What matrix-sdk-ui's timeline shows of MLS rooms.

use matrix_sdk::{
    deserialized_responses::{VerificationLevel, VerificationState},
    room::reply::{EnforceThread, Reply},
    ruma::{
        EventId, OwnedEventId,
        events::{
            reaction::ReactionEventContent,
            relation::{Annotation, Thread},
            room::message::{
                AddMentions, Relation, ReplacementMetadata, RoomMessageEventContent,
                RoomMessageEventContentWithoutRelation,
            },
        },
    },
};
use matrix_sdk_mls::Room;
use matrix_sdk_ui::timeline::{EventTimelineItem, Timeline, TimelineBuilder};

use crate::support::{App, homeserver, on_disk, until};

fn text(text: &str) -> RoomMessageEventContent {
    RoomMessageEventContent::text_plain(text)
}

async fn say(room: &Room, words: &str) -> OwnedEventId {
    room.send(text(words)).await.unwrap().response.event_id
}

/// The timeline of a room, of an application that has the event cache on.
async fn timeline(app: &App, room: &Room) -> Timeline {
    app.client.event_cache().subscribe().unwrap();
    TimelineBuilder::new(&app.room(room.room_id())).build().await.unwrap()
}

/// Syncs until the timeline has an item of that event for which something holds.
async fn shows(
    app: &App,
    timeline: &Timeline,
    event_id: &EventId,
    is_so: impl Fn(&EventTimelineItem) -> bool,
) -> EventTimelineItem {
    let mut item = None;
    app.sync_until(&format!("{event_id} in the timeline"), async || {
        item = timeline.item_by_event_id(event_id).await;
        item.as_ref().is_some_and(&is_so)
    })
    .await;
    item.unwrap()
}

fn says(words: &str) -> impl Fn(&EventTimelineItem) -> bool {
    move |item| item.content().as_message().is_some_and(|message| message.body() == words)
}

fn verification(item: &EventTimelineItem) -> VerificationState {
    item.encryption_info().expect("not encrypted").verification_state.clone()
}

#[tokio::test]
async fn messages_are_decrypted_in_place_with_what_is_known_of_the_sender() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let (hers, his) = (timeline(&alice, &room).await, timeline(&bob, &room).await);

    let event_id = say(&room, "hello").await;
    let item = shows(&bob, &his, &event_id, says("hello")).await;
    assert_eq!(
        verification(&item),
        VerificationState::Unverified(VerificationLevel::UnverifiedIdentity)
    );
    assert_eq!(item.encryption_info().unwrap().sender_device, Some(alice.device_id()));
    let item = shows(&alice, &hers, &event_id, says("hello")).await;
    assert_eq!(verification(&item), VerificationState::Verified);

    // Bob verifies Alice: that counts for what comes from now on. The SDK does not change what it has
    // said before, as in Megolm rooms, where it is said once for a session.
    let identity = bob.client.encryption().request_user_identity(alice.id()).await.unwrap();
    identity.unwrap().verify().await.unwrap();
    let is_verified = async || {
        let device = bob.client.encryption().get_device(alice.id(), &alice.device_id()).await;
        device.unwrap().is_some_and(|device| device.is_verified())
    };
    bob.sync_until("the verified device", is_verified).await;
    let second = say(&room, "hello again").await;
    let item = shows(&bob, &his, &second, says("hello again")).await;
    assert_eq!(verification(&item), VerificationState::Verified);
    let first = bob.room(room.room_id()).event(&event_id, None).await.unwrap();
    let info = first.encryption_info().unwrap();
    assert_eq!(info.verification_state, VerificationState::Verified);
}

#[tokio::test]
async fn edits_reactions_replies_and_threads_are_shown_as_in_other_rooms() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let his = timeline(&bob, &room).await;

    let root = say(&room, "hi").await;
    shows(&bob, &his, &root, says("hi")).await;
    let edit = text("hello").make_replacement(ReplacementMetadata::new(root.clone(), None));
    let edit = room.send(edit).await.unwrap().response.event_id;
    let item = shows(&bob, &his, &root, says("hello")).await;
    assert!(item.content().as_message().unwrap().is_edited());

    let reaction = ReactionEventContent::new(Annotation::new(root.clone(), "👍".to_owned()));
    let reaction = room.send(reaction).await.unwrap().response.event_id;
    let has_reaction = |item: &EventTimelineItem| {
        let reactions = item.content().reactions().cloned().unwrap_or_default();
        reactions.get("👍").is_some_and(|by| by.contains_key(alice.id()))
    };
    shows(&bob, &his, &root, has_reaction).await;

    let mut threaded = text("in the thread");
    threaded.relates_to = Some(Relation::Thread(Thread::plain(root.clone(), root.clone())));
    let threaded = room.send(threaded).await.unwrap().response.event_id;
    let item = shows(&bob, &his, &threaded, says("in the thread")).await;
    assert_eq!(item.content().thread_root(), Some(root.clone()));

    // A reply, made as applications make one.
    let hers = timeline(&alice, &room).await;
    shows(&alice, &hers, &root, says("hello")).await;
    let answer = RoomMessageEventContentWithoutRelation::text_plain("indeed");
    let to = Reply {
        event_id: root.clone(),
        enforce_thread: EnforceThread::Unthreaded,
        add_mentions: AddMentions::Yes,
    };
    let answer = room.make_reply_event(answer, to).await.unwrap();
    let reply = room.send(answer).await.unwrap().response.event_id;
    let item = shows(&bob, &his, &reply, says("indeed")).await;
    assert_eq!(item.content().in_reply_to().unwrap().event_id, root);

    // The server sees which event each is about, and nothing else of it.
    for event in [&edit, &reaction, &threaded, &reply] {
        let relation = if event == &reply { "/m.in_reply_to/event_id" } else { "/event_id" };
        let event = crate::support::on_server(&bob, room.room_id(), event).await;
        assert_eq!(event["type"], "m.room.encrypted");
        let relates_to = &event["content"]["m.relates_to"];
        assert_eq!(relates_to.pointer(relation).unwrap(), root.as_str());
        assert_eq!(event["content"].get("body"), None);
    }

    // Taken back as anywhere else.
    room.redact(&root, None, None).await.unwrap();
    shows(&bob, &his, &root, |item| item.content().is_redacted()).await;
}

#[tokio::test]
async fn after_a_restart_the_timeline_is_there_before_any_sync() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let alice = App::register(&http, "alice").await;
    let bob = App::register_on_disk(&http, "bob", folder.path()).await;
    let room = alice.mls_room(&[&bob]).await;
    let his = timeline(&bob, &room).await;
    let first = say(&room, "before").await;
    shows(&bob, &his, &first, says("before")).await;
    drop(his);

    let (account, session) = bob.close().await;
    // Bob is away.
    let second = say(&room, "meanwhile").await;
    let bob = App::reopen(account, session, on_disk(&http.base_url, folder.path())).await;
    let his = timeline(&bob, &room).await;
    until("what was there before", async || {
        his.item_by_event_id(&first).await.is_some_and(|item| says("before")(&item))
    })
    .await;
    shows(&bob, &his, &second, says("meanwhile")).await;
    let third = say(&bob.room(room.room_id()), "after").await;
    assert_eq!(alice.reads(room.room_id(), &third).await, "after");
}

#[tokio::test]
async fn older_messages_are_decrypted_when_they_are_paginated() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let mut events = Vec::new();
    for number in 0..30 {
        events.push(say(&room, &format!("message {number}")).await);
    }
    // The sync brings the last ones only.
    let his = timeline(&bob, &room).await;
    shows(&bob, &his, &events[29], says("message 29")).await;
    assert!(his.item_by_event_id(&events[0]).await.is_none());
    until("the beginning", async || his.paginate_backwards(20).await.unwrap()).await;
    for (number, event_id) in events.iter().enumerate() {
        shows(&bob, &his, event_id, says(&format!("message {number}"))).await;
    }
}
