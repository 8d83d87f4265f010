//! Requests for commits and their answers, by those who mean no good.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use matrix_dmls::NodeId;
use ruma::{
    DeviceKeyAlgorithm, DeviceKeyId, OwnedEventId, OwnedUserId, events::AnyToDeviceEvent,
    serde::Raw,
};
use serde_json::{Value, json, value::to_raw_value};

use super::{
    assert_one_epoch, joins,
    missing::{COMMIT, commits, gaps, pass, requests, three},
    settle,
};
use crate::{
    AnyOutgoingRequest,
    testing::{RequestKind, SimDevice, SimServer, SimSync, TestClock},
    types::events::ToDeviceCommitRequestEventContent,
};

const REQUEST: &str = "io.github.matrix-mls.dmls.v1.commit_request";
const GRAPH: &str = "io.github.matrix-mls.dmls.v1.graph";
const SECOND: u64 = TestClock::MINUTE / 60;

/// Gives a device messages as if its server had brought them.
pub(super) async fn gets(device: &SimDevice, messages: Vec<(&OwnedUserId, &str, Value)>) {
    let event = |(sender, event_type, content): (&OwnedUserId, &str, Value)| {
        let json = json!({ "sender": sender, "type": event_type, "content": content });
        Raw::<AnyToDeviceEvent>::from_json(to_raw_value(&json).unwrap())
    };
    let to_device = messages.into_iter().map(event).collect();
    device.takes(&SimSync { to_device, ..SimSync::default() }).await.unwrap();
}

/// The content of a to-device message of this type that a device wants sent.
pub(super) async fn wants_sent(device: &SimDevice, event_type: &str) -> Vec<Value> {
    let mut contents = Vec::new();
    for request in device.mls().outgoing_requests().await.unwrap() {
        if let AnyOutgoingRequest::ToDevice(request) = request.request()
            && request.event_type.to_string() == event_type
        {
            let all = request.messages.values().flat_map(|devices| devices.values());
            contents.extend(all.map(|content| content.deserialize_as_unchecked().unwrap()));
        }
    }
    contents
}

/// Bob has asked Alice for a commit that his server withholds. Alice's answer is known, and was not
/// sent.
struct Asked {
    server: SimServer,
    alice: SimDevice,
    bob: SimDevice,
    carol: SimDevice,
    said: OwnedEventId,
    answer: Value,
}

async fn asked() -> Asked {
    let (server, alice, bob, carol) = three().await;
    let event = commits(&alice).await;
    server.withholds_from(bob.name(), &event, true);
    let said = alice.says("unheard").await;
    carol.syncs().await;
    bob.syncs().await;
    let sync = server.sync(alice.name());
    alice.takes(&sync).await.unwrap();
    let answers = wants_sent(&alice, GRAPH).await;
    assert_eq!(answers.len(), 1);
    let answer = answers[0].clone();
    // It is not sent: whoever asks Alice again hears nothing.
    server.next_goes_wrong(alice.name(), RequestKind::Graph, crate::testing::Fault::Refused);
    alice.pumps().await;
    Asked { server, alice, bob, carol, said, answer }
}

impl Asked {
    /// Bob gets this answer; it helps him nothing, and the next one to be asked does.
    async fn does_not_fool_bob(&self, answer: Value) {
        let Self { alice, bob, carol, said, .. } = self;
        let before = bob.status().await.unwrap();
        gets(bob, vec![(alice.user_id(), GRAPH, answer)]).await;
        let after = bob.status().await.unwrap();
        assert_eq!((before.node, before.tips), (after.node, after.tips));
        assert_eq!(bob.reason(said), "UnknownEpoch");
        pass(&[bob], 21 * SECOND).await;
        assert_eq!(requests(bob, RequestKind::CommitRequest), 2);
        settle(&[bob, carol]).await;
        assert_eq!(requests(carol, RequestKind::Graph), 1);
        bob.has_read(said, "unheard");
    }
}

#[tokio::test]
async fn an_answer_is_taken_once_from_whom_was_asked() {
    let Asked { alice, bob, carol, said, answer, .. } = asked().await;
    // Nobody has asked for this one, nor Carol, nor in another room.
    let mut unsolicited = answer.clone();
    unsolicited["request_id"] = json!("another");
    let mut elsewhere = answer.clone();
    elsewhere["room_id"] = json!("!elsewhere:example.org");
    gets(
        &bob,
        vec![
            (alice.user_id(), GRAPH, unsolicited),
            (carol.user_id(), GRAPH, answer.clone()),
            (alice.user_id(), GRAPH, elsewhere),
        ],
    )
    .await;
    assert_eq!(bob.reason(&said), "UnknownEpoch");
    // The control.
    gets(&bob, vec![(alice.user_id(), GRAPH, answer.clone())]).await;
    bob.has_read(&said, "unheard");
    let open = gaps(&bob).await.requests.iter().filter(|request| !request.answered).count();
    assert_eq!(open, 0);
}

#[tokio::test]
async fn an_answer_of_garbage_is_no_answer() {
    for garbage in [json!(null), json!("AAAA"), json!("no base64!")] {
        let asked = asked().await;
        let mut answer = asked.answer.clone();
        answer["graph"]["commits"][0]["content"]["commit"] = garbage;
        if answer["graph"]["commits"][0]["content"]["commit"] == "no base64!" {
            // Not even read, so the request is still open, and the true answer still taken.
            gets(&asked.bob, vec![(asked.alice.user_id(), GRAPH, answer)]).await;
            let answer = asked.answer.clone();
            gets(&asked.bob, vec![(asked.alice.user_id(), GRAPH, answer)]).await;
            asked.bob.has_read(&asked.said, "unheard");
        } else {
            asked.does_not_fool_bob(answer).await;
        }
    }
}

#[tokio::test]
async fn an_answer_from_another_room_is_no_answer() {
    let asked = asked().await;
    let other = asked.alice.creates_room().await;
    other.says("alone").await;
    other.updates_keys().await;
    let mut answer = asked.answer.clone();
    let foreign = asked.server.last_event(other.room(), COMMIT);
    let content = asked.server.event(other.room(), &foreign).content;
    answer["graph"]["commits"] = json!([{ "event_id": foreign, "age": 0, "content": content }]);
    asked.does_not_fool_bob(answer).await;
}

#[tokio::test]
async fn an_answer_of_too_many_commits_is_no_answer() {
    let asked = asked().await;
    let mut answer = asked.answer.clone();
    let junk = json!({ "event_id": "$a", "content": { "algorithm": "", "parent_context": "" } });
    let commits = answer["graph"]["commits"].as_array_mut().unwrap();
    commits.extend(vec![junk; matrix_dmls::MAX_PASSED_ON]);
    assert!(answer.to_string().len() < 65_536);
    asked.does_not_fool_bob(answer).await;
}

#[tokio::test]
async fn an_altered_copy_does_not_bar_the_true_one() {
    let asked = asked().await;
    let mut answer = asked.answer.clone();
    let commit = &mut answer["graph"]["commits"][0]["content"]["commit"];
    let mut bytes = STANDARD_NO_PAD.decode(commit.as_str().unwrap()).unwrap();
    // The membership tag: the node is known by this, but not entered.
    *bytes.last_mut().unwrap() ^= 1;
    *commit = json!(STANDARD_NO_PAD.encode(bytes));
    let Asked { server, alice, bob, said, .. } = &asked;
    gets(bob, vec![(alice.user_id(), GRAPH, answer)]).await;
    assert_eq!(bob.reason(said), "UnknownEpoch");
    // The event itself lets him in, once it comes.
    let event = server.last_event(alice.room(), COMMIT);
    let event = server.event(alice.room(), &event).to_json();
    bob.mls().receive_room_events(bob.room(), &[], &[event]).await.unwrap();
    bob.pumps().await;
    bob.has_read(said, "unheard");
}

/// A request, signed as `by`.
async fn request(by: &SimDevice, id: &str, nodes: Vec<NodeId>, tips: Vec<NodeId>) -> Value {
    let room_id = by.room().to_owned();
    let mut content = ToDeviceCommitRequestEventContent::new(room_id, id.to_owned(), nodes, tips);
    let signatures = by.olm().sign(&content.signed_json().unwrap()).await.unwrap();
    let (user_id, device_id) = by.name();
    let key_id = DeviceKeyId::from_parts(DeviceKeyAlgorithm::Ed25519, device_id);
    let signature = signatures.get_signature(user_id, &key_id).unwrap().to_base64();
    content.signatures.insert(user_id.clone(), [(key_id.to_string(), signature)].into());
    serde_json::to_value(content).unwrap()
}

/// How often Alice has answered Bob's device after she has got these messages.
async fn answers(alice: &SimDevice, messages: Vec<(&OwnedUserId, &str, Value)>) -> usize {
    let before = requests(alice, RequestKind::Graph);
    gets(alice, messages).await;
    alice.pumps().await;
    requests(alice, RequestKind::Graph) - before
}

#[tokio::test]
async fn a_flood_of_requests_is_answered_once_a_minute() {
    let (server, alice, bob, carol) = three().await;
    let tip = bob.node().await.unwrap();
    alice.updates_keys().await;
    settle(&[&alice, &bob, &carol]).await;
    let new = alice.node().await.unwrap();
    for _ in 0..3 {
        let mut flood = Vec::new();
        for number in 0..50 {
            let id = number.to_string();
            flood.push((bob.user_id(), REQUEST, request(&bob, &id, vec![new], vec![tip]).await));
        }
        assert_eq!(answers(&alice, flood).await, 1);
        let more = request(&bob, "more", vec![new], vec![tip]).await;
        assert_eq!(answers(&alice, vec![(bob.user_id(), REQUEST, more)]).await, 0);
        // Somebody else does not have to wait for him.
        let other = request(&carol, "other", vec![new], vec![tip]).await;
        assert_eq!(answers(&alice, vec![(carol.user_id(), REQUEST, other)]).await, 1);
        server.clock().advance(61 * SECOND);
    }
    // All of these are the same commit, posted again once.
    let count = server.count(alice.room(), COMMIT);
    for _ in 0..10 {
        pass(&[&alice, &bob, &carol], 5 * SECOND).await;
    }
    assert!(server.count(alice.room(), COMMIT) <= count + 1);
}

#[tokio::test]
async fn only_devices_of_the_room_are_answered() {
    let (server, alice, bob, carol) = three().await;
    let tip = bob.node().await.unwrap();
    alice.updates_keys().await;
    let mallory = server.device("mallory", "DEVICE").logs_in().await.looks_with(&alice);
    settle(&[&alice, &bob, &carol]).await;
    let new = alice.node().await.unwrap();
    let nothing = NodeId::from_bytes([9; 32]);
    let good = request(&bob, "id", vec![new], vec![tip]).await;
    let mut unsigned = good.clone();
    unsigned["signatures"] = json!({});
    let mut altered = good.clone();
    altered["request_id"] = json!("other");
    let mut cut = good.clone();
    cut["nodes"] = json!(vec![new; 11]);
    let bad = [
        (bob.user_id(), unsigned),
        (bob.user_id(), altered),
        (bob.user_id(), cut),
        (bob.user_id(), request(&bob, "id", vec![new; 11], vec![tip]).await),
        (bob.user_id(), request(&bob, "id", vec![new], vec![tip; 33]).await),
        (bob.user_id(), json!({ "room_id": 5 })),
        // Another's signature, under one's own name and under that one's.
        (carol.user_id(), good.clone()),
        (bob.user_id(), request(&carol, "id", vec![new], vec![tip]).await),
        (mallory.user_id(), request(&mallory, "id", vec![new], vec![tip]).await),
        // Nobody knows it.
        (carol.user_id(), request(&carol, "id", vec![nothing], vec![tip]).await),
    ];
    for (number, (sender, content)) in bad.into_iter().enumerate() {
        assert_eq!(answers(&alice, vec![(sender, REQUEST, content)]).await, 0, "{number}");
    }
    // The control: none of these has used up Bob's turn.
    assert_eq!(answers(&alice, vec![(bob.user_id(), REQUEST, good)]).await, 1);
    // He is not answered after he has left.
    bob.leaves();
    alice.syncs().await;
    server.clock().advance(TestClock::HOUR);
    let after = request(&bob, "id", vec![new], vec![tip]).await;
    assert_eq!(answers(&alice, vec![(bob.user_id(), REQUEST, after)]).await, 0);
}

/// Commits whose parents nobody has ever seen.
fn forge_orphans(server: &SimServer, by: &SimDevice, count: u8) {
    let last = server.last_event(by.room(), COMMIT);
    let content = server.event(by.room(), &last).content;
    let parent = STANDARD_NO_PAD.decode(content["parent"].as_str().unwrap()).unwrap();
    let commit = STANDARD_NO_PAD.decode(content["commit"].as_str().unwrap()).unwrap();
    let place = commit.windows(32).position(|window| window == parent).unwrap();
    for number in 0..count {
        let (mut commit, mut content) = (commit.clone(), content.clone());
        let mut parent = [number; 32];
        parent[1] = by.user_id().as_str().as_bytes()[1];
        commit[place..place + 32].copy_from_slice(&parent);
        content["commit"] = json!(STANDARD_NO_PAD.encode(commit));
        content["parent"] = json!(STANDARD_NO_PAD.encode(parent));
        content.as_object_mut().unwrap().remove("parent_event");
        server.forges_event(by.room(), by.user_id(), COMMIT, None, content);
    }
}

#[tokio::test]
async fn who_names_what_does_not_exist_causes_little() {
    let (server, alice, bob, carol) = three().await;
    let dave = joins(&server, &alice, "dave").await;
    settle(&[&alice, &bob, &carol, &dave]).await;
    forge_orphans(&server, &bob, 30);
    alice.syncs().await;
    let open = gaps(&alice).await;
    assert_eq!(open.nodes.len(), 10);
    assert!(open.nodes.values().all(|gap| gap.named_by == *bob.user_id()));
    // Others' are not kept out by this.
    forge_orphans(&server, &carol, 30);
    alice.syncs().await;
    assert_eq!(gaps(&alice).await.nodes.len(), 20);
    // No more than three requests in any minute.
    let mut times = Vec::new();
    let mut known = 0;
    for _ in 0..(3 * 24 * 60) {
        alice.pumps().await;
        let now = requests(&alice, RequestKind::CommitRequest);
        times.push(now - known);
        known = now;
        server.clock().advance(TestClock::MINUTE);
    }
    assert!(times.iter().all(|count| *count <= 3), "{times:?}");
    // Each epoch at most 5 times, ten of them in one request.
    assert!(known <= 20 * 5, "{known}");
    assert!(gaps(&alice).await.nodes.values().all(|gap| gap.tries == 5));
    assert_eq!(requests(&bob, RequestKind::Graph), 0);
    // However long it goes on, what Dave names has its place.
    for _ in 0..4 {
        for device in [&bob, &carol] {
            forge_orphans(&server, device, 60);
            alice.syncs().await;
        }
        let open = gaps(&alice).await;
        assert!(open.nodes.values().filter(|gap| gap.tries < 5).count() <= 20);
        assert!(open.nodes.len() <= 64);
        for _ in 0..(3 * 60) {
            alice.pumps().await;
            server.clock().advance(TestClock::MINUTE);
        }
    }
    assert!(gaps(&alice).await.nodes.len() > 40);
    let event = commits(&dave).await;
    server.withholds_from(alice.name(), &event, true);
    let said = dave.says("this one exists").await;
    alice.syncs().await;
    assert_eq!(alice.reason(&said), "UnknownEpoch");
    settle(&[&alice, &dave]).await;
    pass(&[&alice, &dave], TestClock::MINUTE).await;
    alice.has_read(&said, "this one exists");
    // After a week nothing is left of it.
    server.clock().advance(8 * TestClock::DAY);
    alice.syncs().await;
    assert!(gaps(&alice).await.is_empty());
    settle(&[&alice, &bob]).await;
    let said = alice.says("all is well").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&said, "all is well");
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn the_device_that_named_it_is_asked_first_and_then_two_others() {
    let (server, alice, bob, carol) = three().await;
    let dave = joins(&server, &alice, "dave").await;
    let erin = joins(&server, &alice, "erin").await;
    let all = [&alice, &bob, &carol, &dave, &erin];
    settle(&all).await;
    forge_orphans(&server, &bob, 1);
    alice.syncs().await;
    for _ in 0..10 {
        server.clock().advance(TestClock::HOUR);
        alice.pumps().await;
    }
    let mut asked = Vec::new();
    for device in all {
        let sync = server.sync(device.name());
        let is_request = |event: &&Raw<AnyToDeviceEvent>| event.json().get().contains(REQUEST);
        asked.push(sync.to_device.iter().filter(is_request).count());
    }
    assert_eq!(asked[0], 0);
    // Five times, turn by turn.
    assert_eq!(asked[1], 2, "{asked:?}");
    assert_eq!(asked.iter().sum::<usize>(), 5);
    assert_eq!(asked.iter().filter(|count| **count > 0).count(), 3, "{asked:?}");
}

/// A branch that lies beside the anchor does not count any more. What was said there can be read.
#[tokio::test]
async fn commits_beside_the_anchor_are_given_too() {
    let (server, alice, bob, carol) = three().await;
    let dave = joins(&server, &alice, "dave").await;
    let [erin, frank] =
        [joins(&server, &alice, "erin").await, joins(&server, &alice, "frank").await];
    let all = [&alice, &bob, &carol, &dave, &erin, &frank];
    let here = [&alice, &carol, &erin];
    settle(&all).await;
    let parted = alice.epoch().await.unwrap();
    let users = |devices: &[&SimDevice]| devices.iter().map(|d| d.user_id().clone()).collect();
    server.is_cut_into(&[users(&here), users(&[&bob, &dave, &frank])]);
    // On this side all three go on, and within days the anchor goes below where the two sides part.
    for _ in 0..2 {
        for device in here {
            device.updates_keys().await;
            settle(&here).await;
        }
        for time in [1, 1, 1, 8 * 24 * 60, 1, 1, 1] {
            pass(&here, time * TestClock::MINUTE).await;
        }
    }
    let withheld = commits(&bob).await;
    settle(&[&bob, &dave]).await;
    dave.updates_keys().await;
    let said = dave.says("beside").await;
    let beside = dave.node().await.unwrap();

    server.withholds_from(carol.name(), &withheld, true);
    server.heals();
    // All others have heard of the anchor when Carol asks.
    settle(&[&alice, &bob, &dave, &erin, &frank]).await;
    settle(&all).await;
    let graph = alice.mls().epoch_graph(alice.room()).await.unwrap();
    let start = graph.nodes.iter().find(|node| Some(node.node) == graph.start).unwrap();
    assert!(start.epoch > parted);
    assert!(graph.nodes.iter().any(|node| node.node == beside));
    // Nobody posts it again.
    for device in all {
        for _ in 0..100 {
            server.next_goes_wrong(
                device.name(),
                RequestKind::Commit,
                crate::testing::Fault::Refused,
            );
        }
    }
    for _ in 0..10 {
        pass(&all, 21 * SECOND).await;
    }
    // The state where the sides part is gone by now: they ask for the epoch's key.
    alice.has_read(&said, "beside");
    carol.has_read(&said, "beside");
}
