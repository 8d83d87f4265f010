//! A device that speaks MLS: the driver's [`Device`] with an [`MlsMachine`] beside its Olm machine.
//!
//! What a client has to add for MLS rooms is this folder, one job per file: it gives each sync to
//! the machine, sends what the machine wants sent, gets a room ready before it sends, and decrypts.

mod clock;
mod requests;
mod send;
mod stopped;
mod sync;
mod timeline;
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use matrix_sdk_crypto_mls::{
    GroupStatus, MlsError, MlsMachine, Notice, RoomSettings,
    dmls::NodeId,
    store::{IntoMlsStore, MemoryStore, MlsStore, StoreError},
};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use ruma::{OwnedRoomId, RoomId};

use self::clock::SetForward;
pub use self::{send::Sent, stopped::StoppedDevice, timeline::TimelineEvent, wait::come_together};
use crate::{
    account::Session,
    device::Device,
    error::{DriverError, HttpError},
    home::Home,
    http::HttpClient,
};

/// A device with both machines. Rooms, members and events are [`Device`]'s, which this one derefs
/// to.
pub struct MlsDevice {
    /// The device without MLS.
    pub device: Device,
    /// The MLS machine, which takes device keys and trust from the Olm machine.
    pub mls: MlsMachine,
    /// What the machine reported, oldest first; what became of events that waited is dealt with here
    /// and left out.
    pub notices: Vec<Notice>,
    /// What the server refused the machine, oldest first. The machine goes on without.
    pub refusals: Vec<HttpError>,
    timelines: BTreeMap<OwnedRoomId, Vec<TimelineEvent>>,
    /// The rooms whose complete member list the machine has.
    complete: BTreeSet<OwnedRoomId>,
    settings: RoomSettings,
    /// How large the content of an event may be, if it is not to be as large as can be.
    max_event_content: Option<usize>,
    store: Arc<dyn MlsStore>,
    clock: SetForward,
    /// Where everything is, if it is on disk, and the MLS store there.
    home: Option<(Home, SqliteMlsStore)>,
}

impl MlsDevice {
    /// A device with new machines, in memory. Nothing is sent; the first [`pump`](Self::pump)
    /// uploads its keys and key packages.
    pub async fn new(
        http: &HttpClient,
        session: Session,
        settings: RoomSettings,
    ) -> Result<Self, MlsError> {
        let device = Device::new(http, session).await;
        Self::with_store(device, MemoryStore::new(), settings).await
    }

    /// A device whose MLS state is in this store. `settings` are for the rooms that it founds.
    pub async fn with_store(
        device: Device,
        store: impl IntoMlsStore,
        settings: RoomSettings,
    ) -> Result<Self, MlsError> {
        let store = store.into_mls_store();
        let clock = SetForward::default();
        let mls = MlsMachine::builder(device.olm.clone())
            .store(Arc::clone(&store))
            .clock(clock.clone())
            .room_settings(settings.clone())
            .build()
            .await?;
        Ok(Self {
            device,
            mls,
            notices: Vec::new(),
            refusals: Vec::new(),
            timelines: BTreeMap::new(),
            complete: BTreeSet::new(),
            settings,
            max_event_content: None,
            store,
            clock,
            home: None,
        })
    }

    /// A device that keeps the state of both machines on disk, new or as it was left there. Nothing
    /// is sent. `settings` are for the rooms that it founds.
    pub async fn on_disk(
        http: &HttpClient,
        session: Session,
        settings: RoomSettings,
        home: Home,
    ) -> Result<Self, DriverError> {
        let (olm, store) = home.open(&session).await?;
        let device = Device::with_machine(http, session, olm);
        let mut device = Self::with_store(device, store.clone(), settings).await?;
        device.home = Some((home, store));
        Ok(device)
    }

    /// Throws the MLS machine away and makes another from the store, as if the client had been
    /// stopped at this moment and started again. The Olm machine stays; with stores on disk,
    /// [`stop`](Self::stop) lets go of both.
    pub async fn restart(&mut self) -> Result<(), MlsError> {
        let mut builder = MlsMachine::builder(self.device.olm.clone())
            .store(Arc::clone(&self.store))
            .clock(self.clock.clone())
            .room_settings(self.settings.clone());
        if let Some(bytes) = self.max_event_content {
            builder = builder.max_event_content(bytes);
        }
        self.mls = builder.build().await?;
        Ok(())
    }

    /// The MLS store is lost, with all that was in it, and another one begun, in memory. The Olm
    /// machine stays; the next sync begins at the beginning, so that the machine hears of its rooms.
    pub async fn lose_mls_store(&mut self) -> Result<(), MlsError> {
        self.store = MemoryStore::new().into_mls_store();
        self.home = None;
        self.complete.clear();
        self.device.sync_token = None;
        self.restart().await
    }

    /// Sets the MLS machine's clock forward. The Olm machine's and the server's stay.
    pub fn set_forward(&self, time: Duration) {
        self.clock.by(time);
    }

    /// Makes events of at most so many bytes from now on, so that commits and ratchet trees of small
    /// rooms become files too. Restarts the MLS machine.
    pub async fn limit_events(&mut self, bytes: usize) -> Result<(), MlsError> {
        self.max_event_content = Some(bytes);
        self.restart().await
    }

    /// How the room's group stands; `None` while this device is in none.
    pub async fn status(&self, room: &RoomId) -> Result<Option<GroupStatus>, MlsError> {
        self.mls.group_status(room).await
    }

    /// Whether this device can read the messages of an epoch.
    pub async fn holds(&self, room: &RoomId, node: NodeId) -> Result<bool, StoreError> {
        let stored = self.store.load_room(room).await?;
        Ok(stored.is_some_and(|room| room.group.epoch_keys.contains_key(&node)))
    }
}

impl Deref for MlsDevice {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.device
    }
}

impl DerefMut for MlsDevice {
    fn deref_mut(&mut self) -> &mut Device {
        &mut self.device
    }
}

impl fmt::Debug for MlsDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlsDevice").field("device", &self.device).finish_non_exhaustive()
    }
}
