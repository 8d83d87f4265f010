//! The end of a session.

use std::sync::{Weak, atomic::Ordering};

use matrix_sdk::SessionChange;
use tokio::sync::broadcast::error::RecvError;
use tracing::warn;

use super::{Engine, lock};

/// Ends the engine when the server does not know the session any more: somebody has logged it out by
/// the SDK's own methods, or from another device.
pub(super) async fn watch(engine: Weak<Engine>) {
    let Some(mut changes) = engine.upgrade().map(|it| it.sdk.subscribe_to_session_changes()) else {
        return;
    };
    loop {
        match changes.recv().await {
            // After a soft logout the same device comes back.
            Ok(SessionChange::UnknownToken(how)) if !how.soft_logout => {
                warn!("This device was logged out");
                let Some(engine) = engine.upgrade() else { return };
                engine.end().await;
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

impl Engine {
    /// Ends the tasks and all streams, and puts the machine away, for good. What is stored stays.
    pub(crate) async fn end(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.machine.lock().await.take();
        self.notices.close();
        self.messages.close();
        self.events.close();
        // Last, because one of them may be doing this.
        self.end_tasks();
    }

    pub(super) fn end_tasks(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }
}
