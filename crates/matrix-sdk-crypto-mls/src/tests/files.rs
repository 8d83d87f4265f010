//! Commits and ratchet trees that do not fit into an event (protocol §2, §6).

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ruma::OwnedEventId;
use serde_json::{Value, json};

use super::{
    assert_one_epoch,
    missing::{COMMIT, commits, pass, requests},
    settle,
};
use crate::{
    Notice,
    store::MlsStore as _,
    testing::{Fault, RequestKind, SimDevice, SimError, SimServer, TestClock},
};

/// An event holds a small commit, but no ratchet tree of more than a few devices.
const SMALL: usize = 4096;

const SECOND: u64 = TestClock::MINUTE / 60;

async fn logs_in(server: &SimServer, user: &str) -> SimDevice {
    server.device(user, "DEVICE").key_packages(3).max_event_content(SMALL).logs_in().await
}

/// Alice has a room, to which `others` users are invited; they have joined, and nobody has added them.
async fn room_of(server: &SimServer, others: usize) -> (SimDevice, Vec<SimDevice>) {
    let alice = logs_in(server, "alice").await.creates_room().await;
    let mut devices = Vec::new();
    for number in 0..others {
        let device = logs_in(server, &format!("user{number}")).await;
        alice.invites(&device);
        devices.push(device.joins(&alice).await);
    }
    alice.syncs().await;
    (alice, devices)
}

fn all<'a>(alice: &'a SimDevice, others: &'a [SimDevice]) -> Vec<&'a SimDevice> {
    std::iter::once(alice).chain(others).collect()
}

/// A room whose epoch's commit and tree are files, and in which everybody is.
async fn large_room() -> (SimServer, SimDevice, Vec<SimDevice>) {
    let server = SimServer::new(1);
    let (alice, others) = room_of(&server, 7).await;
    alice.says("hello").await;
    settle(&all(&alice, &others)).await;
    assert_one_epoch(&all(&alice, &others)).await;
    (server, alice, others)
}

fn content(device: &SimDevice, event_id: &OwnedEventId) -> Value {
    device.server().event(device.room(), event_id).content
}

/// A commit with a new device in it, too large for an event; nobody has synced since.
async fn adds_many(alice: &SimDevice) -> OwnedEventId {
    for user in ["kim", "lou", "max", "nel", "oda", "pia"] {
        let device = logs_in(alice.server(), user).await;
        alice.invites(&device);
        device.joins(alice).await;
    }
    alice.syncs().await;
    let event = alice.says("hello, all of you").await;
    let commit = alice.server().last_event(alice.room(), COMMIT);
    let content = content(alice, &commit);
    assert!(content.get("commit").is_none() && content.get("commit_file").is_some());
    event
}

#[tokio::test]
async fn what_does_not_fit_is_a_file() {
    let server = SimServer::new(1);
    let (alice, others) = room_of(&server, 7).await;
    let event = alice.says("hello, all of you").await;
    let founding = content(&alice, &server.last_event(alice.room(), COMMIT));
    for part in ["commit", "tree"] {
        assert!(founding.get(part).is_none(), "{part}");
        let size = founding[format!("{part}_file")]["size"].as_u64().unwrap();
        assert!(server.media_sizes().contains(&usize::try_from(size).unwrap()));
    }
    assert!(founding.to_string().len() <= SMALL);
    settle(&all(&alice, &others)).await;
    assert_one_epoch(&all(&alice, &others)).await;
    for device in &others {
        device.has_read(&event, "hello, all of you");
        // A commit and a tree each.
        assert_eq!(requests(device, RequestKind::Download), 2);
    }
    assert_eq!(requests(&alice, RequestKind::Download), 0);
    // Room for what others do: an update needs no file, since a tree is near.
    let files = server.media_sizes().len();
    let commit = commits(&others[3]).await;
    settle(&all(&alice, &others)).await;
    let update = content(&alice, &commit);
    assert!(update.get("commit").is_some() && update.get("group_info").is_some());
    assert!(update.get("tree").is_none() && update.get("tree_file").is_none());
    assert_eq!(server.media_sizes().len(), files);
    assert_one_epoch(&all(&alice, &others)).await;
}

#[tokio::test]
async fn who_comes_in_by_itself_finds_the_tree_above() {
    let (server, alice, others) = large_room().await;
    commits(&others[2]).await;
    settle(&all(&alice, &others)).await;
    commits(&others[5]).await;
    settle(&all(&alice, &others)).await;
    let tip = content(&alice, &server.last_event(alice.room(), COMMIT));
    assert!(tip.get("tree").is_none() && tip.get("tree_file").is_none());

    let newcomer = logs_in(&server, "newcomer").await;
    alice.invites(&newcomer);
    let newcomer = newcomer.joins(&alice).await;
    let events: Vec<_> = server.events(alice.room()).iter().map(|e| e.to_json()).collect();
    newcomer.mls().receive_room_events(alice.room(), &[], &events).await.unwrap();
    // Nobody else is online.
    let event = newcomer.says("I let myself in").await;
    let mut everybody = all(&alice, &others);
    everybody.push(&newcomer);
    settle(&everybody).await;
    assert_one_epoch(&everybody).await;
    assert_eq!(newcomer.devices_in_group().await.len(), 9);
    alice.has_read(&event, "I let myself in");
    others[6].has_read(&event, "I let myself in");
}

#[tokio::test]
async fn what_waits_for_a_file_goes_on_after_a_restart() {
    let (server, alice, others) = large_room().await;
    let event = adds_many(&alice).await;
    let bob = &others[0];
    for _ in 0..3 {
        server.next_goes_wrong(bob.name(), RequestKind::Download, Fault::RequestLost);
    }
    let before = bob.node().await;
    bob.tries_to_sync().await.unwrap();
    assert_eq!(bob.node().await, before);
    assert_eq!(bob.reason(&event), "UnknownEpoch");
    server.nothing_goes_wrong_any_more(bob.name());
    bob.restarts().await;
    // Nothing comes for the room but the file.
    alice.says("once more").await;
    settle(&[bob, &alice]).await;
    bob.has_read(&event, "hello, all of you");
    assert_one_epoch(&[&alice, bob]).await;
}

#[tokio::test]
async fn another_file_than_the_one_that_was_named_is_not_believed() {
    let (server, alice, others) = large_room().await;
    let event = adds_many(&alice).await;
    server.spoils_media();
    let bob = &others[0];
    bob.syncs().await;
    assert_eq!(bob.reason(&event), "UnknownEpoch");
    // It is asked for again, later and later.
    let before = requests(bob, RequestKind::Download);
    pass(&[bob], 10 * SECOND).await;
    assert_eq!(requests(bob, RequestKind::Download), before);
    server.spoils_media();
    pass(&[bob], 2 * TestClock::MINUTE).await;
    bob.has_read(&event, "hello, all of you");
    assert_one_epoch(&[&alice, bob]).await;
}

/// The server has purged its media: a member that has the commit posts it again.
#[tokio::test]
async fn a_commit_whose_file_is_lost_comes_by_a_member() {
    let (server, alice, others) = large_room().await;
    let event = adds_many(&alice).await;
    let (bob, carol) = (&others[0], &others[1]);
    carol.syncs().await;
    carol.has_read(&event, "hello, all of you");
    assert!(server.purges_media() > 0);
    bob.syncs().await;
    assert_eq!(bob.reason(&event), "UnknownEpoch");
    for _ in 0..40 {
        pass(&[bob, carol, &alice], TestClock::MINUTE).await;
    }
    bob.has_read(&event, "hello, all of you");
    assert_one_epoch(&[&alice, bob, carol]).await;
}

#[tokio::test]
async fn a_server_that_takes_no_files_is_reported() {
    let (server, alice, others) = large_room().await;
    server.limits_uploads(1000);
    let before = alice.node().await;
    for user in ["kim", "lou", "max", "nel", "oda", "pia"] {
        let device = logs_in(&server, user).await;
        alice.invites(&device);
        device.joins(&alice).await;
    }
    alice.syncs().await;
    alice.takes_notices();
    // It is sent to those who are in; the others are reported, and added later.
    let said = alice.tries_to_say("you cannot be added").await;
    let notices = alice.takes_notices();
    let is_refused =
        |notice: &Notice| matches!(notice, Notice::UploadRefused { bytes, .. } if *bytes > 1000);
    assert!(notices.iter().any(is_refused), "{notices:?}");
    assert!(notices.iter().any(|notice| matches!(notice, Notice::CommitRefused { .. })));
    // Those who cannot be added are named, and their key packages are not used up by new tries.
    let left_out = |notice: &&Notice| matches!(notice, Notice::DeviceWithoutMls { reason, .. } if reason.contains("a file of"));
    assert_eq!(notices.iter().filter(left_out).count(), 6);
    assert!(said.is_ok() || matches!(said, Err(SimError::Machine(_))), "{said:?}");
    assert_eq!(alice.node().await, before);
    // An update needs no file.
    let bob = &others[0];
    commits(bob).await;
    settle(&all(&alice, &others)).await;
    assert_one_epoch(&all(&alice, &others)).await;
    server.limits_uploads(100_000);
    let claims = requests(&alice, RequestKind::KeysClaim);
    pass(&[&alice], 11 * TestClock::MINUTE).await;
    alice.says("still not").await;
    assert_eq!(requests(&alice, RequestKind::KeysClaim), claims);
    assert_eq!(alice.devices_in_group().await.len(), 8);
    pass(&[&alice], TestClock::HOUR).await;
    alice.says("now you can").await;
    assert_eq!(alice.devices_in_group().await.len(), 14);
}

#[tokio::test]
async fn files_that_cannot_be_what_they_should_be_are_not_fetched() {
    let (server, alice, others) = large_room().await;
    let bob = &others[0];
    let file =
        |url: &str, sha256: &str, size: u64| json!({"url": url, "sha256": sha256, "size": size});
    let hash = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk";
    let before = requests(bob, RequestKind::Download);
    for file in [
        file("mxc://example.org/one", hash, 33 * 1024 * 1024),
        file("mxc://example.org/one", "CQkJ", 1000),
        file("https://example.org/one", hash, 1000),
    ] {
        let content = json!({
            "algorithm": matrix_dmls::ALGORITHM,
            "commit_file": file,
            "parent_context": "AAAA",
        });
        bob.takes_notices();
        server.forges_event(bob.room(), alice.user_id(), COMMIT, None, content);
        bob.syncs().await;
        let notices = bob.takes_notices();
        let is_dropped = |notice: &Notice| matches!(notice, Notice::CommitDropped { .. });
        assert!(notices.iter().any(is_dropped), "{notices:?}");
    }
    assert_eq!(requests(bob, RequestKind::Download), before);
    // One that could be is asked for, and not for ever.
    let content = json!({
        "algorithm": matrix_dmls::ALGORITHM,
        "commit_file": file("mxc://example.org/none", hash, 1000),
        "parent_context": "AAAA",
    });
    server.forges_event(bob.room(), alice.user_id(), COMMIT, None, content);
    for _ in 0..31 {
        pass(&[bob], 24 * 60 * TestClock::MINUTE).await;
    }
    let asked = requests(bob, RequestKind::Download) - before;
    assert!((1..=32).contains(&asked), "{asked}");
    alice.says("bob does not mind").await;
    bob.syncs().await;
    pass(&[bob], 3 * 24 * 60 * TestClock::MINUTE).await;
    assert_eq!(requests(bob, RequestKind::Download) - before, asked);
}

/// Somebody names more files that are not there than are waited for: that is at its own expense.
#[tokio::test]
async fn many_files_that_are_not_there_keep_no_other_from_coming() {
    let (server, alice, others) = large_room().await;
    let (bob, mallory) = (&others[0], &others[1]);
    let asked = requests(bob, RequestKind::Download);
    for number in 0..310_u32 {
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        let file = json!({
            "url": format!("mxc://example.org/none{number}"),
            "sha256": STANDARD_NO_PAD.encode(hash),
            "size": 1000,
        });
        let content = json!({
            "algorithm": matrix_dmls::ALGORITHM,
            "commit_file": file,
            "parent_context": "AAAA",
        });
        server.forges_event(bob.room(), mallory.user_id(), COMMIT, None, content);
        if number % 100 == 99 {
            bob.syncs().await;
            alice.syncs().await;
        }
    }
    // Each was asked for once, and not again before a minute is over.
    assert_eq!(requests(bob, RequestKind::Download), asked + 300);
    bob.syncs().await;
    let event = adds_many(&alice).await;
    settle(&[&alice, bob]).await;
    bob.has_read(&event, "hello, all of you");
    assert_one_epoch(&[&alice, bob]).await;
    let waiting = bob.store().load_room(bob.room()).await.unwrap().unwrap().view.files;
    assert_eq!(waiting.len(), 299);
    assert!(waiting.iter().all(|waiting| waiting.sender == *mallory.user_id()));
}

/// The store fails at every write while a commit in a file is taken.
#[tokio::test]
async fn a_write_that_fails_loses_no_commit() {
    for nth in 0..20 {
        let (_, alice, others) = large_room().await;
        let event = adds_many(&alice).await;
        let bob = &others[0];
        bob.store().die_at(nth);
        let before = bob.store().attempts();
        let synced = bob.tries_to_sync().await;
        let attempts = bob.store().attempts() - before;
        bob.store().heal();
        bob.restarts().await;
        settle(&[&alice, bob]).await;
        pass(&[&alice, bob], 2 * TestClock::MINUTE).await;
        bob.has_read(&event, "hello, all of you");
        assert_one_epoch(&[&alice, bob]).await;
        if synced.is_ok() && attempts <= nth {
            assert!(nth > 2, "{nth}");
            return;
        }
    }
    panic!("the sync is never taken");
}
