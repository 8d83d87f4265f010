//! What the events look like on the wire, for ever.

use insta::assert_json_snapshot;
use matrix_dmls::{InstanceId, NodeId};
use ruma::{
    device_id,
    events::{MessageLikeEventContent as _, StateEventContent as _, ToDeviceEventContent as _},
    owned_event_id, owned_mxc_uri, room_id, user_id,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::to_raw_value};

use super::*;

const fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

fn small_commit() -> CommitEventContent {
    CommitEventContent::new(vec![1, 2, 3], None, vec![4, 5])
}

fn commit() -> CommitEventContent {
    let mut content = CommitEventContent::new(vec![1, 2, 3], Some(node(7)), vec![4, 5]);
    content.parent_event = Some(owned_event_id!("$parent"));
    content.group_info = Some(vec![6; 10].into());
    content.tree = Some(vec![7; 10].into());
    content.relay = true;
    content
}

fn commit_in_a_file() -> CommitEventContent {
    let mut content = small_commit();
    content.commit = None;
    content.commit_file = Some(file());
    content.encrypted_group_info = Some(vec![8; 10].into());
    content.tree_file = Some(file());
    content
}

fn file() -> MediaFile {
    MediaFile {
        url: owned_mxc_uri!("mxc://example.org/file"),
        sha256: vec![9; 32].into(),
        size: 100_000,
    }
}

#[test]
fn what_is_in_a_file_is_sent_once_and_believed_if_it_is_the_file() {
    let mut content = commit();
    content.commit_file = Some(MediaFile::new(owned_mxc_uri!("mxc://example.org/one"), &[1, 2, 3]));
    content.tree_file = Some(MediaFile::new(owned_mxc_uri!("mxc://example.org/two"), &[7; 10]));
    let sent = content.to_be_sent();
    assert_eq!((&sent.commit, &sent.tree), (&None, &None));
    let mut filled = sent;
    assert!(!filled.fill(&[1, 2, 4]) && !filled.fill(&[7; 9]));
    assert!(filled.fill(&[1, 2, 3]) && filled.fill(&[7; 10]));
    assert_eq!(filled, content);
    // What an event says of files beside what it has itself is nobody's business.
    filled.commit = Some(vec![3, 2, 1].into());
    filled.tidy();
    assert_eq!((filled.commit_file, filled.tree_file), (None, content.tree_file));
}

#[test]
fn a_file_is_fetched_within_limits() {
    assert!(file().may_be_fetched());
    let size = MediaFile::MAX_SIZE + 1;
    assert!(!MediaFile { size, ..file() }.may_be_fetched());
    assert!(!MediaFile { sha256: vec![9; 31].into(), ..file() }.may_be_fetched());
    assert!(!MediaFile { url: "https://example.org/file".into(), ..file() }.may_be_fetched());
}

fn group() -> GroupEventContent {
    GroupEventContent::new(node(1), InstanceId::from_bytes([2; 32]))
}

fn group_with_anchor() -> GroupEventContent {
    GroupEventContent { anchor: Some(node(3)), ..group() }
}

fn message() -> MlsEncryptedEventContent {
    MlsEncryptedEventContent::new(vec![0xff, 0xfe, 0xfd], node(1))
}

fn related_message() -> MlsEncryptedEventContent {
    let mut content = message();
    content.epoch_event = Some(owned_event_id!("$epoch"));
    let relation = json!({ "rel_type": "m.thread", "event_id": "$thread" });
    content.relates_to = Some(to_raw_value(&relation).unwrap());
    content
}

fn welcome() -> ToDeviceWelcomeEventContent {
    ToDeviceWelcomeEventContent::new(
        room_id!("!room:example.org").to_owned(),
        node(1),
        owned_event_id!("$epoch"),
        vec![1, 2, 3, 4],
    )
}

fn join_request() -> ToDeviceJoinRequestEventContent {
    let mut content = ToDeviceJoinRequestEventContent::new(
        matrix_dmls::ALGORITHM.to_owned(),
        room_id!("!room:example.org").to_owned(),
        Some(node(1)),
        "request".to_owned(),
        1_600_000_000_000,
        vec![1, 2, 3],
    );
    content.sign(user_id!("@alice:example.org"), device_id!("PHONE"), "signature".to_owned());
    content
}

#[test]
fn a_join_request_is_signed_as_canonical_json() {
    let content = join_request();
    let mut json = serde_json::to_value(&content).unwrap();
    json.as_object_mut().unwrap().remove("signatures");
    let canonical: ruma::CanonicalJsonValue = json.try_into().unwrap();
    assert_eq!(content.signed_json().unwrap(), canonical.to_string());
    let without_tip = ToDeviceJoinRequestEventContent { tip: None, ..content.clone() };
    assert!(!without_tip.signed_json().unwrap().contains("tip"));
    // What no device of ours sends has none.
    let long = "x".repeat(ToDeviceJoinRequestEventContent::MAX_REQUEST_ID + 1);
    for altered in [
        ToDeviceJoinRequestEventContent { request_id: long, ..content.clone() },
        ToDeviceJoinRequestEventContent { request_id: String::new(), ..content.clone() },
        ToDeviceJoinRequestEventContent { sent_at: 1 << 53, ..content.clone() },
        ToDeviceJoinRequestEventContent { algorithm: "other".to_owned(), ..content },
    ] {
        assert_eq!(altered.signed_json(), None);
    }
}

fn graph() -> GraphContent {
    GraphContent {
        tree: Some(vec![8; 10].into()),
        tree_file: None,
        commits: vec![GraphCommit::new(owned_event_id!("$commit"), 5000, commit())],
    }
}

fn welcome_with_a_graph() -> ToDeviceWelcomeEventContent {
    let mut content = welcome();
    content.graph = Some(graph());
    content
}

fn commit_request() -> ToDeviceCommitRequestEventContent {
    let room_id = room_id!("!room:example.org").to_owned();
    let nodes = vec![node(1), node(2)];
    let mut content =
        ToDeviceCommitRequestEventContent::new(room_id, "id".to_owned(), nodes, vec![node(3)]);
    let signature = ("ed25519:LAPTOP".to_owned(), "c2ln".to_owned());
    let user = ruma::owned_user_id!("@bob:example.org");
    content.signatures.insert(user, [signature].into());
    content
}

fn graph_message() -> ToDeviceGraphEventContent {
    let room_id = room_id!("!room:example.org").to_owned();
    ToDeviceGraphEventContent::new(room_id, "id".to_owned(), graph())
}

fn key_request() -> ToDeviceKeyRequestEventContent {
    let room_id = room_id!("!room:example.org").to_owned();
    let nodes = vec![node(1), node(2)];
    let mut content =
        ToDeviceKeyRequestEventContent::new(room_id, "id".to_owned(), nodes, node(3), [4; 32]);
    content.tag = vec![5; 32].into();
    let signature = ("ed25519:LAPTOP".to_owned(), "c2ln".to_owned());
    let user = ruma::owned_user_id!("@bob:example.org");
    content.signatures.insert(user, [signature].into());
    content
}

fn key_answer() -> ToDeviceKeyAnswerEventContent {
    let room_id = room_id!("!room:example.org").to_owned();
    let sealed = matrix_dmls::SealedEpochKey { kem_output: vec![6; 32], ciphertext: vec![7; 100] };
    let keys = vec![EncryptedEpochKey::new(node(1), sealed.clone())];
    assert_eq!(keys[0].sealed(), sealed);
    ToDeviceKeyAnswerEventContent::new(room_id, "id".to_owned(), keys)
}

fn canonical_without(content: &impl Serialize, fields: &[&str]) -> String {
    let mut json = serde_json::to_value(content).unwrap();
    for field in fields {
        json.as_object_mut().unwrap().remove(*field).unwrap();
    }
    ruma::CanonicalJsonValue::try_from(json).unwrap().to_string()
}

#[test]
fn a_request_is_signed_as_canonical_json() {
    let content = commit_request();
    assert_eq!(content.signed_json().unwrap(), canonical_without(&content, &["signatures"]));
    let content = key_request();
    assert_eq!(content.signed_json().unwrap(), canonical_without(&content, &["signatures"]));
    let tagged = canonical_without(&content, &["signatures", "tag"]);
    assert_eq!(content.tagged_json().unwrap(), tagged);
}

#[test]
fn a_request_has_limits() {
    let content = commit_request();
    assert!(content.is_within_limits());
    for change in [
        |content: &mut ToDeviceCommitRequestEventContent| content.nodes = vec![node(1); 11],
        |content: &mut ToDeviceCommitRequestEventContent| content.tips = vec![node(1); 33],
        |content: &mut ToDeviceCommitRequestEventContent| content.request_id = "x".repeat(65),
    ] {
        let mut content = content.clone();
        change(&mut content);
        assert!(!content.is_within_limits());
    }
    assert!(key_request().is_within_limits());
    for change in [
        |content: &mut ToDeviceKeyRequestEventContent| content.nodes = vec![node(1); 11],
        |content: &mut ToDeviceKeyRequestEventContent| content.request_id = "x".repeat(65),
    ] {
        let mut content = key_request();
        change(&mut content);
        assert!(!content.is_within_limits());
    }
}

#[test]
fn events_look_like_this() {
    assert_json_snapshot!("join_request", join_request());
    assert_json_snapshot!("commit_small", small_commit());
    assert_json_snapshot!("commit_full", commit());
    assert_json_snapshot!("commit_in_a_file", commit_in_a_file());
    assert_json_snapshot!("group", group());
    assert_json_snapshot!("group_with_anchor", group_with_anchor());
    assert_json_snapshot!("message", message());
    assert_json_snapshot!("message_related", related_message());
    assert_json_snapshot!("welcome", welcome());
    assert_json_snapshot!("welcome_with_a_graph", welcome_with_a_graph());
    assert_json_snapshot!("commit_request", commit_request());
    assert_json_snapshot!("graph", graph_message());
    assert_json_snapshot!("key_request", key_request());
    assert_json_snapshot!("key_answer", key_answer());
}

#[test]
fn their_types_have_these_names() {
    let commit = small_commit().event_type().to_string();
    assert_eq!(commit, "io.github.matrix-mls.dmls.v1.commit");
    assert_eq!(group().event_type().to_string(), "io.github.matrix-mls.dmls.v1.group");
    assert_eq!(welcome().event_type().to_string(), "io.github.matrix-mls.dmls.v1.welcome");
    let request = join_request().event_type().to_string();
    assert_eq!(request, "io.github.matrix-mls.dmls.v1.join_request");
    let request = commit_request().event_type().to_string();
    assert_eq!(request, "io.github.matrix-mls.dmls.v1.commit_request");
    assert_eq!(graph_message().event_type().to_string(), "io.github.matrix-mls.dmls.v1.graph");
    let request = key_request().event_type().to_string();
    assert_eq!(request, "io.github.matrix-mls.dmls.v1.key_request");
    assert_eq!(key_answer().event_type().to_string(), "io.github.matrix-mls.dmls.v1.key_answer");
    assert_eq!(message().event_type().to_string(), "m.room.encrypted");
    for name in [commit, group().event_type().to_string()] {
        assert!(name.starts_with(matrix_dmls::NAMESPACE));
    }
}

#[test]
fn they_are_read_as_they_were_written() {
    comes_back(&small_commit());
    comes_back(&commit());
    comes_back(&commit_in_a_file());
    comes_back(&group());
    comes_back(&group_with_anchor());
    comes_back(&message());
    comes_back(&related_message());
    comes_back(&welcome());
    comes_back(&join_request());
    comes_back(&welcome_with_a_graph());
    comes_back(&commit_request());
    comes_back(&graph_message());
    comes_back(&key_request());
    comes_back(&key_answer());
}

#[test]
fn unknown_fields_are_ignored() {
    ignores_more(&commit());
    ignores_more(&group());
    ignores_more(&related_message());
    ignores_more(&welcome());
    ignores_more(&join_request());
    ignores_more(&commit_request());
    ignores_more(&graph_message());
    ignores_more(&key_request());
    ignores_more(&key_answer());
    ignores_more(&file());
}

#[test]
fn missing_fields_are_refused() {
    needs(&commit(), &["algorithm", "parent_context"]);
    needs(&group(), &["founding", "instance"]);
    needs(&message(), &["algorithm", "ciphertext", "epoch"]);
    needs(&welcome(), &["room_id", "epoch", "epoch_event", "welcome"]);
    needs(&join_request(), &["algorithm", "key_package", "request_id", "room_id", "sent_at"]);
    needs(&commit_request(), &["room_id", "request_id"]);
    needs(&graph_message(), &["room_id", "request_id", "graph"]);
    needs(&key_request(), &["room_id", "request_id", "tip", "hpke_key", "tag"]);
    needs(&key_answer(), &["room_id", "request_id"]);
    needs(&file(), &["url", "sha256", "size"]);
}

#[test]
fn what_is_not_base64_is_refused() {
    for wrong in ["AQI=", "AQID\n", "AQ ID", "-_-_", "A", "ÄÄÄÄ"] {
        let mut content = serde_json::to_value(message()).unwrap();
        content["ciphertext"] = json!(wrong);
        serde_json::from_value::<MlsEncryptedEventContent>(content).unwrap_err();
    }
    for wrong in ["", "AQID", &"A".repeat(42), &"A".repeat(44)] {
        let mut content = serde_json::to_value(message()).unwrap();
        content["epoch"] = json!(wrong);
        serde_json::from_value::<MlsEncryptedEventContent>(content).unwrap_err();
    }
}

#[test]
fn bytes_do_not_show_in_debug_output() {
    assert_eq!(format!("{:?}", Bytes(vec![1, 2, 3])), "Bytes(3)");
}

fn comes_back<T: Serialize + DeserializeOwned>(content: &T) {
    let json = serde_json::to_value(content).unwrap();
    let read: T = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
}

fn ignores_more<T: Serialize + DeserializeOwned>(content: &T) {
    let json = serde_json::to_value(content).unwrap();
    let mut more = json.clone();
    more["org.example.more"] = json!({ "anything": [1, null, "x"] });
    let read: T = serde_json::from_value(more).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
}

fn needs<T: Serialize + DeserializeOwned>(content: &T, names: &[&str]) {
    let json = serde_json::to_value(content).unwrap();
    for name in names {
        for wrong in [None, Some(Value::Null), Some(json!(true)), Some(json!([]))] {
            let mut changed = json.clone();
            match wrong {
                None => drop(changed.as_object_mut().unwrap().remove(*name)),
                Some(wrong) => changed[*name] = wrong,
            }
            assert!(serde_json::from_value::<T>(changed).is_err(), "{name}");
        }
    }
}
