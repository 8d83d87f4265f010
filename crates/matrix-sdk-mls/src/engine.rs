//! What the clients and rooms of one session share: the machine, and the tasks that feed it.

mod answers;
mod events;
mod keys;
mod latch;
mod messages;
mod notices;
mod outlet;
mod owner;
mod peek;
mod pump;
mod readiness;
mod ready;
mod router;
mod session;
mod state;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    ptr,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
};

use matrix_sdk_base::BaseClient;
use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_crypto_mls::{MlsMachine, Notice, RoomSettings, store::MlsStore};
use ruma::OwnedRoomId;
use tokio::{
    sync::{Mutex, Notify, broadcast, mpsc, watch},
    task::AbortHandle,
};

pub use self::messages::MlsMessage;
pub(crate) use self::owner::Owner;
use self::{outlet::Outlet, router::Flush, state::Completeness};
use crate::{bridge::Bridge, builder::NewRooms, error::Error, event::MlsEvent, queue::Queues};

pub(crate) struct Engine {
    pub(crate) sdk: matrix_sdk::Client,
    pub(crate) new_rooms: NewRooms,
    pub(crate) bridge: Bridge,
    base: BaseClient,
    settings: MachineSettings,
    machine: Mutex<Option<MlsMachine>>,
    /// Whether rooms are MLS rooms, as far as somebody has asked.
    latches: StdMutex<BTreeMap<OwnedRoomId, bool>>,
    completeness: StdMutex<Completeness>,
    /// Held by whoever sends the machine's requests.
    pump: Mutex<()>,
    /// Wakes the pump's task.
    wake: Arc<Notify>,
    /// Counts what may have made a room ready.
    progress: watch::Sender<u64>,
    notices: Outlet<Notice>,
    messages: Outlet<MlsMessage>,
    events: Outlet<MlsEvent>,
    told: events::Told,
    readiness: readiness::Told,
    keys: StdMutex<keys::Counts>,
    flushes: mpsc::UnboundedSender<Flush>,
    pub(crate) queues: Queues,
    /// Set once, when the session has ended.
    has_ended: AtomicBool,
    tasks: StdMutex<Vec<AbortHandle>>,
    /// For the tasks.
    itself: Weak<Self>,
}

/// What each of the session's machines is made with.
pub(crate) struct MachineSettings {
    pub(crate) store: Arc<dyn MlsStore>,
    pub(crate) rooms: RoomSettings,
    /// In bytes; the machine's own limit if there is none.
    pub(crate) max_event_content: Option<usize>,
}

impl Engine {
    /// An engine, and its tasks. They rest until there is a session.
    pub(crate) fn start(
        sdk: matrix_sdk::Client,
        base: BaseClient,
        settings: MachineSettings,
        new_rooms: NewRooms,
    ) -> Arc<Owner> {
        let (flushes, flush_requests) = mpsc::unbounded_channel();
        // Before anybody can sync, so that nothing is missed.
        let inputs = router::Inputs::of(&sdk, flush_requests);
        let engine = Arc::new_cyclic(|itself| Self {
            sdk,
            new_rooms,
            bridge: Bridge::default(),
            base,
            settings,
            machine: Mutex::default(),
            latches: StdMutex::default(),
            completeness: StdMutex::default(),
            pump: Mutex::default(),
            wake: Arc::default(),
            progress: watch::Sender::default(),
            notices: Outlet::default(),
            messages: Outlet::default(),
            events: Outlet::default(),
            told: events::Told::default(),
            readiness: readiness::Told::default(),
            keys: StdMutex::default(),
            flushes,
            queues: Queues::default(),
            has_ended: AtomicBool::new(false),
            tasks: StdMutex::default(),
            itself: Weak::clone(itself),
        });
        let weak = &engine.itself;
        router::listen(&engine.sdk, Weak::clone(weak));
        engine.spawn(router::run(Weak::clone(weak), inputs));
        engine.spawn(pump::run(Weak::clone(weak)));
        engine.spawn(events::watch_backup(Weak::clone(weak)));
        engine.spawn(session::watch(Weak::clone(weak)));
        Arc::new(Owner { engine })
    }

    /// Runs a task until the last client and the last room are gone, or the session has ended.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        // They are ended after that was set.
        if !self.has_ended() {
            tasks.push(tokio::spawn(task).abort_handle());
        }
    }

    /// For a task.
    pub(crate) fn weak(&self) -> Weak<Self> {
        Weak::clone(&self.itself)
    }

    /// The machine beside the SDK's OlmMachine, as that is now.
    pub(crate) async fn machine(&self) -> Result<MlsMachine, Error> {
        let olm = self.olm().await?;
        let mut slot = self.machine.lock().await;
        if self.has_ended() {
            return Err(Error::NotLoggedIn);
        }
        if let Some(machine) = &*slot {
            // The SDK has made another one when its crypto store was changed by another process.
            if ptr::eq(machine.olm_machine().store(), olm.store()) {
                return Ok(machine.clone());
            }
            for notice in machine.take_notices() {
                self.tell_notice(&notice);
                self.notices.tell(notice);
            }
        }
        let settings = &self.settings;
        let mut builder = MlsMachine::builder(olm)
            .store(Arc::clone(&settings.store))
            .room_settings(settings.rooms.clone());
        if let Some(bytes) = settings.max_event_content {
            builder = builder.max_event_content(bytes);
        }
        let machine = Box::pin(builder.build()).await?;
        *slot = Some(machine.clone());
        lock(&self.keys).ask_again();
        self.wake.notify_one();
        Ok(machine)
    }

    /// The SDK's OlmMachine.
    pub(crate) async fn olm(&self) -> Result<OlmMachine, Error> {
        self.base.olm_machine().await.clone().ok_or(Error::NotLoggedIn)
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Something has changed that a room may wait for.
    fn note_progress(&self) {
        self.progress.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("user_id", &self.sdk.user_id()).finish_non_exhaustive()
    }
}

/// What is behind these locks is never left half-changed, so a panic elsewhere does no harm.
pub(crate) fn lock<T>(mutex: &StdMutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
