//! All operations that there are, as the batches that a machine would store.

use std::collections::BTreeMap;

use matrix_dmls::{
    CommitPlan, Group, GroupChanges, LocalMember, NodeId, OwnKeyPackage, PendingCommit, Received,
    WelcomeParts, new_key_package,
};
use matrix_sdk_crypto_mls::{
    room::RoomView,
    store::{
        BoundMessage, Changes, HeldWelcome, LedgerEntry, MessageKey, OutboxRequest,
        OutboxRequestKind, QueuedEvent, RoomChanges, StoredCommit, StoredKeyPackage,
    },
    types::events::{CommitEventContent, ToDeviceWelcomeEventContent},
};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedTransactionId, OwnedUserId, RoomId, TransactionId,
    events::room::member::MembershipState,
};

use super::{account, extension, member, user_id};

/// Plaintext that is nowhere in a store in the clear.
pub const MARKER: &str = "a-recognisable-plaintext-marker";

/// The batches of one device, and what can be asked of the ledger afterwards.
pub struct Scenario {
    pub batches: Vec<(&'static str, Changes)>,
    pub messages: Vec<(OwnedRoomId, MessageKey)>,
}

impl Scenario {
    fn push(&mut self, name: &'static str, changes: Changes) {
        self.batches.push((name, changes));
    }
}

pub fn room_id(name: &str) -> OwnedRoomId {
    RoomId::parse(format!("!{name}:recognisable.example")).unwrap()
}

fn user(name: &str) -> OwnedUserId {
    user_id(name).try_into().unwrap()
}

pub fn event_id(name: &str) -> OwnedEventId {
    EventId::parse(format!("$recognisable-{name}")).unwrap()
}

pub fn transaction_id(name: &str) -> OwnedTransactionId {
    <&TransactionId>::from(name).to_owned()
}

pub fn in_room(room_id: &RoomId, change: impl FnOnce(&mut RoomChanges)) -> Changes {
    let mut changes = Changes::default();
    change(changes.room(room_id));
    changes
}

/// A message is about to be sent.
pub fn generation(room_id: &RoomId, node: NodeId, next: u32) -> Changes {
    in_room(room_id, |room| {
        room.generations.insert(node, next);
    })
}

fn group_changes(room_id: &RoomId, group: GroupChanges) -> Changes {
    in_room(room_id, |room| room.group = group)
}

fn stored(package: &OwnKeyPackage) -> StoredKeyPackage {
    StoredKeyPackage { package: package.clone(), published: true, replaced_at: None }
}

fn view(names: &[&str]) -> RoomView {
    let members: BTreeMap<_, _> =
        names.iter().map(|name| (user(name), MembershipState::Join)).collect();
    RoomView { members, creator: Some(user("alice")), updated_at: 5, ..RoomView::default() }
}

fn request(room_id: &RoomId, order: u64, pending: &PendingCommit) -> OutboxRequest {
    OutboxRequest {
        id: transaction_id(&format!("request-{order}")),
        room_id: room_id.to_owned(),
        order,
        kind: OutboxRequestKind::Commit {
            node: pending.node.record.node,
            content: Box::new(content(pending)),
            recipients: Vec::new(),
        },
    }
}

fn content(pending: &PendingCommit) -> CommitEventContent {
    let parent = pending.node.record.parent;
    CommitEventContent::new(pending.commit.clone(), parent, pending.parent_context.clone())
}

fn stored_commit(name: &str, pending: &PendingCommit) -> StoredCommit {
    StoredCommit {
        event_id: event_id(name),
        sender: user("alice"),
        content: content(pending),
        received_at: 9,
    }
}

pub fn ledger_entry(name: &str) -> LedgerEntry {
    let message = BoundMessage { event_id: event_id(name), ciphertext_hash: [3; 32] };
    LedgerEntry { messages: vec![message] }
}

/// Makes a pending commit and stores it with its request; then the server's answer comes.
fn commit(
    scenario: &mut Scenario,
    group: &mut Group,
    room: &RoomId,
    (node, changes): (NodeId, GroupChanges),
    order: u64,
) -> PendingCommit {
    group.apply(changes.clone());
    let pending = group.pending_commit(&node).unwrap().as_ref().clone();
    let request = request(room, order, &pending);
    let mut batch = group_changes(room, changes);
    batch.outbox.insert(request.id.clone(), Some(request.clone()));
    scenario.push("make a commit", batch);

    let changes = group.accept(node).unwrap();
    group.apply(changes.clone());
    let mut batch = group_changes(room, changes);
    batch.outbox.insert(request.id, None);
    let commit = stored_commit(&format!("commit-{order}"), &pending);
    batch.room(room).commits.insert(node, Some(commit));
    scenario.push("enter a commit of ours", batch);
    pending
}

fn package(owner: &LocalMember) -> OwnKeyPackage {
    new_key_package(owner, false).unwrap()
}

fn join(owner: &LocalMember, room: &RoomId, by: &PendingCommit, with: &OwnKeyPackage) -> Group {
    let mut group = Group::new(room.as_str());
    let (_, changes) = group.join(owner, parts(by, with)).unwrap();
    group.apply(changes);
    group
}

fn parts<'a>(by: &'a PendingCommit, with: &'a OwnKeyPackage) -> WelcomeParts<'a> {
    WelcomeParts {
        welcome: by.welcome.as_ref().unwrap(),
        tree: &by.tree,
        commit: &by.commit,
        parent_context: &by.parent_context,
        key_package: with,
    }
}

/// Alice's batches, with Bob and Carol in memory.
pub fn scenario() -> Scenario {
    let mut scenario = Scenario { batches: Vec::new(), messages: Vec::new() };
    let (alice, bob, carol) = (member("alice"), member("bob"), member("carol"));
    let room = room_id("one");

    let (first, second) = (package(&alice), package(&alice));
    let mut batch = Changes { account: Some(account("alice")), ..Changes::default() };
    for package in [&first, &second] {
        batch.key_packages.insert(package.reference, Some(stored(package)));
    }
    scenario.push("make the account", batch);
    scenario.push("see members", in_room(&room, |r| r.view = Some(view(&["alice", "bob"]))));

    let mut group = Group::new(room.as_str());
    let bobs = package(&bob);
    // Enough members for the tree to be stored in pieces.
    let others = (0..4).map(|n| package(&member(&format!("member{n}"))).key_package);
    let packages = std::iter::once(bobs.key_package.clone()).chain(others).collect();
    let made = group.found(&alice, &extension(), packages).unwrap();
    let founding = made.0;
    let founded = commit(&mut scenario, &mut group, &room, made, 1);
    let mut at_bob = join(&bob, &room, &founded, &bobs);

    for next in [1, 2] {
        let send = generation(&room, founding, next);
        scenario.push("send", send);
    }
    for (generation, name) in [(1, "second"), (0, "first")] {
        let key = MessageKey { node: founding, leaf: 1, generation };
        let read = in_room(&room, |r| drop(r.ledger.insert(key, ledger_entry(name))));
        scenario.push("read a message", read);
        scenario.messages.push((room.clone(), key));
    }

    let plan = CommitPlan { add: vec![package(&carol).key_package], ..CommitPlan::default() };
    let made = group.commit(founding, &alice, plan).unwrap();
    let tip = made.0;
    commit(&mut scenario, &mut group, &room, made, 2);

    let waiting = QueuedEvent {
        event_id: event_id("early"),
        node: tip,
        json: format!(r#"{{"body":"{MARKER}"}}"#),
        received_at: 3,
    };
    let queue = in_room(&room, |r| {
        r.queued.insert(waiting.event_id.clone(), Some(waiting.clone()));
    });
    scenario.push("queue an event", queue);

    // Bob has committed at the same time.
    let (node, changes) = at_bob.commit(founding, &bob, CommitPlan::default()).unwrap();
    at_bob.apply(changes);
    let rival = at_bob.pending_commit(&node).unwrap().as_ref().clone();
    let Received::Entered(_, changes) =
        group.receive(&rival.commit, &rival.parent_context).unwrap()
    else {
        panic!("not entered");
    };
    group.apply((*changes).clone());
    let mut batch = group_changes(&room, *changes);
    batch.room(&room).commits.insert(node, Some(stored_commit("rival", &rival)));
    batch.room(&room).queued.insert(waiting.event_id, None);
    scenario.push("enter a commit of somebody's", batch);

    let plan = CommitPlan { remove: vec![2], resolves: vec![node], ..CommitPlan::default() };
    let made = group.commit(tip, &alice, plan).unwrap();
    commit(&mut scenario, &mut group, &room, made, 3);
    let (node, changes) = group.commit(tip, &alice, CommitPlan::default()).unwrap();
    group.apply(changes.clone());
    scenario.push("make a commit in vain", group_changes(&room, changes));
    let changes = group.discard(node);
    group.apply(changes.clone());
    scenario.push("give it up", group_changes(&room, changes));
    let changes = group.erase_state(founding);
    group.apply(changes.clone());
    scenario.push("erase a state", group_changes(&room, changes));

    join_another_room(&mut scenario, &alice, &bob, &first);
    let send = generation(&room, founding, 3);
    scenario.push("send again", send);
    scenario
}

/// Bob founds another room, and Alice joins it by a Welcome that had to wait.
fn join_another_room(
    scenario: &mut Scenario,
    alice: &LocalMember,
    bob: &LocalMember,
    package: &OwnKeyPackage,
) {
    let room = room_id("two");
    let at_bob = Group::new(room.as_str());
    let (node, changes) =
        at_bob.found(bob, &extension(), vec![package.key_package.clone()]).unwrap();
    let by = changes.pending[&node].as_deref().unwrap().clone();
    let content = ToDeviceWelcomeEventContent::new(
        room.clone(),
        node,
        event_id("founding"),
        by.welcome.clone().unwrap(),
    );
    let held = HeldWelcome { sender: user("bob"), content, received_at: 4 };
    let hold = in_room(&room, |r| drop(r.welcomes.insert(node, Some(held))));
    scenario.push("hold a Welcome", hold);

    let mut group = Group::new(room.as_str());
    let (_, changes) = group.join(alice, parts(&by, package)).unwrap();
    group.apply(changes.clone());
    let mut batch = group_changes(&room, changes);
    batch.key_packages.insert(package.reference, None);
    batch.room(&room).welcomes.insert(node, None);
    batch.room(&room).view = Some(view(&["alice", "bob"]));
    batch.room(&room).commits.insert(node, Some(stored_commit("founding", &by)));
    scenario.push("join by a Welcome", batch);
    let send = generation(&room, node, 1);
    scenario.push("send in the other room", send);
    scenario.messages.push((room, MessageKey { node, leaf: 0, generation: 0 }));
}
