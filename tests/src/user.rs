//! Somebody with several devices.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use matrix_sdk_crypto_mls::RoomSettings;
use ruma::{RoomId, UserId};

use crate::{
    account::{Account, Session},
    error::DriverError,
    home::Home,
    http::HttpClient,
    mls_device::{MlsDevice, StoppedDevice},
};

/// A user whose devices all speak MLS. The first one has the cross-signing keys and has signed the
/// others, so that rooms with the default trust requirement let them in.
#[derive(Debug)]
pub struct User {
    /// Name and password.
    pub account: Account,
    /// The devices, in the order in which they logged in; never empty.
    devices: Vec<MlsDevice>,
    maker: Maker,
}

/// A user none of whose devices is running.
#[derive(Debug)]
pub struct StoppedUser {
    account: Account,
    devices: Vec<StoppedDevice>,
    maker: Maker,
}

/// How a user's devices are made.
#[derive(Clone, Debug)]
struct Maker {
    http: HttpClient,
    settings: RoomSettings,
    /// Where each device has a directory; without, they are in memory.
    directory: Option<PathBuf>,
}

impl Maker {
    async fn device(&self, session: Session) -> Result<MlsDevice, DriverError> {
        let settings = self.settings.clone();
        let Some(directory) = &self.directory else {
            return Ok(MlsDevice::new(&self.http, session, settings).await?);
        };
        let name = format!("{}-{}", session.user_id.localpart(), session.device_id);
        let home = Home::new(directory.join(name))?;
        MlsDevice::on_disk(&self.http, session, settings, home).await
    }
}

impl User {
    /// Registers a user and logs in on that many devices (at least one), which publish their keys
    /// and key packages.
    pub async fn register(
        http: &HttpClient,
        name: &str,
        devices: usize,
    ) -> Result<Self, DriverError> {
        Self::register_with(http, name, devices, RoomSettings::default()).await
    }

    /// The same, with settings for the rooms that the user founds.
    pub async fn register_with(
        http: &HttpClient,
        name: &str,
        devices: usize,
        settings: RoomSettings,
    ) -> Result<Self, DriverError> {
        let maker = Maker { http: http.clone(), settings, directory: None };
        Self::first_login(maker, name, devices).await
    }

    /// The same, with a directory for each device below this one, so that they can be stopped and
    /// started again.
    pub async fn register_on_disk(
        http: &HttpClient,
        name: &str,
        devices: usize,
        settings: RoomSettings,
        directory: &Path,
    ) -> Result<Self, DriverError> {
        let directory = Some(directory.to_owned());
        let maker = Maker { http: http.clone(), settings, directory };
        Self::first_login(maker, name, devices).await
    }

    async fn first_login(maker: Maker, name: &str, devices: usize) -> Result<Self, DriverError> {
        let (account, session) = Account::register(&maker.http, name).await?;
        let mut first = maker.device(session).await?;
        first.sync(Duration::ZERO).await?;
        first.bootstrap_cross_signing(&account).await?;
        let mut user = Self { account, devices: vec![first], maker };
        for _ in 1..devices {
            user.log_in().await?;
        }
        Ok(user)
    }

    /// Logs another device in and has the first one sign it.
    pub async fn log_in(&mut self) -> Result<&mut MlsDevice, DriverError> {
        let device = self.log_in_unsigned().await?;
        let id = device.session.device_id.clone();
        let user = self.account.user_id.clone();
        self.first().wait_for_device(&user, &id, true).await?;
        self.first().verify_own_device(&id).await?;
        self.devices.push(device);
        let last = self.devices.len() - 1;
        self.device(last)
    }

    /// Logs another device in that nobody has signed, and that is not kept here.
    pub async fn log_in_unsigned(&self) -> Result<MlsDevice, DriverError> {
        let session = self.account.login().await?;
        let mut device = self.maker.device(session).await?;
        device.sync(Duration::ZERO).await?;
        Ok(device)
    }

    /// Stops every device, see [`MlsDevice::stop`]. They must be on disk.
    pub async fn stop(self) -> Result<StoppedUser, DriverError> {
        let Self { account, devices: running, maker } = self;
        let mut devices = Vec::new();
        for device in running {
            devices.push(device.stop().await?);
        }
        Ok(StoppedUser { account, devices, maker })
    }

    /// The user.
    pub fn id(&self) -> &UserId {
        &self.account.user_id
    }

    /// The device that logged in first.
    #[allow(clippy::indexing_slicing)] // There is one.
    pub fn first(&mut self) -> &mut MlsDevice {
        &mut self.devices[0]
    }

    /// A device, counted from 0.
    pub fn device(&mut self, number: usize) -> Result<&mut MlsDevice, DriverError> {
        let unknown = || DriverError::NoSuchDevice(self.account.user_id.clone(), number);
        self.devices.get_mut(number).ok_or_else(unknown)
    }

    /// All devices.
    pub fn devices(&mut self) -> impl Iterator<Item = &mut MlsDevice> {
        self.devices.iter_mut()
    }

    /// Takes a device away, which goes on by itself.
    pub fn take_device(&mut self, number: usize) -> Result<MlsDevice, DriverError> {
        if number == 0 || number >= self.devices.len() {
            return Err(DriverError::NoSuchDevice(self.account.user_id.clone(), number));
        }
        Ok(self.devices.remove(number))
    }

    /// Accepts an invitation, and waits until every device has seen that.
    pub async fn join(&mut self, room: &RoomId) -> Result<(), DriverError> {
        self.first().join(room).await?;
        for device in &mut self.devices {
            device
                .sync_until(&format!("the joined room {room}"), async |device| {
                    Ok(device
                        .room(room)
                        .is_some_and(|state| state.members().joined.contains(device.user_id())))
                })
                .await?;
        }
        Ok(())
    }
}

impl StoppedUser {
    /// Starts every device from what is on disk. Nothing is sent.
    pub async fn start(self) -> Result<User, DriverError> {
        let Self { account, devices: stopped, maker } = self;
        let mut devices = Vec::new();
        for device in stopped {
            devices.push(device.start().await?);
        }
        Ok(User { account, devices, maker })
    }

    /// The user.
    pub fn id(&self) -> &UserId {
        &self.account.user_id
    }

    /// The directories of the devices.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.devices.iter().map(StoppedDevice::directory)
    }
}
