//! All signatures of a ratchet tree, on several threads: they take most of the time in which one
//! enters a large group.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::error::GroupError;
use crate::{
    roster::Roster,
    schedule::Verified,
    wire::{leaf_node::LeafNode, ratchet_tree::RatchetTree},
};

/// The signatures of fewer leaves are verified faster than a thread is started, in all.
const MIN_LEAVES_FOR_THREADS: usize = 32;

/// At most so many threads work at once, the caller's among them: a phone has other things to do.
const MAX_THREADS: usize = 4;

/// Does the work in which OpenMLS verifies each leaf of a tree, from the first to the last. Meanwhile
/// other threads verify the credentials, of which OpenMLS knows nothing, and then the leaves from the
/// last one on, as far as the work has not come: its provider finds them in `verified`.
///
/// Also gives the roster, if all its credentials are valid. It is empty if one is not, and if there
/// were no threads for them: then they are still to be verified.
pub(super) fn while_verified<T>(
    tree: &RatchetTree<'_>,
    group_id: &[u8],
    verified: &Verified,
    work: impl FnOnce() -> Result<T, GroupError>,
) -> Result<(T, Roster), GroupError> {
    let threads = threads();
    if tree.leaves().len() < MIN_LEAVES_FOR_THREADS || threads < 2 {
        return Ok((work()?, Roster::new()));
    }
    let checks = Checks::new(tree.leaves(), group_id, verified);
    let done = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads)
            .map_while(|_| thread::Builder::new().spawn_scoped(scope, || checks.help()).ok())
            .collect();
        let done = work();
        if done.is_ok() {
            checks.credentials();
        } else {
            checks.end();
        }
        for helper in helpers {
            if helper.join().is_err() {
                checks.is_invalid.store(true, Ordering::Relaxed);
            }
        }
        done
    })?;
    let is_invalid = checks.is_invalid.load(Ordering::Relaxed);
    Ok((done, if is_invalid { Roster::new() } else { tree.roster() }))
}

/// How many threads can work at once here.
fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    // Asking takes as long as some signatures.
    *THREADS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS))
}

/// What is to be verified: the credentials one after the other, and then the leaves backward.
pub(super) struct Checks<'a> {
    leaves: &'a [(u32, LeafNode)],
    group_id: &'a [u8],
    verified: &'a Verified,
    /// How many signatures the provider had been asked for before the work.
    asked_before: usize,
    /// The number of the next check that nobody has taken.
    next: AtomicUsize,
    /// A credential is not valid.
    is_invalid: AtomicBool,
}

impl<'a> Checks<'a> {
    pub(super) fn new(
        leaves: &'a [(u32, LeafNode)],
        group_id: &'a [u8],
        verified: &'a Verified,
    ) -> Self {
        Self {
            leaves,
            group_id,
            verified,
            asked_before: verified.asked(),
            next: AtomicUsize::new(0),
            is_invalid: AtomicBool::new(false),
        }
    }

    /// Verifies the credentials that nobody else does.
    fn credentials(&self) {
        while let Some((_, leaf)) = self.leaves.get(self.take()) {
            if leaf.identity.verify(&leaf.signature_key).is_err() {
                self.is_invalid.store(true, Ordering::Relaxed);
                self.end();
            }
        }
    }

    /// Verifies the credentials, and then leaves until it meets the work.
    pub(super) fn help(&self) {
        self.credentials();
        let last = 2 * self.leaves.len() - 1;
        while let Some(place) = last.checked_sub(self.take())
            && let Some((index, leaf)) = self.leaves.get(place)
            && place >= self.verified.asked() - self.asked_before
        {
            leaf.verify_in_tree(self.group_id, *index, self.verified);
        }
    }

    fn take(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Nobody begins another check.
    fn end(&self) {
        self.next.fetch_max(2 * self.leaves.len(), Ordering::Relaxed);
    }
}
