//! The send queue.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use matrix_mls_tests::{Account, Exchange, Liar};
use matrix_sdk::{
    room::MessagesOptions,
    ruma::{
        OwnedEventId, OwnedTransactionId,
        api::{Direction, client::message::get_message_events},
        events::room::message::RoomMessageEventContent,
        uint,
    },
};
use matrix_sdk_mls::{LocalEcho, Room, RoomSendQueueUpdate};
use tokio::{net::TcpStream, sync::broadcast::Receiver};

use crate::support::{App, body, homeserver, on_disk};

fn text(text: &str) -> RoomMessageEventContent {
    RoomMessageEventContent::text_plain(text)
}

fn words(echo: &LocalEcho) -> String {
    echo.content.get_field("body").unwrap().unwrap()
}

/// While this is set, what is sent arrives, but the answer is lost.
fn unreachable(liar: &Liar) -> Arc<AtomicBool> {
    let unreachable = Arc::new(AtomicBool::new(false));
    liar.lie({
        let unreachable = Arc::clone(&unreachable);
        move |it: &mut Exchange| {
            if it.is("PUT", "/send/") && unreachable.load(Ordering::SeqCst) {
                it.status = 503;
            }
        }
    });
    unreachable
}

/// The next event that was sent.
async fn sent(updates: &mut Receiver<RoomSendQueueUpdate>) -> (OwnedTransactionId, OwnedEventId) {
    loop {
        if let RoomSendQueueUpdate::SentEvent { transaction_id, event_id } =
            updates.recv().await.unwrap()
        {
            return (transaction_id, event_id);
        }
    }
}

/// Waits until an event could not be sent; whether the queue tries again.
async fn failed(updates: &mut Receiver<RoomSendQueueUpdate>) -> (OwnedTransactionId, bool) {
    loop {
        if let RoomSendQueueUpdate::SendError { transaction_id, is_recoverable, .. } =
            updates.recv().await.unwrap()
        {
            return (transaction_id, is_recoverable);
        }
    }
}

/// The texts in the room, oldest first.
async fn texts(room: &Room) -> Vec<String> {
    let mut options = MessagesOptions::backward();
    options.limit = uint!(100);
    let messages = room.messages(options).await.unwrap();
    messages.chunk.iter().rev().filter_map(body).collect()
}

/// Alice, behind a server that can be unreachable, with a room that is ready.
async fn alice_and_room() -> (App, App, Room, Liar, tempfile::TempDir) {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "alice").await.unwrap();
    let alice = App::first_login(account, on_disk(&liar.url, folder.path())).await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    room.send(text("first")).await.unwrap();
    (alice, bob, room, liar, folder)
}

#[tokio::test]
async fn events_are_sent_once_and_in_order_when_the_server_can_be_reached_again() {
    let (_alice, bob, room, liar, _folder) = alice_and_room().await;
    let unreachable = unreachable(&liar);
    unreachable.store(true, Ordering::SeqCst);
    let queue = room.mls_send_queue();
    let (echoes, mut updates) = queue.subscribe().await.unwrap();
    assert!(echoes.is_empty());

    let one = queue.send(text("one")).await.unwrap();
    let two = queue.send(text("two")).await.unwrap();
    let three = queue.send(text("three")).await.unwrap();
    assert_eq!(failed(&mut updates).await, (one.transaction_id().to_owned(), true));
    let (echoes, _) = queue.subscribe().await.unwrap();
    assert_eq!(echoes.iter().map(words).collect::<Vec<_>>(), ["one", "two", "three"]);

    // What has not been tried can be taken back.
    assert!(two.abort().await.unwrap());
    unreachable.store(false, Ordering::SeqCst);
    queue.set_enabled(true);
    let (first, event_id) = sent(&mut updates).await;
    assert_eq!(first, one.transaction_id());
    let (second, last) = sent(&mut updates).await;
    assert_eq!(second, three.transaction_id());
    assert!(!three.abort().await.unwrap());
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "one");
    assert_eq!(bob.reads(room.room_id(), &last).await, "three");
    assert_eq!(texts(&room).await, ["first", "one", "three"]);
}

#[tokio::test]
async fn what_waits_survives_a_restart() {
    let (alice, bob, room, liar, folder) = alice_and_room().await;
    let unreachable = unreachable(&liar);
    unreachable.store(true, Ordering::SeqCst);
    let queue = room.mls_send_queue();
    let (_, mut updates) = queue.subscribe().await.unwrap();
    queue.send(text("one")).await.unwrap();
    queue.send(text("two")).await.unwrap();
    failed(&mut updates).await;
    let room_id = room.room_id().to_owned();
    drop((queue, room));
    let (account, session) = alice.close().await;

    unreachable.store(false, Ordering::SeqCst);
    let alice = App::reopen(account, session, on_disk(&liar.url, folder.path())).await;
    // Whatever uses MLS first; here it is a sync.
    let room = alice.room(&room_id);
    alice.sync_once().await;
    bob.sync_until("both messages", async || texts(&bob.room(&room_id)).await.len() == 3).await;
    assert_eq!(texts(&bob.room(&room_id)).await, ["first", "one", "two"]);
    alice
        .sync_until("the empty queue", async || {
            room.mls_send_queue().subscribe().await.unwrap().0.is_empty()
        })
        .await;
}

/// How many messages the server has in the room, whoever can read them.
async fn messages_on_server(bob: &App, room: &Room) -> usize {
    let room_id = room.room_id().to_owned();
    let mut request = get_message_events::v3::Request::new(room_id, Direction::Backward);
    request.limit = uint!(100);
    let events = bob.client.send(request).await.unwrap().chunk;
    let types = events.iter().map(|event| event.get_field::<String>("type").unwrap());
    types.filter(|it| it.as_deref() == Some("m.room.encrypted")).count()
}

/// There is nobody at the server's address.
async fn is_refused(liar: &Liar) {
    let error = TcpStream::connect(liar.address().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn without_a_connection_nothing_is_lost_or_sent_twice() {
    let (_alice, bob, room, liar, _folder) = alice_and_room().await;
    // The server takes the first one, and before it answers the connection breaks.
    liar.lie(|it: &mut Exchange| it.breaks = it.is("PUT", "/send/m.room.encrypted/"));
    let queue = room.mls_send_queue();
    let (_, mut updates) = queue.subscribe().await.unwrap();
    let one = queue.send(text("one")).await.unwrap();
    liar.is_gone().await.unwrap();
    is_refused(&liar).await;
    assert_eq!(failed(&mut updates).await, (one.transaction_id().to_owned(), true));
    assert_eq!(messages_on_server(&bob, &room).await, 2);

    // What comes meanwhile waits for it. The queue tries again by itself, in vain.
    let two = queue.send(text("two")).await.unwrap();
    let three = queue.send(text("three")).await.unwrap();
    assert_eq!(failed(&mut updates).await, (one.transaction_id().to_owned(), true));
    is_refused(&liar).await;
    let (echoes, _) = queue.subscribe().await.unwrap();
    assert_eq!(echoes.iter().map(words).collect::<Vec<_>>(), ["one", "two", "three"]);

    // Nobody has to tell it that the server is back.
    liar.lie(|_: &mut Exchange| {});
    liar.comes_back().unwrap();
    for (handle, words) in [(&one, "one"), (&two, "two"), (&three, "three")] {
        let (transaction_id, event_id) = sent(&mut updates).await;
        assert_eq!(transaction_id, handle.transaction_id());
        assert_eq!(bob.reads(room.room_id(), &event_id).await, words);
    }
    assert!(queue.subscribe().await.unwrap().0.is_empty());
    assert_eq!(texts(&bob.room(room.room_id())).await, ["first", "one", "two", "three"]);
    assert_eq!(messages_on_server(&bob, &room).await, 4);
}

#[tokio::test]
async fn an_application_that_starts_without_a_connection_sends_later() {
    let (alice, bob, room, liar, folder) = alice_and_room().await;
    let room_id = room.room_id().to_owned();
    liar.goes_away().await.unwrap();
    let queue = room.mls_send_queue();
    let (_, mut updates) = queue.subscribe().await.unwrap();
    queue.send(text("one")).await.unwrap();
    failed(&mut updates).await;
    drop((queue, room));
    let (account, session) = alice.close().await;

    let alice = App::reopen(account, session, on_disk(&liar.url, folder.path())).await;
    let room = alice.room(&room_id);
    let queue = room.mls_send_queue();
    let (echoes, mut updates) = queue.subscribe().await.unwrap();
    assert_eq!(echoes.iter().map(words).collect::<Vec<_>>(), ["one"]);
    queue.send(text("two")).await.unwrap();
    let (transaction_id, is_recoverable) = failed(&mut updates).await;
    assert!(transaction_id == echoes[0].transaction_id && is_recoverable);
    is_refused(&liar).await;

    liar.comes_back().unwrap();
    let mut events = Vec::new();
    for words in ["one", "two"] {
        let (_, event_id) = sent(&mut updates).await;
        assert_eq!(bob.reads(&room_id, &event_id).await, words);
        events.push(event_id);
    }
    assert_ne!(events[0], events[1]);
    assert_eq!(texts(&bob.room(&room_id)).await, ["first", "one", "two"]);
    assert_eq!(messages_on_server(&bob, &room).await, 3);
}

#[tokio::test]
async fn what_can_never_be_sent_holds_nobody_up() {
    let (_alice, bob, room, _liar, _folder) = alice_and_room().await;
    let queue = room.mls_send_queue();
    let (_, mut updates) = queue.subscribe().await.unwrap();
    let large = queue.send(text(&"x".repeat(50_000))).await.unwrap();
    let small = queue.send(text("small")).await.unwrap();
    assert_eq!(failed(&mut updates).await, (large.transaction_id().to_owned(), false));
    let (transaction_id, event_id) = sent(&mut updates).await;
    assert_eq!(transaction_id, small.transaction_id());
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "small");
    let (echoes, _) = queue.subscribe().await.unwrap();
    assert!(echoes.len() == 1 && echoes[0].wedged.is_some());

    // Again, in vain, and then not any more.
    large.unwedge().await.unwrap();
    assert_eq!(failed(&mut updates).await, (large.transaction_id().to_owned(), false));
    assert!(large.abort().await.unwrap());
    assert!(queue.subscribe().await.unwrap().0.is_empty());
}
