//! A run from its beginning to its end.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
    time::Instant,
};

use serde::{Deserialize, Serialize};

use crate::{executor::block_on, failure::Failure, plan::Plan, world::World};

/// What was counted in a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Messages that were sent.
    pub messages: usize,
    /// Commits that servers have.
    pub commits: usize,
    /// Messages that had to be sent after everything was healed until everybody was on one tip.
    pub sends: Option<usize>,
    /// How long that took, in simulated milliseconds.
    pub healing_ms: u64,
    /// How long an attack did harm to honest devices, summed over them, in simulated milliseconds.
    pub attacked_ms: u64,
    /// The same by harm and attack; a time can have several of them.
    pub harms: BTreeMap<String, u64>,
    /// How long they were on a branch that an attack had made beside what others had done, whether that
    /// did harm or not.
    pub beside_ms: u64,
    /// How long they were there to be so, from the first attack on.
    pub exposed_ms: u64,
    /// Attacks that were tried.
    #[serde(default)]
    pub attacks: usize,
    /// Those of them that have brought a commit into the room.
    #[serde(default)]
    pub effective: usize,
    /// Messages that insiders, and devices that are not in the room any more, could read with what they
    /// had: such as they had a leaf for.
    #[serde(default)]
    pub opened: usize,
    /// Comparisons with the model.
    pub compared: usize,
    /// Messages that devices were to read, and have read.
    pub read: usize,
    /// Messages that devices were to read and have not, because an attack has kept them from the epoch.
    pub kept: usize,
    /// The same, because all who had the epoch's key have left the room, and nobody else could enter it
    /// any more.
    #[serde(default)]
    pub gone: usize,
    /// Messages that devices have asked for after a limited sync.
    #[serde(default)]
    pub paged: usize,
    /// How long the run took, in true milliseconds.
    pub took_ms: u128,
}

/// What became of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The check that failed, if one did.
    pub failure: Option<Failure>,
    /// What was counted.
    pub stats: Stats,
    /// What happened.
    #[serde(skip)]
    pub log: String,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does what a plan says, heals everything, and checks.
pub fn run(plan: &Plan) -> Outcome {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANIC.with(|panic| *panic.borrow_mut() = Some(info.to_string()));
        }));
    });
    let begin = Instant::now();
    let mut world = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        block_on(async {
            let world = world.insert(World::begins(&plan.setup).await?);
            for action in &plan.actions {
                world.does(action).await?;
            }
            world.ends().await
        })
    }));
    let failure = match result {
        Ok(done) => done.err(),
        Err(_) => {
            let found = PANIC.with(|panic| panic.borrow_mut().take()).unwrap_or_default();
            Some(Failure::new("panic", found))
        }
    };
    if let Some(world) = world.as_mut().filter(|_| failure.is_some()) {
        // After a panic a lock may be held for ever; so only where there was none.
        if failure.as_ref().is_none_or(|failure| failure.check != "panic") {
            block_on(world.describes());
        }
    }
    let (mut stats, log) =
        world.map(|world| (world.stats().clone(), world.log().to_owned())).unwrap_or_default();
    stats.took_ms = begin.elapsed().as_millis();
    Outcome { failure, stats, log }
}
