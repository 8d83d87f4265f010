//! Commits that the server does not give: redacted, withheld, their files gone. Members have them
//! (protocol §2 *Relaying*, §6 *Commit request*, §10).

use matrix_mls_tests::{Exchange, Liar, MlsDevice, User};
use matrix_sdk_crypto_mls::DecryptionError;
use ruma::{EventId, OwnedRoomId, RoomId};
use serde_json::{Value, json};

use crate::support::{
    MINUTE, NOW, TURN, all_talk, commits, content, fetch, homeserver, reads, room_of, time_passes,
    user,
};

/// Smaller than the tree of a few devices.
const SMALL: usize = 4096;

/// Alice, Bob and Carol, who have talked; Carol speaks to the server through this liar.
async fn three(max_event: Option<usize>) -> ([User; 3], OwnedRoomId, Liar) {
    let http = homeserver().await;
    let liar = Liar::before(&http.base_url).unwrap();
    let mut alice = user(&http, "alice", 1).await;
    let mut bob = user(&http, "bob", 1).await;
    let mut carol = user(&http, "carol", 1).await;
    for user in [&mut alice, &mut bob, &mut carol] {
        if let Some(bytes) = max_event {
            user.first().limit_events(bytes).await.unwrap();
        }
    }
    carol.first().device.http.base_url.clone_from(&liar.url);
    let room = room_of(&mut alice, &mut [&mut bob, &mut carol]).await;
    let mut all = [alice, bob, carol];
    let [alice, bob, carol] = &mut all;
    all_talk(&room, &mut [alice, bob, carol]).await;
    (all, room, liar)
}

/// The server says that this event does not exist, and shows it nowhere.
fn withholds(event: &EventId) -> impl FnMut(&mut Exchange) + Send + use<> {
    let event = event.to_string();
    move |it: &mut Exchange| {
        let is_it = it.is("GET", "/event/")
            && it.response["event_id"].as_str().is_some_and(|id| id == event);
        if is_it {
            it.status = 404;
            it.response = json!({ "errcode": "M_NOT_FOUND", "error": "Not found" });
        }
        without(&mut it.response, &event);
    }
}

/// Takes an event out of all lists.
fn without(value: &mut Value, event: &str) {
    match value {
        Value::Array(items) => {
            items.retain(|item| item["event_id"] != event);
            items.iter_mut().for_each(|item| without(item, event));
        }
        Value::Object(fields) => fields.values_mut().for_each(|value| without(value, event)),
        _ => {}
    }
}

/// Whether a device has an event and does not know its epoch.
fn waits(device: &MlsDevice, room: &RoomId, event: &EventId) -> bool {
    let event = device.event(room, event).expect("it has come");
    matches!(event.result, Err(DecryptionError::UnknownEpoch(_)))
}

#[tokio::test]
async fn a_redacted_commit_is_had_from_a_member() {
    let ([mut alice, mut bob, mut carol], room, _liar) = three(None).await;
    alice.first().update_keys(&room).await.unwrap();
    let sent = alice.first().say(&room, "what was redacted?").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "what was redacted?").await;
    let commit = sent.commit_event.clone().unwrap();
    alice.first().redact(&room, &commit).await.unwrap();
    assert_eq!(content(&fetch(bob.first(), &room, &commit).await), json!({}));

    carol.first().sync(NOW).await.unwrap();
    assert!(waits(carol.first(), &room, &sent.event_id));
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_passes(everybody, 2 * MINUTE).await;
    reads(everybody[2].first(), &room, &sent.event_id, "what was redacted?").await;
    all_talk(&room, everybody).await;
}

/// Nobody answers Carol, so those who have the commit post it again for her.
#[tokio::test]
async fn a_redacted_commit_is_posted_again_where_no_answer_arrives() {
    let ([mut alice, mut bob, mut carol], room, liar) = three(None).await;
    alice.first().update_keys(&room).await.unwrap();
    let sent = alice.first().say(&room, "what was redacted?").await.unwrap();
    reads(bob.first(), &room, &sent.event_id, "what was redacted?").await;
    alice.first().redact(&room, sent.commit_event.as_ref().unwrap()).await.unwrap();
    liar.lie(|it: &mut Exchange| {
        if it.is("GET", "/sync") && it.response["to_device"].is_object() {
            it.response["to_device"] = json!({ "events": [] });
        }
    });
    carol.first().sync(NOW).await.unwrap();
    assert!(waits(carol.first(), &room, &sent.event_id));
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_passes(everybody, 3 * MINUTE).await;
    reads(everybody[2].first(), &room, &sent.event_id, "what was redacted?").await;
    let last = commits(everybody[0].first(), &room).await.pop().unwrap();
    assert_eq!(content(&fetch(everybody[0].first(), &room, &last).await)["relay"], true);
}

#[tokio::test]
async fn a_commit_that_the_server_withholds_is_had_from_a_member() {
    let ([mut alice, mut bob, mut carol], room, liar) = three(None).await;
    alice.first().update_keys(&room).await.unwrap();
    let hidden = commits(alice.first(), &room).await.pop().unwrap();
    liar.lie(withholds(&hidden));
    // Others go on from there.
    reads_and_updates(&mut bob, &room).await;
    let sent = bob.first().say(&room, "on a commit that you do not see").await.unwrap();
    carol.first().sync(NOW).await.unwrap();
    assert!(waits(carol.first(), &room, &sent.event_id));
    assert!(liar.seen().iter().any(|it| it.is("GET", "/event/") && it.status == 404));

    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_passes(everybody, 2 * MINUTE).await;
    reads(everybody[2].first(), &room, &sent.event_id, "on a commit that you do not see").await;
    all_talk(&room, everybody).await;
}

async fn reads_and_updates(user: &mut User, room: &RoomId) {
    user.first().sync(NOW).await.unwrap();
    user.first().update_keys(room).await.unwrap();
}

/// What a server may answer instead of an event or a page of history.
fn rubbish() -> Vec<(u16, Value)> {
    vec![
        (200, json!([])),
        (200, json!({ "chunk": "none", "event_id": 5 })),
        (200, json!({ "chunk": [{}, 7, null, { "type": 3 }], "start": "s", "end": "s" })),
        (
            200,
            json!({ "event_id": "$x", "type": "io.github.matrix-mls.dmls.v1.commit", "content": {} }),
        ),
        (200, Value::Null),
        (403, json!({ "errcode": "M_FORBIDDEN", "error": "No" })),
        (404, json!({ "errcode": "M_NOT_FOUND", "error": "No" })),
        (500, json!({ "errcode": "M_UNKNOWN", "error": "Oops" })),
        (502, json!("Bad gateway")),
    ]
}

/// Whatever the server says instead of the commits that are missing: the device goes on, does not
/// ask without end, and has them from a member.
#[tokio::test]
async fn errors_and_rubbish_instead_of_history_stop_nobody() {
    let ([mut alice, mut bob, mut carol], room, liar) = three(None).await;
    alice.first().update_keys(&room).await.unwrap();
    let hidden = commits(alice.first(), &room).await.pop().unwrap();
    let sent = alice.first().say(&room, "on a commit that you do not see").await.unwrap();
    let (mut hide, mut answers) = (withholds(&hidden), rubbish().into_iter().cycle());
    liar.lie(move |it: &mut Exchange| {
        if it.is("GET", "/event/") || it.is("GET", "/messages?") {
            (it.status, it.response) = answers.next().unwrap();
        } else {
            hide(it);
        }
    });
    let before = liar.seen().len();
    for _ in 0..12 {
        // A server's error ends a round of requests; the application tries again later.
        let _ = carol.first().sync(NOW).await;
        carol.first().set_forward(TURN);
        time_passes(&mut [&mut alice, &mut bob], TURN).await;
    }
    let asked = liar.seen().split_off(before);
    let asked = asked.iter().filter(|it| it.is("GET", "/event/") || it.is("GET", "/messages?"));
    assert!((1..60).contains(&asked.clone().count()), "{:?}", asked.map(|it| &it.path));
    reads(carol.first(), &room, &sent.event_id, "on a commit that you do not see").await;
    liar.lie(|_: &mut Exchange| {});
    all_talk(&room, &mut [&mut alice, &mut bob, &mut carol]).await;
}

/// A commit whose tree and bytes are files, which the server has deleted meanwhile.
#[tokio::test]
async fn a_commit_whose_file_is_gone_is_had_from_a_member() {
    let http = homeserver().await;
    let ([mut alice, mut bob, mut carol], room, liar) = three(Some(SMALL)).await;
    let mut others = Vec::new();
    for name in ["dave", "erin", "fay", "gil", "hal"] {
        let mut other = user(&http, name, 1).await;
        alice.first().invite(&room, other.id()).await.unwrap();
        other.join(&room).await.unwrap();
        others.push(other);
    }
    let count = others.len() + 3;
    alice
        .first()
        .sync_until("all others", async |device| {
            Ok(device.room(&room).is_some_and(|room| room.members().joined.len() == count))
        })
        .await
        .unwrap();
    let sent = alice.first().say(&room, "hello, all of you").await.unwrap();
    let commit = content(&fetch(alice.first(), &room, sent.commit_event.as_ref().unwrap()).await);
    let files: Vec<String> = ["commit_file", "ratchet_tree_file"]
        .iter()
        .filter_map(|file| commit[file]["url"].as_str()?.strip_prefix("mxc://").map(str::to_owned))
        .collect();
    assert!(!files.is_empty(), "{commit}");
    let is_gone = move |it: &Exchange| files.iter().any(|file| it.is("GET", file));
    let is_seen = is_gone.clone();
    reads(bob.first(), &room, &sent.event_id, "hello, all of you").await;

    liar.lie(move |it: &mut Exchange| {
        if is_gone(it) {
            it.status = 404;
            it.response = json!({ "errcode": "M_NOT_FOUND", "error": "Not found" });
        }
    });
    carol.first().sync(NOW).await.unwrap();
    assert!(waits(carol.first(), &room, &sent.event_id));
    assert!(liar.seen().iter().any(|it| is_seen(it) && it.status == 404));
    let everybody = &mut [&mut alice, &mut bob, &mut carol];
    time_passes(everybody, 40 * MINUTE).await;
    reads(everybody[2].first(), &room, &sent.event_id, "hello, all of you").await;
    all_talk(&room, everybody).await;
}
