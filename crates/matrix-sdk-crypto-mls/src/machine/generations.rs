//! The numbers of our messages (protocol §7): no number is used twice, whatever fails in between.
//!
//! The store has the first number that is not reserved. Numbers are reserved in blocks, so that most
//! messages write nothing; who has reserved some uses them up in memory, and nobody else does. What
//! is left of a block when the process ends is lost. So the first block of a process has one number,
//! and later ones twice as many each time: a process that sends little loses little.

use std::collections::BTreeMap;

use matrix_dmls::{GENERATION_LIMIT, NodeId};
use ruma::OwnedRoomId;

use super::{MlsMachine, Room, lock};
use crate::{error::MlsError, store::Changes};

/// At most this many generations are reserved at once.
const MAX_BLOCK: u32 = 16;

/// What this process has reserved. It outlives the rooms in memory: what is reserved stays ours,
/// whatever others write.
#[derive(Default)]
pub(super) struct Generations(BTreeMap<OwnedRoomId, BTreeMap<NodeId, Block>>);

/// The generations from `next` to before `end`.
struct Block {
    next: u32,
    end: u32,
    size: u32,
}

impl MlsMachine {
    /// Takes the next generation of an epoch, for one message: whatever becomes of that, nobody gets
    /// it again.
    pub(super) async fn take_generation(
        &self,
        room: &mut Room,
        node: NodeId,
    ) -> Result<u32, MlsError> {
        let size = {
            let mut reserved = lock(&self.inner.generations);
            let block = reserved.0.get_mut(&room.id).and_then(|room| room.get_mut(&node));
            match block {
                Some(block) if block.next < block.end => {
                    let generation = block.next;
                    block.next += 1;
                    return Ok(generation);
                }
                Some(block) => block.size.saturating_mul(2).min(MAX_BLOCK),
                None => 1,
            }
        };
        let first = room.generations.get(&node).copied().unwrap_or_default();
        // At the limit, where encryption refuses, there is still one to be refused.
        let end = first.saturating_add(size).min(GENERATION_LIMIT).max(first.saturating_add(1));
        let mut changes = Changes::default();
        changes.room(&room.id).generations.insert(node, end);
        self.save(room, changes).await?;
        // Ours only now that it is stored. If that failed or was cancelled, the block may be stored
        // all the same, and is lost.
        let mut reserved = lock(&self.inner.generations);
        let blocks = reserved.0.entry(room.id.clone()).or_default();
        blocks.retain(|node, _| room.group.state(node).is_some());
        blocks.insert(node, Block { next: first.saturating_add(1), end, size });
        Ok(first)
    }

    /// How many messages of ours there were in an epoch; with those that other processes, and this
    /// one before it was started, have reserved and perhaps not sent.
    pub(super) fn sent(&self, room: &Room, node: &NodeId) -> u32 {
        let reserved = room.generations.get(node).copied().unwrap_or_default();
        let blocks = lock(&self.inner.generations);
        let block = blocks.0.get(&room.id).and_then(|room| room.get(node));
        reserved.saturating_sub(block.map_or(0, |block| block.end - block.next))
    }
}
