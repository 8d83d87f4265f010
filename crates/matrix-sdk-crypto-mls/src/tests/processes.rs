//! Two machines of one device, each with a store object of its own on the same data, as an
//! application and its notification extension have them.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{events::AnyMessageLikeEventContent, serde::Raw};

use super::{assert_one_epoch, settle};
use crate::{
    DecryptionError, MlsError, MlsMachine, RawEncryptionResult, Readiness,
    store::{MemoryStore, MlsStore as _},
    testing::{FaultyStore, SimDevice, SimServer},
};

struct Story {
    server: SimServer,
    /// With the application's machine.
    alice: SimDevice,
    extension: MlsMachine,
    bob: SimDevice,
}

async fn begin() -> Story {
    let memory = MemoryStore::new();
    let other = Arc::new(FaultyStore::around(Arc::new(memory.shared())));
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").store(FaultyStore::around(Arc::new(memory)));
    let alice = alice.logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let extension = MlsMachine::builder(alice.olm().clone()).store(other);
    let extension = extension.clock(server.clock().clone()).build().await.unwrap();
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    alice.says("hello").await;
    settle(&[&alice, &bob]).await;
    Story { server, alice, extension, bob }
}

async fn encrypts(mls: &MlsMachine, alice: &SimDevice) -> Result<RawEncryptionResult, MlsError> {
    let content: Raw<AnyMessageLikeEventContent> =
        Raw::from_json(serde_json::value::RawValue::from_string("{}".to_owned()).unwrap());
    mls.encrypt_room_event_raw(alice.room(), "m.room.message", &content).await
}

#[tokio::test]
async fn what_one_has_seen_the_other_knows() {
    let Story { alice, extension, bob, .. } = begin().await;
    assert!(matches!(extension.prepare_room(alice.room()).await.unwrap(), Readiness::Ready { .. }));
    bob.updates_keys().await;
    let event = bob.says("for both").await;
    alice.syncs().await;
    let json = alice.server().event(alice.room(), &event).to_json();
    let read = extension.decrypt_room_event(&json, alice.room()).await.unwrap();
    assert!(read.event.json().get().contains("for both"));
    assert_eq!(encrypts(&extension, &alice).await.unwrap().node, bob.node().await.unwrap());

    // Somebody is thrown out, and only the application has heard of it.
    encrypts(&extension, &alice).await.unwrap();
    alice.kicks(&bob);
    alice.syncs().await;
    let refused = encrypts(&extension, &alice).await;
    assert!(matches!(refused, Err(MlsError::NotReady(Readiness::NeedsRequests))), "{refused:?}");
}

#[tokio::test]
async fn both_send_at_once() {
    let Story { alice, extension, .. } = begin().await;
    let application = alice.mls();
    let mut used = BTreeSet::new();
    for _ in 0..100 {
        let (one, two) = tokio::join!(encrypts(&application, &alice), encrypts(&extension, &alice));
        for sent in [one.unwrap(), two.unwrap()] {
            assert!(used.insert((sent.node, sent.generation)), "used twice: {sent:?}");
        }
    }
}

#[tokio::test]
async fn both_read_one_message_at_once() {
    let Story { alice, extension, bob, .. } = begin().await;
    let event = bob.says("for both").await;
    let json = alice.server().event(alice.room(), &event).to_json();
    let application = alice.mls();
    let (one, two) = tokio::join!(
        application.decrypt_room_event(&json, alice.room()),
        extension.decrypt_room_event(&json, alice.room())
    );
    assert!(!one.unwrap().encryption_info.generation_reused);
    assert!(!two.unwrap().encryption_info.generation_reused);
    // The same message under another name is a replay, whoever has read it before.
    let mut copy: serde_json::Value = json.deserialize_as_unchecked().unwrap();
    copy["event_id"] = "$copy".into();
    let copy = Raw::from_json(serde_json::value::to_raw_value(&copy).unwrap());
    let read = extension.decrypt_room_event(&copy, alice.room()).await;
    assert!(matches!(read, Err(DecryptionError::Replay { .. })), "{read:?}");
}

#[tokio::test]
async fn both_commit_at_once_and_there_is_one_commit() {
    let Story { server, alice, extension, bob } = begin().await;
    let application = alice.mls();
    let room = alice.room();
    let (one, two) = tokio::join!(application.update_keys(room), extension.update_keys(room));
    assert_eq!([one.unwrap(), two.unwrap()], [Readiness::NeedsRequests, Readiness::NeedsRequests]);
    assert_eq!(alice.store_outbox().await.len(), 1);
    let before = server.count(room, "io.github.matrix-mls.dmls.v1.commit");
    let requests = extension.outgoing_requests().await.unwrap();
    assert_eq!(requests.len(), 1, "either can send it");
    alice.pumps().await;
    assert_eq!(server.count(room, "io.github.matrix-mls.dmls.v1.commit"), before + 1);
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
    let status = extension.group_status(room).await.unwrap().unwrap();
    assert_eq!(Some(status.node), bob.node().await);
}

#[tokio::test]
async fn one_uploads_key_packages_and_the_other_knows() {
    let Story { alice, extension, .. } = begin().await;
    let before = alice.store().key_package_refs().await.unwrap().len();
    // Both know that the server has had them.
    assert!(extension.outgoing_requests().await.unwrap().is_empty());
    assert_eq!(alice.store().key_package_refs().await.unwrap().len(), before);
    assert!(alice.store().load_account().await.unwrap().unwrap().published);
}

#[test]
fn futures_can_be_sent_to_other_threads() {
    fn check<T: Send>(_: impl FnOnce(&'static MlsMachine) -> T) {}
    let room = ruma::room_id!("!room:example.org");
    check(|mls| mls.prepare_room(room));
    check(|mls| mls.update_keys(room));
    check(|mls| mls.outgoing_requests());
    check(|mls| mls.receive_room_events(room, &[], &[]));
    check(|mls| mls.set_room_members(room, []));
    check(|mls| mls.encrypt_room_event(room, message()));
    check(|mls| {
        let event = Raw::from_json(serde_json::value::RawValue::NULL.to_owned());
        async move { mls.decrypt_room_event(&event, room).await.is_ok() }
    });
    check(|mls| async move {
        let (counts, lists) = (Default::default(), Default::default());
        let changes = crate::EncryptionSyncChanges {
            to_device_events: &[],
            changed_devices: &lists,
            one_time_keys_counts: &counts,
            unused_fallback_keys: None,
        };
        mls.receive_sync_changes(changes).await.is_ok()
    });
    check(|mls| async move {
        let failure = crate::RequestFailure::Refused;
        mls.mark_request_as_failed("id".into(), failure).await.is_ok()
    });
}

fn message() -> ruma::events::room::message::RoomMessageEventContent {
    ruma::events::room::message::RoomMessageEventContent::text_plain("hello")
}
