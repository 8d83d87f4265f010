//! Rooms in memory are bounded; those that had to go come back as they were.

use std::{collections::BTreeMap, sync::Arc};

use ruma::{RoomId, events::AnyMessageLikeEventContent, serde::Raw};

use super::settle;
use crate::{
    MlsMachine, Readiness,
    testing::{SimDevice, SimServer},
};

/// How many rooms there are.
const ROOMS: usize = 8;

/// Alice's and Bob's devices, which both look at these rooms.
async fn rooms() -> (SimServer, Vec<SimDevice>, Vec<SimDevice>) {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    let (mut alices, mut bobs) = (Vec::new(), Vec::new());
    for _ in 0..ROOMS {
        let room = alice.creates_room().await;
        room.invites(&bob);
        bobs.push(bob.joins(&room).await);
        alice.syncs().await;
        room.says("hello").await;
        settle(&[&alice, &bob]).await;
        alices.push(room);
    }
    (server, alices, bobs)
}

async fn machine(alice: &SimDevice, bytes: usize) -> MlsMachine {
    let builder = MlsMachine::builder(alice.olm().clone()).store(Arc::clone(&alice.store()));
    let builder = builder.clock(alice.server().clock().clone()).room_cache_size(bytes);
    builder.build().await.unwrap()
}

async fn sends(mls: &MlsMachine, room: &RoomId) -> u32 {
    let content: Raw<AnyMessageLikeEventContent> =
        Raw::from_json(serde_json::value::RawValue::from_string("{}".to_owned()).unwrap());
    mls.encrypt_room_event_raw(room, "m.room.message", &content).await.unwrap().generation
}

#[tokio::test]
async fn many_rooms_stay_below_the_bound_and_go_on_working() {
    let (server, alices, bobs) = rooms().await;
    let unbounded = machine(&alices[0], usize::MAX).await;
    for alice in &alices {
        unbounded.prepare_room(alice.room()).await.unwrap();
    }
    let (count, bytes) = unbounded.room_usage();
    assert_eq!(count, ROOMS);
    drop(unbounded);

    // Room for three of them, even when they have grown.
    let limit = bytes * 4 / ROOMS;
    let mls = machine(&alices[0], limit).await;
    let mut next = BTreeMap::new();
    for round in 0..3 {
        for (alice, bob) in alices.iter().zip(&bobs) {
            let room = alice.room();
            if round == 1 {
                // An epoch comes, while the room is not in memory.
                bob.updates_keys().await;
            }
            let event = bob.says("to be read").await;
            let timeline: Vec<_> =
                server.events(room).iter().map(|event| event.to_json()).collect();
            mls.receive_room_events(room, &[], &timeline).await.unwrap();
            let readiness = mls.prepare_room(room).await.unwrap();
            let Readiness::Ready { node, .. } = readiness else { panic!("{readiness:?}") };
            assert_eq!(Some(node), bob.node().await);
            let event = server.event(room, &event).to_json();
            mls.decrypt_room_event(&event, room).await.unwrap();

            // What was reserved is used up, whether the room was in memory meanwhile or not.
            for _ in 0..2 {
                let generation = sends(&mls, room).await;
                let expected = next.entry((room, node)).or_insert(generation);
                assert_eq!(generation, *expected);
                *expected += 1;
            }
            let (count, bytes) = mls.room_usage();
            assert!(bytes <= limit, "{bytes} of {limit}");
            assert!(0 < count && count < ROOMS, "{count}");
        }
    }
}

#[tokio::test]
async fn a_room_in_use_stays_however_small_the_bound() {
    let (_, alices, _) = rooms().await;
    let mls = machine(&alices[0], 1).await;
    let tasks: Vec<_> = (0..4 * ROOMS)
        .map(|number| {
            let (mls, room) = (mls.clone(), alices[number % ROOMS].room().to_owned());
            tokio::spawn(async move { (room.clone(), sends(&mls, &room).await) })
        })
        .collect();
    let mut used = Vec::new();
    for task in tasks {
        used.push(task.await.unwrap());
    }
    used.sort();
    let count = used.len();
    used.dedup();
    assert_eq!(used.len(), count, "{used:?}");
}

#[tokio::test]
async fn a_room_s_size_follows_its_group() {
    let (_, alices, bobs) = rooms().await;
    let mls = alices[0].mls();
    let (_, before) = mls.room_usage();
    bobs[0].updates_keys().await;
    bobs[0].updates_keys().await;
    alices[0].syncs().await;
    let (_, after) = mls.room_usage();
    // Two more epochs, each with a tree of its own.
    assert!(after > before + 2000, "{before} {after}");
}
