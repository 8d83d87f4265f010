//! Work that takes milliseconds in large rooms does not run on the async executor's threads.

use std::sync::Arc;

use matrix_dmls::{Group, GroupError};
use tokio::runtime::Handle;

/// Runs an operation on a group where it may take its time: on tokio's blocking threads, or right
/// here where there is no tokio.
pub(super) async fn heavy<T: Send + 'static>(
    group: &Arc<Group>,
    operation: impl FnOnce(&Group) -> Result<T, GroupError> + Send + 'static,
) -> Result<T, GroupError> {
    let group = Arc::clone(group);
    match Handle::try_current() {
        // The operation has its own hold on the group until it is done; nobody else changes the
        // group meanwhile, since the room is locked.
        Ok(handle) => {
            let task = handle.spawn_blocking(move || operation(&group));
            task.await.unwrap_or(Err(GroupError::Panicked))
        }
        Err(_) => operation(&group),
    }
}
