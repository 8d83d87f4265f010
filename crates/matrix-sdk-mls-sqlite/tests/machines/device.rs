//! The device in danger, and what it is told to do.

use std::collections::BTreeMap;

use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_crypto_mls::{
    MlsError,
    store::StoreError,
    testing::{DeviceName, FaultyStore, SimDevice, SimDeviceBuilder, SimError},
};
use matrix_sdk_mls_sqlite::{SqliteMlsStore, SqliteMlsStoreConfig, WriteHook};
use matrix_sdk_sqlite::SqliteCryptoStore;
use ruma::{OwnedEventId, OwnedRoomId, events::AnySyncTimelineEvent, serde::Raw};
use serde::{Deserialize, Serialize};

/// A key of both stores.
const KEY: [u8; 32] = [42; 32];

/// Something that the application wants. Each may be tried again when it was not done to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Sends requests.
    Pump,
    /// Syncs once.
    Sync,
    /// Gets a room ready.
    Prepare(OwnedRoomId),
    /// Sends a message.
    Say(OwnedRoomId, String),
    /// Makes a commit with new keys, and does not send it yet.
    UpdateKeys(OwnedRoomId),
    /// Tells how things are, after reading these events.
    Report(Vec<(OwnedRoomId, Raw<AnySyncTimelineEvent>)>),
}

/// How things are.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// What was read, or why it was not.
    pub readings: BTreeMap<OwnedEventId, Result<String, String>>,
    /// The tip of each room, and whether there are others.
    pub tips: BTreeMap<OwnedRoomId, (String, usize)>,
    /// What waits to be sent.
    pub outbox: usize,
    /// What is wrong with the store.
    pub problems: Vec<String>,
}

/// The store, and the device that has it. The `OlmMachine` keeps its keys in the same directory.
pub struct Endangered {
    pub store: SqliteMlsStore,
    pub device: SimDevice,
}

impl Endangered {
    pub async fn olm(directory: &std::path::Path, name: &DeviceName) -> OlmMachine {
        let store = SqliteCryptoStore::open_with_key(directory, Some(&KEY)).await.unwrap();
        OlmMachine::with_store(&name.0, &name.1, store, None).await.unwrap()
    }

    pub async fn store(directory: &std::path::Path, hook: WriteHook) -> SqliteMlsStore {
        let config = SqliteMlsStoreConfig::new(directory).key(Some(&KEY));
        SqliteMlsStore::open_for_testing(&config, hook).await.unwrap()
    }

    pub async fn starts(store: SqliteMlsStore, olm: OlmMachine, builder: SimDeviceBuilder) -> Self {
        let faulty = FaultyStore::around(std::sync::Arc::new(store.clone()));
        let device = builder.olm(olm).store(faulty).logs_in_quietly().await;
        Self { store, device }
    }

    /// Does what it is told.
    pub async fn obeys(&self, command: &Command) -> Result<Report, StoreError> {
        match self.tries(command).await {
            Ok(report) => Ok(report),
            Err(SimError::Machine(MlsError::Store(error))) => Err(error),
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    async fn tries(&self, command: &Command) -> Result<Report, SimError> {
        match command {
            Command::Pump => drop(self.device.tries_to_pump().await?),
            Command::Sync => self.device.tries_to_sync().await?,
            Command::Prepare(room) => {
                self.device.in_room(room).tries_to_prepare().await?;
            }
            Command::Say(room, text) => {
                self.device.in_room(room).tries_to_say(text).await?;
            }
            Command::UpdateKeys(room) => {
                self.device.mls().update_keys(room).await?;
            }
            Command::Report(events) => return self.reports(events).await,
        }
        Ok(Report::default())
    }

    async fn reports(
        &self,
        events: &[(OwnedRoomId, Raw<AnySyncTimelineEvent>)],
    ) -> Result<Report, SimError> {
        use matrix_sdk_crypto_mls::store::MlsStore as _;

        let mut report = Report::default();
        for (room_id, event) in events {
            self.device.reads_event(room_id, event).await?;
            let event_id: OwnedEventId = event.get_field("event_id").unwrap().unwrap();
            let Some(reading) = self.device.reading(&event_id) else { continue };
            let text = reading.text().ok_or_else(|| format!("{reading:?}"));
            report.readings.insert(event_id, text);
        }
        for room_id in self.store.room_ids().await.map_err(MlsError::from)? {
            let status = self.device.in_room(&room_id).status().await.unwrap();
            report.tips.insert(room_id, (status.node.to_base64(), status.tips.len()));
        }
        report.outbox = self.store.outbox().await.map_err(MlsError::from)?.len();
        let problems = self.store.check().await.map_err(MlsError::from)?;
        report.problems = problems.iter().map(ToString::to_string).collect();
        Ok(report)
    }
}
