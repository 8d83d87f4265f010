//! What keeps the engine and its tasks going.

use std::{ops::Deref, sync::Arc};

use super::Engine;

/// The engine, for clients and rooms. When it is dropped the tasks end where they are, and with them
/// what they hold: nothing is lost that the machine wants sent, it is sent after the next start.
pub(crate) struct Owner {
    pub(super) engine: Arc<Engine>,
}

impl Deref for Owner {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.engine.end_tasks();
    }
}
