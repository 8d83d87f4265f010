//! A device: its two machines, and how they talk to the server.

mod inspect;
mod verbs;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use matrix_sdk_crypto::{
    DecryptionSettings, EncryptionSyncChanges as OlmSyncChanges, OlmMachine, TrustRequirement,
    olm::{Account, PickledAccount},
    store::{CryptoStore as _, MemoryStore as OlmStore, types::PendingChanges},
    vodozemac,
};
use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::AnySyncTimelineEvent, serde::Raw,
};

use super::{
    clock::TestClock,
    remote::{Homeserver, RemoteServer},
    server::{Answer, DeviceName, OlmAnswer, SimResponse, SimServer, SimSync},
    store::FaultyStore,
};
use crate::{
    DecryptedRoomEvent, DecryptionError, EncryptionSyncChanges, MlsError, MlsMachine, Notice,
    OutgoingRequest, RequestFailure, RoomSettings,
    dmls::{ALGORITHM, TrustRequirement as RoomTrust},
};

/// How often something is tried again when the store fails.
const MAX_FAULTS: usize = 5;

/// How many rounds of requests one `pumps` makes at most.
const MAX_ROUNDS: usize = 50;

/// A device in the simulation. Clones are the same device; they may look at different rooms, see
/// [`SimDevice::in_room`].
#[derive(Clone)]
pub struct SimDevice {
    inner: Arc<Inner>,
    room: Option<OwnedRoomId>,
}

struct Inner {
    home: Home,
    name: DeviceName,
    olm: OlmMachine,
    settings: RoomSettings,
    sizes: Sizes,
    clock: TestClock,
    store: Mutex<Arc<FaultyStore>>,
    mls: Mutex<MlsMachine>,
    without_mls: bool,
    memory: Mutex<Memory>,
}

/// What is another size than in earnest.
#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    key_packages: Option<u32>,
    event_content: Option<usize>,
}

/// Where the server is.
enum Home {
    Here(SimServer),
    Remote(RemoteServer),
}

impl Home {
    fn wants_olm_keys(&self) -> bool {
        match self {
            Self::Here(server) => server.wants_olm_keys(),
            Self::Remote(_) => true,
        }
    }
}

/// What the application around the machines knows.
#[derive(Default)]
struct Memory {
    readings: BTreeMap<OwnedEventId, Reading>,
    notices: Vec<Notice>,
    /// Done completely; can be done again.
    last_sync: Option<Arc<SimSync>>,
    /// Taken from the server, and not done completely.
    open_sync: Option<Arc<SimSync>>,
    /// Notices whose event is to be decrypted again.
    readable: Vec<(OwnedRoomId, OwnedEventId, Raw<AnySyncTimelineEvent>)>,
    /// Events that could not be read.
    unreadable: BTreeMap<OwnedEventId, (OwnedRoomId, Raw<AnySyncTimelineEvent>)>,
    rooms_first: bool,
    crashes_on_faults: bool,
}

/// What became of an event.
#[derive(Clone, Debug)]
pub enum Reading {
    /// It was read.
    Clear(Box<DecryptedRoomEvent>),
    /// It could not be read.
    Unreadable(Arc<DecryptionError>),
}

/// Something that a device wanted to do did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// The machine said no.
    #[error(transparent)]
    Machine(#[from] MlsError),
    /// Reading failed because of the machine.
    #[error("the server refused: {0}")]
    Refused(u16),
}

/// Makes a [`SimDevice`].
#[derive(Debug)]
pub struct SimDeviceBuilder {
    home: Home,
    name: DeviceName,
    store: Arc<FaultyStore>,
    settings: RoomSettings,
    sizes: Sizes,
    clock: TestClock,
    olm: Option<OlmMachine>,
    without_mls: bool,
}

impl SimDeviceBuilder {
    fn new(name: DeviceName, clock: TestClock, home: Home) -> Self {
        Self {
            home,
            name,
            store: Arc::new(FaultyStore::new()),
            settings: RoomSettings { trust: RoomTrust::All, ..RoomSettings::default() },
            sizes: Sizes::default(),
            clock,
            olm: None,
            without_mls: false,
        }
    }

    /// A device whose server is in another process. It has a clock of its own.
    pub(super) fn remote(name: DeviceName, server: RemoteServer) -> Self {
        Self::new(name, TestClock::default(), Home::Remote(server))
    }

    /// Keeps its state in a store: any one, with [`FaultyStore::around`].
    #[must_use]
    pub fn store(mut self, store: FaultyStore) -> Self {
        self.store = Arc::new(store);
        self
    }

    /// Has this `OlmMachine`, for one that has a store.
    #[must_use]
    pub fn olm(mut self, olm: OlmMachine) -> Self {
        self.olm = Some(olm);
        self
    }

    /// Founds rooms like this. By default all devices are let in, so that no test has to
    /// cross-sign.
    #[must_use]
    pub fn room_settings(mut self, settings: RoomSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Uploads so many one-time key packages, not as many as devices have by default: for simulations
    /// in which making them would take most of the time.
    #[must_use]
    pub const fn key_packages(mut self, count: u32) -> Self {
        self.sizes.key_packages = Some(count);
        self
    }

    /// Makes events of at most so many bytes, so that smaller commits and trees become files.
    #[must_use]
    pub const fn max_event_content(mut self, bytes: usize) -> Self {
        self.sizes.event_content = Some(bytes);
        self
    }

    /// Has a clock of its own.
    #[must_use]
    pub fn clock(mut self, clock: TestClock) -> Self {
        self.clock = clock;
        self
    }

    /// Knows nothing of MLS: its `MlsMachine` is never asked.
    #[must_use]
    pub const fn without_mls(mut self) -> Self {
        self.without_mls = true;
        self
    }

    /// Logs in and uploads its keys.
    pub async fn logs_in(self) -> SimDevice {
        let device = self.logs_in_quietly().await;
        device.pumps().await;
        device
    }

    /// Logs in and uploads nothing yet.
    pub async fn logs_in_quietly(self) -> SimDevice {
        let Self { home, name, store, settings, sizes, clock, olm, without_mls } = self;
        let olm = match olm {
            Some(olm) => olm,
            None if home.wants_olm_keys() => OlmMachine::new(&name.0, &name.1).await,
            None => olm_machine_without_one_time_keys(&name).await,
        };
        let mut mls = machine(&olm, &store, &settings, sizes, &clock).await;
        if mls.is_err() {
            store.heal();
            mls = machine(&olm, &store, &settings, sizes, &clock).await;
        }
        let mls = mls.expect("the machine starts");
        if let Home::Here(server) = &home {
            server.adds_device(&name);
        }
        let inner = Inner {
            home,
            name,
            olm,
            settings,
            sizes,
            clock,
            store: Mutex::new(store),
            mls: Mutex::new(mls),
            without_mls,
            memory: Mutex::default(),
        };
        SimDevice { inner: Arc::new(inner), room: None }
    }
}

async fn olm_machine_without_one_time_keys(name: &DeviceName) -> OlmMachine {
    let (user_id, device_id) = name;
    let store = Arc::new(OlmStore::new());
    let empty = vodozemac::olm::Account::new();
    let pickle = empty.pickle();
    // A new machine makes fifty, whatever it is given; what it finds in its store it leaves.
    OlmMachine::with_store(user_id, device_id, Arc::clone(&store), Some(empty))
        .await
        .expect("a machine in memory starts");
    let account = store.load_account().await.expect("it is stored").expect("there is one");
    let pickle = PickledAccount { pickle, ..account.pickle() };
    let account = Some(Account::from_pickle(pickle).expect("it is an account"));
    store.save_pending_changes(PendingChanges { account }).await.expect("it is stored");
    OlmMachine::with_store(user_id, device_id, store, None)
        .await
        .expect("a machine in memory starts")
}

async fn machine(
    olm: &OlmMachine,
    store: &Arc<FaultyStore>,
    settings: &RoomSettings,
    sizes: Sizes,
    clock: &TestClock,
) -> Result<MlsMachine, MlsError> {
    let mut builder = MlsMachine::builder(olm.clone())
        .store(Arc::clone(store))
        .clock(clock.clone())
        .room_settings(settings.clone());
    if let Some(count) = sizes.key_packages {
        builder = builder.one_time_key_packages(count);
    }
    if let Some(bytes) = sizes.event_content {
        builder = builder.max_event_content(bytes);
    }
    builder.build().await
}

impl SimServer {
    /// A device of a user, `@name:example.org`.
    pub fn device(&self, user: &str, device_id: &str) -> SimDeviceBuilder {
        let user_id = UserId::parse(format!("@{user}:example.org")).expect("a valid user ID");
        let name = (user_id, OwnedDeviceId::from(device_id));
        SimDeviceBuilder::new(name, self.clock().clone(), Home::Here(self.clone()))
    }
}

impl SimDevice {
    /// The server. Panics if it is in another process.
    pub fn server(&self) -> &SimServer {
        match &self.inner.home {
            Home::Here(server) => server,
            Home::Remote(_) => panic!("the server of {self:?} is in another process"),
        }
    }

    pub(super) fn remote(&self) -> Option<&RemoteServer> {
        match &self.inner.home {
            Home::Here(_) => None,
            Home::Remote(server) => Some(server),
        }
    }

    fn home(&self) -> &dyn Homeserver {
        match &self.inner.home {
            Home::Here(server) => server,
            Home::Remote(server) => server,
        }
    }

    /// Its clock.
    pub fn clock(&self) -> &TestClock {
        &self.inner.clock
    }

    /// User and device.
    pub fn name(&self) -> &DeviceName {
        &self.inner.name
    }

    /// The user.
    pub fn user_id(&self) -> &OwnedUserId {
        &self.inner.name.0
    }

    /// Its OlmMachine.
    pub fn olm(&self) -> &OlmMachine {
        &self.inner.olm
    }

    /// Its MlsMachine.
    pub fn mls(&self) -> MlsMachine {
        self.inner.mls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The MlsMachine's store.
    pub fn store(&self) -> Arc<FaultyStore> {
        Arc::clone(&self.inner.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The room that it looks at.
    pub fn room(&self) -> &RoomId {
        self.room.as_deref().expect("the device looks at a room")
    }

    /// The same device, looking at a room.
    #[must_use]
    pub fn in_room(&self, room_id: &RoomId) -> Self {
        Self { inner: Arc::clone(&self.inner), room: Some(room_id.to_owned()) }
    }

    /// The same device, looking at the room that another one looks at.
    #[must_use]
    pub fn looks_with(&self, other: &Self) -> Self {
        self.in_room(other.room())
    }

    /// Takes the room's events first from a sync and the rest later, or, by default, the other way
    /// round.
    pub fn takes_rooms_first(&self, rooms_first: bool) {
        self.memory().rooms_first = rooms_first;
    }

    /// Whether the application is killed, and started again, when the store fails. By default it
    /// only tries again.
    pub fn crashes_on_faults(&self, crashes: bool) {
        self.memory().crashes_on_faults = crashes;
    }

    /// The application is stopped and started again: what was not in the store is gone. What it
    /// could not read it tries again.
    pub async fn restarts(&self) {
        self.restarts_from(self.store()).await;
        let unreadable: Vec<_> = self.memory().unreadable.values().cloned().collect();
        for (room_id, event) in unreadable {
            if self.reads_event(&room_id, &event).await.is_err() {
                // A fault that was still to come.
                self.store().heal();
                self.reads_event(&room_id, &event).await.expect("the store works");
            }
        }
    }

    /// After the store has failed; panics at any other error.
    async fn recovers(&self, error: MlsError) {
        assert!(matches!(error, MlsError::Store(_)), "{self:?}: {error}");
        if self.memory().crashes_on_faults {
            self.store().heal();
            self.restarts().await;
        }
    }

    /// The MLS store is lost, and the `OlmMachine`'s is not: the application starts with an empty one,
    /// and its next sync is the first one.
    pub async fn loses_mls_store(&self) {
        self.restarts_from(Arc::new(FaultyStore::new())).await;
        self.server().begins_anew(self.name());
    }

    /// The application is started with another store.
    pub async fn restarts_from(&self, store: Arc<FaultyStore>) {
        let inner = &self.inner;
        let mls = machine(&inner.olm, &store, &inner.settings, inner.sizes, &inner.clock).await;
        let mls = mls.expect("the machine starts");
        *inner.store.lock().unwrap_or_else(PoisonError::into_inner) = store;
        *inner.mls.lock().unwrap_or_else(PoisonError::into_inner) = mls;
    }

    /// Sends what the machines want sent, until they want nothing more that the server does.
    pub async fn pumps(&self) {
        for _ in 0..MAX_FAULTS {
            match self.tries_to_pump().await {
                Ok(_) => return,
                Err(error) => self.recovers(error).await,
            }
        }
        panic!("the store of {self:?} fails all the time");
    }

    /// Sends what the machines want sent. Gives whether anything was answered.
    ///
    /// # Errors
    ///
    /// When the machine's store fails: try again.
    pub async fn tries_to_pump(&self) -> Result<bool, MlsError> {
        let mut unanswered = BTreeSet::new();
        let mut any = false;
        for _ in 0..MAX_ROUNDS {
            let mut progress = self.pump_olm().await;
            if !self.inner.without_mls {
                progress |= self.pump_mls(&mut unanswered).await?;
            }
            if !progress {
                return Ok(any);
            }
            any = true;
        }
        panic!("the requests of {:?} come to no end", self.name());
    }

    async fn pump_olm(&self) -> bool {
        let mut progress = false;
        let olm = self.olm();
        for request in olm.outgoing_requests().await.expect("a store in memory works") {
            let Some(answer) = self.home().answer_olm(self.name(), request.request()) else {
                continue;
            };
            let id = request.request_id();
            match &answer {
                OlmAnswer::KeysUpload(response) => olm.mark_request_as_sent(id, response).await,
                OlmAnswer::KeysQuery(response) => olm.mark_request_as_sent(id, response).await,
                OlmAnswer::KeysClaim(response) => olm.mark_request_as_sent(id, response).await,
                OlmAnswer::ToDevice(response) => olm.mark_request_as_sent(id, response).await,
                OlmAnswer::SignatureUpload(response) => {
                    olm.mark_request_as_sent(id, response).await
                }
            }
            .expect("the OlmMachine takes its answers");
            progress = true;
        }
        progress
    }

    async fn pump_mls(
        &self,
        unanswered: &mut BTreeSet<ruma::OwnedTransactionId>,
    ) -> Result<bool, MlsError> {
        let mut progress = false;
        let mls = self.mls();
        for request in mls.outgoing_requests().await? {
            let id = request.request_id();
            if unanswered.contains(id) {
                continue;
            }
            match self.home().answer(self.name(), &request) {
                Answer::Done(response) => {
                    mls.mark_request_as_sent(id, &response).await?;
                    progress = true;
                }
                Answer::Refused(status) => {
                    assert_eq!(RequestFailure::from_status(status), RequestFailure::Refused);
                    mls.mark_request_as_failed(id, RequestFailure::Refused).await?;
                    progress = true;
                }
                Answer::Unknown => {
                    mls.mark_request_as_failed(id, RequestFailure::Unknown).await?;
                    unanswered.insert(id.to_owned());
                }
                Answer::Late => {
                    unanswered.insert(id.to_owned());
                }
            }
        }
        self.listen().await?;
        Ok(progress)
    }

    /// Sends one request of its MlsMachine, and gives the answer to it.
    pub async fn is_answered(&self, request: &OutgoingRequest) {
        let (mls, id) = (self.mls(), request.request_id());
        let answered = match self.home().answer(self.name(), request) {
            Answer::Done(response) => mls.mark_request_as_sent(id, &response).await,
            Answer::Refused(_) => mls.mark_request_as_failed(id, RequestFailure::Refused).await,
            Answer::Unknown | Answer::Late => {
                mls.mark_request_as_failed(id, RequestFailure::Unknown).await
            }
        };
        answered.expect("the machine takes an answer");
    }

    /// Gets the answers that were late.
    pub async fn gets_late_answers(&self) {
        for (id, response) in self.server().take_late(self.name()) {
            match self.mls().mark_request_as_sent(&id, &response).await {
                Ok(()) => {}
                // It was sent again meanwhile, and answered. Commits have an answer all the same.
                Err(MlsError::UnknownRequest)
                    if !matches!(response, SimResponse::RoomMessage(_)) => {}
                Err(error) => panic!("{self:?} does not take a late answer: {error}"),
            }
        }
        self.pumps().await;
    }

    /// Syncs once, and sends what follows from it.
    pub async fn syncs(&self) {
        for _ in 0..MAX_FAULTS {
            match self.tries_to_sync().await {
                Ok(()) => return,
                Err(error) => self.recovers(error).await,
            }
        }
        panic!("the store of {self:?} fails all the time");
    }

    /// Syncs once. A sync that failed half-way is done again by the next call.
    ///
    /// # Errors
    ///
    /// When the machine's store fails: try again.
    pub async fn tries_to_sync(&self) -> Result<(), MlsError> {
        let open = self.memory().open_sync.clone();
        let sync = open.unwrap_or_else(|| Arc::new(self.home().sync(self.name())));
        self.memory().open_sync = Some(Arc::clone(&sync));
        self.takes(&sync).await?;
        {
            let mut memory = self.memory();
            memory.open_sync = None;
            memory.last_sync = Some(sync);
        }
        self.home().has_synced(self.name());
        self.tries_to_pump().await?;
        Ok(())
    }

    /// Does the last sync once more.
    pub async fn syncs_the_same_again(&self) {
        let sync = self.memory().last_sync.clone().expect("there was a sync");
        self.takes(&sync).await.expect("a sync is taken twice");
        self.pumps().await;
    }

    /// Gives a sync to the machines, and sends nothing.
    ///
    /// # Errors
    ///
    /// When the machine's store fails: try again.
    pub async fn takes(&self, sync: &SimSync) -> Result<(), MlsError> {
        let settings =
            DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };
        let changes = OlmSyncChanges {
            to_device_events: sync.to_device.clone(),
            changed_devices: &sync.device_lists,
            one_time_keys_counts: &sync.one_time_key_counts,
            unused_fallback_keys: Some(&sync.unused_fallback_keys),
            next_batch_token: None,
        };
        self.olm().receive_sync_changes(changes, &settings).await.expect("the OlmMachine syncs");
        if self.inner.without_mls {
            return Ok(());
        }
        let rooms_first = self.memory().rooms_first;
        if !rooms_first {
            self.take_to_device(sync).await?;
        }
        for room in &sync.rooms {
            self.mls().receive_room_events(&room.room_id, &room.state, &room.timeline).await?;
        }
        if rooms_first {
            self.take_to_device(sync).await?;
        }
        for room in &sync.rooms {
            for event in &room.timeline {
                self.reads_event(&room.room_id, event).await?;
            }
        }
        self.listen().await
    }

    async fn take_to_device(&self, sync: &SimSync) -> Result<(), MlsError> {
        let changes = EncryptionSyncChanges {
            to_device_events: &sync.to_device,
            changed_devices: &sync.device_lists,
            one_time_keys_counts: &sync.one_time_key_counts,
            unused_fallback_keys: Some(&sync.unused_fallback_keys),
        };
        self.mls().receive_sync_changes(changes).await
    }

    /// Gives an event to the machine, if it is an MLS message, and remembers what came of it.
    ///
    /// # Errors
    ///
    /// When the machine's store fails: try again.
    pub async fn reads_event(
        &self,
        room_id: &RoomId,
        event: &Raw<AnySyncTimelineEvent>,
    ) -> Result<(), MlsError> {
        let is_message = event.get_field::<String>("type").ok().flatten().as_deref()
            == Some("m.room.encrypted")
            && event.json().get().contains(ALGORITHM);
        let event_id = event.get_field::<OwnedEventId>("event_id").ok().flatten();
        let (true, Some(event_id)) = (is_message, event_id) else { return Ok(()) };
        let reading = match self.mls().decrypt_room_event(event, room_id).await {
            Ok(event) => Reading::Clear(Box::new(event)),
            Err(DecryptionError::Machine(error)) => return Err(error),
            // An application keeps what it has read.
            Err(DecryptionError::AlreadyRead)
                if self.reading(&event_id).is_some_and(|known| known.is_clear()) =>
            {
                return Ok(());
            }
            Err(error) => Reading::Unreadable(Arc::new(error)),
        };
        let mut memory = self.memory();
        if reading.is_clear() {
            memory.unreadable.remove(&event_id);
        } else {
            memory.unreadable.insert(event_id.clone(), (room_id.to_owned(), event.clone()));
        }
        memory.readings.insert(event_id, reading);
        Ok(())
    }

    /// Takes the machine's notices, and reads again what can be read now.
    async fn listen(&self) -> Result<(), MlsError> {
        for notice in self.mls().take_notices() {
            let mut memory = self.memory();
            if let Notice::Readable { room_id, event_id, event }
            | Notice::NotReadable { room_id, event_id, event } = &notice
            {
                memory.readable.push((room_id.clone(), event_id.clone(), event.clone()));
            }
            memory.notices.push(notice);
        }
        loop {
            // Stays in the list until it was read, should the store fail.
            let Some((room_id, _, event)) = self.memory().readable.first().cloned() else {
                return Ok(());
            };
            self.reads_event(&room_id, &event).await?;
            self.memory().readable.remove(0);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.inner.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(server) => server.fmt(f),
            Self::Remote(server) => server.fmt(f),
        }
    }
}

impl fmt::Debug for SimDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.inner.name.0, self.inner.name.1)
    }
}
