//! However the application syncs, and whatever a sync leaves out.

use std::{collections::BTreeMap, path::Path, ptr, time::Duration};

use matrix_mls_tests::Account;
use matrix_sdk::{
    Client as SdkClient,
    config::SyncSettings,
    ruma::{
        OneTimeKeyAlgorithm, OwnedEventId,
        api::client::{
            filter::FilterDefinition,
            keys::{claim_keys, upload_keys},
            sync::sync_events::v3::Filter,
        },
        events::room::message::RoomMessageEventContent,
        uint,
    },
};
use matrix_sdk_mls::Room;
use matrix_sdk_ui::{
    sync_service::{State, SyncService},
    timeline::{Timeline, TimelineBuilder},
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tokio::sync::broadcast::error::TryRecvError;

use crate::support::{App, builder, homeserver, on_disk, until};

async fn say(room: &Room, words: &str) -> OwnedEventId {
    room.send(RoomMessageEventContent::text_plain(words)).await.unwrap().response.event_id
}

async fn has(timeline: &Timeline, event_id: &OwnedEventId, words: &str) -> bool {
    let item = timeline.item_by_event_id(event_id).await;
    item.is_some_and(|item| {
        item.content().as_message().is_some_and(|message| message.body() == words)
    })
}

#[tokio::test]
async fn sliding_sync_does_as_well() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let carol = App::register(&http, "carol").await;
    // To-device events and rooms come on two connections, in any order.
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = App::login_only(account, builder(&http.base_url)).await;
    let sdk: SdkClient = (*bob.client).clone();
    let service = SyncService::builder(sdk).build().await.unwrap();
    service.start().await;
    bob.key_packages().await;
    bob.bootstrap().await;
    let room = alice.client.create_mls_room(crate::support::invite(&[&bob])).await.unwrap();
    let is_invited = async || bob.client.get_room(room.room_id()).is_some();
    until("the invitation", is_invited).await;
    let his = bob.client.join_room_by_id(room.room_id()).await.unwrap();
    alice.joined_by(&room, &[]).await;
    alice.sync_once().await;
    let timeline = TimelineBuilder::new(&his).build().await.unwrap();

    let first = say(&room, "to Bob").await;
    until("a message", async || has(&timeline, &first, "to Bob").await).await;
    let second = say(&his, "from Bob").await;
    until("his own", async || has(&timeline, &second, "from Bob").await).await;
    assert_eq!(alice.reads(room.room_id(), &second).await, "from Bob");

    // Somebody comes, and he lets her in; what the state says of her came by sliding sync.
    his.invite_user_by_id(carol.id()).await.unwrap();
    carol.client.join_room_by_id(room.room_id()).await.unwrap();
    until("Carol in the room", async || {
        let member = his.get_member_no_sync(carol.id()).await.unwrap();
        member.is_some_and(|member| member.membership().as_str() == "join")
    })
    .await;
    let third = say(&his, "to Carol").await;
    carol.sync_once().await;
    assert_eq!(carol.reads(room.room_id(), &third).await, "to Carol");
    assert!(matches!(service.state().get(), State::Running));
    service.stop().await;
}

#[tokio::test]
async fn two_loops_at_once_do_no_harm() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let mut bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    bob.client.event_cache().subscribe().unwrap();
    let timeline = TimelineBuilder::new(&bob.room(room.room_id())).build().await.unwrap();
    bob.keep_syncing();
    bob.keep_syncing();
    for number in 0..10 {
        let words = format!("message {number}");
        let event_id = say(&room, &words).await;
        until(&words, async || has(&timeline, &event_id, &words).await).await;
    }
    let shown = timeline.items().await;
    let shown = shown.iter().filter_map(|item| item.as_event()?.content().as_message().cloned());
    assert_eq!(shown.count(), 10);
}

#[tokio::test]
async fn commits_that_a_limited_sync_leaves_out_are_found() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let first = say(&room, "before").await;
    assert_eq!(bob.reads(room.room_id(), &first).await, "before");

    // Five epochs, of which Bob's next sync has at most the last event.
    let mut sent = Vec::new();
    for number in 0..5 {
        let machine = alice.client.mls_machine().await.unwrap();
        machine.update_keys(room.room_id()).await.unwrap();
        sent.push(say(&room, &format!("message {number}")).await);
    }
    let node = room.mls_status().await.unwrap().unwrap().node;
    let mut filter = FilterDefinition::default();
    filter.room.timeline.limit = Some(uint!(1));
    let settings = SyncSettings::default().timeout(Duration::ZERO);
    let settings = settings.filter(Filter::FilterDefinition(filter));
    bob.client.sync_once(settings).await.unwrap();
    let his = bob.room(room.room_id());
    // Without another sync, and before anybody asks for the messages.
    until("the last epoch", async || {
        his.mls_status().await.unwrap().is_some_and(|status| status.node == node)
    })
    .await;
    for (number, event_id) in sent.iter().enumerate() {
        assert_eq!(bob.reads(room.room_id(), event_id).await, format!("message {number}"));
    }
}

/// Keeps everybody else from writing to the MLS store in this folder, until it is dropped.
async fn hold_store(folder: &Path) -> impl Sized {
    let options = SqliteConnectOptions::new().filename(folder.join("matrix-sdk-mls.sqlite3"));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
}

#[tokio::test]
async fn nothing_is_lost_when_the_router_is_slower_than_the_syncs() {
    /// More than the SDK keeps for those who listen.
    const SYNCS: usize = 40;
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let alice = App::register(&http, "alice").await;
    let bob = App::register_on_disk(&http, "bob", folder.path()).await;
    let mut updates = bob.client.subscribe_to_all_room_updates();
    let room = alice.mls_room(&[&bob]).await;
    let first = say(&room, "before").await;
    assert_eq!(bob.reads(room.room_id(), &first).await, "before");
    let his = bob.room(room.room_id());
    while updates.try_recv().is_ok() {}

    // The router waits for the store with what this brings.
    let held = hold_store(folder.path()).await;
    let machine = alice.client.mls_machine().await.unwrap();
    machine.update_keys(room.room_id()).await.unwrap();
    say(&room, "one").await;
    // The SDK's own, which does not wait for the router.
    let sdk: &SdkClient = &bob.client;
    let settings = SyncSettings::default().timeout(Duration::ZERO);
    sdk.sync_once(settings.clone()).await.unwrap();
    machine.update_keys(room.room_id()).await.unwrap();
    let last = say(&room, "two").await;
    // And another room becomes an MLS room.
    let other = alice.client.create_room(crate::support::invite(&[&bob])).await.unwrap();
    alice.joined_by(&other, &[]).await;
    sdk.sync_once(settings.clone()).await.unwrap();
    sdk.join_room_by_id(other.room_id()).await.unwrap();
    sdk.sync_once(settings.clone()).await.unwrap();
    other.enable_mls().await.unwrap();
    for _ in 0..SYNCS {
        sdk.sync_once(settings.clone()).await.unwrap();
    }
    // Who listened from the beginning and was as slow has lost the first ones.
    assert!(matches!(updates.try_recv(), Err(TryRecvError::Lagged(_))));
    drop(held);

    // No other sync.
    let node = room.mls_status().await.unwrap().unwrap().node;
    until("the last epoch", async || {
        his.mls_status().await.unwrap().is_some_and(|status| status.node == node)
    })
    .await;
    let text = his.event(&last, None).await.unwrap();
    assert_eq!(crate::support::body(&text).as_deref(), Some("two"));
    let machine = bob.client.mls_machine().await.unwrap();
    until("the other room", async || machine.is_mls_room(other.room_id()).await.unwrap()).await;
    let third = say(&his, "three").await;
    assert_eq!(alice.reads(room.room_id(), &third).await, "three");
}

#[tokio::test]
async fn key_packages_that_were_used_up_are_replaced() {
    /// More than a fifth of them: they are not replaced one by one.
    const CLAIMED: u64 = 15;
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let on_server = async || {
        let request = upload_keys::v3::Request::new();
        let counts = bob.client.send(request).await.unwrap().one_time_key_counts;
        let packages = counts.iter().filter(|(name, _)| name.as_ref().contains("key_package"));
        packages.map(|(_, count)| u64::from(*count)).sum::<u64>()
    };
    let mut full = 0;
    until("all key packages", async || {
        let before = std::mem::replace(&mut full, on_server().await);
        full > 1 && full == before
    })
    .await;
    let room = alice.mls_room(&[&bob]).await;
    let algorithm = OneTimeKeyAlgorithm::from("io.github.matrix-mls.dmls.v1.key_package.1");
    for _ in 0..CLAIMED {
        let device = BTreeMap::from([(bob.device_id(), algorithm.clone())]);
        let claim = BTreeMap::from([(bob.id().to_owned(), device)]);
        alice.client.send(claim_keys::v3::Request::new(claim)).await.unwrap();
    }
    let event_id = say(&room, "hello").await;
    assert_eq!(on_server().await, full - CLAIMED - 1);
    // The Welcome says that some were used.
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    until("more key packages", async || on_server().await == full).await;
}

#[tokio::test]
async fn another_machine_takes_over_when_the_crypto_store_was_changed_by_another_process() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let alice = App::register(&http, "alice").await;
    let bob = App::register_on_disk(&http, "bob", folder.path()).await;
    let room = alice.mls_room(&[&bob]).await;
    let first = say(&room, "before").await;
    assert_eq!(bob.reads(room.room_id(), &first).await, "before");
    let before = bob.client.mls_machine().await.unwrap();
    let encryption = bob.client.encryption();
    encryption.enable_cross_process_store_lock("application".to_owned()).await.unwrap();
    drop(encryption.spin_lock_store(None).await.unwrap());

    // A second process, as for notifications, takes the lock and reads a message.
    let (account, session) = (bob.account.clone(), bob.client.matrix_auth().session().unwrap());
    let other = App::reopen(account, session, on_disk(&http.base_url, folder.path())).await;
    let encryption = other.client.encryption();
    encryption.enable_cross_process_store_lock("extension".to_owned()).await.unwrap();
    drop(encryption.spin_lock_store(Some(5_000)).await.unwrap());
    let second = say(&room, "meanwhile").await;
    let seen = other.room(room.room_id()).event(&second, None).await.unwrap();
    assert_eq!(crate::support::body(&seen).as_deref(), Some("meanwhile"));
    drop(other);

    // The first one comes back.
    drop(bob.client.encryption().spin_lock_store(Some(5_000)).await.unwrap());
    let after = bob.client.mls_machine().await.unwrap();
    assert!(!ptr::eq(before.olm_machine().store(), after.olm_machine().store()));
    assert_eq!(bob.reads(room.room_id(), &second).await, "meanwhile");
    let third = say(&bob.room(room.room_id()), "after").await;
    assert_eq!(alice.reads(room.room_id(), &third).await, "after");
}
