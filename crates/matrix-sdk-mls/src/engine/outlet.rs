//! Where the engine tells something to whoever listens.

use std::sync::Mutex as StdMutex;

use tokio::sync::broadcast;

use super::lock;

/// This many notices, messages and events wait for each of those who listen; the oldest go first.
const WAITING: usize = 1024;

/// Several may listen, or nobody. After it was closed those who listen get what there is, and then
/// the end.
pub(super) struct Outlet<T>(StdMutex<Option<broadcast::Sender<T>>>);

impl<T: Clone> Outlet<T> {
    pub(super) fn tell(&self, what: T) {
        if let Some(sender) = &*lock(&self.0) {
            // Nobody need listen.
            sender.send(what).ok();
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<T> {
        match &*lock(&self.0) {
            Some(sender) => sender.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// Whether anybody listens.
    pub(super) fn is_heard(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(|sender| sender.receiver_count() > 0)
    }

    pub(super) fn close(&self) {
        lock(&self.0).take();
    }
}

impl<T: Clone> Default for Outlet<T> {
    fn default() -> Self {
        Self(StdMutex::new(Some(broadcast::Sender::new(WAITING))))
    }
}

#[cfg(test)]
mod tests {
    use broadcast::error::TryRecvError;

    use super::*;

    #[test]
    fn who_listens_hears_everything_and_then_the_end() {
        let outlet = Outlet::default();
        outlet.tell(1);
        assert!(!outlet.is_heard());
        let mut receiver = outlet.subscribe();
        assert!(outlet.is_heard());
        outlet.tell(2);
        outlet.close();
        outlet.tell(3);
        assert_eq!(receiver.try_recv(), Ok(2));
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Closed));
        assert_eq!(outlet.subscribe().try_recv(), Err(TryRecvError::Closed));
    }
}
