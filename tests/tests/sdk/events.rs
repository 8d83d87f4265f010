//! What an application is told of its MLS rooms.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use matrix_mls_tests::{Account, Exchange, Liar};
use matrix_sdk::{
    Client as SdkClient,
    config::SyncSettings,
    encryption::backups::BackupState,
    ruma::{OwnedEventId, events::room::message::RoomMessageEventContent},
};
use matrix_sdk_crypto_mls::{DecryptionError, RoomSettings, dmls::TrustRequirement};
use matrix_sdk_mls::{Advice, MlsEvent, Room};
use serde_json::{Value, json};

use crate::support::{App, builder, homeserver, until};

/// Somebody who writes down what an application tells.
struct Listener {
    events: Pin<Box<dyn Stream<Item = MlsEvent> + Send>>,
    heard: Vec<MlsEvent>,
}

impl Listener {
    fn of(app: &App) -> Self {
        Self { events: Box::pin(app.client.subscribe_to_mls_events()), heard: Vec::new() }
    }

    /// What was told so far.
    fn heard(&mut self) -> &[MlsEvent] {
        while let Some(Some(event)) = self.events.next().now_or_never() {
            self.heard.push(event);
        }
        &self.heard
    }

    fn count(&mut self, is_it: impl Fn(&MlsEvent) -> bool) -> usize {
        self.heard().iter().filter(|event| is_it(event)).count()
    }

    /// Syncs until something is told.
    async fn hears<T>(
        &mut self,
        app: &App,
        what: &str,
        find: impl Fn(&MlsEvent) -> Option<T>,
    ) -> T {
        let mut found = None;
        app.sync_until(what, async || {
            found = self.heard().iter().find_map(&find);
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

async fn say(room: &Room, words: &str) -> OwnedEventId {
    room.send(RoomMessageEventContent::text_plain(words)).await.unwrap().response.event_id
}

async fn update_keys(app: &App, room: &Room) {
    let machine = app.client.mls_machine().await.unwrap();
    machine.update_keys(room.room_id()).await.unwrap();
    room.prepare_mls().await.unwrap();
}

#[tokio::test]
async fn a_room_becomes_an_mls_room_and_ready_and_goes_on_to_new_epochs() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let (mut at_hers, mut at_his) = (Listener::of(&alice), Listener::of(&bob));
    let room = alice.mls_room(&[&bob]).await;
    for (app, listener) in [(&alice, &mut at_hers), (&bob, &mut at_his)] {
        let became = |event: &MlsEvent| matches!(event, MlsEvent::BecameMls { room_id } if room_id == room.room_id());
        listener.hears(app, "an MLS room", |event| became(event).then_some(())).await;
        assert_eq!(listener.count(became), 1);
        assert_eq!(listener.count(|event| matches!(event, MlsEvent::ReadyToSend { .. })), 0);
    }

    say(&room, "hello").await;
    let node = room.mls_status().await.unwrap().unwrap().node;
    let ready = |event: &MlsEvent| match event {
        MlsEvent::ReadyToSend { node, without_mls, .. } => Some((*node, without_mls.len())),
        _ => None,
    };
    assert_eq!(at_hers.hears(&alice, "a room that is ready", ready).await, (node, 0));
    say(&room, "hello again").await;
    // It stays so, and is not said again.
    assert_eq!(at_hers.count(|event| ready(event).is_some()), 1);
    // So it is for him, who has done nothing for it.
    assert_eq!(at_his.hears(&bob, "a room that is ready", ready).await.1, 0);
    // She has let in a device that she has not verified.
    let bobs = bob.device_id();
    let unverified = |event: &MlsEvent| match event {
        MlsEvent::UnverifiedDevice { device, .. } => Some(device.clone()),
        _ => None,
    };
    let device = at_hers.hears(&alice, "Bob's device", unverified).await;
    assert_eq!((&*device.user_id, &device.device_id), (bob.id(), &bobs));
    assert!(device.is_known && device.is_cross_signed && !device.is_verified);

    at_his
        .hears(&bob, "Bob in the group", |event| {
            matches!(event, MlsEvent::Joined { .. }).then_some(())
        })
        .await;
    update_keys(&alice, &room).await;
    let node = room.mls_status().await.unwrap().unwrap().node;
    let epoch = at_his
        .hears(&bob, "the next epoch", |event| match event {
            MlsEvent::EpochChanged { node: it, epoch, devices, author, .. } if *it == node => {
                Some((*epoch, *devices, author.as_ref()?.user_id.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!(epoch, (2, 2, alice.id().to_string()));
    // Nobody came with that.
    assert_eq!(at_his.count(|event| unverified(event).is_some()), 0);
    assert_eq!(at_hers.count(|event| unverified(event).is_some()), 1);
}

#[tokio::test]
async fn forks_are_seen_and_merged() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let event_id = say(&room, "hello").await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    let his = bob.room(room.room_id());
    let before = room.mls_status().await.unwrap().unwrap().node;
    let (mut at_hers, mut at_his) = (Listener::of(&alice), Listener::of(&bob));

    // Neither hears of the other's commit before theirs is sent.
    update_keys(&alice, &room).await;
    update_keys(&bob, &his).await;
    let forked = |event: &MlsEvent| match event {
        MlsEvent::ForkSeen { parent, .. } => Some(*parent),
        _ => None,
    };
    assert_eq!(at_hers.hears(&alice, "the fork", forked).await, before);
    assert_eq!(at_his.hears(&bob, "the fork", forked).await, before);
    let node = async |room: &Room| room.mls_status().await.unwrap().unwrap().node;
    assert_eq!(node(&room).await, node(&his).await);

    update_keys(&alice, &room).await;
    let merged = |event: &MlsEvent| match event {
        MlsEvent::ForkMerged { node, branches, .. } => Some((*node, branches.len())),
        _ => None,
    };
    let expected = (node(&room).await, 1);
    assert_eq!(at_hers.hears(&alice, "the merge", merged).await, expected);
    assert_eq!(at_his.hears(&bob, "the merge", merged).await, expected);
    // Who was on the losing branch is told that it is on the other one; once for each epoch.
    for listener in [&mut at_hers, &mut at_his] {
        assert_eq!(listener.count(|event| forked(event).is_some()), 1);
        let mut epochs: Vec<_> = listener
            .heard()
            .iter()
            .filter_map(|event| match event {
                MlsEvent::EpochChanged { node, .. } => Some(*node),
                _ => None,
            })
            .collect();
        let count = epochs.len();
        assert_eq!(epochs.last(), Some(&expected.0));
        epochs.sort_unstable();
        epochs.dedup();
        assert_eq!(epochs.len(), count);
    }
}

#[tokio::test]
async fn a_member_and_a_device_without_mls_are_told_of() {
    let http = homeserver().await;
    let (account, _) = Account::register(&http, "alice").await.unwrap();
    let mut settings = RoomSettings::default();
    settings.trust = TrustRequirement::All;
    let all_devices = builder(&http.base_url).mls_room_settings(settings);
    let alice = App::first_login(account, all_devices).await;
    // Bob has nothing but an application on the SDK alone.
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = SdkClient::builder().homeserver_url(&http.base_url).build().await.unwrap();
    let login = bob.matrix_auth().login_username(&account.user_id, &account.password);
    login.send().await.unwrap();
    bob.sync_once(SyncSettings::default()).await.unwrap();
    let bobs = bob.device_id().unwrap().to_owned();

    let mut listener = Listener::of(&alice);
    let mut request = crate::support::invite(&[]);
    request.invite = vec![account.user_id.clone()];
    let room = alice.client.create_mls_room(request).await.unwrap();
    bob.join_room_by_id(room.room_id()).await.unwrap();
    alice
        .sync_until("Bob in the room", async || {
            let member = alice.room(room.room_id()).get_member_no_sync(&account.user_id).await;
            member.unwrap().is_some_and(|member| member.membership().as_str() == "join")
        })
        .await;
    say(&room, "hello?").await;
    let without = listener
        .hears(&alice, "the device", |event| match event {
            MlsEvent::DeviceWithoutMls { user_id, device_id, .. } => {
                Some((user_id.clone(), device_id.clone()))
            }
            _ => None,
        })
        .await;
    assert_eq!(without, (account.user_id.clone(), bobs.clone()));
    let member = listener
        .hears(&alice, "the member", |event| match event {
            MlsEvent::MemberWithoutMls { user_id, .. } => Some(user_id.clone()),
            _ => None,
        })
        .await;
    assert_eq!(member, account.user_id);
    let ready = listener
        .hears(&alice, "the room", |event| match event {
            MlsEvent::ReadyToSend { without_mls, .. } => Some(without_mls.clone()),
            _ => None,
        })
        .await;
    assert_eq!(ready, [(account.user_id.clone(), bobs.clone())]);

    // He refuses to send there, and she sees why he does not read.
    bob.sync_once(SyncSettings::default()).await.unwrap();
    let his = bob.get_room(room.room_id()).unwrap();
    his.send(RoomMessageEventContent::text_plain("in the clear?")).await.unwrap_err();
    let devices = room.mls_devices().await.unwrap();
    let device = devices.iter().find(|device| device.device_id == bobs).unwrap();
    assert!(device.is_known && !device.in_group);
}

#[tokio::test]
async fn what_cannot_be_read_is_told_with_a_reason_and_also_when_it_can() {
    let http = homeserver().await;
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = App::first_login(account, builder(&liar.url)).await;
    let alice = App::register(&http, "alice").await;
    let room = alice.mls_room(&[&bob]).await;
    let mut listener = Listener::of(&bob);

    // The Welcome is late.
    let held: Arc<Mutex<Vec<Value>>> = Arc::default();
    liar.lie({
        let held = Arc::clone(&held);
        move |it: &mut Exchange| {
            if it.is("GET", "/sync") && it.path.contains("since") {
                let events = it.response.pointer_mut("/to_device/events");
                let events = events.and_then(Value::as_array_mut);
                held.lock().unwrap().extend(events.map(std::mem::take).unwrap_or_default());
            }
        }
    });
    let event_id = say(&room, "hello").await;
    let undecryptable = |event: &MlsEvent| match event {
        MlsEvent::Undecryptable { event_id: it, reason, advice, .. } if *it == event_id => {
            Some((Arc::clone(reason), *advice))
        }
        _ => None,
    };
    let (reason, advice) = listener.hears(&bob, "an unreadable message", undecryptable).await;
    assert!(
        matches!(*reason, DecryptionError::UnknownEpoch(_) | DecryptionError::BeforeOurJoin),
        "{reason}"
    );
    assert_eq!(advice, Advice::on(&reason));
    bob.sync_until("the Welcome", async || !held.lock().unwrap().is_empty()).await;
    liar.lie(move |it: &mut Exchange| {
        let end = it.response["next_batch"].as_str().map(ToOwned::to_owned);
        if it.is("GET", "/sync") && end.is_some_and(|end| !it.path.contains(&end)) {
            let late: Vec<_> = held.lock().unwrap().drain(..).collect();
            let events = it.response.pointer("/to_device/events").and_then(Value::as_array);
            let all = late.into_iter().chain(events.cloned().unwrap_or_default()).collect();
            it.response["to_device"]["events"] = Value::Array(all);
        }
    });
    say(&room, "and more").await;
    let readable = |event: &MlsEvent| {
        matches!(event, MlsEvent::Readable { event_id: it, .. } if *it == event_id).then_some(())
    };
    listener.hears(&bob, "a message that is readable now", readable).await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
}

#[tokio::test]
async fn a_newcomer_is_told_what_it_will_never_read() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let carol = App::register(&http, "carol").await;
    let room = alice.mls_room(&[]).await;
    let event_id = say(&room, "before Carol").await;
    room.invite_user_by_id(carol.id()).await.unwrap();
    carol.client.event_cache().subscribe().unwrap();
    let mut listener = Listener::of(&carol);
    alice.joined_by(&room, &[&carol]).await;
    let second = say(&room, "with Carol").await;
    assert_eq!(carol.reads(room.room_id(), &second).await, "with Carol");
    let advice = listener
        .hears(&carol, "the unreadable message", |event| match event {
            MlsEvent::Undecryptable { event_id: it, reason, advice, .. }
                if *it == event_id && matches!(**reason, DecryptionError::BeforeOurJoin) =>
            {
                Some(*advice)
            }
            _ => None,
        })
        .await;
    assert_eq!(advice, Advice::AskAMember);
}

#[tokio::test]
async fn downgrades_and_backups_are_told_of() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let mut listener = Listener::of(&alice);
    let room = alice.mls_room(&[]).await;
    say(&room, "hello").await;
    let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    let sent = room.send_state_event_raw("m.room.encryption", "", megolm).await.unwrap();
    let attempt = listener
        .hears(&alice, "the downgrade", |event| match event {
            MlsEvent::DowngradeAttempt { event_id, .. } => event_id.clone(),
            _ => None,
        })
        .await;
    assert_eq!(attempt, sent.event_id);

    let first = listener.heard().first().cloned();
    assert!(matches!(first, Some(MlsEvent::BackupState(BackupState::Unknown))), "{first:?}");
    alice.client.encryption().backups().create().await.unwrap();
    let is_enabled =
        |event: &MlsEvent| matches!(event, MlsEvent::BackupState(BackupState::Enabled));
    until("the backup", async || listener.count(is_enabled) > 0).await;
    // It ends with the client.
    let Listener { mut events, .. } = listener;
    drop((room, alice));
    until("the end", async || matches!(events.next().now_or_never(), Some(None))).await;
}

#[tokio::test]
async fn a_file_that_the_server_does_not_take_is_told_of() {
    /// Smaller than the tree of a few devices.
    const SMALL: usize = 4096;
    let http = homeserver().await;
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "alice").await.unwrap();
    let small_events = builder(&liar.url).mls_max_event_content(SMALL);
    let alice = App::first_login(account, small_events).await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let event_id = say(&room, "hello").await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");

    liar.lie(|it: &mut Exchange| {
        if it.is("POST", "/media/v3/upload") {
            it.status = 413;
            it.response = json!({ "errcode": "M_TOO_LARGE", "error": "Too large" });
        }
    });
    let mut others = Vec::new();
    for name in ["carol", "dan", "eve", "fay", "gil", "hal"] {
        let other = App::register(&http, name).await;
        room.invite_user_by_id(other.id()).await.unwrap();
        others.push(other);
    }
    alice.joined_by(&room, &others.iter().collect::<Vec<_>>()).await;
    let mut listener = Listener::of(&alice);
    let event_id = say(&room, "who is in reads on").await;
    let bytes = listener
        .hears(&alice, "a file too large", |event| match event {
            MlsEvent::UploadRefused { room_id, bytes } if room_id == room.room_id() => Some(*bytes),
            _ => None,
        })
        .await;
    // With less there would be no file.
    assert!(bytes > 1000, "{bytes}");
    for other in &others {
        listener
            .hears(&alice, "who stays outside", |event| match event {
                MlsEvent::DeviceWithoutMls { user_id, reason, .. } if *user_id == other.id() => {
                    assert!(reason.contains("a file of"), "{reason}");
                    Some(())
                }
                _ => None,
            })
            .await;
    }
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "who is in reads on");
}

/// Whether a room is said to be ready, each time it is said.
fn turns(events: &[MlsEvent], room: &Room) -> Vec<bool> {
    let turn = |event: &MlsEvent| match event {
        MlsEvent::ReadyToSend { room_id, .. } if room_id == room.room_id() => Some(true),
        MlsEvent::NotReady { room_id } if room_id == room.room_id() => Some(false),
        _ => None,
    };
    events.iter().filter_map(turn).collect()
}

#[tokio::test]
async fn a_room_is_said_to_be_ready_and_not_ready_in_turns() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let carol = App::register(&http, "carol").await;
    let mut listener = Listener::of(&alice);
    let room = alice.mls_room(&[&bob]).await;
    let says = async |listener: &mut Listener, expected: &[bool]| {
        let what = format!("{expected:?}");
        alice.sync_until(&what, async || turns(listener.heard(), &room) == expected).await;
    };
    say(&room, "hello").await;
    says(&mut listener, &[true]).await;

    // Somebody comes, and is let in with the next message.
    room.invite_user_by_id(carol.id()).await.unwrap();
    alice.joined_by(&room, &[&carol]).await;
    says(&mut listener, &[true, false]).await;
    let event_id = say(&room, "hello Carol").await;
    says(&mut listener, &[true, false, true]).await;
    assert_eq!(carol.reads(room.room_id(), &event_id).await, "hello Carol");

    // Somebody else's commit changes nothing about that.
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello Carol");
    let his = bob.room(room.room_id());
    update_keys(&bob, &his).await;
    let node = his.mls_status().await.unwrap().unwrap().node;
    listener
        .hears(&alice, "Bob's epoch", |event| match event {
            MlsEvent::EpochChanged { node: it, .. } if *it == node => Some(()),
            _ => None,
        })
        .await;
    says(&mut listener, &[true, false, true]).await;

    // Somebody goes, and getting ready is enough.
    carol.room(room.room_id()).leave().await.unwrap();
    says(&mut listener, &[true, false, true, false]).await;
    room.prepare_mls().await.unwrap();
    says(&mut listener, &[true, false, true, false, true]).await;

    // And where nothing is sent any more, it is not ready.
    let megolm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    room.send_state_event_raw("m.room.encryption", "", megolm).await.unwrap();
    says(&mut listener, &[true, false, true, false, true, false]).await;
}

#[tokio::test]
async fn who_was_removed_is_told_by_whom_when_back_in_the_room() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let bob = App::register(&http, "bob").await;
    let room = alice.mls_room(&[&bob]).await;
    let event_id = say(&room, "hello").await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    let mut listener = Listener::of(&bob);

    room.kick_user(bob.id(), None).await.unwrap();
    bob.sync_until("the end", async || {
        bob.room(room.room_id()).state() == matrix_sdk::RoomState::Left
    })
    .await;
    alice
        .sync_until("Bob's leaving", async || {
            let member = room.get_member_no_sync(bob.id()).await.unwrap();
            member.is_none_or(|member| member.membership().as_str() == "leave")
        })
        .await;
    say(&room, "without Bob").await;
    room.invite_user_by_id(bob.id()).await.unwrap();
    alice.joined_by(&room, &[&bob]).await;
    let by = listener
        .hears(&bob, "his removal", |event| match event {
            MlsEvent::Removed { by, .. } => Some(by.clone()),
            _ => None,
        })
        .await;
    assert_eq!(by.user_id, alice.id().as_str());
    assert_eq!(by.device_id, alice.device_id().as_str());

    // And he is let in again.
    let event_id = say(&room, "welcome back").await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "welcome back");
    assert!(listener.count(|event| matches!(event, MlsEvent::Joined { .. })) > 0);
}

#[tokio::test]
async fn a_device_that_should_not_be_there_is_told_of() {
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let carol = App::register(&http, "carol").await;
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = App::first_login(account, builder(&liar.url)).await;
    let room = alice.mls_room(&[&bob]).await;
    let event_id = say(&room, "hello").await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    room.invite_user_by_id(carol.id()).await.unwrap();
    alice.joined_by(&room, &[&carol]).await;
    bob.sync_once().await;

    // Bob's server says that Carol has left again.
    let (room_id, gone) = (room.room_id().to_string(), carol.id().to_string());
    let leaves = move |event: &mut Value| {
        if event["type"] == "m.room.member" && event["state_key"] == gone.as_str() {
            event["content"] = json!({ "membership": "leave" });
        }
    };
    let member = carol.id().to_string();
    liar.lie(move |it: &mut Exchange| {
        if it.path.ends_with("/state") {
            it.response.as_array_mut().into_iter().flatten().for_each(&leaves);
        } else if it.is("GET", "/sync") && it.path.contains("since") {
            let joined = it.response.pointer_mut(&format!("/rooms/join/{room_id}/timeline/events"));
            if let Some(events) = joined.and_then(Value::as_array_mut) {
                let event = json!({
                    "type": "m.room.member", "state_key": member, "sender": member,
                    "event_id": "$lie", "origin_server_ts": 1,
                    "content": { "membership": "leave" },
                });
                events.insert(0, event);
            }
        }
    });
    let mut listener = Listener::of(&bob);
    say(&room, "hello Carol").await;
    let (device, added_by) = listener
        .hears(&bob, "a device too many", |event| match event {
            MlsEvent::UnexpectedMember { device, added_by, .. } => {
                Some((device.clone(), added_by.clone()))
            }
            _ => None,
        })
        .await;
    let carols = (carol.id().to_string(), carol.device_id().to_string());
    assert_eq!((device.user_id, device.device_id), carols);
    assert_eq!(added_by.user_id, alice.id().as_str());
}

#[tokio::test]
async fn who_does_not_listen_is_told_how_much_was_missed() {
    const TOO_MANY: usize = 1500;
    let http = homeserver().await;
    let alice = App::register(&http, "alice").await;
    let liar = Liar::before(&http.base_url).unwrap();
    let (account, _) = Account::register(&http, "bob").await.unwrap();
    let bob = App::first_login(account, builder(&liar.url)).await;
    let room = alice.mls_room(&[&bob]).await;
    let event_id = say(&room, "hello").await;
    assert_eq!(bob.reads(room.room_id(), &event_id).await, "hello");
    let mut listener = Listener::of(&bob);

    // A server that makes up more messages than wait for anybody.
    let event = crate::support::on_server(&alice, room.room_id(), &event_id).await;
    let room_id = room.room_id().to_string();
    liar.lie(move |it: &mut Exchange| {
        if it.is("GET", "/sync") && it.path.contains("since") {
            let joined = it.response.pointer_mut(&format!("/rooms/join/{room_id}/timeline/events"));
            if let Some(events) = joined.and_then(Value::as_array_mut) {
                events.extend((0..TOO_MANY).map(|number| {
                    let mut event = event.clone();
                    event["event_id"] = json!(format!("$made-up-{number}"));
                    event["content"]["ciphertext"] = json!("AAAA");
                    event
                }));
            }
        }
    });
    let last = say(&room, "still there?").await;
    bob.sync_once().await;
    assert_eq!(bob.reads(room.room_id(), &last).await, "still there?");
    // Nothing is lost without being counted.
    let mut missed = 0;
    until("all of them, told or missed", async || {
        let told = listener.count(|event| matches!(event, MlsEvent::Undecryptable { .. }));
        let counts = listener.heard().iter().map(|event| match event {
            MlsEvent::Missed(count) => usize::try_from(*count).unwrap(),
            _ => 0,
        });
        missed = counts.sum();
        told + missed >= TOO_MANY
    })
    .await;
    assert!(missed > 0);
}
