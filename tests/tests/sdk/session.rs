//! The end of a session.

use std::fs;

use futures_util::StreamExt as _;
use matrix_mls_tests::{Account, Liar};
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use matrix_sdk_mls::{Error, MlsEvent};

use crate::support::{App, homeserver, on_disk};

fn text(text: &str) -> RoomMessageEventContent {
    RoomMessageEventContent::text_plain(text)
}

#[tokio::test]
async fn whoever_logs_out_is_done_and_another_device_takes_the_place() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = App::first_login(account.clone(), on_disk(&liar.url, folder.path())).await;
    let alice = App::register(&http, "alice").await;
    let room = alice.mls_room(&[&bob]).await;
    let first = room.send(text("hello")).await.unwrap().response.event_id;
    assert_eq!(bob.reads(room.room_id(), &first).await, "hello");
    let his = bob.room(room.room_id());
    let before = bob.device_id();
    let queue = his.mls_send_queue();
    let events = bob.client.subscribe_to_mls_events();
    let mut notices = bob.client.subscribe_to_mls_notices();

    bob.client.logout().await.unwrap();
    // The streams end, and so nothing here hangs.
    events.for_each(|_| async {}).await;
    while notices.recv().await.is_ok() {}
    let requests = liar.seen().len();
    assert!(matches!(bob.client.mls_machine().await, Err(Error::NotLoggedIn)));
    let error = his.send(text("still here?")).await.unwrap_err();
    assert!(matches!(Error::of(&error), Some(Error::NotLoggedIn)), "{error}");
    assert!(matches!(queue.send(text("or here?")).await, Err(Error::NotLoggedIn)));

    // The stores are the old device's.
    let client = on_disk(&http.base_url, folder.path()).build().await.unwrap();
    let login = client.matrix_auth().login_username(&account.user_id, &account.password);
    login.send().await.unwrap_err();
    drop((client, queue, his));
    // Nothing was sent by anybody since.
    assert_eq!(liar.seen().len(), requests);
    drop(bob);

    // In the same process and at the same place, once they are gone.
    fs::remove_dir_all(folder.path()).unwrap();
    let bob = App::login(account, on_disk(&http.base_url, folder.path())).await;
    assert_ne!(bob.device_id(), before);
    let recovery = bob.account.confirm(None);
    bob.client.encryption().bootstrap_cross_signing(Some(recovery)).await.unwrap();
    bob.sync_once().await;
    alice.sync_once().await;
    let second = room.send(text("welcome back")).await.unwrap().response.event_id;
    assert_eq!(bob.reads(room.room_id(), &second).await, "welcome back");
    let devices = room.mls_devices().await.unwrap();
    let his = devices.iter().filter(|it| it.user_id == bob.id() && it.in_group);
    assert_eq!(his.map(|it| it.device_id.clone()).collect::<Vec<_>>(), [bob.device_id()]);
    let third = bob.room(room.room_id()).send(text("thank you")).await.unwrap();
    assert_eq!(alice.reads(room.room_id(), &third.response.event_id).await, "thank you");
}

#[tokio::test]
async fn a_device_that_somebody_else_has_logged_out_is_done_too() {
    let http = homeserver().await;
    let bob = App::register(&http, "bob").await;
    let events = bob.client.subscribe_to_mls_events();
    // The SDK's own way, of which nobody tells us.
    bob.client.matrix_auth().logout().await.unwrap();
    bob.client.whoami().await.unwrap_err();
    let told: Vec<_> = events.collect().await;
    assert!(told.iter().all(|event| matches!(event, MlsEvent::BackupState(_))), "{told:?}");
    assert!(matches!(bob.client.mls_machine().await, Err(Error::NotLoggedIn)));
}
