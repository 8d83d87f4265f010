//! Making a client.

use std::{fmt, path::PathBuf, sync::Arc};

use matrix_sdk::{
    ThreadingSupport,
    config::{RequestConfig, StoreConfig},
};
use matrix_sdk_base::{BaseClient, DmRoomDefinition};
use matrix_sdk_common::cross_process_lock::CrossProcessLockConfig;
use matrix_sdk_crypto::{CollectStrategy, DecryptionSettings, TrustRequirement};
use matrix_sdk_crypto_mls::{
    RoomSettings,
    store::{IntoMlsStore, MemoryStore, MlsStore},
};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use matrix_sdk_sqlite::{
    SqliteCryptoStore, SqliteEventCacheStore, SqliteMediaStore, SqliteStateStore, SqliteStoreConfig,
};
use ruma::ServerName;

use crate::{
    client::Client,
    engine::{Engine, MachineSettings},
    error::BuildError,
};

/// The name under which the SDK's stores are locked, as in the SDK's own builder.
const HOLDER: &str = "main";

/// What becomes of rooms for which encryption is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewRooms {
    /// What the request or the call says: Megolm, unless MLS is named.
    #[default]
    AsRequested,
    /// They are MLS rooms: `create_room` with an `m.room.encryption` event in its initial state,
    /// `create_dm`, and `enable_encryption` in a room that is not encrypted.
    Mls,
}

/// Makes a [`Client`], as the SDK's builder makes one of the SDK's.
///
/// What this builder does not have is reached by [`ClientBuilder::configure`].
#[must_use]
pub struct ClientBuilder {
    sdk: matrix_sdk::ClientBuilder,
    stores: Stores,
    lock: CrossProcessLockConfig,
    threading: ThreadingSupport,
    dms: DmRoomDefinition,
    recipients: CollectStrategy,
    decryption: DecryptionSettings,
    rooms: RoomSettings,
    new_rooms: NewRooms,
    max_event_content: Option<usize>,
}

enum Stores {
    Memory,
    Sqlite(SqliteStoreConfig, PathBuf, Option<String>),
}

impl ClientBuilder {
    pub(crate) fn new() -> Self {
        Self {
            sdk: matrix_sdk::Client::builder(),
            stores: Stores::Memory,
            lock: CrossProcessLockConfig::multi_process(HOLDER),
            threading: ThreadingSupport::Disabled,
            dms: DmRoomDefinition::MatrixSpec,
            recipients: CollectStrategy::default(),
            decryption: DecryptionSettings {
                sender_device_trust_requirement: TrustRequirement::Untrusted,
            },
            rooms: RoomSettings::default(),
            new_rooms: NewRooms::default(),
            max_event_content: None,
        }
    }

    /// Changes the SDK's builder. Not for stores, locks, threads, DM rooms, recipients and
    /// decryption: these are given to the SDK by this builder, so set them here.
    pub fn configure(
        mut self,
        change: impl FnOnce(matrix_sdk::ClientBuilder) -> matrix_sdk::ClientBuilder,
    ) -> Self {
        self.sdk = change(self.sdk);
        self
    }

    /// The homeserver's URL.
    pub fn homeserver_url(self, url: impl AsRef<str>) -> Self {
        self.configure(|sdk| sdk.homeserver_url(url))
    }

    /// The homeserver's name, by which its URL is looked up.
    pub fn server_name(self, name: &ServerName) -> Self {
        self.configure(|sdk| sdk.server_name(name))
    }

    /// The homeserver's name or URL.
    pub fn server_name_or_homeserver_url(self, name_or_url: impl AsRef<str>) -> Self {
        self.configure(|sdk| sdk.server_name_or_homeserver_url(name_or_url))
    }

    /// The default timeouts and retries of requests.
    pub fn request_config(self, config: RequestConfig) -> Self {
        self.configure(|sdk| sdk.request_config(config))
    }

    /// Refreshes access tokens by itself.
    pub fn handle_refresh_tokens(self) -> Self {
        self.configure(matrix_sdk::ClientBuilder::handle_refresh_tokens)
    }

    /// Keeps everything in SQLite databases in this directory: the SDK's own, and the MLS store
    /// beside them. With a passphrase all of them are encrypted.
    ///
    /// Without this call everything is in memory.
    pub fn sqlite_store(mut self, path: impl Into<PathBuf>, passphrase: Option<&str>) -> Self {
        let path = path.into();
        let config = SqliteStoreConfig::new(&path).passphrase(passphrase);
        self.stores = Stores::Sqlite(config, path, passphrase.map(ToOwned::to_owned));
        self
    }

    /// How the SDK's stores are locked between processes.
    pub fn cross_process_store_config(mut self, config: CrossProcessLockConfig) -> Self {
        self.lock = config;
        self
    }

    /// Whether the client knows threads.
    pub fn with_threading_support(mut self, threading: ThreadingSupport) -> Self {
        self.threading = threading;
        self
    }

    /// Which rooms are direct messages.
    pub fn dm_room_definition(mut self, definition: DmRoomDefinition) -> Self {
        self.dms = definition;
        self
    }

    /// To which devices messages in Megolm rooms are encrypted. In MLS rooms the group decides.
    pub fn with_room_key_recipient_strategy(mut self, strategy: CollectStrategy) -> Self {
        self.recipients = strategy;
        self
    }

    /// Which senders are accepted in Megolm rooms.
    pub fn with_decryption_settings(mut self, settings: DecryptionSettings) -> Self {
        self.decryption = settings;
        self
    }

    /// What MLS rooms are like whose group this client founds.
    pub fn mls_room_settings(mut self, settings: RoomSettings) -> Self {
        self.rooms = settings;
        self
    }

    /// How many bytes the content of a commit event may have as JSON, where the homeserver takes less
    /// than the specification lets it; see [`MlsMachineBuilder::max_event_content`].
    ///
    /// [`MlsMachineBuilder::max_event_content`]: matrix_sdk_crypto_mls::MlsMachineBuilder::max_event_content
    pub fn mls_max_event_content(mut self, bytes: usize) -> Self {
        self.max_event_content = Some(bytes);
        self
    }

    /// What becomes of rooms for which encryption is wanted.
    pub fn new_rooms(mut self, new_rooms: NewRooms) -> Self {
        self.new_rooms = new_rooms;
        self
    }

    /// Opens the stores and makes the client. It has no session yet.
    ///
    /// # Errors
    ///
    /// When a store cannot be opened, or the homeserver cannot be found.
    pub async fn build(self) -> Result<Client, BuildError> {
        let stores = StoreConfig::new(self.lock.clone());
        let (stores, mls): (_, Arc<dyn MlsStore>) = match self.stores {
            Stores::Memory => (stores, MemoryStore::new().into_mls_store()),
            Stores::Sqlite(config, path, passphrase) => {
                let stores = stores
                    .state_store(SqliteStateStore::open_with_config(&config).await?)
                    .event_cache_store(SqliteEventCacheStore::open_with_config(&config).await?)
                    .media_store(SqliteMediaStore::open_with_config(&config).await?)
                    .crypto_store(SqliteCryptoStore::open_with_config(&config).await?);
                let mls = SqliteMlsStore::open(path, passphrase.as_deref()).await?;
                (stores, mls.into_mls_store())
            }
        };
        let mut base = BaseClient::new(stores, self.threading, self.dms);
        base.room_key_recipient_strategy = self.recipients;
        base.decryption_settings = self.decryption;
        let builder = self.sdk.cross_process_store_config(self.lock).base_client(base.clone());
        let sdk = Box::pin(builder.build()).await?;
        let machine = MachineSettings {
            store: mls,
            rooms: self.rooms,
            max_event_content: self.max_event_content,
        };
        let engine = Engine::start(sdk, base, machine, self.new_rooms);
        Ok(Client { engine })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("sqlite", &matches!(self.stores, Stores::Sqlite(..)))
            .field("new_rooms", &self.new_rooms)
            .finish_non_exhaustive()
    }
}
