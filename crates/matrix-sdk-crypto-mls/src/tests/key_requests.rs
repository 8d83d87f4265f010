//! Epoch keys that members give one another (protocol §6).

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use matrix_dmls::{
    EpochKey, EpochKeyParts, Group, HistoryPolicy, LocalMember, NodeId, Secret, SecretTree,
};
use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{
    asked::{gets, wants_sent},
    assert_one_epoch, commits_in, joins,
    left_behind::bob_is_left_behind,
    missing::requests,
    settle, time_passes,
};
use crate::{
    RoomSettings,
    dmls::TrustRequirement,
    room::KeyRequests,
    store::MlsStore as _,
    testing::{Fault, RequestKind, SimDevice, SimServer, TestClock},
    types::events::{
        EncryptedEpochKey, MlsEncryptedEventContent, ToDeviceKeyAnswerEventContent,
        ToDeviceKeyRequestEventContent,
    },
};

const REQUEST: &str = "io.github.matrix-mls.dmls.v1.key_request";
const ANSWER: &str = "io.github.matrix-mls.dmls.v1.key_answer";
const SECOND: u64 = TestClock::MINUTE / 60;
const HOUR: u64 = 60 * TestClock::MINUTE;

/// A request of a device for an epoch's key, made with what this group has of `tip`, and the private half
/// of its key.
async fn request_of(
    device: &SimDevice,
    group: &Group,
    node: NodeId,
    tip: NodeId,
    id: &str,
) -> (Secret, Value) {
    let (secret, public) = matrix_dmls::new_request_key().unwrap();
    let (room_id, id) = (device.room().to_owned(), id.to_owned());
    let mut request = ToDeviceKeyRequestEventContent::new(room_id, id, vec![node], tip, public);
    let tagged = request.tagged_json().unwrap();
    request.tag = group.key_request_tag(tip, tagged.as_bytes()).unwrap().to_vec().into();
    let signed = request.signed_json().unwrap();
    request.signatures = device.mls().signatures_of(&signed).await.unwrap();
    (secret, serde_json::to_value(&request).unwrap())
}

fn settings(history: HistoryPolicy) -> RoomSettings {
    RoomSettings { trust: TrustRequirement::All, history, ..RoomSettings::default() }
}

async fn keys(device: &SimDevice) -> KeyRequests {
    device.store().load_room(device.room()).await.unwrap().unwrap().view.keys
}

/// Bob was cut off, the others have talked in an epoch in which he has a leaf and which he cannot
/// enter, and he has been let in again below it.
struct Late {
    server: SimServer,
    alice: SimDevice,
    bob: SimDevice,
    carol: SimDevice,
    /// The epoch.
    node: NodeId,
    by_alice: OwnedEventId,
    by_carol: OwnedEventId,
}

async fn bob_is_late(history: HistoryPolicy) -> Late {
    let (server, alice, bob, carol) = bob_is_left_behind(settings(history)).await;
    let node = alice.node().await.unwrap();
    let by_alice = alice.says("by Alice").await;
    let by_carol = carol.says("by Carol").await;
    assert_eq!((alice.node().await, carol.node().await), (Some(node), Some(node)));
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    for event in [&by_alice, &by_carol] {
        assert_eq!(bob.reason(event), "UnknownEpoch");
    }
    time_passes(&all, 35 * SECOND).await;
    assert_one_epoch(&all).await;
    assert!(bob.text(&by_alice).is_none());
    Late { server, alice, bob, carol, node, by_alice, by_carol }
}

impl Late {
    fn all(&self) -> [&SimDevice; 3] {
        [&self.alice, &self.bob, &self.carol]
    }

    /// Bob's request, which does not get to whom it is for, and who that is. Nobody sends anything
    /// else meanwhile.
    async fn request(&self) -> (Value, &SimDevice) {
        for _ in 0..100 {
            let asked = wants_sent(&self.bob, REQUEST).await;
            if let [request] = &*asked {
                let fault = Fault::RequestLost;
                self.server.next_goes_wrong(self.bob.name(), RequestKind::KeyRequest, fault);
                self.bob.pumps().await;
                let keys = keys(&self.bob).await;
                let whom = &keys.open.last().unwrap().asked;
                let whom = self.all().into_iter().find(|device| device.user_id() == whom);
                return (request.clone(), whom.unwrap());
            }
            self.server.clock().advance(10 * SECOND);
        }
        panic!("Bob does not ask");
    }

    /// What somebody answers to a request that Bob's server brings.
    async fn answer_of(&self, whom: &SimDevice, request: Value) -> Vec<Value> {
        // Once a minute at most.
        self.server.clock().advance(61 * SECOND);
        gets(whom, vec![(self.bob.user_id(), REQUEST, request)]).await;
        wants_sent(whom, ANSWER).await
    }
}

#[tokio::test]
async fn what_was_said_in_an_epoch_that_cannot_be_entered_is_read() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let Late { alice, bob, carol, .. } = &late;
    let commits = commits_in(alice);
    time_passes(&late.all(), 2 * TestClock::MINUTE).await;
    bob.has_read(&late.by_alice, "by Alice");
    bob.has_read(&late.by_carol, "by Carol");
    let info = bob.encryption_info(&late.by_carol);
    assert_eq!((info.node, info.sender.user_id), (late.node, carol.user_id().to_string()));
    // It took no commit, and no secret is left of it.
    assert_eq!(commits_in(alice), commits);
    assert_eq!(requests(bob, RequestKind::KeyRequest), 1);
    let keys = keys(bob).await;
    assert!(keys.open.is_empty() && keys.spare.is_empty() && !keys.wanted[&late.node].open);
    // He is not in that epoch by it.
    let group = bob.group().await;
    assert!(group.state(&late.node).is_none() && group.vault(&late.node).is_none());
    bob.restarts().await;
    let event = late.server.event(bob.room(), &late.by_alice).to_json();
    bob.mls().decrypt_room_event(&event, bob.room()).await.unwrap();
}

/// Where a commit does not process for many, who has spoken there has its key; others may have none.
#[tokio::test]
async fn who_has_spoken_in_an_epoch_is_asked_for_its_key_first() {
    // Else it would be the other one in half the cases.
    for speaks in ["alice", "carol", "alice", "carol", "alice", "carol"] {
        let (server, alice, bob, carol) = bob_is_left_behind(settings(HistoryPolicy::Keep)).await;
        let dave = joins(&server, &alice, "dave").await;
        let all = [&alice, &bob, &carol, &dave];
        dave.updates_keys().await;
        settle(&all).await;
        let node = dave.node().await.unwrap();
        let speaker = if speaks == "alice" { &alice } else { &carol };
        let said = speaker.says("I am here").await;
        assert_eq!(speaker.node().await, Some(node));
        settle(&all).await;
        assert_eq!(bob.reason(&said), "UnknownEpoch");
        time_passes(&all, 2 * TestClock::MINUTE).await;
        bob.has_read(&said, "I am here");
        // All three others have it.
        let keys = keys(&bob).await;
        assert_eq!(keys.wanted[&node].given, [speaker.user_id().clone()].into());
    }
}

/// Whoever has committed in an epoch was in it.
#[tokio::test]
async fn who_has_committed_in_an_epoch_is_asked_for_its_key_first() {
    for commits in ["alice", "carol", "alice", "carol", "alice", "carol"] {
        let (server, alice, bob, carol) = bob_is_left_behind(settings(HistoryPolicy::Keep)).await;
        let dave = joins(&server, &alice, "dave").await;
        let all = [&alice, &bob, &carol, &dave];
        dave.updates_keys().await;
        settle(&all).await;
        let node = dave.node().await.unwrap();
        let said = dave.says("I was here").await;
        settle(&all).await;
        let committer = if commits == "alice" { &alice } else { &carol };
        committer.updates_keys().await;
        settle(&all).await;
        assert_eq!(committer.group().await.graph().children(&node).count(), 1);
        dave.leaves();
        settle(&all).await;
        time_passes(&[&alice, &bob, &carol], 3 * TestClock::MINUTE).await;
        bob.has_read(&said, "I was here");
        let keys = keys(&bob).await;
        assert_eq!(keys.wanted[&node].given, [committer.user_id().clone()].into());
    }
}

/// Where the author and who has spoken are gone, the next one is asked when the first has not answered.
#[tokio::test]
async fn nobody_is_asked_twice_for_a_key_before_all_were() {
    let (server, alice, bob, carol) = bob_is_left_behind(settings(HistoryPolicy::Keep)).await;
    let dave = joins(&server, &alice, "dave").await;
    dave.updates_keys().await;
    settle(&[&alice, &bob, &carol, &dave]).await;
    let node = dave.node().await.unwrap();
    let said = dave.says("I was here").await;
    assert_eq!(dave.node().await, Some(node));
    settle(&[&alice, &bob, &carol, &dave]).await;
    dave.leaves();
    let all = [&alice, &bob, &carol];
    settle(&all).await;
    time_passes(&all, 35 * SECOND).await;
    assert_one_epoch(&all).await;
    assert!(bob.text(&said).is_none());
    // From now on only Bob does anything.
    let asks = |device: &SimDevice| {
        let waiting = server.records_to_device_of(device.name()).into_iter();
        let requests = waiting.filter(|event| event["type"] == REQUEST);
        let nodes =
            requests.flat_map(|event| event["content"]["nodes"].as_array().unwrap().clone());
        nodes.filter(|asked| *asked == node.to_base64()).count()
    };
    for _ in 0..100 {
        if asks(&alice) + asks(&carol) == 2 {
            break;
        }
        server.clock().advance(10 * SECOND);
        bob.pumps().await;
    }
    assert_eq!([asks(&alice), asks(&carol)], [1, 1]);
    settle(&all).await;
    bob.has_read(&said, "I was here");
}

/// Those who have made the epoch and spoken there are gone, and one of all others was in it.
#[tokio::test]
async fn the_only_one_of_many_who_has_a_key_is_found_within_hours() {
    let server = SimServer::new(1);
    let keep = settings(HistoryPolicy::Keep);
    let alice = server.device("alice", "PHONE").room_settings(keep).logs_in().await;
    let alice = alice.creates_room().await;
    alice.says("hello").await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "ken"] {
        others.push(joins(&server, &alice, name).await);
    }
    let all: Vec<_> = std::iter::once(&alice).chain(&others).collect();
    settle(&all).await;
    assert_one_epoch(&all).await;
    // Bob and Carol go their own way for longer than the others hold the state where they part.
    let (two, rest): (Vec<_>, Vec<_>) = all.iter().partition(|device| {
        ["@bob:example.org", "@carol:example.org"].contains(&device.user_id().as_str())
    });
    let users = |devices: &[&SimDevice]| -> Vec<_> {
        devices.iter().map(|device| device.user_id().clone()).collect()
    };
    server.is_cut_into(&[users(&two), users(&rest)]);
    let [bob, _] = two.as_slice() else { panic!() };
    bob.updates_keys().await;
    let said = bob.says("only we two are here").await;
    settle(&two).await;
    alice.updates_keys().await;
    settle(&rest).await;
    for _ in 0..9 {
        time_passes(&rest, TestClock::DAY).await;
    }
    bob.leaves();
    server.heals();
    settle(&all).await;
    let left: Vec<_> = all.iter().copied().filter(|device| device.name() != bob.name()).collect();
    for _ in 0..8 {
        time_passes(&left, HOUR).await;
    }
    for device in left {
        device.has_read(&said, "only we two are here");
    }
}

/// The case that it is there for: nobody can enter an external commit after an hour.
#[tokio::test]
async fn an_external_commit_that_comes_late_is_no_loss() {
    let server = SimServer::new(1);
    let keep = settings(HistoryPolicy::Keep);
    let alice = server.device("alice", "PHONE").room_settings(keep).logs_in().await;
    let alice = alice.creates_room().await;
    alice.says("hello").await;
    let bob = joins(&server, &alice, "bob").await;
    let carol = server.device("carol", "DEVICE").logs_in().await;
    alice.invites(&carol);
    let carol = carol.joins(&alice).await;
    let all = [&alice, &bob, &carol];
    bob.syncs().await;
    let events: Vec<_> = server.events(bob.room()).iter().map(|event| event.to_json()).collect();
    carol.mls().receive_room_events(carol.room(), &[], &events).await.unwrap();
    // Carol alone on one side.
    server.is_cut_between(&[alice.user_id(), bob.user_id()], &[carol.user_id()]);
    for device in [&alice, &bob] {
        device.updates_keys().await;
        settle(&all).await;
    }
    time_passes(&all, 2 * HOUR).await;
    let said = carol.says("I let myself in").await;
    settle(&all).await;
    server.heals();
    settle(&all).await;
    for device in [&alice, &bob] {
        assert_eq!(device.reason(&said), "UnknownEpoch");
    }
    time_passes(&all, HOUR).await;
    assert_one_epoch(&all).await;
    for device in [&alice, &bob] {
        device.has_read(&said, "I let myself in");
    }
}

#[tokio::test]
async fn the_asked_give_nothing_but_to_who_asks_from_an_epoch_of_now() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let (request, whom) = late.request().await;
    // The control.
    assert_eq!(late.answer_of(whom, request.clone()).await.len(), 1);
    let other = STANDARD_NO_PAD.encode([9; 32]);
    for (field, value) in [
        ("tag", json!(other)),
        ("tag", json!("")),
        ("hpke_key", json!(other)),
        ("hpke_key", json!("")),
        ("request_id", json!("another")),
        ("nodes", json!([late.bob.node().await.unwrap()])),
        ("tip", json!(late.node)),
        ("signatures", json!({})),
        ("room_id", json!("!elsewhere:example.org")),
    ] {
        let mut altered = request.clone();
        altered[field] = value;
        let before = wants_sent(whom, ANSWER).await.len();
        assert_eq!(late.answer_of(whom, altered).await.len(), before, "{field}");
    }
}

/// Who has the device's Matrix key alone can sign a request, and not make its tag.
#[tokio::test]
async fn a_request_with_a_signature_and_no_members_tag_gets_nothing() {
    for is_a_members in [true, false] {
        let late = bob_is_late(HistoryPolicy::Keep).await;
        let (request, whom) = late.request().await;
        let first: ToDeviceKeyRequestEventContent = serde_json::from_value(request).unwrap();
        let group = late.bob.group().await;
        let (_, request) = request_of(&late.bob, &group, late.node, first.tip, "another").await;
        let mut request: ToDeviceKeyRequestEventContent = serde_json::from_value(request).unwrap();
        if !is_a_members {
            request.tag = vec![9; 32].into();
            let signed = request.signed_json().unwrap();
            request.signatures = late.bob.mls().signatures_of(&signed).await.unwrap();
        }
        let answers = late.answer_of(whom, serde_json::to_value(&request).unwrap()).await;
        assert_eq!(answers.len(), usize::from(is_a_members));
    }
}

/// Who takes a store can ask from the epochs that it has; not any more once the device has new keys.
#[tokio::test]
async fn a_thief_of_an_old_store_is_given_nothing() {
    for has_renewed in [false, true] {
        let late = bob_is_late(HistoryPolicy::Keep).await;
        let (request, whom) = late.request().await;
        let old: ToDeviceKeyRequestEventContent = serde_json::from_value(request).unwrap();
        let thief = late.bob.group().await;
        if has_renewed {
            late.bob.updates_keys().await;
        } else {
            late.alice.updates_keys().await;
        }
        settle(&[&late.alice, &late.carol]).await;
        // With everything that was Bob's then: the request is made anew, for the thief's own key.
        let (secret, stolen) = request_of(&late.bob, &thief, late.node, old.tip, "stolen").await;
        let answers = late.answer_of(whom, stolen).await;
        if has_renewed {
            assert!(answers.is_empty());
        } else {
            // What he could enter anyway by following the commits; this is the control.
            let [answer] = &*answers else { panic!("{answers:?}") };
            let answer: ToDeviceKeyAnswerEventContent =
                serde_json::from_value(answer.clone()).unwrap();
            let sealed = answer.keys[0].sealed();
            assert!(thief.open_epoch_key(late.node, &secret, "stolen", &sealed).is_ok());
        }
    }
}

/// The device has renewed its keys on a branch that lost, and what it holds of the other one is older.
#[tokio::test]
async fn a_thief_is_not_given_the_keys_of_a_branch_where_the_device_has_healed() {
    for renews_again in [false, true] {
        let server = SimServer::new(1);
        let keep = settings(HistoryPolicy::Keep);
        let alice = server.device("alice", "PHONE").room_settings(keep).logs_in().await;
        let alice = alice.creates_room().await;
        alice.says("hello").await;
        let bob = joins(&server, &alice, "bob").await;
        let carol = joins(&server, &alice, "carol").await;
        let dave = joins(&server, &alice, "dave").await;
        let all = [&alice, &bob, &carol, &dave];
        settle(&all).await;
        let old = bob.node().await.unwrap();
        let thief = bob.group().await;
        server
            .is_cut_between(&[alice.user_id(), bob.user_id()], &[carol.user_id(), dave.user_id()]);
        bob.updates_keys().await;
        let healed = bob.node().await.unwrap();
        server.clock().advance(TestClock::MINUTE);
        for device in [&carol, &dave] {
            device.updates_keys().await;
            settle(&all).await;
        }
        server.heals();
        settle(&all).await;
        server.clock().advance(TestClock::MINUTE);
        assert_one_epoch(&all).await;
        if renews_again {
            bob.updates_keys().await;
            settle(&all).await;
        }
        let tip = if renews_again { bob.node().await.unwrap() } else { old };
        let group = if renews_again { bob.group().await } else { thief };
        let (_, request) = request_of(&bob, &group, healed, tip, "stolen").await;
        gets(&alice, vec![(bob.user_id(), REQUEST, request)]).await;
        // Once he has renewed them again, he asks with what a thief has not.
        assert_eq!(wants_sent(&alice, ANSWER).await.len(), usize::from(renews_again));
    }
}

#[tokio::test]
async fn who_left_the_room_or_was_not_in_the_epoch_is_given_nothing() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let (request, whom) = late.request().await;
    late.alice.kicks(&late.bob);
    settle(&[&late.alice, &late.carol]).await;
    assert!(late.answer_of(whom, request).await.is_empty());

    // Dave came after that.
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let dave = joins(&late.server, &late.alice, "dave").await;
    settle(&[&late.alice, &late.carol, &dave]).await;
    let tip = dave.node().await.unwrap();
    let mut counts = Vec::new();
    for node in [tip, late.node] {
        let id = format!("{node:?}");
        let (_, request) = request_of(&dave, &dave.group().await, node, tip, &id).await;
        late.server.clock().advance(61 * SECOND);
        gets(&late.alice, vec![(dave.user_id(), REQUEST, request)]).await;
        counts.push(wants_sent(&late.alice, ANSWER).await.len());
    }
    // For the epoch that he is in he gets one: the control.
    assert_eq!(counts, [1, 1]);
}

#[tokio::test]
async fn nobody_asks_where_messages_are_read_once() {
    let late = bob_is_late(HistoryPolicy::None).await;
    time_passes(&late.all(), HOUR).await;
    assert_eq!(requests(&late.bob, RequestKind::KeyRequest), 0);
    assert!(late.bob.text(&late.by_alice).is_none());
}

#[tokio::test]
async fn who_gets_no_answer_asks_others_and_not_for_ever() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    for device in [&late.alice, &late.carol] {
        for _ in 0..100 {
            late.server.next_goes_wrong(device.name(), RequestKind::KeyAnswer, Fault::Refused);
        }
    }
    let mut asked = BTreeSet::new();
    for _ in 0..12 {
        time_passes(&late.all(), 10 * SECOND).await;
        asked.extend(keys(&late.bob).await.open.into_iter().map(|request| request.asked));
    }
    assert_eq!(asked.len(), 2);
    late.bob.restarts().await;
    time_passes(&late.all(), 6 * TestClock::DAY).await;
    let asked = requests(&late.bob, RequestKind::KeyRequest);
    assert!((24..=33).contains(&asked), "{asked}");
    // The private halves of what he asked by are erased after a day.
    assert!(keys(&late.bob).await.open.len() <= 2);
    time_passes(&late.all(), 23 * TestClock::DAY).await;
    assert!(requests(&late.bob, RequestKind::KeyRequest) < asked + 26);
    // The messages have waited long enough, and the key with them.
    late.server.clock().advance(2 * TestClock::DAY);
    late.bob.pumps().await;
    assert!(keys(&late.bob).await.is_empty());
}

#[tokio::test]
async fn the_request_survives_a_restart_and_a_lost_answer() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let (request, whom) = late.request().await;
    let answers = late.answer_of(whom, request).await;
    late.bob.restarts().await;
    // To somebody else than the one who was asked, or under another name, it is nothing.
    let other = if whom.name() == late.alice.name() { &late.carol } else { &late.alice };
    let mut unsolicited = answers[0].clone();
    unsolicited["request_id"] = json!("another");
    gets(
        &late.bob,
        vec![(other.user_id(), ANSWER, answers[0].clone()), (whom.user_id(), ANSWER, unsolicited)],
    )
    .await;
    assert!(late.bob.text(&late.by_alice).is_none());
    gets(&late.bob, vec![(whom.user_id(), ANSWER, answers[0].clone())]).await;
    late.bob.syncs().await;
    late.bob.has_read(&late.by_alice, "by Alice");
}

/// A group in which an epoch has a key that was made up.
fn with_false_key(mut group: Group, node: NodeId) -> Group {
    let parts = group.epoch_key(&node).unwrap().to_parts();
    let secret = Secret::from_bytes([7; 32]);
    let parts = EpochKeyParts { tree: SecretTree::Whole(secret), ..parts };
    let mut changes = matrix_dmls::GroupChanges::default();
    let key = EpochKey::from_parts(parts).unwrap();
    changes.epoch_keys.insert(node, Some(std::sync::Arc::new(key)));
    group.apply(changes);
    group
}

/// An answer to a request, by this group.
fn answer(group: &Group, node: NodeId, request: &Value) -> Value {
    let request: ToDeviceKeyRequestEventContent = serde_json::from_value(request.clone()).unwrap();
    let to = <[u8; 32]>::try_from(&*request.hpke_key.0).unwrap();
    let sealed = group.seal_epoch_key(node, &to, &request.request_id).unwrap();
    let keys = vec![EncryptedEpochKey::new(node, sealed)];
    let answer = ToDeviceKeyAnswerEventContent::new(request.room_id, request.request_id, keys);
    serde_json::to_value(&answer).unwrap()
}

/// What a member posts that is read by a key that it has made up.
async fn posts_under_false_key(liar: &SimDevice, group: &Group, node: NodeId) -> OwnedEventId {
    let account = liar.store().load_account().await.unwrap().unwrap();
    let local = LocalMember::new(account.identity, &account.seed).unwrap();
    let text = json!({
        "type": "m.room.message", "room_id": liar.room(),
        "content": { "msgtype": "m.text", "body": "a lie" },
    });
    let bytes = group.encrypt(node, &local, 99, vec![], text.to_string().as_bytes()).unwrap();
    let content = serde_json::to_value(MlsEncryptedEventContent::new(bytes, node)).unwrap();
    let (room, user) = (liar.room(), liar.user_id());
    liar.server().forges_event(room, user, "m.room.encrypted", None, content)
}

/// An event that names an epoch, and that no key reads.
fn posts_garbage(late: &Late) -> OwnedEventId {
    let event = late.server.event(late.bob.room(), &late.by_alice);
    let mut content = event.content;
    let mut bytes = STANDARD_NO_PAD.decode(content["ciphertext"].as_str().unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    content["ciphertext"] = json!(STANDARD_NO_PAD.encode(bytes));
    let (room, user) = (late.bob.room(), late.carol.user_id());
    late.server.forges_event(room, user, "m.room.encrypted", None, content)
}

#[tokio::test]
async fn a_false_key_that_reads_nothing_keeps_nobody_from_reading() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let (request, liar) = late.request().await;
    let lie = answer(&with_false_key(liar.group().await, late.node), late.node, &request);
    gets(&late.bob, vec![(liar.user_id(), ANSWER, lie)]).await;
    assert!(late.bob.group().await.epoch_key(&late.node).is_none());
    assert!(keys(&late.bob).await.wanted[&late.node].given.contains(liar.user_id()));
    time_passes(&late.all(), 2 * TestClock::MINUTE).await;
    late.bob.has_read(&late.by_alice, "by Alice");
    late.bob.has_read(&late.by_carol, "by Carol");
    // Who has lied is not asked again.
    let asked: Vec<_> = keys(&late.bob).await.asked.into_iter().map(|(user, _)| user).collect();
    assert_eq!(asked.iter().filter(|user| *user == liar.user_id()).count(), 1);
}

/// The giver has posted a message that the false key reads, its own.
#[tokio::test]
async fn a_false_key_reads_what_its_giver_says_and_the_true_one_the_rest() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let (request, liar) = late.request().await;
    let group = with_false_key(liar.group().await, late.node);
    // What the liar has said truly before that has got lost, so nothing of its is read by the true key.
    let (of_liar, honest) = if liar.name() == late.alice.name() {
        (&late.by_alice, (&late.by_carol, "by Carol"))
    } else {
        (&late.by_carol, (&late.by_alice, "by Alice"))
    };
    let mut changes = crate::store::Changes::default();
    changes.room(late.bob.room()).queued.insert(of_liar.clone(), None);
    late.bob.store().save_changes(changes).await.unwrap();
    let posted = posts_under_false_key(liar, &group, late.node).await;
    late.bob.syncs().await;
    let lie = answer(&group, late.node, &request);
    gets(&late.bob, vec![(liar.user_id(), ANSWER, lie)]).await;
    late.bob.syncs().await;
    late.bob.has_read(&posted, "a lie");
    assert_eq!(late.bob.reason(honest.0), "UnknownEpoch");
    time_passes(&late.all(), 2 * TestClock::MINUTE).await;
    late.bob.has_read(honest.0, honest.1);
    // Both are held, after a restart too, since nobody can tell which is the epoch's.
    late.bob.restarts().await;
    for event in [&posted, honest.0, of_liar] {
        let event = late.server.event(late.bob.room(), event).to_json();
        late.bob.mls().decrypt_room_event(&event, late.bob.room()).await.unwrap();
    }
}

/// The one who has the key gives it before it has said anything there.
#[tokio::test]
async fn a_key_that_came_before_anything_that_it_reads_is_held() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    let (request, whom) = late.request().await;
    let garbage = posts_garbage(&late);
    let mut changes = crate::store::Changes::default();
    let queued = &mut changes.room(late.bob.room()).queued;
    queued.extend([&late.by_alice, &late.by_carol].map(|event| (event.clone(), None)));
    late.bob.store().save_changes(changes).await.unwrap();
    late.bob.syncs().await;
    let answers = late.answer_of(whom, request).await;
    gets(&late.bob, vec![(whom.user_id(), ANSWER, answers[0].clone())]).await;
    assert!(late.bob.group().await.epoch_key(&late.node).is_none());
    assert_eq!(late.bob.reason(&garbage), "UnknownEpoch");
    // What comes now is read at once.
    let event = late.server.event(late.bob.room(), &late.by_carol).to_json();
    late.bob.mls().decrypt_room_event(&event, late.bob.room()).await.unwrap();
    assert!(late.bob.group().await.epoch_key(&late.node).is_some());
    // The garbage is asked about at everybody once, and not for ever.
    let event = late.server.event(late.bob.room(), &garbage).to_json();
    late.bob.mls().decrypt_room_event(&event, late.bob.room()).await.unwrap_err();
    let before = requests(&late.bob, RequestKind::KeyRequest);
    time_passes(&late.all(), TestClock::DAY).await;
    assert!(requests(&late.bob, RequestKind::KeyRequest) <= before + 2);
}

#[tokio::test]
async fn who_hears_of_the_epoch_only_after_the_request_answers_then() {
    let late = bob_is_late(HistoryPolicy::Keep).await;
    // Bob is in an epoch that nobody else knows yet.
    late.bob.updates_keys().await;
    let (request, whom) = late.request().await;
    let sync = late.server.sync(whom.name());
    assert!(late.answer_of(whom, request).await.is_empty());
    whom.takes(&sync).await.unwrap();
    assert_eq!(wants_sent(whom, ANSWER).await.len(), 1);
}

/// One of the author's devices has the key, the other has not.
#[tokio::test]
async fn the_device_that_has_made_the_epoch_is_asked() {
    for _ in 0..4 {
        let server = SimServer::new(1);
        let keep = settings(HistoryPolicy::Keep);
        let alice = server.device("alice", "PHONE").room_settings(keep).logs_in().await;
        let alice = alice.creates_room().await;
        alice.says("hello").await;
        let bob = joins(&server, &alice, "bob").await;
        let laptop = server.device("bob", "LAPTOP").logs_in().await.looks_with(&bob);
        laptop.syncs().await;
        alice.syncs().await;
        alice.says("and the laptop").await;
        let all = [&alice, &bob, &laptop];
        settle(&all).await;
        assert_one_epoch(&all).await;
        // The laptop renews its keys, and the others hear of it when they hold that state no more.
        laptop.updates_keys().await;
        let commit = server.last_event(alice.room(), "io.github.matrix-mls.dmls.v1.commit");
        for device in [&alice, &bob] {
            server.withholds_from(device.name(), &commit, true);
        }
        let said = laptop.says("only I am here").await;
        server.clock().advance(TestClock::MINUTE);
        for device in [&alice, &bob] {
            device.updates_keys().await;
            settle(&[&alice, &bob]).await;
        }
        server.clock().advance(9 * TestClock::DAY);
        settle(&[&alice, &bob]).await;
        for device in [&alice, &bob] {
            server.withholds_from(device.name(), &commit, false);
            let event = server.event(alice.room(), &commit).to_json();
            device.mls().receive_room_events(device.room(), &[], &[event]).await.unwrap();
        }
        time_passes(&all, 3 * HOUR).await;
        assert_one_epoch(&all).await;
        alice.has_read(&said, "only I am here");
        bob.has_read(&said, "only I am here");
    }
}

/// The answer's changes are stored, and what follows fails, at every write.
#[tokio::test]
async fn a_write_that_fails_loses_no_message() {
    for nth in 0..10 {
        let late = bob_is_late(HistoryPolicy::Keep).await;
        let (request, whom) = late.request().await;
        let answers = late.answer_of(whom, request).await;
        let bob = &late.bob;
        let content = serde_json::from_value(answers[0].clone()).unwrap();
        bob.store().die_at(nth);
        let before = bob.store().attempts();
        let taken = bob.mls().take_key_answer(whom.user_id(), &content).await;
        let attempts = bob.store().attempts() - before;
        bob.store().heal();
        bob.restarts().await;
        bob.mls().take_key_answer(whom.user_id(), &content).await.unwrap();
        settle(&[bob]).await;
        late.alice.says("something").await;
        settle(&late.all()).await;
        bob.has_read(&late.by_alice, "by Alice");
        bob.has_read(&late.by_carol, "by Carol");
        if taken.is_ok() {
            assert!(nth > 0 && attempts == nth, "{nth} {attempts}");
            return;
        }
    }
    panic!("the answer is never taken");
}
