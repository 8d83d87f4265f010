//! Files, devices, notifications, and an application that has no MLS.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use matrix_mls_tests::{Account, Exchange, HttpClient, Liar};
use matrix_sdk::{
    Client as SdkClient,
    attachment::{AttachmentConfig, AttachmentInfo, BaseImageInfo, Thumbnail},
    config::SyncSettings,
    media::{MediaFormat, MediaRequestParameters},
    room::MessagesOptions,
    ruma::{
        OwnedEventId,
        api::client::membership::join_room_by_id,
        events::{
            AnySyncMessageLikeEvent, AnySyncTimelineEvent, AnyToDeviceEvent,
            StaticEventContent as _,
            room::{
                MediaSource,
                message::{MessageType, RoomMessageEventContent, TextMessageEventContent},
            },
        },
        serde::Raw,
        uint,
    },
    send_queue::RoomSendQueueUpdate as SdkUpdate,
};
use matrix_sdk_common::cross_process_lock::CrossProcessLockConfig;
use matrix_sdk_crypto_mls::{
    DecryptionError, Notice, Readiness, RoomSettings, dmls::TrustRequirement,
    types::events::ToDeviceWelcomeEventContent,
};
use matrix_sdk_mls::{Advice, Error, Room};
use serde_json::json;

use crate::support::{App, body, builder, homeserver, invite, on_disk, on_server, until};

fn text(text: &str) -> RoomMessageEventContent {
    RoomMessageEventContent::text_plain(text)
}

#[tokio::test]
async fn files_are_encrypted_and_so_are_their_keys() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let picture = b"not quite a picture".to_vec();
    let small = b"less of a picture".to_vec();
    let thumbnail = Thumbnail {
        data: small.clone(),
        content_type: mime::IMAGE_PNG,
        height: uint!(3),
        width: uint!(4),
        size: uint!(17),
    };
    let config = AttachmentConfig::new()
        .thumbnail(Some(thumbnail))
        .caption(Some(TextMessageEventContent::plain("look")))
        .info(AttachmentInfo::Image(BaseImageInfo { width: Some(uint!(8)), ..Default::default() }));
    let sent = room
        .send_attachment("picture.png", &mime::IMAGE_PNG, picture.clone(), config)
        .store_in_cache()
        .await
        .unwrap();

    assert_eq!(bob.reads(room.room_id(), &sent.event_id).await, "look");
    let event = bob.room(room.room_id()).event(&sent.event_id, None).await.unwrap();
    let AnySyncTimelineEvent::MessageLike(AnySyncMessageLikeEvent::RoomMessage(message)) =
        event.raw().deserialize().unwrap()
    else {
        panic!("not a message")
    };
    let message = message.as_original().unwrap().content.clone();
    let MessageType::Image(image) = message.msgtype else { panic!("not an image") };
    assert_eq!(image.filename.as_deref(), Some("picture.png"));
    let info = image.info.unwrap();
    assert_eq!((info.width, info.mimetype.as_deref()), (Some(uint!(8)), Some("image/png")));
    assert!(matches!(image.source, MediaSource::Encrypted(_)));
    let get = async |source: MediaSource| {
        let request = MediaRequestParameters { source, format: MediaFormat::File };
        bob.client.media().get_media_content(&request, false).await.unwrap()
    };
    assert_eq!(get(image.source).await, picture);
    assert_eq!(get(info.thumbnail_source.unwrap()).await, small);
    let event = on_server(&bob, room.room_id(), &sent.event_id).await;
    assert_eq!(event["type"], "m.room.encrypted");
}

#[tokio::test]
async fn an_application_without_mls_refuses_to_send_and_is_shown() {
    let http = homeserver().await;
    let (account, _) = Account::register(&http, "alice").await.unwrap();
    let mut settings = RoomSettings::default();
    settings.trust = TrustRequirement::All;
    let all_devices = builder(&http.base_url).mls_room_settings(settings);
    let alice = App::first_login(account, all_devices).await;
    let bob = App::register(&http, "bob").await;
    // Bob has another application, without MLS.
    let plain = SdkClient::builder().homeserver_url(&http.base_url).build().await.unwrap();
    let login = plain.matrix_auth().login_username(bob.id(), &bob.account.password);
    login.send().await.unwrap();
    plain.sync_once(SyncSettings::default()).await.unwrap();
    let plain_id = plain.device_id().unwrap().to_owned();

    let mut notices = alice.client.subscribe_to_mls_notices();
    let room = alice.mls_room(&[&bob]).await;
    let event_id = room.send(text("hello")).await.unwrap().response.event_id;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    let Readiness::Ready { without_mls, .. } = room.prepare_mls().await.unwrap() else {
        panic!("not ready")
    };
    assert_eq!(without_mls, [(bob.id().to_owned(), plain_id.clone())]);
    let is_shown = |notice: &Notice| matches!(notice, Notice::DeviceWithoutMls { device_id, .. } if *device_id == plain_id);
    until("a notice", async || notices.try_recv().is_ok_and(|notice| is_shown(&notice))).await;

    let devices = room.mls_devices().await.unwrap();
    let in_group = |id: &str| devices.iter().find(|it| it.device_id == id).unwrap().in_group;
    assert!(in_group(alice.device_id().as_str()) && in_group(bob.device_id().as_str()));
    assert!(!in_group(plain_id.as_str()));
    // It is the only one of which is said that it has no MLS.
    let has_none = devices.iter().filter(|it| it.has_no_mls).map(|it| &it.device_id);
    assert_eq!(has_none.collect::<Vec<_>>(), [&plain_id]);
    let own = devices.iter().find(|it| it.device_id == alice.device_id()).unwrap();
    assert!(own.is_known && own.is_cross_signed && own.is_verified);
    let his = devices.iter().find(|it| it.device_id == bob.device_id()).unwrap();
    assert!(his.is_known && his.is_cross_signed && !his.is_verified);

    plain.sync_once(SyncSettings::default()).await.unwrap();
    let theirs = plain.get_room(room.room_id()).unwrap();
    theirs.send(text("in the clear?")).await.unwrap_err();
    // Nor by its queue, which gives it up.
    let (_, mut updates) = theirs.send_queue().subscribe().await.unwrap();
    theirs.send_queue().send(text("later?").into()).await.unwrap();
    loop {
        if let SdkUpdate::SendError { is_recoverable, .. } = updates.recv().await.unwrap() {
            assert!(!is_recoverable);
            break;
        }
    }
    // The server has nothing of it, in whatever form.
    let mut options = MessagesOptions::backward();
    options.limit = uint!(100);
    let all = bob.room(room.room_id()).messages(options).await.unwrap().chunk;
    let types = all.iter().map(|event| event.raw().get_field::<String>("type").unwrap().unwrap());
    let types: Vec<_> =
        types.filter(|it| it == "m.room.message" || it == "m.room.encrypted").collect();
    assert_eq!(types.len(), 1, "{types:?}");
    // To it hers is a message that cannot be read, not one that says something else.
    let theirs = theirs.event(&event_id, None).await.unwrap();
    assert!(theirs.encryption_info().is_none());
    assert_eq!(theirs.raw().get_field::<String>("type").unwrap().unwrap(), "m.room.encrypted");
}

#[tokio::test]
async fn a_notification_is_read_by_another_process_from_its_ids_alone() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let alice = App::register(&http, "alice").await;
    let bob = App::register_on_disk(&http, "bob", folder.path()).await;
    let room = alice.mls_room(&[&bob]).await;
    let first = room.send(text("before")).await.unwrap().response.event_id;
    assert_eq!(bob.reads(room.room_id(), &first).await, "before");

    // The application is suspended; two epochs later there is a push.
    for _ in 0..2 {
        let machine = alice.client.mls_machine().await.unwrap();
        machine.update_keys(room.room_id()).await.unwrap();
        room.prepare_mls().await.unwrap();
    }
    let second = room.send(text("ping")).await.unwrap().response.event_id;
    let session = bob.client.matrix_auth().session().unwrap();
    let extension = on_disk(&http.base_url, folder.path())
        .cross_process_store_config(CrossProcessLockConfig::multi_process("extension"));
    let extension = App::reopen(bob.account.clone(), session, extension).await;
    let event = extension.client.notification_event(room.room_id(), &second).await.unwrap();
    assert_eq!(body(&event).as_deref(), Some("ping"));
    let unknown = invite(&[]);
    let elsewhere = alice.client.create_mls_room(unknown).await.unwrap();
    let asked = extension.client.notification_event(elsewhere.room_id(), &second).await;
    assert!(matches!(asked.unwrap_err(), Error::NotJoined(_)));
    drop(extension);

    // And the application goes on.
    assert_eq!(bob.reads(room.room_id(), &second).await, "ping");
    let third = bob.room(room.room_id()).send(text("pong")).await.unwrap().response.event_id;
    assert_eq!(alice.reads(room.room_id(), &third).await, "pong");
}

/// Bob, whose application was suspended before Alice has added it to her room, and a message there.
async fn suspended(http: &HttpClient, folder: &Path) -> (App, App, Room, OwnedEventId) {
    let alice = App::register(http, "alice").await;
    let bob = App::register_on_disk(http, "bob", folder).await;
    let room = alice.mls_room(&[&bob]).await;
    let event_id = room.send(text("ping")).await.unwrap().response.event_id;
    (alice, bob, room, event_id)
}

/// The same device in another process.
async fn extension(bob: &App, homeserver: &str, folder: &Path) -> App {
    let session = bob.client.matrix_auth().session().unwrap();
    let extension = on_disk(homeserver, folder)
        .cross_process_store_config(CrossProcessLockConfig::multi_process("extension"));
    App::reopen(bob.account.clone(), session, extension).await
}

#[tokio::test]
async fn a_notification_is_read_with_a_welcome_that_stays_for_the_application() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let (alice, bob, room, event_id) = suspended(&http, folder.path()).await;
    let other = extension(&bob, &http.base_url, folder.path()).await;
    let event = other.client.notification_event(room.room_id(), &event_id).await.unwrap();
    assert_eq!(body(&event).as_deref(), Some("ping"));
    // Again, as pushes come.
    let event = other.client.notification_event(room.room_id(), &event_id).await.unwrap();
    assert_eq!(body(&event).as_deref(), Some("ping"));
    drop(other);

    // The application gets every to-device event all the same, and goes on.
    let welcomes = Arc::new(AtomicUsize::new(0));
    bob.client.add_event_handler({
        let welcomes = Arc::clone(&welcomes);
        move |event: Raw<AnyToDeviceEvent>| async move {
            let event_type = event.get_field::<String>("type").unwrap().unwrap();
            if event_type == ToDeviceWelcomeEventContent::TYPE {
                welcomes.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    bob.sync_once().await;
    assert_eq!(welcomes.load(Ordering::SeqCst), 1);
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "ping");
    let answer = bob.room(room.room_id()).send(text("pong")).await.unwrap().response.event_id;
    assert_eq!(alice.reads(room.room_id(), &answer).await, "pong");
    // He was in, and did not have to add himself.
    assert_eq!(room.mls_status().await.unwrap().unwrap().epoch, 1);
}

#[tokio::test]
async fn a_notification_may_be_the_first_that_is_heard_of_a_room() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let alice = App::register(&http, "alice").await;
    let bob = App::register_on_disk(&http, "bob", folder.path()).await;
    let room = alice.client.create_mls_room(invite(&[&bob])).await.unwrap();
    // As if another device of his had joined: this one has not synced since.
    let join = join_room_by_id::v3::Request::new(room.room_id().to_owned());
    bob.client.send(join).await.unwrap();
    alice
        .sync_until("Bob in the room", async || {
            let member = alice.room(room.room_id()).get_member_no_sync(bob.id()).await.unwrap();
            member.is_some_and(|member| member.membership().as_str() == "join")
        })
        .await;
    let event_id = room.send(text("ping")).await.unwrap().response.event_id;
    let other = extension(&bob, &http.base_url, folder.path()).await;
    assert!(other.client.get_room(room.room_id()).is_none());
    let event = other.client.notification_event(room.room_id(), &event_id).await.unwrap();
    assert_eq!(body(&event).as_deref(), Some("ping"));
    drop(other);
    bob.sync_once().await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "ping");
    let answer = bob.room(room.room_id()).send(text("pong")).await.unwrap().response.event_id;
    assert_eq!(alice.reads(room.room_id(), &answer).await, "pong");
}

#[tokio::test]
async fn a_notification_without_its_welcome_is_read_after_the_applications_sync() {
    let http = homeserver().await;
    let folder = tempfile::tempdir().unwrap();
    let (_alice, bob, room, event_id) = suspended(&http, folder.path()).await;
    // So much waits for the application that the Welcome is not among the first of it.
    let liar = Liar::before(&http.base_url).unwrap();
    liar.lie(|it: &mut Exchange| {
        if it.is("GET", "/sync") {
            it.response["to_device"]["events"] = json!([]);
        }
    });
    let other = extension(&bob, &liar.url, folder.path()).await;
    let error = other.client.notification_event(room.room_id(), &event_id).await.unwrap_err();
    let Error::Decryption(reason) = &error else { panic!("{error}") };
    assert_eq!(Advice::on(reason), Advice::Wait, "{reason}");

    bob.sync_once().await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "ping");
    let event = other.client.notification_event(room.room_id(), &event_id).await.unwrap();
    assert_eq!(body(&event).as_deref(), Some("ping"));
}

#[tokio::test]
async fn a_notification_that_cannot_be_read_says_why() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let carol = App::register(&http, "carol").await;
    let room = alice.mls_room(&[&bob]).await;
    let first = room.send(text("before Carol")).await.unwrap().response.event_id;
    room.invite_user_by_id(carol.id()).await.unwrap();
    alice.joined_by(&room, &[&carol]).await;
    let second = room.send(text("with Carol")).await.unwrap().response.event_id;
    assert_eq!(carol.reads(room.room_id(), &second).await, "with Carol");
    let error = carol.client.notification_event(room.room_id(), &first).await.unwrap_err();
    assert!(matches!(error, Error::Decryption(DecryptionError::BeforeOurJoin)), "{error}");
}
