//! The numbers of messages: reserved in blocks, never used twice.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;
use ruma::{RoomId, events::AnyMessageLikeEventContent, serde::Raw};

use super::alice_and_bob;
use crate::{
    MlsError, MlsMachine, RawEncryptionResult,
    store::{MemoryStore, MlsStore as _},
    testing::{FaultyStore, RoomOptions, SimDevice, SimServer},
};

async fn encrypts(mls: &MlsMachine, room: &RoomId) -> Result<RawEncryptionResult, MlsError> {
    let content: Raw<AnyMessageLikeEventContent> =
        Raw::from_json(serde_json::value::RawValue::from_string("{}".to_owned()).unwrap());
    mls.encrypt_room_event_raw(room, "m.room.message", &content).await
}

async fn generations(device: &SimDevice, count: usize) -> Vec<u32> {
    let mut generations = Vec::new();
    for _ in 0..count {
        generations.push(encrypts(&device.mls(), device.room()).await.unwrap().generation);
    }
    generations
}

#[tokio::test]
async fn blocks_grow_to_sixteen() {
    let (_, alice, _) = alice_and_bob().await;
    alice.updates_keys().await;
    let before = alice.store().writes();
    // Blocks of 1, 2, 4, 8, 16 and 16.
    assert_eq!(generations(&alice, 47).await, (0..47).collect::<Vec<_>>());
    assert_eq!(alice.store().writes() - before, 6);
    assert_eq!(generations(&alice, 1).await, [47]);
    assert_eq!(alice.store().writes() - before, 7);
}

#[tokio::test]
async fn a_restart_skips_what_was_reserved_and_reserves_one() {
    let (_, alice, _) = alice_and_bob().await;
    alice.updates_keys().await;
    // Up to 31 are reserved, 16 were used.
    assert_eq!(generations(&alice, 16).await, (0..16).collect::<Vec<_>>());
    alice.restarts().await;
    let before = alice.store().writes();
    assert_eq!(generations(&alice, 1).await, [31]);
    alice.restarts().await;
    assert_eq!(generations(&alice, 1).await, [32], "one that sends little wastes nothing");
    assert_eq!(alice.store().writes() - before, 2);
}

#[tokio::test]
async fn keys_are_renewed_after_messages_that_were_sent() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await;
    let options = RoomOptions::default();
    let alice = alice.creates_room_with(options).await;
    let algorithm = matrix_dmls::ALGORITHM;
    let content = serde_json::json!({ "algorithm": algorithm, "rotation_period_msgs": 20 });
    alice.sets_state("m.room.encryption", content);
    alice.syncs().await;
    alice.says("0").await;
    let node = alice.node().await;
    assert_eq!(generations(&alice, 19).await, (1..20).collect::<Vec<_>>());
    // 31 are reserved, and 20 were sent.
    assert!(encrypts(&alice.mls(), alice.room()).await.is_err());
    alice.says("20").await;
    assert_ne!(alice.node().await, node);
}

/// What happens to one of two processes.
#[derive(Clone, Copy, Debug)]
enum Event {
    Sends,
    /// The next write fails.
    Fails,
    /// The next write is done, but reported as failed.
    AnswerIsLost,
    /// A message is begun, and given up after so many steps.
    IsCancelled(usize),
    Restarts,
}

fn events() -> impl Strategy<Value = Vec<(usize, Event)>> {
    let event = prop_oneof![
        8 => Just(Event::Sends),
        1 => Just(Event::Fails),
        1 => Just(Event::AnswerIsLost),
        2 => (1..6usize).prop_map(Event::IsCancelled),
        1 => Just(Event::Restarts),
    ];
    prop::collection::vec((0..2usize, event), 1..60)
}

/// Two processes of one device, as their stores show them.
struct Processes {
    alice: SimDevice,
    stores: [Arc<FaultyStore>; 2],
    machines: [MlsMachine; 2],
}

async fn start(alice: &SimDevice, store: &Arc<FaultyStore>) -> MlsMachine {
    store.heal();
    let builder = MlsMachine::builder(alice.olm().clone()).store(Arc::clone(store));
    builder.clock(alice.server().clock().clone()).build().await.unwrap()
}

impl Processes {
    async fn new() -> Self {
        let memory = MemoryStore::new();
        let stores = [(); 2].map(|()| Arc::new(FaultyStore::around(Arc::new(memory.shared()))));
        let server = SimServer::new(1);
        let alice = server.device("alice", "PHONE").store(FaultyStore::around(Arc::new(memory)));
        let alice = alice.logs_in().await.creates_room().await;
        alice.tries_to_prepare().await.unwrap();
        let machines = [start(&alice, &stores[0]).await, start(&alice, &stores[1]).await];
        Self { alice, stores, machines }
    }

    /// The generations that were used, in their order.
    async fn go_through(&mut self, events: &[(usize, Event)]) -> Vec<u32> {
        let mut used = Vec::new();
        for (which, event) in events {
            let (mls, store) = (self.machines[*which].clone(), &self.stores[*which]);
            let sends = encrypts(&mls, self.alice.room());
            match event {
                Event::Fails => store.fail_at(0),
                Event::AnswerIsLost => store.lose_answer_at(0),
                Event::Sends => match sends.await {
                    Ok(sent) => used.push(sent.generation),
                    Err(error) => assert!(matches!(error, MlsError::Store(_)), "{error}"),
                },
                Event::IsCancelled(steps) => {
                    let mut sends = pin!(sends);
                    let mut context = Context::from_waker(Waker::noop());
                    for _ in 0..*steps {
                        if let Poll::Ready(sent) = sends.as_mut().poll(&mut context) {
                            used.extend(sent.map(|sent| sent.generation));
                            break;
                        }
                    }
                }
                Event::Restarts => self.machines[*which] = start(&self.alice, store).await,
            }
        }
        used
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.min(48),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn none_is_used_twice_whatever_happens(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (used, stored) = runtime.block_on(async {
            let mut processes = Processes::new().await;
            let used = processes.go_through(&events).await;
            let room = processes.stores[0].load_room(processes.alice.room()).await.unwrap();
            (used, room.unwrap().generations.values().next().copied().unwrap_or_default())
        });
        let distinct: BTreeSet<_> = used.iter().copied().collect();
        prop_assert_eq!(distinct.len(), used.len(), "{:?}", used);
        prop_assert!(used.iter().all(|generation| *generation < stored));
        // Each process loses less than a block, and so does everything that goes wrong.
        let wrong = events.iter().filter(|(_, event)| !matches!(event, Event::Sends)).count();
        prop_assert!(stored as usize <= used.len() + 16 * (2 + wrong));
    }
}
