//! Values to be stored.

use std::{collections::BTreeMap, sync::Arc};

use matrix_dmls::{
    ExternalJoins, Group, GroupExtension, HistoryPolicy, InstanceId, KeyPackageRef, LocalMember,
    NodeId, TrustRequirement, new_key_package,
};
use matrix_sdk_crypto::OlmMachine;
use ruma::{
    OwnedEventId, OwnedTransactionId, RoomId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
    room_id, user_id,
};

use crate::{
    MlsMachine,
    room::{MlsSince, RoomView},
    store::{
        BoundMessage, Changes, HeldWelcome, LedgerEntry, MemoryStore, MessageKey, MlsStore as _,
        OutboxRequest, OutboxRequestKind, QueuedEvent, StoredAccount, StoredCommit,
        StoredKeyPackage, WelcomeRecipient,
    },
    types::events::{CommitEventContent, GroupEventContent, ToDeviceWelcomeEventContent},
};

pub(super) fn room() -> &'static RoomId {
    room_id!("!room:example.org")
}

pub(super) fn event_id(id: &str) -> OwnedEventId {
    OwnedEventId::try_from(id).unwrap()
}

pub(super) const fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

/// An account as a machine makes it.
pub(super) async fn account() -> StoredAccount {
    let store = Arc::new(MemoryStore::new());
    let olm = OlmMachine::new(user_id!("@alice:example.org"), "PHONE".into()).await;
    MlsMachine::with_store(olm, Arc::clone(&store)).await.unwrap();
    store.load_account().await.unwrap().unwrap()
}

pub(super) async fn local() -> LocalMember {
    let account = account().await;
    LocalMember::new(account.identity, &account.seed).unwrap()
}

pub(super) fn extension() -> GroupExtension {
    GroupExtension {
        instance: InstanceId::from_bytes([7; 32]),
        trust: TrustRequirement::All,
        external: ExternalJoins::Allowed,
        history: HistoryPolicy::Keep,
    }
}

pub(super) fn view() -> RoomView {
    let alice = user_id!("@alice:example.org").to_owned();
    RoomView {
        mls_since: Some(MlsSince {
            algorithm: matrix_dmls::ALGORITHM.to_owned(),
            sender: alice.clone(),
        }),
        members: BTreeMap::from([
            (alice.clone(), MembershipState::Join),
            (user_id!("@bob:example.org").to_owned(), MembershipState::Invite),
        ]),
        members_complete: true,
        history_visibility: Some(HistoryVisibility::Joined),
        rotation_period_msgs: Some(100),
        group: Some((alice, GroupEventContent::new(node(1), InstanceId::from_bytes([2; 32])))),
        updated_at: 1_600_000_000_000,
        failed_claims: BTreeMap::from([("@bob:example.org OLD".to_owned(), 5)]),
        entrance: Some(node(1)),
        ..RoomView::default()
    }
}

pub(super) fn commit_content(byte: u8, size: usize) -> CommitEventContent {
    let mut content = CommitEventContent::new(vec![byte; size], Some(node(byte)), vec![byte; 99]);
    content.parent_event = Some(event_id("$parent"));
    content.group_info = Some(vec![byte; 10].into());
    content.tree = Some(vec![].into());
    content
}

pub(super) fn stored_commit(byte: u8) -> StoredCommit {
    StoredCommit {
        event_id: event_id(&format!("$commit{byte}")),
        sender: user_id!("@alice:example.org").to_owned(),
        content: commit_content(byte, 300),
        received_at: 1_600_000_000_000 + u64::from(byte),
    }
}

pub(super) fn welcome(byte: u8) -> HeldWelcome {
    let content = ToDeviceWelcomeEventContent::new(
        room().to_owned(),
        node(byte),
        event_id(&format!("$commit{byte}")),
        vec![byte; 400],
    );
    HeldWelcome {
        sender: user_id!("@alice:example.org").to_owned(),
        content,
        received_at: 1000 - u64::from(byte),
    }
}

pub(super) fn queued(id: &str, byte: u8, received_at: u64) -> QueuedEvent {
    let json = format!(r#"{{"type":"m.room.encrypted","event_id":"{id}","x":"ä\n\u0000"}}"#);
    QueuedEvent { event_id: event_id(id), node: node(byte), json, received_at }
}

pub(super) fn ledger_entry(id: &str) -> LedgerEntry {
    let mut entry = LedgerEntry::default();
    let (event_id, ciphertext_hash) = (event_id(id), [9; 32]);
    entry.messages.push(BoundMessage { event_id, ciphertext_hash });
    entry
}

/// One request of every kind, not in order of their IDs.
pub(super) fn requests() -> Vec<OutboxRequest> {
    let recipient = WelcomeRecipient {
        user_id: user_id!("@bob:example.org").to_owned(),
        device_id: "LAPTOP".into(),
        key_package: KeyPackageRef::from_bytes([3; 32]),
    };
    let kinds = [
        OutboxRequestKind::Commit {
            node: node(1),
            content: Box::new(commit_content(1, 300)),
            recipients: vec![recipient],
        },
        OutboxRequestKind::Welcome {
            messages: vec![(
                user_id!("@bob:example.org").to_owned(),
                "LAPTOP".into(),
                welcome(1).content,
            )],
        },
        OutboxRequestKind::Group {
            content: GroupEventContent::new(node(1), InstanceId::from_bytes([2; 32])),
        },
        OutboxRequestKind::Relay { node: node(2), content: Box::new(commit_content(2, 300)) },
        OutboxRequestKind::ToDevice {
            event_type: "io.github.matrix-mls.dmls.v1.graph".to_owned(),
            messages: vec![(
                user_id!("@bob:example.org").to_owned(),
                "LAPTOP".into(),
                r#"{"request_id":"ä"}"#.to_owned(),
            )],
        },
    ];
    let ids = ["zzz", "mmm", "aaa", "yyy", "bbb"];
    let with_ids = kinds.into_iter().zip(ids).enumerate();
    with_ids
        .map(|(place, (kind, id))| OutboxRequest {
            id: OwnedTransactionId::from(id),
            room_id: room().to_owned(),
            order: 1_600_000_000_000 + u64::try_from(place).unwrap(),
            kind,
        })
        .collect()
}

/// Everything that there is, in one batch.
pub(super) async fn one_of_everything() -> (Changes, Group) {
    let account = account().await;
    let local = LocalMember::new(account.identity.clone(), &account.seed).unwrap();
    let package = new_key_package(&local, false).unwrap();
    let mut group = Group::new(room().as_str());
    let (founding, made) = group.found(&local, &extension(), Vec::new()).unwrap();
    group.apply(made.clone());
    let accepted = group.accept(founding).unwrap();
    group.apply(accepted.clone());
    let (_, pending) = group.commit(founding, &local, Default::default()).unwrap();
    group.apply(pending.clone());

    let mut changes = Changes { account: Some(account), ..Changes::default() };
    let package = StoredKeyPackage { package, published: true, replaced_at: None };
    changes.key_packages.insert(package.package.reference, Some(package));
    for request in requests() {
        changes.outbox.insert(request.id.clone(), Some(request));
    }
    let room = changes.room(room());
    room.view = Some(view());
    room.group = made;
    room.group.extend(accepted);
    room.group.extend(pending);
    room.generations.insert(founding, 3);
    room.commits.insert(founding, Some(stored_commit(1)));
    room.queued.insert(event_id("$a"), Some(queued("$a", 1, 1)));
    room.welcomes.insert(node(1), Some(welcome(1)));
    let key = MessageKey { node: founding, leaf: 0, generation: 2 };
    room.ledger.insert(key, ledger_entry("$read"));
    (changes, group)
}
