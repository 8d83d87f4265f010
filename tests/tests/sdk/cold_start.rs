//! How long an application with many rooms takes to start, with MLS and without. A measurement: it
//! prints what it finds, and checks that everything can be read.

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use matrix_mls_tests::{Account, HttpClient};
use matrix_sdk::{
    Client as SdkClient,
    authentication::matrix::MatrixSession,
    config::SyncSettings,
    ruma::{
        OwnedEventId, OwnedRoomId,
        api::client::room::create_room,
        events::{
            InitialStateEvent,
            room::{encryption::RoomEncryptionEventContent, message::RoomMessageEventContent},
        },
    },
};
use matrix_sdk_mls::{Client, NewRooms};

use crate::support::{App, body, homeserver, on_disk, until};

/// The rooms of a person who has been here for a while.
const ROOMS: usize = 100;

fn text(text: &str) -> RoomMessageEventContent {
    RoomMessageEventContent::text_plain(text)
}

/// What a start took.
#[derive(Default)]
struct Times {
    /// The stores are open, and the session restored.
    open: Duration,
    /// The first sync has come and was taken.
    synced: Duration,
    /// A message is sent.
    sent: Duration,
    /// What came meanwhile is read in all rooms.
    read: Duration,
}

async fn sync(client: &Client) {
    client.sync_once(SyncSettings::default().timeout(Duration::ZERO)).await.unwrap();
}

/// Rooms with somebody else, in each of which both have spoken, and then, while the first one was
/// away, the other once more.
async fn rooms(
    http: &HttpClient,
    folder: &Path,
    new_rooms: NewRooms,
    count: usize,
) -> (MatrixSession, Vec<(OwnedRoomId, OwnedEventId)>) {
    let (account, _) = Account::register(http, "alice").await.unwrap();
    let alice =
        App::first_login(account, on_disk(&http.base_url, folder).new_rooms(new_rooms)).await;
    let bob = App::register(http, "bob").await;
    let mut rooms = Vec::new();
    for _ in 0..count {
        let mut request = create_room::v3::Request::new();
        request.invite = vec![bob.id().to_owned()];
        let encryption = RoomEncryptionEventContent::with_recommended_defaults();
        let encryption = InitialStateEvent::with_empty_state_key(encryption);
        request.initial_state = vec![encryption.to_raw_any()];
        let room = alice.client.create_room(request).await.unwrap();
        alice.joined_by(&room, &[&bob]).await;
        room.send(text("hello")).await.unwrap();
        rooms.push(room.room_id().to_owned());
    }
    sync(&bob.client).await;
    for room in &rooms {
        bob.room(room).send(text("hello yourself")).await.unwrap();
    }
    sync(&alice.client).await;
    let (_, session) = alice.close().await;
    let mut news = Vec::new();
    for room in rooms {
        let sent = bob.room(&room).send(text("are you there?")).await.unwrap();
        news.push((room, sent.response.event_id));
    }
    (session, news)
}

async fn start_with_mls(
    http: &HttpClient,
    folder: &Path,
    session: MatrixSession,
    news: &[(OwnedRoomId, OwnedEventId)],
) -> Times {
    let begin = Instant::now();
    let client = on_disk(&http.base_url, folder).build().await.unwrap();
    client.restore_session(session).await.unwrap();
    let open = begin.elapsed();
    sync(&client).await;
    let synced = begin.elapsed();
    let (first, _) = &news[0];
    client.get_room(first).unwrap().send(text("yes")).await.unwrap();
    let sent = begin.elapsed();
    for (room, event_id) in news {
        let room = client.get_room(room).unwrap();
        until("the news", async || {
            body(&room.event(event_id, None).await.unwrap()).as_deref() == Some("are you there?")
        })
        .await;
    }
    Times { open, synced, sent, read: begin.elapsed() }
}

async fn start_without(
    http: &HttpClient,
    folder: &Path,
    session: MatrixSession,
    news: &[(OwnedRoomId, OwnedEventId)],
) -> Times {
    let begin = Instant::now();
    let client = SdkClient::builder()
        .homeserver_url(&http.base_url)
        .sqlite_store(folder, Some("a passphrase"))
        .build()
        .await
        .unwrap();
    client.restore_session(session).await.unwrap();
    let open = begin.elapsed();
    client.sync_once(SyncSettings::default().timeout(Duration::ZERO)).await.unwrap();
    let synced = begin.elapsed();
    let (first, _) = &news[0];
    client.get_room(first).unwrap().send(text("yes")).await.unwrap();
    let sent = begin.elapsed();
    for (room, event_id) in news {
        let room = client.get_room(room).unwrap();
        until("the news", async || {
            body(&room.event(event_id, None).await.unwrap()).as_deref() == Some("are you there?")
        })
        .await;
    }
    Times { open, synced, sent, read: begin.elapsed() }
}

/// With `MLS_COLD_START_ROOMS` rooms.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement, which takes minutes"]
async fn a_cold_start_with_many_rooms() {
    let count = env::var("MLS_COLD_START_ROOMS").map_or(ROOMS, |count| count.parse().unwrap());
    let http = homeserver().await;
    let folders = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mls, mls_news) = rooms(&http, folders.0.path(), NewRooms::Mls, count).await;
    let (sdk, sdk_news) = rooms(&http, folders.1.path(), NewRooms::AsRequested, count).await;
    println!("{count} rooms, seconds since the start: open, synced, one message sent, all read");
    // Three times each, in turns; later starts have no news, and everything at hand.
    for round in 1..=3 {
        let with = start_with_mls(&http, folders.0.path(), mls.clone(), &mls_news).await;
        let without = start_without(&http, folders.1.path(), sdk.clone(), &sdk_news).await;
        for (name, times) in [("with MLS", with), ("without", without)] {
            let [open, synced, sent, read] =
                [times.open, times.synced, times.sent, times.read].map(|it| it.as_secs_f64());
            println!("{round} {name:9} {open:7.3} {synced:7.3} {sent:7.3} {read:7.3}");
        }
    }
}
