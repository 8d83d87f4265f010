//! What every store has to do, as tests.
//!
//! An implementation provides `async fn get_store(name: &str) -> impl MlsStore` and calls
//! [`crate::mlsstore_integration_tests`] beside it.

// For tests only, and there a panic is the report.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::unwrap_used
)]

mod fixtures;
mod forgetting;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use matrix_dmls::{Group, GroupChanges, KeyPackageRef, Secret, new_key_package};
use matrix_sdk_crypto::OlmMachine;
use ruma::{RoomId, events::room::member::MembershipState, room_id, serde::Raw, user_id};

use self::fixtures::{
    account, commit_content, event_id, extension, ledger_entry, local, node, one_of_everything,
    queued, requests, room, stored_commit, view, welcome,
};
pub use self::forgetting::{an_epoch_key_is_punctured, records_are_forgotten};
use super::{
    Changes, HeldWelcome, MessageKey, MlsStore, QueuedEvent, StoreError, StoredCommit,
    StoredKeyPackage, StoredRoom,
};
use crate::{MlsMachine, Verdict, room::RoomView};

/// Runs the tests that every [`crate::store::MlsStore`] has to pass.
///
/// Needs `async fn get_store(name: &str) -> impl MlsStore` where it is called, which opens a store
/// of that name: an empty one when a name is used for the first time. With `persistent` a store is
/// opened again by the same name after it was dropped, and has to have what it had before; it is also
/// opened twice at the same time, as by two processes. Needs tokio with its macros.
///
/// ```
/// # use matrix_sdk_crypto_mls::store::{MemoryStore, MlsStore};
/// #[cfg(test)]
/// mod tests {
///     use super::MemoryStore;
///
///     async fn get_store(_name: &str) -> MemoryStore {
///         MemoryStore::new()
///     }
///
///     matrix_sdk_crypto_mls::mlsstore_integration_tests!();
/// }
/// ```
#[macro_export]
macro_rules! mlsstore_integration_tests {
    () => {
        $crate::mlsstore_integration_tests! {
            @each a_new_store_is_empty, the_account, key_packages, the_outbox_keeps_its_order,
            a_room, a_group_goes_through, a_group_changes_piece_by_piece,
            an_epoch_key_is_punctured, records_are_forgotten, queued_events,
            held_welcomes, commits, the_ledger, rooms_are_kept_apart, a_batch_is_one_whole,
            a_later_batch_overwrites, large_values, many_tasks_at_once
        }
    };
    (persistent) => {
        $crate::mlsstore_integration_tests!();

        #[tokio::test]
        async fn everything_is_there_after_reopening() {
            $crate::store::integration_tests::everything_is_there_after_reopening(|| {
                get_store("everything_is_there_after_reopening")
            })
            .await;
        }

        #[tokio::test]
        async fn others_writes_are_noticed() {
            $crate::store::integration_tests::others_writes_are_noticed(|| {
                get_store("others_writes_are_noticed")
            })
            .await;
        }

        #[tokio::test]
        async fn two_machines_share_a_store() {
            $crate::store::integration_tests::two_machines_share_a_store(|| {
                get_store("two_machines_share_a_store")
            })
            .await;
        }

        #[tokio::test]
        async fn a_machine_goes_on_after_reopening() {
            $crate::store::integration_tests::a_machine_goes_on_after_reopening(|| {
                get_store("a_machine_goes_on_after_reopening")
            })
            .await;
        }
    };
    (@each $($test:ident),*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let store = get_store(stringify!($test)).await;
                $crate::store::integration_tests::$test(store).await;
            }
        )*
    };
}

async fn save(store: &impl MlsStore, changes: Changes) {
    store.save_changes(changes).await.expect("changes are stored");
}

async fn save_group(store: &impl MlsStore, group: GroupChanges) {
    let mut changes = Changes::default();
    changes.room(room()).group = group;
    save(store, changes).await;
}

async fn load_room(store: &(impl MlsStore + ?Sized)) -> StoredRoom {
    store.load_room(room()).await.unwrap().expect("there is something of the room")
}

/// A group as it is made of what is stored.
async fn load_group(store: &impl MlsStore) -> Group {
    let mut group = Group::new(room().as_str());
    group.apply(load_room(store).await.group);
    group
}

/// Asserts that a stored group is the one in memory.
async fn assert_same_group(store: &impl MlsStore, group: &Group) {
    let loaded = load_room(store).await.group;
    let nodes: Vec<_> = group.graph().roots().collect();
    let all = nodes.iter().flat_map(|n| std::iter::once(*n).chain(group.graph().descendants(n)));
    let all: Vec<_> = all.collect();
    assert_eq!(loaded.records.len(), all.len());
    for id in all {
        let entry = loaded.records.get(&id).expect("the record is stored");
        assert_eq!(Some(&entry.record), group.graph().get(&id));
        assert_eq!(Some(entry.status), group.graph().status(&id));
        assert_eq!(loaded.states.get(&id).cloned().flatten().as_ref(), group.state(&id));
        assert_eq!(loaded.vaults.get(&id).cloned().flatten().as_ref(), group.vault(&id));
        let stored = loaded.epoch_keys.get(&id).cloned().flatten().map(|key| key.to_parts());
        assert!(stored == group.epoch_key(&id).map(|key| key.to_parts()));
    }
    // Deletions leave nothing behind.
    assert!(loaded.states.values().all(Option::is_some));
    assert!(loaded.vaults.values().all(Option::is_some));
    assert!(loaded.epoch_keys.values().all(Option::is_some));
    let pending: Vec<_> = group.pending().map(|pending| pending.node.record.node).collect();
    assert_eq!(loaded.pending.keys().copied().collect::<Vec<_>>(), pending);
    for pending in group.pending() {
        let stored = loaded.pending[&pending.node.record.node].as_ref().unwrap();
        assert_eq!(stored.commit, pending.commit);
        assert_eq!(stored.parent_context, pending.parent_context);
        assert_eq!(stored.welcome, pending.welcome);
        assert_eq!(stored.group_info, pending.group_info);
        assert_eq!(stored.tree, pending.tree);
        assert_eq!(stored.node.record, pending.node.record);
        assert_eq!(stored.node.state, pending.node.state);
        assert_eq!(stored.node.vault, pending.node.vault);
        assert!(stored.node.epoch_key.to_parts() == pending.node.epoch_key.to_parts());
        assert_eq!(stored.node.roster, pending.node.roster);
    }
}

#[allow(missing_docs)]
pub async fn a_new_store_is_empty(store: impl MlsStore) {
    assert_eq!(store.load_account().await.unwrap(), None);
    assert!(store.room_ids().await.unwrap().is_empty());
    assert!(store.load_room(room()).await.unwrap().is_none());
    assert_eq!(store.key_package(&KeyPackageRef::from_bytes([1; 32])).await.unwrap(), None);
    assert!(store.key_package_refs().await.unwrap().is_empty());
    assert!(store.outbox().await.unwrap().is_empty());
    assert!(store.queued_events(room(), &node(1)).await.unwrap().is_empty());
    assert_eq!(store.queued_event_count(room()).await.unwrap(), 0);
    assert!(store.held_welcomes(room()).await.unwrap().is_empty());
    assert_eq!(store.commit(room(), &node(1)).await.unwrap(), None);
    let key = MessageKey { node: node(1), leaf: 0, generation: 0 };
    assert_eq!(store.ledger_entry(room(), &key).await.unwrap(), None);
    // Nor does nothing make it otherwise.
    save(&store, Changes::default()).await;
    assert_eq!(store.load_account().await.unwrap(), None);
}

#[allow(missing_docs)]
pub async fn the_account(store: impl MlsStore) {
    let mut account = account().await;
    save(&store, Changes { account: Some(account.clone()), ..Changes::default() }).await;
    assert_eq!(store.load_account().await.unwrap().as_ref(), Some(&account));
    account.published = true;
    account.last_resort = Some(KeyPackageRef::from_bytes([1; 32]));
    account.last_resort_since = u64::from(u32::MAX) * 1000;
    account.seed = Secret::from_bytes([8; 32]);
    save(&store, Changes { account: Some(account.clone()), ..Changes::default() }).await;
    assert_eq!(store.load_account().await.unwrap().as_ref(), Some(&account));
    // A batch without it leaves it.
    save(&store, Changes::default()).await;
    assert_eq!(store.load_account().await.unwrap(), Some(account));
}

#[allow(missing_docs)]
pub async fn key_packages(store: impl MlsStore) {
    let local = local().await;
    let mut packages = Vec::new();
    for last_resort in [false, true, false] {
        let package = new_key_package(&local, last_resort).unwrap();
        packages.push(StoredKeyPackage { package, published: false, replaced_at: None });
    }
    let mut changes = Changes::default();
    for package in &packages {
        changes.key_packages.insert(package.package.reference, Some(package.clone()));
    }
    save(&store, changes).await;
    for package in &packages {
        let stored = store.key_package(&package.package.reference).await.unwrap();
        assert_eq!(stored.as_ref(), Some(package));
    }
    let mut references: Vec<_> = packages.iter().map(|p| p.package.reference).collect();
    references.sort_unstable();
    let mut stored = store.key_package_refs().await.unwrap();
    stored.sort_unstable();
    assert_eq!(stored, references);

    packages[1].published = true;
    packages[1].replaced_at = Some(1_600_000_000_000);
    let mut changes = Changes::default();
    changes.key_packages.insert(packages[0].package.reference, None);
    changes.key_packages.insert(packages[1].package.reference, Some(packages[1].clone()));
    // To delete what is not there is no error.
    changes.key_packages.insert(KeyPackageRef::from_bytes([1; 32]), None);
    save(&store, changes).await;
    assert_eq!(store.key_package(&packages[0].package.reference).await.unwrap(), None);
    for package in &packages[1..] {
        let stored = store.key_package(&package.package.reference).await.unwrap();
        assert_eq!(stored.as_ref(), Some(package));
    }
    assert_eq!(store.key_package_refs().await.unwrap().len(), 2);
}

#[allow(missing_docs)]
pub async fn the_outbox_keeps_its_order(store: impl MlsStore) {
    let requests = requests();
    // Not stored in their order, nor in one batch.
    for place in [2, 0, 4, 1, 3] {
        let mut changes = Changes::default();
        changes.outbox.insert(requests[place].id.clone(), Some(requests[place].clone()));
        save(&store, changes).await;
    }
    assert_eq!(store.outbox().await.unwrap(), requests);
    let mut changes = Changes::default();
    changes.outbox.insert(requests[1].id.clone(), None);
    save(&store, changes).await;
    let rest = [0, 2, 3, 4].map(|place| requests[place].clone());
    assert_eq!(store.outbox().await.unwrap(), rest);
    // The same ID again is the same request.
    let mut first = requests[0].clone();
    first.order += 10;
    let mut changes = Changes::default();
    changes.outbox.insert(first.id.clone(), Some(first.clone()));
    save(&store, changes).await;
    let mut rest = rest[1..].to_vec();
    let place = rest.iter().filter(|request| request.order < first.order).count();
    rest.insert(place, first);
    assert_eq!(store.outbox().await.unwrap(), rest);
}

#[allow(missing_docs)]
pub async fn a_room(store: impl MlsStore) {
    let local = local().await;
    let mut first = view();
    first.verdicts.insert(local.device().clone(), Verdict::CrossSigned);
    let mut changes = Changes::default();
    changes.room(room()).view = Some(first.clone());
    changes.room(room()).generations = BTreeMap::from([(node(1), 7), (node(2), 16_383)]);
    save(&store, changes).await;
    let stored = load_room(&store).await;
    assert_eq!(stored.view, first);
    assert_eq!(stored.generations, BTreeMap::from([(node(1), 7), (node(2), 16_383)]));
    assert!(stored.group.is_empty());
    assert_eq!(store.room_ids().await.unwrap(), [room().to_owned()]);

    // Generations without the view, and the other way round.
    let mut changes = Changes::default();
    changes.room(room()).generations = BTreeMap::from([(node(2), 16_384), (node(3), 1)]);
    save(&store, changes).await;
    let stored = load_room(&store).await;
    assert_eq!(stored.view, first);
    let generations = BTreeMap::from([(node(1), 7), (node(2), 16_384), (node(3), 1)]);
    assert_eq!(stored.generations, generations);
    let second = RoomView { downgraded: true, ..first };
    let mut changes = Changes::default();
    changes.room(room()).view = Some(second.clone());
    save(&store, changes).await;
    let stored = load_room(&store).await;
    assert_eq!((stored.view, stored.generations), (second, generations));
}

#[allow(missing_docs)]
pub async fn a_group_goes_through(store: impl MlsStore) {
    let local = local().await;
    let mut group = Group::new(room().as_str());
    let (founding, changes) = group.found(&local, &extension(), Vec::new()).unwrap();
    save_group(&store, changes.clone()).await;
    group.apply(changes);
    assert_same_group(&store, &group).await;
    let changes = group.accept(founding).unwrap();
    save_group(&store, changes.clone()).await;
    group.apply(changes);
    assert_same_group(&store, &group).await;

    // What was stored can do what the one in memory can.
    let message = group.encrypt(founding, &local, 0, Vec::new(), b"a message").unwrap();
    let mut loaded = load_group(&store).await;
    assert_eq!(loaded.decrypt(&message).unwrap().plaintext, b"a message");
    let (second, changes) = loaded.commit(founding, &local, Default::default()).unwrap();
    save_group(&store, changes.clone()).await;
    loaded.apply(changes);
    assert_same_group(&store, &loaded).await;
    let mut loaded = load_group(&store).await;
    let changes = loaded.accept(second).unwrap();
    save_group(&store, changes.clone()).await;
    loaded.apply(changes);
    assert_same_group(&store, &loaded).await;
    let loaded = load_group(&store).await;
    assert_eq!(loaded.sending_tip(), Some(second));
    assert_eq!(loaded.graph().get(&second).unwrap().parent, Some(founding));
    assert_eq!(loaded.roster(&second).unwrap().len(), 1);
    assert_eq!(loaded.decrypt(&message).unwrap().plaintext, b"a message");
}

#[allow(missing_docs)]
pub async fn a_group_changes_piece_by_piece(store: impl MlsStore) {
    let local = local().await;
    let mut group = Group::new(room().as_str());
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let (node, made) = match nodes.last() {
            None => group.found(&local, &extension(), Vec::new()).unwrap(),
            Some(parent) => group.commit(*parent, &local, Default::default()).unwrap(),
        };
        group.apply(made.clone());
        let accepted = group.accept(node).unwrap();
        group.apply(accepted.clone());
        // Both in one batch, as a machine may do.
        let mut changes = made;
        changes.extend(accepted);
        save_group(&store, changes).await;
        nodes.push(node);
    }
    assert_same_group(&store, &group).await;
    // States go, records and epoch keys stay.
    for node in &nodes[..2] {
        let changes = group.erase_state(*node);
        save_group(&store, changes.clone()).await;
        group.apply(changes);
    }
    assert_same_group(&store, &group).await;
    assert!(load_group(&store).await.state(&nodes[0]).is_none());
    assert!(load_group(&store).await.epoch_key(&nodes[0]).is_some());
    // An epoch key goes.
    let mut changes = GroupChanges::default();
    changes.epoch_keys.insert(nodes[1], None);
    save_group(&store, changes.clone()).await;
    group.apply(changes);
    assert_same_group(&store, &group).await;
    // A commit is made and given up.
    let (node, changes) = group.commit(nodes[3], &local, Default::default()).unwrap();
    save_group(&store, changes.clone()).await;
    group.apply(changes);
    assert_same_group(&store, &group).await;
    let changes = group.discard(node);
    save_group(&store, changes.clone()).await;
    group.apply(changes);
    assert_same_group(&store, &group).await;
}

#[allow(missing_docs)]
pub async fn queued_events(store: impl MlsStore) {
    let events = [queued("$c", 1, 3), queued("$a", 1, 1), queued("$b", 1, 2), queued("$d", 2, 4)];
    let mut changes = Changes::default();
    for event in &events {
        let queued = &mut changes.room(room()).queued;
        queued.insert(event.event_id.clone(), Some(event.clone()));
    }
    save(&store, changes).await;
    let stored = store.queued_events(room(), &node(1)).await.unwrap();
    let ids: Vec<_> = stored.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids, ["$a", "$b", "$c"], "oldest first");
    assert_eq!(stored[2].json, events[0].json);
    assert_eq!(stored[2].received_at, 3);
    assert_eq!(store.queued_event_count(room()).await.unwrap(), 4);

    // One goes, one waits for another epoch now.
    let mut changes = Changes::default();
    let moved = queued("$b", 2, 9);
    changes.room(room()).queued.insert(event_id("$a"), None);
    changes.room(room()).queued.insert(event_id("$b"), Some(moved));
    changes.room(room()).queued.insert(event_id("$nowhere"), None);
    save(&store, changes).await;
    let ids = |events: Vec<QueuedEvent>| {
        events.into_iter().map(|event| event.event_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ids(store.queued_events(room(), &node(1)).await.unwrap()), ["$c"]);
    assert_eq!(ids(store.queued_events(room(), &node(2)).await.unwrap()), ["$d", "$b"]);
    assert_eq!(store.queued_event_count(room()).await.unwrap(), 3);
    let times = |events: Vec<QueuedEvent>| {
        events.into_iter().map(|event| event.received_at).collect::<Vec<_>>()
    };
    let all = times(store.queued_events_before(room(), u64::MAX).await.unwrap());
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted());
    let before = times(store.queued_events_before(room(), all[2]).await.unwrap());
    assert_eq!(before, all[..2]);
    assert!(store.queued_events_before(room(), all[0]).await.unwrap().is_empty());
}

#[allow(missing_docs)]
pub async fn held_welcomes(store: impl MlsStore) {
    let mut changes = Changes::default();
    for byte in [1, 2, 3] {
        changes.room(room()).welcomes.insert(node(byte), Some(welcome(byte)));
    }
    save(&store, changes).await;
    let stored = store.held_welcomes(room()).await.unwrap();
    assert_eq!(stored, [welcome(3), welcome(2), welcome(1)], "oldest first");
    let mut changes = Changes::default();
    let other = HeldWelcome { received_at: 0, ..welcome(2) };
    changes.room(room()).welcomes.insert(node(2), Some(other.clone()));
    changes.room(room()).welcomes.insert(node(3), None);
    changes.room(room()).welcomes.insert(node(9), None);
    save(&store, changes).await;
    assert_eq!(store.held_welcomes(room()).await.unwrap(), [other, welcome(1)]);
}

#[allow(missing_docs)]
pub async fn commits(store: impl MlsStore) {
    let mut changes = Changes::default();
    for byte in [1, 2] {
        changes.room(room()).commits.insert(node(byte), Some(stored_commit(byte)));
    }
    save(&store, changes).await;
    for byte in [1, 2] {
        let stored = store.commit(room(), &node(byte)).await.unwrap();
        assert_eq!(stored, Some(stored_commit(byte)));
    }
    let events = BTreeMap::from([(node(1), event_id("$commit1")), (node(2), event_id("$commit2"))]);
    assert_eq!(load_room(&store).await.commit_events, events);
    // Another copy of it takes its place.
    let mut changes = Changes::default();
    let copy = StoredCommit { event_id: event_id("$copy"), ..stored_commit(1) };
    changes.room(room()).commits.insert(node(1), Some(copy.clone()));
    save(&store, changes).await;
    assert_eq!(store.commit(room(), &node(1)).await.unwrap(), Some(copy));
    assert_eq!(load_room(&store).await.commit_events[&node(1)], event_id("$copy"));
    // What is erased is gone.
    let mut changes = Changes::default();
    changes.room(room()).commits.insert(node(1), None);
    changes.room(room()).commits.insert(node(7), None);
    save(&store, changes).await;
    assert_eq!(store.commit(room(), &node(1)).await.unwrap(), None);
    let stored = load_room(&store).await;
    assert_eq!(stored.commit_events, BTreeMap::from([(node(2), event_id("$commit2"))]));
    assert_eq!(stored.commit_times, BTreeMap::from([(node(2), stored_commit(2).received_at)]));
}

#[allow(missing_docs)]
pub async fn the_ledger(store: impl MlsStore) {
    let key = MessageKey { node: node(1), leaf: 3, generation: 5 };
    let others = [
        MessageKey { node: node(2), ..key },
        MessageKey { leaf: 4, ..key },
        MessageKey { generation: 6, ..key },
    ];
    let mut changes = Changes::default();
    changes.room(room()).ledger.insert(key, ledger_entry("$first"));
    save(&store, changes).await;
    assert_eq!(store.ledger_entry(room(), &key).await.unwrap(), Some(ledger_entry("$first")));
    for other in others {
        assert_eq!(store.ledger_entry(room(), &other).await.unwrap(), None);
    }
    let mut both = ledger_entry("$first");
    both.messages.extend(ledger_entry("$second").messages);
    let mut changes = Changes::default();
    changes.room(room()).ledger.insert(key, both.clone());
    changes.room(room()).ledger.insert(others[0], ledger_entry("$other"));
    save(&store, changes).await;
    assert_eq!(store.ledger_entry(room(), &key).await.unwrap(), Some(both));
    let other = store.ledger_entry(room(), &others[0]).await.unwrap();
    assert_eq!(other, Some(ledger_entry("$other")));
}

#[allow(missing_docs)]
pub async fn rooms_are_kept_apart(store: impl MlsStore) {
    let other = room_id!("!other:example.org");
    let key = MessageKey { node: node(1), leaf: 0, generation: 0 };
    let mut changes = Changes::default();
    let here = changes.room(room());
    here.view = Some(view());
    here.generations.insert(node(1), 1);
    here.commits.insert(node(1), Some(stored_commit(1)));
    here.queued.insert(event_id("$a"), Some(queued("$a", 1, 1)));
    here.welcomes.insert(node(1), Some(welcome(1)));
    here.ledger.insert(key, ledger_entry("$here"));
    changes.room(other).view = Some(RoomView { members_complete: true, ..RoomView::default() });
    save(&store, changes).await;
    let there = store.load_room(other).await.unwrap().unwrap();
    assert!(there.view.members_complete && there.view.mls_since.is_none());
    assert!(there.generations.is_empty() && there.commit_events.is_empty());
    assert_eq!(store.commit(other, &node(1)).await.unwrap(), None);
    assert!(store.queued_events(other, &node(1)).await.unwrap().is_empty());
    assert_eq!(store.queued_event_count(other).await.unwrap(), 0);
    assert!(store.held_welcomes(other).await.unwrap().is_empty());
    assert_eq!(store.ledger_entry(other, &key).await.unwrap(), None);
    let mut rooms = store.room_ids().await.unwrap();
    rooms.sort();
    assert_eq!(rooms, [other.to_owned(), room().to_owned()]);

    // The same event can be deleted there without harm here.
    let mut changes = Changes::default();
    changes.room(other).queued.insert(event_id("$a"), None);
    changes.room(other).welcomes.insert(node(1), None);
    save(&store, changes).await;
    assert_eq!(store.queued_event_count(room()).await.unwrap(), 1);
    assert_eq!(store.held_welcomes(room()).await.unwrap().len(), 1);
}

async fn assert_has(store: &impl MlsStore, changes: &Changes, group: &Group) {
    assert_eq!(store.load_account().await.unwrap(), changes.account);
    for (reference, package) in &changes.key_packages {
        assert_eq!(store.key_package(reference).await.unwrap(), *package);
    }
    assert_eq!(store.outbox().await.unwrap(), requests());
    let room_changes = &changes.rooms[room()];
    let stored = load_room(store).await;
    assert_eq!(Some(stored.view), room_changes.view);
    assert_eq!(stored.generations, room_changes.generations);
    for (node, commit) in &room_changes.commits {
        assert_eq!(store.commit(room(), node).await.unwrap(), *commit);
        assert_eq!(stored.commit_events.get(node), commit.as_ref().map(|c| &c.event_id));
        assert_eq!(stored.commit_times.get(node), commit.as_ref().map(|c| &c.received_at));
    }
    assert_eq!(store.queued_events(room(), &node(1)).await.unwrap().len(), 1);
    assert_eq!(store.held_welcomes(room()).await.unwrap(), [welcome(1)]);
    for (key, entry) in &room_changes.ledger {
        assert_eq!(store.ledger_entry(room(), key).await.unwrap().as_ref(), Some(entry));
    }
    assert_same_group(store, group).await;
}

#[allow(missing_docs)]
pub async fn a_batch_is_one_whole(store: impl MlsStore) {
    let (changes, group) = one_of_everything().await;
    save(&store, changes.clone()).await;
    assert_has(&store, &changes, &group).await;
    // The same again changes nothing.
    save(&store, changes.clone()).await;
    assert_has(&store, &changes, &group).await;
}

#[allow(missing_docs)]
pub async fn a_later_batch_overwrites(store: impl MlsStore) {
    let (changes, _) = one_of_everything().await;
    save(&store, changes).await;
    // Another account: all of it is another's now.
    let (changes, group) = one_of_everything().await;
    let old = load_room(&store).await;
    let mut deletions = Changes::default();
    let room_changes = deletions.room(room());
    room_changes.group.pending = old.group.pending.keys().map(|node| (*node, None)).collect();
    save(&store, deletions).await;
    let account = changes.account.clone();
    save(&store, Changes { account: account.clone(), ..Changes::default() }).await;
    assert_eq!(store.load_account().await.unwrap(), account);
    assert!(load_room(&store).await.group.pending.is_empty());
    let mut later = Changes::default();
    later.room(room()).group = changes.rooms[room()].group.clone();
    save(&store, later).await;
    let loaded = load_group(&store).await;
    for node in group.entered() {
        assert_eq!(loaded.state(&node), group.state(&node));
    }
}

#[allow(missing_docs)]
pub async fn large_values(store: impl MlsStore) {
    let mut changes = Changes::default();
    let content = commit_content(1, 400_000);
    let commit = StoredCommit { content, ..stored_commit(1) };
    changes.room(room()).commits.insert(node(1), Some(commit.clone()));
    let mut view = view();
    for number in 0..2000 {
        let user = ruma::UserId::parse(format!("@user{number}:example.org")).unwrap();
        view.members.insert(user, MembershipState::Join);
    }
    changes.room(room()).view = Some(view.clone());
    for number in 0..500_u64 {
        let event = queued(&format!("$event{number}"), 1, number);
        changes.room(room()).queued.insert(event.event_id.clone(), Some(event));
    }
    save(&store, changes).await;
    assert_eq!(store.commit(room(), &node(1)).await.unwrap(), Some(commit));
    assert_eq!(load_room(&store).await.view, view);
    let events = store.queued_events(room(), &node(1)).await.unwrap();
    assert_eq!(events.len(), 500);
    assert!(events.is_sorted_by_key(|event| event.received_at));
}

#[allow(missing_docs)]
pub async fn many_tasks_at_once(store: impl MlsStore + 'static) {
    let store = Arc::new(store);
    let mut tasks = Vec::new();
    for number in 0..16_u32 {
        let store = Arc::clone(&store);
        tasks.push(tokio::spawn(async move {
            let room_id = RoomId::parse(format!("!room{number}:example.org")).unwrap();
            for count in 1..=8 {
                let mut changes = Changes::default();
                changes.room(&room_id).generations.insert(node(1), count);
                store.save_changes(changes).await.unwrap();
                let stored = store.load_room(&room_id).await.unwrap().unwrap();
                assert_eq!(stored.generations[&node(1)], count);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.room_ids().await.unwrap().len(), 16);
}

#[allow(missing_docs)]
pub async fn everything_is_there_after_reopening<S: MlsStore, F: Future<Output = S>>(
    open: impl Fn() -> F,
) {
    let (changes, group) = one_of_everything().await;
    let store = open().await;
    save(&store, changes.clone()).await;
    drop(store);
    let store = open().await;
    assert_has(&store, &changes, &group).await;
    // What is deleted stays deleted.
    let mut deletions = Changes {
        key_packages: changes.key_packages.keys().map(|key| (*key, None)).collect(),
        outbox: requests().into_iter().map(|request| (request.id, None)).collect(),
        ..Changes::default()
    };
    deletions.room(room()).queued.insert(event_id("$a"), None);
    deletions.room(room()).welcomes.insert(node(1), None);
    save(&store, deletions).await;
    drop(store);
    let store = open().await;
    assert!(store.key_package_refs().await.unwrap().is_empty());
    assert!(store.outbox().await.unwrap().is_empty());
    assert_eq!(store.queued_event_count(room()).await.unwrap(), 0);
    assert!(store.held_welcomes(room()).await.unwrap().is_empty());
    assert_same_group(&store, &group).await;
}

#[allow(missing_docs)]
pub async fn others_writes_are_noticed<S: MlsStore, F: Future<Output = S>>(open: impl Fn() -> F) {
    let (one, two) = (open().await, open().await);
    let generation = |based_on, next| {
        let mut changes = Changes { based_on, ..Changes::default() };
        changes.room(room()).generations.insert(node(1), next);
        changes
    };
    // One's own writes do not count.
    let at_first = one.version().await.unwrap();
    save(&one, generation(Some(at_first), 1)).await;
    save(&one, generation(None, 2)).await;
    assert_eq!(one.version().await.unwrap(), at_first);
    // What the other one has loaded since its version is up to date.
    let based_on = two.version().await.unwrap();
    assert_eq!(load_room(&two).await.generations[&node(1)], 2);
    save(&two, generation(Some(based_on), 3)).await;
    assert_eq!(two.version().await.unwrap(), based_on);

    // The first one's memory is not, whether it has asked for the version since or not.
    let outdated = one.save_changes(generation(Some(at_first), 3)).await;
    assert!(matches!(outdated, Err(StoreError::Outdated)), "{outdated:?}");
    let now = one.version().await.unwrap();
    assert_ne!(now, at_first);
    let outdated = one.save_changes(generation(Some(at_first), 4)).await;
    assert!(matches!(outdated, Err(StoreError::Outdated)), "{outdated:?}");
    // Nothing was written, and nobody has seen anything of it.
    assert_eq!(load_room(&one).await.generations[&node(1)], 3);
    assert_eq!(two.version().await.unwrap(), based_on);
    save(&one, generation(Some(now), 5)).await;
    assert_eq!(load_room(&two).await.generations[&node(1)], 5);
    assert_ne!(two.version().await.unwrap(), based_on);
    // What is based on nothing is written in any case.
    save(&two, generation(None, 6)).await;
    assert_eq!(load_room(&one).await.generations[&node(1)], 6);
}

/// Two machines of one device, as an application and its notification extension have them.
#[allow(missing_docs)]
pub async fn two_machines_share_a_store<S: MlsStore + 'static, F: Future<Output = S>>(
    open: impl Fn() -> F,
) {
    let olm = OlmMachine::new(user_id!("@alice:example.org"), "PHONE".into()).await;
    let (one, two) = (open().await, open().await);
    let start = |store| MlsMachine::with_store(olm.clone(), store);
    let (one, two) = tokio::join!(start(one), start(two));
    let (one, two) = (one.unwrap(), two.unwrap());
    // They have one key, whoever has made it.
    assert_eq!(one.identity(), two.identity());
    let state = |event_type: &str, state_key: &str, content: serde_json::Value| {
        let event = serde_json::json!({
            "type": event_type,
            "state_key": state_key,
            "sender": "@alice:example.org",
            "event_id": format!("${}", event_type.replace('.', "-")),
            "origin_server_ts": 0,
            "content": content,
        });
        Raw::from_json(serde_json::value::to_raw_value(&event).unwrap())
    };
    assert!(!two.is_mls_room(room()).await.unwrap());
    let algorithm = serde_json::json!({ "algorithm": matrix_dmls::ALGORITHM });
    let events = [
        state("m.room.encryption", "", algorithm),
        state("m.room.member", "@alice:example.org", serde_json::json!({ "membership": "join" })),
    ];
    one.receive_room_events(room(), &events, &[]).await.unwrap();
    // What the other has in memory was made before.
    assert!(two.is_mls_room(room()).await.unwrap());
    let topic = [state(
        "m.room.history_visibility",
        "",
        serde_json::json!({
            "history_visibility": "joined"
        }),
    )];
    two.receive_room_events(room(), &topic, &[]).await.unwrap();
    let members = [(user_id!("@alice:example.org").to_owned(), MembershipState::Join)];
    one.set_room_members(room(), members).await.unwrap();
    let view = load_room(&**two.store()).await.view;
    assert!(view.members_complete && view.history_visibility.is_some());
}

#[allow(missing_docs)]
pub async fn a_machine_goes_on_after_reopening<S: MlsStore + 'static, F: Future<Output = S>>(
    open: impl Fn() -> F,
) {
    let olm = OlmMachine::new(user_id!("@alice:example.org"), "PHONE".into()).await;
    let machine = MlsMachine::with_store(olm.clone(), open().await).await.unwrap();
    let identity = machine.identity().clone();
    let packages = machine.outgoing_requests().await.unwrap();
    assert_eq!(packages.len(), 1);
    drop(machine);
    let machine = MlsMachine::with_store(olm, open().await).await.unwrap();
    assert_eq!(*machine.identity(), identity);
    let other = OlmMachine::new(user_id!("@alice:example.org"), "LAPTOP".into()).await;
    drop(machine);
    let error = MlsMachine::with_store(other, open().await).await.unwrap_err();
    assert!(matches!(error, crate::MlsError::WrongDevice { .. }));
}
