//! What the tests have in common.

use std::{env, path::Path, time::Duration};

use matrix_mls_tests::{Account, HttpClient};
use matrix_sdk::{
    RoomMemberships, authentication::matrix::MatrixSession, config::SyncSettings,
    deserialized_responses::TimelineEvent, ruma,
};
use matrix_sdk_mls::{Client, ClientBuilder, Room};
use ruma::{EventId, RoomId, api::client::room::create_room, serde::Raw};
use serde_json::Value;
use tokio::task::JoinHandle;

/// How long something may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// The homeserver that `cargo xtask test` has started.
pub async fn homeserver() -> HttpClient {
    let url = env::var("MLS_TEST_HOMESERVER").expect("MLS_TEST_HOMESERVER is not set");
    HttpClient::connect(url).await.unwrap()
}

/// An application in which somebody has logged in. It syncs in the background when told to.
pub struct App {
    pub account: Account,
    pub client: Client,
    syncs: Vec<JoinHandle<()>>,
}

impl App {
    /// A new user, and an application of theirs that keeps everything in memory. The device is
    /// cross-signed and has published its keys.
    pub async fn register(http: &HttpClient, name: &str) -> Self {
        let (account, _) = Account::register(http, name).await.unwrap();
        Self::first_login(account, builder(&http.base_url)).await
    }

    /// The same with everything on disk.
    pub async fn register_on_disk(http: &HttpClient, name: &str, folder: &Path) -> Self {
        let (account, _) = Account::register(http, name).await.unwrap();
        Self::first_login(account, on_disk(&http.base_url, folder)).await
    }

    /// The user's first device.
    pub async fn first_login(account: Account, builder: ClientBuilder) -> Self {
        let app = Self::login(account, builder).await;
        app.bootstrap().await;
        app.sync_once().await;
        app
    }

    /// Makes the user's identity, which signs this device.
    pub async fn bootstrap(&self) {
        let confirmation = self.account.confirm(None);
        let encryption = self.client.encryption();
        encryption.bootstrap_cross_signing(Some(confirmation)).await.unwrap();
    }

    /// Logs a device in that nobody has signed.
    pub async fn login(account: Account, builder: ClientBuilder) -> Self {
        let app = Self::login_only(account, builder).await;
        app.sync_once().await;
        app.key_packages().await;
        app
    }

    /// The same, without having synced.
    pub async fn login_only(account: Account, builder: ClientBuilder) -> Self {
        let client = builder.build().await.unwrap();
        let login = client.matrix_auth().login_username(&account.user_id, &account.password);
        login.initial_device_display_name("test").send().await.unwrap();
        Self { account, client, syncs: Vec::new() }
    }

    /// Opens an application again that was closed.
    pub async fn reopen(account: Account, session: MatrixSession, builder: ClientBuilder) -> Self {
        let client = builder.build().await.unwrap();
        client.restore_session(session).await.unwrap();
        Self { account, client, syncs: Vec::new() }
    }

    /// Closes the application; nothing of it runs any more.
    pub async fn close(mut self) -> (Account, MatrixSession) {
        self.pause().await;
        let session = self.client.matrix_auth().session().unwrap();
        (self.account.clone(), session)
    }

    /// Who this is.
    pub fn id(&self) -> &ruma::UserId {
        &self.account.user_id
    }

    /// This device.
    pub fn device_id(&self) -> ruma::OwnedDeviceId {
        self.client.device_id().unwrap().to_owned()
    }

    pub async fn sync_once(&self) {
        self.sync_within(Duration::ZERO).await;
    }

    /// Syncs once, and waits so long for something to come.
    async fn sync_within(&self, timeout: Duration) {
        let settings = SyncSettings::default().timeout(timeout);
        self.client.sync_once(settings).await.unwrap();
    }

    /// Syncs in the background from now on, once more with each call.
    pub fn keep_syncing(&mut self) {
        let client = self.client.clone();
        self.syncs.push(tokio::spawn(async move {
            client.sync(SyncSettings::default()).await.ok();
        }));
    }

    /// Ends what `keep_syncing` has begun.
    pub async fn pause(&mut self) {
        for sync in self.syncs.drain(..) {
            sync.abort();
            sync.await.ok();
        }
    }

    /// Waits until the server has key packages of this device.
    pub async fn key_packages(&self) {
        let counts = async || {
            let request = ruma::api::client::keys::upload_keys::v3::Request::new();
            let response = self.client.send(request).await.unwrap();
            response.one_time_key_counts.keys().any(|name| name.as_ref().contains("key_package"))
        };
        until("key packages on the server", counts).await;
    }

    /// An MLS room that this user has made and the others have joined.
    pub async fn mls_room(&self, others: &[&Self]) -> Room {
        let room = self.client.create_mls_room(invite(others)).await.unwrap();
        self.joined_by(&room, others).await;
        room
    }

    /// Has the others join the room, and syncs until they are in it.
    pub async fn joined_by(&self, room: &Room, others: &[&Self]) {
        for other in others {
            other.client.join_room_by_id(room.room_id()).await.unwrap();
            other.sync_until("the room", async || other.has(room.room_id())).await;
        }
        self.sync_until("everybody in the room", async || {
            let Some(room) = self.client.get_room(room.room_id()) else { return false };
            let members = room.members_no_sync(RoomMemberships::JOIN).await.unwrap();
            others.iter().all(|other| members.iter().any(|member| member.user_id() == other.id()))
        })
        .await;
    }

    fn has(&self, room_id: &RoomId) -> bool {
        self.client
            .get_room(room_id)
            .is_some_and(|room| room.is_synced() && room.state() == matrix_sdk::RoomState::Joined)
    }

    /// The room as this application has it.
    pub fn room(&self, room: &RoomId) -> Room {
        self.client.get_room(room).expect("the room is not known")
    }

    /// Syncs until a condition holds, unless a task does that.
    pub async fn sync_until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        until(what, async || {
            let so = is_so().await;
            if !so && self.syncs.is_empty() {
                self.sync_within(Duration::from_millis(250)).await;
            }
            so
        })
        .await;
    }

    /// Syncs until the event can be read, and gives the text.
    pub async fn reads(&self, room: &RoomId, event_id: &EventId) -> String {
        let mut text = None;
        self.sync_until(&format!("the text of {event_id}"), async || {
            let Some(room) = self.client.get_room(room) else { return false };
            text = room.event(event_id, None).await.ok().and_then(|event| body(&event));
            text.is_some()
        })
        .await;
        text.unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        for sync in self.syncs.drain(..) {
            sync.abort();
        }
    }
}

/// Clients that keep everything in memory.
pub fn builder(homeserver: &str) -> ClientBuilder {
    // What a login says of the homeserver would lead past a liar.
    let builder = Client::builder().homeserver_url(homeserver);
    builder.configure(|sdk| sdk.respect_login_well_known(false))
}

/// Clients that keep everything in this folder.
pub fn on_disk(homeserver: &str, folder: &Path) -> ClientBuilder {
    builder(homeserver).sqlite_store(folder, Some("a passphrase"))
}

/// A request for a room with these members.
pub fn invite(others: &[&App]) -> create_room::v3::Request {
    let mut request = create_room::v3::Request::new();
    request.invite = others.iter().map(|app| app.id().to_owned()).collect();
    request
}

/// Asks until a condition holds.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so().await {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::task::yield_now().await;
    }
}

/// The text of a message that was decrypted.
pub fn body(event: &TimelineEvent) -> Option<String> {
    event.encryption_info()?;
    let content = content(event.raw())?;
    Some(content.get("body")?.as_str()?.to_owned())
}

/// The content of an event.
pub fn content<T>(event: &Raw<T>) -> Option<Value> {
    event.get_field("content").ok().flatten()
}

/// An event as the server has it.
pub async fn on_server(app: &App, room: &RoomId, event_id: &EventId) -> Value {
    use ruma::api::client::room::get_room_event;
    let request = get_room_event::v3::Request::new(room.to_owned(), event_id.to_owned());
    let event = app.client.send(request).await.unwrap().event;
    event.deserialize_as_unchecked().unwrap()
}
