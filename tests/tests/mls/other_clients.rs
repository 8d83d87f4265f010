//! A client that knows nothing of this: matrix-sdk as it is.

use matrix_sdk::{
    Client, config::SyncSettings, ruma::events::room::message::RoomMessageEventContent,
};
use matrix_sdk_crypto_mls::Notice;

use crate::support::{SOON, all_devices, events, homeserver, reads, room_of, user, user_with};

#[tokio::test]
async fn matrix_sdk_refuses_to_send_in_the_clear_and_is_shown_as_a_device_without_mls() {
    let http = homeserver().await;
    let mut alice = user_with(&http, "alice", 1, all_devices()).await;
    let mut bob = user(&http, "bob", 1).await;
    let room = room_of(&mut alice, &mut [&mut bob]).await;

    let client = Client::builder().homeserver_url(&http.base_url).build().await.unwrap();
    let (id, password) = (bob.account.user_id.clone(), bob.account.password.clone());
    client.matrix_auth().login_username(&id, &password).send().await.unwrap();
    client.sync_once(SyncSettings::default()).await.unwrap();
    let device = client.device_id().unwrap().to_owned();

    let joined = client.get_room(&room).unwrap();
    let state = joined.latest_encryption_state().await.unwrap();
    assert!(state.is_encrypted());
    let refused = joined.send(RoomMessageEventContent::text_plain("in the clear")).await;
    assert!(refused.is_err(), "{refused:?}");

    alice.first().wait_for_device(&id, &device, true).await.unwrap();
    let sent = alice.first().say(&room, "to whoever can read it").await.unwrap();
    assert_eq!(sent.without_mls, [(id.clone(), device.clone())]);
    let shown = |notice: &Notice| {
        matches!(notice, Notice::DeviceWithoutMls { user_id, device_id, .. }
            if *user_id == id && *device_id == device)
    };
    assert!(alice.first().notices.iter().any(shown), "{:?}", alice.first().notices);
    reads(bob.first(), &room, &sent.event_id, "to whoever can read it").await;
    bob.first().sync(SOON).await.unwrap();

    // It does not stumble over our events either.
    client.sync_once(SyncSettings::default()).await.unwrap();
    assert_eq!(events(alice.first(), &room, &["m.room.message"]).await.len(), 0);
    assert_eq!(events(alice.first(), &room, &["m.room.encrypted"]).await.len(), 1);
}
