//! A client that is closed, and opened again another day.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use matrix_sdk_crypto_mls::{Notice, RoomSettings};
use ruma::{OwnedRoomId, api::client::filter::FilterDefinition};

use super::{MlsDevice, TimelineEvent};
use crate::{
    account::Session,
    error::{DriverError, HttpError},
    home::{self, Home},
    http::HttpClient,
    room::RoomState,
};

/// A device that is not running. Its machines are gone, and their stores closed. What is here is what
/// a client keeps in a store of its own: who it is, where its sync goes on, rooms and timelines.
pub struct StoppedDevice {
    home: Home,
    http: HttpClient,
    session: Session,
    settings: RoomSettings,
    max_event_content: Option<usize>,
    sync_token: Option<String>,
    sync_filter: FilterDefinition,
    rooms: BTreeMap<OwnedRoomId, RoomState>,
    complete: BTreeSet<OwnedRoomId>,
    timelines: BTreeMap<OwnedRoomId, Vec<TimelineEvent>>,
    notices: Vec<Notice>,
    refusals: Vec<HttpError>,
}

impl MlsDevice {
    /// Drops both machines as they are and closes their stores. The clock is the system's again. What they wanted sent, and was not,
    /// is still to be sent when the device is started.
    ///
    /// Needs a device on disk ([`MlsDevice::on_disk`]).
    pub async fn stop(self) -> Result<StoppedDevice, DriverError> {
        let Self {
            device,
            mls,
            notices,
            refusals,
            timelines,
            complete,
            settings,
            max_event_content,
            store,
            clock: _,
            home,
        } = self;
        let Some((home, sqlite)) = home else {
            let session = device.session;
            return Err(DriverError::NotOnDisk(session.user_id, session.device_id));
        };
        // Whatever the machine has not stored is lost now.
        drop((mls, store));
        home::close(&device.olm, &sqlite).await?;
        Ok(StoppedDevice {
            home,
            http: device.http,
            session: device.session,
            settings,
            max_event_content,
            sync_token: device.sync_token,
            sync_filter: device.sync_filter,
            rooms: device.rooms,
            complete,
            timelines,
            notices,
            refusals,
        })
    }
}

impl StoppedDevice {
    /// Opens the stores, and makes both machines from what is there. Nothing is sent.
    pub async fn start(self) -> Result<MlsDevice, DriverError> {
        let mut device =
            MlsDevice::on_disk(&self.http, self.session, self.settings, self.home).await?;
        device.device.sync_token = self.sync_token;
        device.device.sync_filter = self.sync_filter;
        device.device.rooms = self.rooms;
        device.complete = self.complete;
        device.timelines = self.timelines;
        device.notices = self.notices;
        device.refusals = self.refusals;
        if let Some(bytes) = self.max_event_content {
            device.limit_events(bytes).await?;
        }
        Ok(device)
    }

    /// The directory with its stores.
    pub fn directory(&self) -> &Path {
        self.home.directory()
    }
}

impl fmt::Debug for StoppedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoppedDevice").field("session", &self.session).finish_non_exhaustive()
    }
}
