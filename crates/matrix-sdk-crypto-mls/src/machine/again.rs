//! Several processes on one store: an operation whose memory turns out to be out of date when its
//! changes are stored begins again.
//!
//! No lock is taken while an operation runs. Its changes are made from what is in memory, and the
//! store refuses them if somebody else has written since that was loaded, see
//! [`crate::store::MlsStore::version`]. That is right because an operation has no effect before its
//! changes are stored: of those that store several batches, each batch leaves things as they would
//! be had the operation ended there, and what was done before is found done the second time.

use crate::{
    error::{DecryptionError, MlsError},
    store::StoreError,
};

/// How often an operation is tried before it ends with [`StoreError::Busy`].
const MAX_TRIES: usize = 32;

/// An error that may say that memory is out of date.
pub(super) trait MayBeOutdated: From<StoreError> {
    fn is_outdated(&self) -> bool;
}

impl MayBeOutdated for MlsError {
    fn is_outdated(&self) -> bool {
        matches!(self, Self::Store(StoreError::Outdated))
    }
}

impl MayBeOutdated for DecryptionError {
    fn is_outdated(&self) -> bool {
        matches!(self, Self::Machine(error) if error.is_outdated())
    }
}

/// Counts how often an operation was tried.
#[derive(Default)]
pub(super) struct Tries(usize);

impl Tries {
    /// What an operation came to; nothing if it is to be tried again.
    pub(super) fn check<T, E: MayBeOutdated>(
        &mut self,
        result: Result<T, E>,
    ) -> Option<Result<T, E>> {
        self.0 += 1;
        match result {
            Err(error) if error.is_outdated() => {
                (self.0 >= MAX_TRIES).then(|| Err(StoreError::Busy.into()))
            }
            result => Some(result),
        }
    }
}

/// Does an operation, given as an expression that makes its future, until what it was made from is
/// still true when it is stored.
///
/// A macro, for the futures of async closures cannot be sent to other threads (yet).
macro_rules! again {
    ($operation:expr) => {{
        let mut tries = $crate::machine::again::Tries::default();
        loop {
            if let Some(result) = tries.check($operation.await) {
                break result;
            }
        }
    }};
}
pub(super) use again;
