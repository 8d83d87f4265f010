//! Where the history policy is `none`, a message is read once (protocol §7).

use std::{future::Future, pin::pin, sync::Arc, task::Poll};

use matrix_dmls::HistoryPolicy;
use ruma::{OwnedEventId, events::AnySyncTimelineEvent, serde::Raw};

use super::{
    forward_secrecy::{Thief, room, texts},
    settle,
};
use crate::{
    DecryptedRoomEvent, DecryptionError, MlsMachine, RoomSettings,
    dmls::{MAX_SKIPPED_KEYS, SecretTree, TrustRequirement},
    store::{MemoryStore, MlsStore as _},
    testing::{FaultyStore, SimDevice, SimServer},
};

fn raw(device: &SimDevice, event: &OwnedEventId) -> Raw<AnySyncTimelineEvent> {
    device.server().event(device.room(), event).to_json()
}

async fn reads(
    device: &SimDevice,
    event: &OwnedEventId,
) -> Result<DecryptedRoomEvent, DecryptionError> {
    device.mls().decrypt_room_event(&raw(device, event), device.room()).await
}

fn copy(device: &SimDevice, event: &OwnedEventId) -> Raw<AnySyncTimelineEvent> {
    let mut copy: serde_json::Value = raw(device, event).deserialize_as_unchecked().unwrap();
    copy["event_id"] = "$copy".into();
    Raw::from_json(serde_json::value::to_raw_value(&copy).unwrap())
}

#[tokio::test]
async fn each_message_can_be_read_once() {
    let (_, alice, bob) = room(HistoryPolicy::None).await;
    let event = alice.says("once").await;
    let by_bob = bob.says("mine").await;
    settle(&[&alice, &bob]).await;
    for device in [&alice, &bob] {
        for restarted in [false, true] {
            // One's own messages too: their echo has come.
            for event in [&event, &by_bob] {
                let again = reads(device, event).await;
                assert!(matches!(again, Err(DecryptionError::AlreadyRead)), "{again:?}");
                let copy = copy(device, event);
                let copied = device.mls().decrypt_room_event(&copy, device.room()).await;
                let Err(DecryptionError::Replay { first }) = copied else { panic!("{copied:?}") };
                assert_eq!(first, *event);
            }
            if !restarted {
                device.restarts().await;
            }
        }
        device.has_read(&event, "once");
        device.has_read(&by_bob, "mine");
    }
    // It goes on as ever.
    let more = bob.says("more").await;
    settle(&[&alice, &bob]).await;
    alice.has_read(&more, "more");
}

/// History read backward, page by page, the oldest messages last.
#[tokio::test]
async fn late_messages_are_read_in_any_order() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let mut events = Vec::new();
    for number in 0..40 {
        events.push(alice.says(&format!("number {number}")).await);
    }
    server.drops_timeline_of(bob.name());
    for (number, event) in events.iter().enumerate().rev() {
        let read = reads(&bob, event).await.unwrap();
        assert!(read.event.json().get().contains(&format!("number {number}")));
        assert!(!read.encryption_info.generation_reused);
    }
    assert_eq!(Thief::robs(&server, &bob).await.reads_with_the_keys(), texts(&[]));
    let stored = bob.store().load_room(bob.room()).await.unwrap().unwrap();
    for key in stored.group.epoch_keys.values().flatten() {
        if let SecretTree::Punctured(tree) = key.tree() {
            assert!(tree.skipped() < 40 && tree.skipped() < MAX_SKIPPED_KEYS);
        }
    }
}

/// Who takes the store after a message was read, and has all events, does not read it; the same
/// means read it before.
#[tokio::test]
async fn a_thief_reads_nothing_that_was_read() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let joined = bob.store().writes();
    let (mut events, mut said) = (Vec::new(), Vec::new());
    for number in 0..4 {
        said.push(format!("secret {number}"));
        events.push(alice.says(&said[number]).await);
    }
    let all: Vec<_> = said.iter().map(String::as_str).collect();
    let early = Thief::robs_as_after(&server, &bob, joined).await;
    assert_eq!(early.reads_with_the_keys(), texts(&all));
    // Alice has what she said until she sees that it has come.
    assert_eq!(Thief::robs(&server, &alice).await.reads_with_the_keys(), texts(&all));
    alice.syncs().await;
    assert_eq!(Thief::robs(&server, &alice).await.reads_with_the_keys(), texts(&[]));

    server.drops_timeline_of(bob.name());
    let mut left = all.clone();
    for number in [2, 0, 3, 1] {
        reads(&bob, &events[number]).await.unwrap();
        left.retain(|text| *text != all[number]);
        let thief = Thief::robs(&server, &bob).await;
        assert_eq!(thief.reads_with_the_keys(), texts(&left));
        assert_eq!(thief.reads_what_it_derives(), texts(&[]));
    }
}

/// Where history is kept, reading is as it was, and writes no epoch key.
#[tokio::test]
async fn other_policies_do_not_touch_their_keys() {
    let (server, alice, bob) = room(HistoryPolicy::Keep).await;
    let event = alice.says("kept").await;
    settle(&[&alice, &bob]).await;
    assert!(reads(&bob, &event).await.is_ok());
    assert!(Thief::robs(&server, &bob).await.reads_with_the_keys().contains("kept"));
    let stored = bob.store().load_room(bob.room()).await.unwrap().unwrap();
    let mut keys = stored.group.epoch_keys.values().flatten();
    assert!(keys.all(|key| matches!(key.tree(), SecretTree::Whole(_))));
}

/// What cannot be delivered uses nothing up: not in the name of somebody else, not in another room.
#[tokio::test]
async fn what_is_refused_can_still_be_read() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let event = alice.says("whose?").await;
    server.drops_timeline_of(bob.name());
    let mut stolen: serde_json::Value = raw(&bob, &event).deserialize_as_unchecked().unwrap();
    stolen["sender"] = "@bob:example.org".into();
    stolen["event_id"] = "$stolen".into();
    let stolen = Raw::from_json(serde_json::value::to_raw_value(&stolen).unwrap());
    let refused = bob.mls().decrypt_room_event(&stolen, bob.room()).await;
    assert!(matches!(refused, Err(DecryptionError::InvalidSender { .. })), "{refused:?}");
    assert!(reads(&bob, &event).await.is_ok());
}

/// A write that fails, one whose answer is lost, and a call that is given up: the message is there.
#[tokio::test]
async fn no_message_is_lost_by_a_write() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    for fault in ["fails", "is not answered", "is given up"] {
        let event = alice.says(fault).await;
        server.drops_timeline_of(bob.name());
        let open = Thief::robs(&server, &bob).await.reads_with_the_keys();
        assert_eq!(open, texts(&[fault]));
        match fault {
            "fails" => bob.store().fail_at(0),
            "is not answered" => bob.store().lose_answer_at(0),
            _ => {}
        }
        let writes = bob.store().writes();
        if fault == "is given up" {
            let (mls, json) = (bob.mls(), raw(&bob, &event));
            let mut reading = pin!(mls.decrypt_room_event(&json, bob.room()));
            // The store yields before it writes.
            std::future::poll_fn(|context| {
                assert!(reading.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        } else {
            let failed = reads(&bob, &event).await;
            assert!(matches!(failed, Err(DecryptionError::Machine(_))), "{failed:?}");
        }
        // What was written is gone from the store, and the message is there nevertheless.
        let is_erased = bob.store().writes() > writes;
        assert_eq!(is_erased, fault == "is not answered");
        let open = Thief::robs(&server, &bob).await.reads_with_the_keys();
        assert_eq!(open.is_empty(), is_erased);
        let read = reads(&bob, &event).await.unwrap();
        assert!(read.event.json().get().contains(fault));
        let again = reads(&bob, &event).await;
        assert!(matches!(again, Err(DecryptionError::AlreadyRead)), "{again:?}");
        assert_eq!(Thief::robs(&server, &bob).await.reads_with_the_keys(), texts(&[]));
    }
}

/// Two machines of one device on one store.
struct Two {
    server: SimServer,
    bob: SimDevice,
    extension: MlsMachine,
    alice: SimDevice,
}

async fn two() -> Two {
    let memory = MemoryStore::new();
    let other = Arc::new(FaultyStore::around(Arc::new(memory.shared())));
    let server = SimServer::new(1);
    let settings = RoomSettings {
        trust: TrustRequirement::All,
        history: HistoryPolicy::None,
        ..RoomSettings::default()
    };
    let alice = server.device("alice", "PHONE").room_settings(settings).logs_in().await;
    let bob = server.device("bob", "LAPTOP").store(FaultyStore::around(Arc::new(memory)));
    let bob = bob.logs_in().await;
    let extension = MlsMachine::builder(bob.olm().clone()).store(other);
    let extension = extension.clock(server.clock().clone()).build().await.unwrap();
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    alice.says("hello").await;
    settle(&[&alice, &bob]).await;
    Two { server, bob, extension, alice }
}

/// What both have in memory is out of date by turns: no key comes back by the other's write.
#[tokio::test]
async fn two_processes_bring_no_key_back() {
    let Two { server, bob, extension, alice } = two().await;
    server.holds_back_timeline_of(bob.name(), true);
    let mut events = Vec::new();
    for number in 0..12 {
        events.push(alice.says(&format!("number {number}")).await);
    }
    for (number, event) in events.iter().enumerate() {
        let json = raw(&bob, event);
        let application = bob.mls();
        let (first, second) =
            if number % 2 == 0 { (&application, &extension) } else { (&extension, &application) };
        assert!(first.decrypt_room_event(&json, bob.room()).await.is_ok());
        for earlier in &events[..=number] {
            let json = raw(&bob, earlier);
            for machine in [second, first] {
                let again = machine.decrypt_room_event(&json, bob.room()).await;
                assert!(matches!(again, Err(DecryptionError::AlreadyRead)), "{again:?}");
            }
        }
    }
    // As a third one would load it.
    let mut group = matrix_dmls::Group::new(bob.room().as_str());
    group.apply(bob.store().load_room(bob.room()).await.unwrap().unwrap().group);
    for event in &events {
        let content: crate::types::events::MlsEncryptedEventContent =
            serde_json::from_value(server.event(bob.room(), event).content).unwrap();
        assert!(group.decrypt(&content.ciphertext.0).is_err());
    }
}

#[tokio::test]
async fn two_processes_read_one_message_at_once() {
    let Two { bob, extension, alice, server } = two().await;
    server.holds_back_timeline_of(bob.name(), true);
    for number in 0..10 {
        let event = alice.says(&format!("number {number}")).await;
        let json = raw(&bob, &event);
        let application = bob.mls();
        let (one, two) = tokio::join!(
            application.decrypt_room_event(&json, bob.room()),
            extension.decrypt_room_event(&json, bob.room())
        );
        // Both have had it in hand before either erased the key.
        assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
        for result in [one, two] {
            if let Err(error) = result {
                assert!(matches!(error, DecryptionError::AlreadyRead), "{error:?}");
            }
        }
    }
}

/// A device whose store was put back to an older copy sends on, with keys that it has not seen used.
#[tokio::test]
async fn sending_goes_on_after_the_store_was_put_back() {
    let (server, alice, bob) = room(HistoryPolicy::None).await;
    let writes = alice.store().writes();
    let mut events = Vec::new();
    for number in 0..20 {
        events.push(alice.says(&format!("number {number}")).await);
    }
    settle(&[&alice, &bob]).await;
    let old = alice.store().as_after(writes).await;
    alice.restarts_from(Arc::new(FaultyStore::around(Arc::new(old)))).await;
    for event in &events {
        assert!(reads(&alice, event).await.is_ok());
    }
    let event = alice.says("and on").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "and on");
    let used: std::collections::BTreeSet<_> = server
        .sent_messages()
        .into_iter()
        .map(|sent| (sent.node, sent.sender, sent.generation))
        .collect();
    assert_eq!(used.len(), server.sent_messages().len());
}
