//! The homeserver.

mod answers;
mod history;
mod keys;
mod media;
mod partition;
mod rooms;
mod sync;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use matrix_dmls::NodeId;
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedEventId, OwnedOneTimeKeyId, OwnedRoomId,
    OwnedTransactionId, OwnedUserId,
    encryption::{DeviceKeys, OneTimeKey},
    events::AnyToDeviceEvent,
    serde::Raw,
};

use self::rooms::Room;
pub(super) use self::{
    answers::{Answer, OlmAnswer},
    media::response as media_response,
};
pub use self::{
    answers::{Fault, RequestKind, SimResponse},
    rooms::{RoomOptions, SimEvent},
    sync::{SimRoomSync, SimSync},
};
use serde::{Deserialize, Serialize};

use super::{clock::TestClock, rng::SimRng};

/// A user and one of its devices.
pub type DeviceName = (OwnedUserId, OwnedDeviceId);

/// A homeserver in memory. Clones are the same server.
#[derive(Clone)]
pub struct SimServer {
    state: Arc<Mutex<State>>,
    clock: TestClock,
    seed: u64,
}

/// A message that a [`super::SimDevice`] has sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentMessage {
    /// Its event.
    pub event_id: OwnedEventId,
    /// The room.
    pub room_id: OwnedRoomId,
    /// Who sent it.
    pub sender: DeviceName,
    /// What it says.
    pub text: String,
    /// The epoch that it is encrypted in.
    pub node: NodeId,
    /// Its count.
    pub generation: u32,
    /// The devices in that epoch.
    pub readers: BTreeSet<DeviceName>,
}

struct State {
    rng: SimRng,
    last_id: u64,
    devices: BTreeMap<DeviceName, Device>,
    rooms: BTreeMap<OwnedRoomId, Room>,
    /// Whose device list has changed, in order.
    changed_users: Vec<OwnedUserId>,
    /// Users whose server cannot be asked for keys.
    unreachable: BTreeSet<OwnedUserId>,
    /// On which side of a partition users are; 0 if not said.
    sides: BTreeMap<OwnedUserId, u32>,
    /// What is done on one side, the other does not even see in the room's state.
    cuts_state: bool,
    /// What somebody sent whom this side has removed meanwhile never reaches its devices.
    soft_fails: bool,
    sent: Vec<SentMessage>,
    /// No device is asked for Olm's one-time keys.
    without_olm_keys: bool,
    /// The media repository.
    media: BTreeMap<String, Vec<u8>>,
    upload_limit: usize,
    downloads: usize,
    /// Events that a device does not get, although it is in the room.
    hidden: BTreeSet<(DeviceName, OwnedEventId)>,
}

/// What the server has of a device.
#[derive(Default)]
struct Device {
    keys: Option<Raw<DeviceKeys>>,
    one_time_keys: BTreeMap<OneTimeKeyAlgorithm, VecDeque<(OwnedOneTimeKeyId, Raw<OneTimeKey>)>>,
    fallback_keys: BTreeMap<OneTimeKeyAlgorithm, FallbackKey>,
    transactions: BTreeMap<OwnedTransactionId, OwnedEventId>,
    to_device_transactions: BTreeSet<OwnedTransactionId>,
    to_device: Vec<Raw<AnyToDeviceEvent>>,
    /// Held back: on the other side of a partition, or because a test wants it.
    held_to_device: Vec<Raw<AnyToDeviceEvent>>,
    timeline: VecDeque<Delivery>,
    held_timeline: VecDeque<Delivery>,
    holds_timeline: bool,
    holds_to_device: bool,
    loses_to_device: usize,
    doubles_to_device: bool,
    /// Rooms that the device sees.
    known_rooms: BTreeSet<OwnedRoomId>,
    /// Rooms whose state it has not synced.
    new_rooms: BTreeSet<OwnedRoomId>,
    /// How much of `changed_users` was synced.
    changed_users_synced: usize,
    faults: VecDeque<(RequestKind, Fault)>,
    late: Vec<(OwnedTransactionId, SimResponse)>,
    requests: Vec<(RequestKind, OwnedTransactionId)>,
}

#[derive(Clone)]
struct FallbackKey {
    id: OwnedOneTimeKeyId,
    key: Raw<OneTimeKey>,
    used: bool,
}

/// An event on its way to a device.
#[derive(Clone, Debug, PartialEq)]
struct Delivery {
    room_id: OwnedRoomId,
    index: usize,
}

impl SimServer {
    /// An empty server.
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: SimRng::new(seed),
            last_id: 0,
            media: BTreeMap::new(),
            upload_limit: 50 * 1024 * 1024,
            downloads: 0,
            devices: BTreeMap::new(),
            rooms: BTreeMap::new(),
            changed_users: Vec::new(),
            unreachable: BTreeSet::new(),
            sides: BTreeMap::new(),
            cuts_state: false,
            soft_fails: false,
            sent: Vec::new(),
            without_olm_keys: false,
            hidden: BTreeSet::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), clock: TestClock::default(), seed }
    }

    /// Its clock, which is every device's that was given no other one.
    pub const fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// What it was made from.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Tells devices from now on that it has all the one-time keys of Olm that it wants, so that they make
    /// none. For simulations in which nothing goes through Olm: an `OlmMachine` derives all its public
    /// one-time keys again with every sync, which would take a third of the time.
    pub fn wants_no_olm_keys(&self) {
        self.state().without_olm_keys = true;
    }

    /// Whether it wants Olm's one-time keys.
    pub(super) fn wants_olm_keys(&self) -> bool {
        !self.state().without_olm_keys
    }

    /// All messages that devices have sent, in order.
    pub fn sent_messages(&self) -> Vec<SentMessage> {
        self.state().sent.clone()
    }

    /// Nobody can fetch these users' device lists any more, or again.
    pub fn cannot_ask_for_keys_of(&self, user: &OwnedUserId, unreachable: bool) {
        let mut state = self.state();
        if unreachable {
            state.unreachable.insert(user.clone());
        } else {
            state.unreachable.remove(user);
        }
    }

    pub(super) fn note_sent(&self, message: SentMessage) {
        self.state().sent.push(message);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that has panicked has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A number that was not used before, for IDs.
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn device(&mut self, name: &DeviceName) -> &mut Device {
        self.devices.entry(name.clone()).or_default()
    }
}

impl Device {
    fn release(&mut self) {
        if !self.holds_timeline {
            self.timeline.extend(self.held_timeline.drain(..));
        }
        if !self.holds_to_device {
            self.to_device.append(&mut self.held_to_device);
        }
    }
}

impl fmt::Debug for SimServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimServer").field("seed", &self.seed).finish_non_exhaustive()
    }
}
