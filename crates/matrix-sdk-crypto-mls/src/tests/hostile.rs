//! Servers and members that do what they should not.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use matrix_dmls::{CommitMessage, NodeId};
use proptest::prelude::*;
use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{alice_and_bob, assert_one_epoch, settle};
use crate::{
    MlsError, Notice,
    testing::{FaultyStore, SimDevice, SimError, SimEvent, SimServer},
};

const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";
const MESSAGE: &str = "m.room.encrypted";

#[tokio::test]
async fn a_message_under_another_name_is_refused() {
    let (server, alice, bob) = alice_and_bob().await;
    let event = alice.says("mine").await;
    let copy = copies(&server, &alice, &event, bob.user_id(), |_| {});
    settle(&[&alice, &bob]).await;
    alice.has_read(&event, "mine");
    assert_eq!(alice.reason(&copy), "InvalidSender");
    assert_eq!(bob.reason(&copy), "InvalidSender");
}

#[tokio::test]
async fn an_altered_message_is_refused_and_the_true_one_read() {
    let (server, alice, bob) = alice_and_bob().await;
    let event = alice.says("true").await;
    let sender = alice.user_id();
    let mut copies_of = Vec::new();
    for place in [0, 3, 10, 60, 100, 150] {
        copies_of.push(copies(&server, &alice, &event, sender, |content| {
            flip(content, "ciphertext", place);
        }));
    }
    copies_of.push(copies(&server, &alice, &event, sender, |content| {
        content["ciphertext"] = json!("");
    }));
    copies_of.push(copies(&server, &alice, &event, sender, |content| {
        content["epoch"] = json!("A".repeat(43));
    }));
    server.reverses_timeline_of(bob.name());
    bob.syncs().await;
    for copy in &copies_of {
        assert!(bob.text(copy).is_none(), "{:?}", bob.reading(copy));
    }
    bob.has_read(&event, "true");
    let reasons: Vec<_> = copies_of.iter().map(|copy| bob.reason(copy)).collect();
    assert!(reasons.iter().all(|reason| ["Malformed", "WrongRoom"].contains(&&**reason)));
}

#[tokio::test]
async fn the_same_message_in_another_event_is_a_replay() {
    let (server, alice, bob) = alice_and_bob().await;
    let event = alice.says("pay him ten").await;
    let copy = copies(&server, &alice, &event, alice.user_id(), |_| {});
    settle(&[&alice, &bob]).await;
    for device in [&alice, &bob] {
        device.has_read(&event, "pay him ten");
        assert_eq!(device.reason(&copy), "Replay");
        // Nor after a restart; and the true one stays readable.
        device.restarts().await;
        device.syncs_the_same_again().await;
        device.has_read(&event, "pay him ten");
        assert_eq!(device.reason(&copy), "Replay");
    }
}

#[tokio::test]
async fn who_went_back_to_an_old_store_is_noticed() {
    let (_, alice, bob) = alice_and_bob().await;
    let before = alice.store().writes();
    let first = alice.says("from the new phone").await;
    settle(&[&alice, &bob]).await;
    let old = alice.store().as_after(before).await;
    alice.restarts_from(Arc::new(FaultyStore::around(Arc::new(old)))).await;
    let second = alice.says("from the backup").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&first, "from the new phone");
    bob.has_read(&second, "from the backup");
    assert!(!bob.encryption_info(&first).generation_reused);
    assert!(bob.encryption_info(&second).generation_reused);
    let (first, second) = (bob.encryption_info(&first), bob.encryption_info(&second));
    assert_eq!((first.node, first.generation), (second.node, second.generation));
}

#[tokio::test]
async fn a_message_of_another_room_is_refused() {
    let (server, alice, bob) = alice_and_bob().await;
    let other = alice.creates_room().await;
    other.invites(&bob);
    bob.joins(&other).await;
    alice.syncs().await;
    let event = other.says("said there").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "said there");
    let content = server.event(other.room(), &event).content;
    let moved = server.forges_event(alice.room(), alice.user_id(), MESSAGE, None, content);
    settle(&[&alice, &bob]).await;
    assert_eq!(bob.reason(&moved), "WrongRoom");
}

#[tokio::test]
async fn a_downgrade_is_reported_and_nothing_is_sent() {
    let (server, alice, bob) = alice_and_bob().await;
    let ready = alice.says("all is well").await;
    let attempt =
        alice.sets_state("m.room.encryption", json!({ "algorithm": "m.megolm.v1.aes-sha2" }));
    settle(&[&alice, &bob]).await;
    for device in [&alice, &bob] {
        let notices = device.takes_notices();
        assert!(notices.iter().any(|notice| matches!(
            notice,
            Notice::DowngradeAttempt { event_id: Some(event_id), .. } if *event_id == attempt
        )));
        assert!(matches!(
            device.tries_to_say("a secret").await,
            Err(SimError::Machine(MlsError::Downgraded(_)))
        ));
        assert!(matches!(
            device.encrypts_and_sends(&json!({ "body": "a secret" })).await,
            Err(SimError::Machine(MlsError::Downgraded(_)))
        ));
        assert!(device.mls().is_mls_room(device.room()).await.unwrap());
        // What was said stays readable.
        device.has_read(&ready, "all is well");
    }
    // Nor after a restart. The same event again is no news.
    bob.restarts().await;
    bob.syncs_the_same_again().await;
    assert!(bob.takes_notices().is_empty());
    assert!(bob.tries_to_say("a secret").await.is_err());
    assert_eq!(server.count(bob.room(), MESSAGE), 3);
}

#[tokio::test]
async fn junk_in_state_events_hides_nothing() {
    let (server, alice, bob) = alice_and_bob().await;
    // He leaves with a field that belongs elsewhere.
    let leave = json!({ "membership": "leave", "algorithm": 5, "rotation_period_ms": "x" });
    let bobs = bob.user_id().to_string();
    server.forges_event(alice.room(), bob.user_id(), "m.room.member", Some(&bobs), leave);
    alice.syncs().await;
    alice.says("without Bob").await;
    assert!(!alice.sees(&bob).await);
    let content = json!({ "algorithm": ["m.megolm.v1.aes-sha2"], "rotation_period_ms": -1 });
    alice.sets_state("m.room.encryption", content);
    alice.syncs().await;
    assert!(matches!(
        alice.tries_to_say("in the clear?").await,
        Err(SimError::Machine(MlsError::Downgraded(_)))
    ));
}

#[tokio::test]
async fn a_commit_under_another_name_is_dropped_and_the_true_one_taken() {
    let (server, alice, bob) = alice_and_bob().await;
    server.holds_back_timeline_of(bob.name(), true);
    alice.updates_keys().await;
    let commit = last(&server, &alice, COMMIT);
    let copy = copies(&server, &alice, &commit.event_id, bob.user_id(), |_| {});
    server.holds_back_timeline_of(bob.name(), false);
    server.reverses_timeline_of(bob.name());
    let before = bob.node().await;
    bob.mls()
        .receive_room_events(bob.room(), &[], &[server.event(bob.room(), &copy).to_json()])
        .await
        .unwrap();
    assert_eq!(bob.node().await, before);
    assert!(dropped(&bob, &copy));
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
    assert_ne!(bob.node().await, before);
}

/// A copy that somebody else than the author posts. Who has left was in the room when it did so.
#[tokio::test]
async fn a_commit_is_passed_on_by_who_is_or_was_a_member() {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = server.device("carol", "TABLET").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    carol.leaves();
    settle(&[&alice, &bob]).await;
    server.holds_back_timeline_of(bob.name(), true);
    alice.updates_keys().await;
    let commit = last(&server, &alice, COMMIT).event_id;
    let copy_of = |sender: &ruma::OwnedUserId| {
        copies(&server, &alice, &commit, sender, |content| content["relay"] = true.into())
    };
    let before = bob.node().await;
    let mallory = ruma::owned_user_id!("@mallory:example.org");
    for (sender, counts) in [(mallory, false), (carol.user_id().clone(), true)] {
        let copy = copy_of(&sender);
        let json = server.event(bob.room(), &copy).to_json();
        bob.mls().receive_room_events(bob.room(), &[], &[json]).await.unwrap();
        assert_eq!((bob.node().await != before, dropped(&bob, &copy)), (counts, !counts));
    }
    assert_eq!(bob.node().await, alice.node().await);
}

#[tokio::test]
async fn an_altered_commit_is_dropped_and_the_true_one_taken() {
    let (server, alice, bob) = alice_and_bob().await;
    server.holds_back_timeline_of(bob.name(), true);
    alice.updates_keys().await;
    let commit = last(&server, &alice, COMMIT);
    let length = bytes_of(&commit.content, "commit").len();
    // From the header to the tags at the end, which are not signed.
    let places = (0..length).step_by(37).chain([length - 1, length - 40, length - 80]);
    let before = bob.status().await.unwrap();
    for place in places {
        let mut event = commit.clone();
        event.event_id = OwnedEventId::try_from(format!("$forged{place}")).unwrap();
        flip(&mut event.content, "commit", place);
        let json = event.to_json();
        bob.mls().receive_room_events(bob.room(), &[], &[json]).await.unwrap();
        assert_eq!(bob.node().await, Some(before.node), "at {place}");
    }
    let mut event = commit.clone();
    event.event_id = OwnedEventId::try_from("$context").unwrap();
    flip(&mut event.content, "parent_context", 20);
    bob.mls().receive_room_events(bob.room(), &[], &[event.to_json()]).await.unwrap();
    assert!(dropped(&bob, &event.event_id));
    assert_eq!(bob.node().await, Some(before.node));

    server.holds_back_timeline_of(bob.name(), false);
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
    let event = alice.says("unharmed").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "unharmed");
}

#[tokio::test]
async fn a_commit_of_another_room_is_dropped() {
    let (server, alice, bob) = alice_and_bob().await;
    let other = alice.creates_room().await;
    other.says("hello").await;
    let commit = last(&server, &other, COMMIT);
    let moved = server.forges_event(alice.room(), alice.user_id(), COMMIT, None, commit.content);
    let before = bob.node().await;
    settle(&[&alice, &bob]).await;
    assert_eq!(bob.node().await, before);
    assert!(dropped(&bob, &moved));
}

#[tokio::test]
async fn somebody_elses_founding_changes_nothing() {
    let (server, alice, bob) = alice_and_bob().await;
    // Bob founds a group of his own in a copy of the room, and posts its commit here.
    let twin = SimServer::new(2);
    let mallory = twin.device("bob", "LAPTOP").logs_in().await.creates_room().await;
    assert_eq!(mallory.room(), alice.room());
    mallory.says("mine").await;
    let commit = last(&twin, &mallory, COMMIT);
    server.forges_event(alice.room(), bob.user_id(), COMMIT, None, commit.content);
    let before = alice.node().await;
    settle(&[&alice, &bob]).await;
    assert_eq!(alice.node().await, before);
    let event = alice.says("still ours").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "still ours");
    assert_one_epoch(&[&alice, &bob]).await;
}

/// Any JSON, mostly with names that events have.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[A-Za-z0-9+/]{0,200}".prop_map(Value::from),
        Just(json!(crate::dmls::ALGORITHM)),
        (1_usize..200_000).prop_map(|size| json!("A".repeat(size))),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(a_name(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn a_name() -> impl Strategy<Value = String> {
    let names = [
        "algorithm",
        "commit",
        "parent",
        "parent_event",
        "parent_context",
        "group_info",
        "tree",
        "ciphertext",
        "epoch",
        "epoch_event",
        "room_id",
        "welcome",
        "commit_file",
        "tree_file",
        "url",
        "sha256",
        "size",
        "graph",
        "founding",
        "instance",
        "encrypted_group_info",
        "relay",
        "m.relates_to",
        "membership",
    ];
    prop_oneof![prop::sample::select(names.to_vec()).prop_map(ToOwned::to_owned), ".{0,10}"]
}

/// What is done to a good event.
#[derive(Clone, Debug)]
enum Harm {
    /// A field of its content gets another value.
    Sets(String, Value),
    /// A field of its content is gone.
    Removes(usize),
    /// Base64 in a field loses its end.
    Cuts(usize, usize),
    /// Bytes in a field are altered.
    Flips(usize, usize, u8),
    /// It has another sender.
    Sender(String),
    /// A field of the event itself gets another value.
    SetsOuter(String, Value),
    /// The content is something else altogether.
    Replaces(Value),
}

fn any_harm() -> impl Strategy<Value = Harm> {
    let outer = prop::sample::select(
        &["type", "event_id", "sender", "state_key", "origin_server_ts", "content", "unsigned"][..],
    );
    prop_oneof![
        (a_name(), any_json()).prop_map(|(name, value)| Harm::Sets(name, value)),
        any::<usize>().prop_map(Harm::Removes),
        (any::<usize>(), any::<usize>()).prop_map(|(at, length)| Harm::Cuts(at, length)),
        (any::<usize>(), any::<usize>(), 1_u8..).prop_map(|(a, p, by)| Harm::Flips(a, p, by)),
        ".{0,30}".prop_map(Harm::Sender),
        (outer, any_json()).prop_map(|(name, value)| Harm::SetsOuter(name.to_owned(), value)),
        any_json().prop_map(Harm::Replaces),
    ]
}

impl Harm {
    fn is_done_to(&self, event: &mut Value) {
        let name_of = |content: &Value, at: usize| {
            let names: Vec<_> = content.as_object()?.keys().cloned().collect();
            (!names.is_empty()).then(|| names[at % names.len()].clone())
        };
        match self {
            Self::Sets(name, value) => event["content"][name] = value.clone(),
            Self::Removes(at) => {
                if let Some(name) = name_of(&event["content"], *at) {
                    event["content"].as_object_mut().unwrap().remove(&name);
                }
            }
            Self::Cuts(at, length) => {
                if let Some(name) = name_of(&event["content"], *at)
                    && let Some(text) = event["content"][&name].as_str()
                {
                    let cut: String = text.chars().take(length % (text.len() + 1)).collect();
                    event["content"][&name] = json!(cut);
                }
            }
            Self::Flips(at, place, by) => {
                if let Some(name) = name_of(&event["content"], *at)
                    && let Some(Ok(mut bytes)) =
                        event["content"][&name].as_str().map(|text| STANDARD_NO_PAD.decode(text))
                    && !bytes.is_empty()
                {
                    let place = place % bytes.len();
                    bytes[place] ^= by;
                    event["content"][&name] = json!(STANDARD_NO_PAD.encode(bytes));
                }
            }
            Self::Sender(sender) => event["sender"] = json!(sender),
            Self::SetsOuter(name, value) => event[name] = value.clone(),
            Self::Replaces(value) => event["content"] = value.clone(),
        }
    }
}

/// Alice, Bob, and events of every kind that Bob has not seen.
struct Target {
    runtime: tokio::runtime::Runtime,
    server: SimServer,
    alice: SimDevice,
    bob: SimDevice,
    events: Vec<Value>,
    to_device: Vec<Value>,
    /// The true commits.
    commits: Vec<NodeId>,
}

impl Target {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (server, alice, bob, events, to_device) = runtime.block_on(async {
            let (server, alice, bob) = alice_and_bob().await;
            let carol = server.device("carol", "TABLET").logs_in().await;
            server.holds_back_timeline_of(bob.name(), true);
            alice.updates_keys().await;
            alice.says("in a new epoch").await;
            alice.invites(&carol);
            alice.looks_with(&alice).syncs().await;
            alice.says("with Carol").await;
            let events = server.events(alice.room()).into_iter();
            // What state events say holds whoever sends them: not here.
            let events = events.filter(|event| event.state_key.is_none());
            let events = events.map(|e| parse(e.to_json::<Value>().json().get())).collect();
            let welcomes = server.sync(carol.name()).to_device;
            let welcomes = welcomes.iter().map(|event| parse(event.json().get())).collect();
            (server, alice, bob, events, welcomes)
        });
        let events: Vec<Value> = events;
        let commits = events.iter().filter(|event| event["type"] == COMMIT).map(|event| {
            let message = CommitMessage::parse(&bytes_of(&event["content"], "commit"));
            message.unwrap().node_id()
        });
        let commits = commits.collect();
        Self { runtime, server, alice, bob, events, to_device, commits }
    }

    /// Whether the event is one that Bob may take: something else than before.
    fn attack(&self, mut event: Value, harm: &Harm) {
        let good = event.clone();
        harm.is_done_to(&mut event);
        // A commit or message that is the true one still, with other hints, may be taken.
        let field = ["commit", "ciphertext", "welcome"]
            .into_iter()
            .find(|field| good["content"][field].is_string())
            .unwrap();
        if event["content"][field] == good["content"][field] {
            return;
        }
        if event["event_id"] == good["event_id"] {
            // A server that alters the true event itself can keep it from being read anyway.
            event["event_id"] = json!("$altered");
        }
        // Nor do state events have to be true.
        if event["state_key"].is_string() {
            return;
        }
        self.runtime.block_on(async {
            let before = self.bob.status().await.unwrap();
            let raw = serde_json::value::to_raw_value(&event).unwrap();
            let timeline = ruma::serde::Raw::from_json(raw.clone());
            let room = self.bob.room();
            let timeline = [timeline];
            self.bob.mls().receive_room_events(room, &[], &timeline).await.unwrap();
            let read = self.bob.mls().decrypt_room_event(&timeline[0], room).await;
            assert!(read.is_err(), "{event}");
            let to_device = [ruma::serde::Raw::from_json(raw)];
            let changes = crate::EncryptionSyncChanges {
                to_device_events: &to_device,
                changed_devices: &Default::default(),
                one_time_keys_counts: &Default::default(),
                unused_fallback_keys: None,
            };
            self.bob.mls().receive_sync_changes(changes).await.unwrap();
            let after = self.bob.status().await.unwrap();
            assert_eq!(before.node, after.node, "{event}");
            // Tags are not signed: a copy with wrong ones shows that there is such a commit.
            let known = |tip| before.tips.contains(tip) || self.commits.contains(tip);
            assert!(after.tips.iter().all(known), "{event}");
        });
    }

    fn is_unharmed(&self) {
        self.runtime.block_on(async {
            self.server.holds_back_timeline_of(self.bob.name(), false);
            settle(&[&self.alice, &self.bob]).await;
            let event = self.alice.says("unharmed").await;
            settle(&[&self.alice, &self.bob]).await;
            self.bob.has_read(&event, "unharmed");
            assert_one_epoch(&[&self.alice, &self.bob]).await;
            for message in self.server.sent_messages() {
                self.bob.has_read(&message.event_id, &message.text);
            }
        });
    }
}

#[test]
fn harmed_events_do_no_harm() {
    let target = Target::new();
    let count = target.events.len() + target.to_device.len();
    proptest!(cases(400), |(at in 0..count, harm in any_harm())| {
        let all = target.events.iter().chain(&target.to_device);
        target.attack(all.clone().nth(at).unwrap().clone(), &harm);
    });
    target.is_unharmed();
}

#[test]
fn harmed_events_do_no_harm_to_who_waits() {
    // Carol has the room, but no group yet.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (server, alice, carol, events) = runtime.block_on(async {
        let (server, alice, _) = alice_and_bob().await;
        let carol = server.device("carol", "TABLET").logs_in().await;
        alice.invites(&carol);
        let carol = carol.joins(&alice).await;
        alice.syncs().await;
        server.holds_back_timeline_of(carol.name(), true);
        server.holds_back_to_device_of(carol.name(), true);
        alice.says("hello Carol").await;
        let events = server.events(alice.room()).into_iter().filter(|e| e.state_key.is_none());
        let events: Vec<_> = events.map(|e| parse(e.to_json::<Value>().json().get())).collect();
        (server, alice, carol, events)
    });
    proptest!(cases(200), |(at in 0..events.len(), harm in any_harm())| {
        let mut event = events[at].clone();
        harm.is_done_to(&mut event);
        let same = event["event_id"] == events[at]["event_id"];
        if same && event["content"]["commit"] == events[at]["content"]["commit"]
            || event["state_key"].is_string()
        {
            return Ok(());
        }
        if same {
            // A server that alters the true event itself can keep it from being read anyway.
            event["event_id"] = json!("$altered");
        }
        let timeline = ruma::serde::Raw::from_json(serde_json::value::to_raw_value(&event).unwrap());
        runtime.block_on(async {
            carol.mls().receive_room_events(carol.room(), &[], &[timeline]).await.unwrap();
            assert!(carol.status().await.is_none());
        });
    });
    runtime.block_on(async {
        server.holds_back_timeline_of(carol.name(), false);
        server.holds_back_to_device_of(carol.name(), false);
        settle(&[&alice, &carol]).await;
        assert_one_epoch(&[&alice, &carol]).await;
        for message in server.sent_messages().iter().rev().take(1) {
            carol.has_read(&message.event_id, &message.text);
        }
    });
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_json_at_all_is_survived(event in any_json(), state in any_json()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let server = SimServer::new(1);
            let alice = server.device("alice", "PHONE").logs_in_quietly().await;
            let alice = alice.creates_room().await;
            let raw = |value| serde_json::value::to_raw_value(value).unwrap();
            let mls = alice.mls();
            let room = alice.room();
            let timeline = [ruma::serde::Raw::from_json(raw(&event))];
            let state = [ruma::serde::Raw::from_json(raw(&state))];
            mls.receive_room_events(room, &state, &timeline).await.unwrap();
            let to_device = [ruma::serde::Raw::from_json(raw(&event))];
            let changes = crate::EncryptionSyncChanges {
                to_device_events: &to_device,
                changed_devices: &Default::default(),
                one_time_keys_counts: &Default::default(),
                unused_fallback_keys: None,
            };
            mls.receive_sync_changes(changes).await.unwrap();
            mls.decrypt_room_event(&timeline[0], room).await.unwrap_err();
            alice.says("still there").await;
        });
    }
}

/// The keys are others in every run, so that a saved case would not be the same case again.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

fn parse(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

/// The last event of a type in the room.
fn last(server: &SimServer, device: &SimDevice, event_type: &str) -> SimEvent {
    let mut events = server.events(device.room()).into_iter();
    events.rfind(|event| event.event_type == event_type).expect("there is one")
}

/// Posts a copy of an event, changed.
fn copies(
    server: &SimServer,
    device: &SimDevice,
    event_id: &OwnedEventId,
    sender: &ruma::OwnedUserId,
    change: impl FnOnce(&mut Value),
) -> OwnedEventId {
    let event = server.event(device.room(), event_id);
    let mut content = event.content;
    change(&mut content);
    server.forges_event(device.room(), sender, &event.event_type, None, content)
}

fn bytes_of(content: &Value, field: &str) -> Vec<u8> {
    STANDARD_NO_PAD.decode(content[field].as_str().unwrap()).unwrap()
}

/// Alters a byte of a base64 field.
fn flip(content: &mut Value, field: &str, place: usize) {
    let mut bytes = bytes_of(content, field);
    bytes[place] ^= 1;
    content[field] = json!(STANDARD_NO_PAD.encode(bytes));
}

/// Whether a device has said that it dropped a commit event.
fn dropped(device: &SimDevice, event_id: &OwnedEventId) -> bool {
    device.takes_notices().iter().any(
        |notice| matches!(notice, Notice::CommitDropped { event_id: of, .. } if of == event_id),
    )
}
