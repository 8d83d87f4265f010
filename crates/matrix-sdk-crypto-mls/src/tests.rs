//! Scenarios: devices in a simulated room, and sentences about what they do.

mod anchor;
mod anew;
mod asked;
mod attacks;
mod branches;
mod cache;
mod commits;
mod compaction;
mod external;
mod faults;
mod files;
mod forms;
mod forward_secrecy;
mod generations;
mod hostile;
mod join_requests;
mod key_requests;
mod left_behind;
mod membership;
mod messages;
mod missing;
mod newcomers;
mod processes;
mod random;
mod read_once;
mod replaced;
mod retention;
mod settled;
mod standing;
mod welcomes;

use std::collections::BTreeSet;

use crate::{
    clock::Clock as _,
    testing::{RequestKind, SimDevice, SimServer},
};

/// A device of a user who is invited, joins, and is added with a message.
async fn joins(server: &SimServer, by: &SimDevice, name: &str) -> SimDevice {
    let device = server.device(name, "DEVICE").logs_in().await;
    by.invites(&device);
    let device = device.joins(by).await;
    by.syncs().await;
    by.says("welcome").await;
    device.syncs().await;
    device
}

/// A server and Alice's and Bob's devices in one room, in which both have talked.
async fn alice_and_bob() -> (SimServer, SimDevice, SimDevice) {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let alice = alice.creates_room().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    let hello = alice.says("hello").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&hello, "hello");
    let hi = bob.says("hi").await;
    settle(&[&alice, &bob]).await;
    alice.has_read(&hi, "hi");
    alice.takes_notices();
    bob.takes_notices();
    (server, alice, bob)
}

/// Everybody syncs until nothing new comes.
async fn settle(devices: &[&SimDevice]) {
    for _ in 0..100 {
        let mut news = false;
        for device in devices {
            news |= device.server().has_news_for(device.name());
            device.syncs().await;
        }
        if !news {
            return;
        }
    }
    panic!("the devices never come to rest");
}

/// Time passes, in milliseconds: everybody does what its machine says that it is time for.
async fn time_passes(devices: &[&SimDevice], time: u64) {
    let clock = devices[0].server().clock();
    let end = clock.now() + time;
    for _ in 0..1000 {
        let now = clock.now();
        let next = devices.iter().filter_map(|device| device.mls().next_deadline()).min();
        let next = next.map_or(end, |next| next.clamp(now + 1, end));
        clock.advance(next.max(now) - now);
        for device in devices {
            device.pumps().await;
        }
        settle(devices).await;
        if clock.now() >= end {
            return;
        }
    }
    panic!("there is always something to do");
}

/// How many commits there are in a room.
fn commits_in(device: &SimDevice) -> usize {
    device.server().count(device.room(), "io.github.matrix-mls.dmls.v1.commit")
}

/// Asserts that all devices are in the same epoch.
async fn assert_one_epoch(devices: &[&SimDevice]) {
    let mut epochs = Vec::new();
    for device in devices {
        epochs.push((device.name(), device.node().await));
    }
    assert!(epochs[0].1.is_some() && epochs.iter().all(|e| e.1 == epochs[0].1), "{epochs:?}");
}

/// How many requests with Welcomes of a device have reached the server.
fn welcomes_sent(server: &SimServer, device: &SimDevice) -> usize {
    let requests = server.requests_of(device.name());
    requests.iter().filter(|(kind, _)| *kind == RequestKind::ToDevice).count()
}

/// Asserts that no device has used a generation twice, and that nobody was shown one that was.
fn assert_no_generation_is_reused(server: &SimServer, devices: &[&SimDevice]) {
    let mut used = BTreeSet::new();
    for message in server.sent_messages() {
        let key = (message.room_id, message.node, message.sender, message.generation);
        assert!(used.insert(key.clone()), "used twice: {key:?}");
    }
    for device in devices {
        for message in server.sent_messages() {
            if device.text(&message.event_id).is_some() {
                assert!(!device.encryption_info(&message.event_id).generation_reused);
            }
        }
    }
}
