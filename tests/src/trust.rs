//! Device lists and cross-signing: who is who, and who vouches for whom.

use matrix_sdk_crypto::CrossSigningBootstrapRequests;
use ruma::{
    DeviceId, UserId,
    api::client::{device::delete_device, keys::upload_signing_keys},
};

use crate::{account::Account, device::Device, error::DriverError};

impl Device {
    /// Follows the devices of these users from now on, and fetches them.
    pub async fn track_users<'a>(
        &self,
        users: impl IntoIterator<Item = &'a UserId>,
    ) -> Result<(), DriverError> {
        self.olm.update_tracked_users(users).await?;
        self.pump().await
    }

    /// Makes a new cross-signing identity, publishes it, and signs this device with it. The private
    /// keys stay in this device's Olm machine.
    pub async fn bootstrap_cross_signing(&self, account: &Account) -> Result<(), DriverError> {
        let CrossSigningBootstrapRequests {
            upload_keys_req,
            upload_signing_keys_req: keys,
            upload_signatures_req,
        } = self.olm.bootstrap_cross_signing(false).await?;

        // In this order: the signatures are over what the first two upload.
        if let Some(request) = &upload_keys_req {
            self.send_outgoing(request).await?;
        }
        self.http
            .send_with_auth(
                |auth| {
                    let mut request = upload_signing_keys::v3::Request::new();
                    request.auth = auth;
                    request.master_key = keys.master_key.as_ref().map(|key| key.to_raw());
                    request.self_signing_key =
                        keys.self_signing_key.as_ref().map(|key| key.to_raw());
                    request.user_signing_key =
                        keys.user_signing_key.as_ref().map(|key| key.to_raw());
                    request
                },
                |session| account.confirm(session),
            )
            .await?;
        self.upload_signatures(upload_signatures_req).await?;
        self.track_users([self.user_id()]).await
    }

    /// Signs another device of the same user with the self-signing key. The other device must have
    /// been seen: [`track_users`](Self::track_users), or a sync after it logged in.
    pub async fn verify_own_device(&self, device: &DeviceId) -> Result<(), DriverError> {
        let own = self.user_id();
        let Some(found) = self.olm.get_device(own, device, None).await? else {
            return Err(DriverError::UnknownDevice(own.to_owned(), device.to_owned()));
        };
        self.upload_signatures(found.verify().await?).await?;
        self.fetch_keys(own).await
    }

    /// Signs another user's identity with the user-signing key, as comparing emoji would.
    pub async fn verify_user(&self, user: &UserId) -> Result<(), DriverError> {
        let Some(identity) = self.olm.get_identity(user, None).await?.and_then(|i| i.other())
        else {
            return Err(DriverError::UnknownIdentity(user.to_owned()));
        };
        self.upload_signatures(identity.verify().await?).await?;
        self.fetch_keys(user).await
    }

    /// Logs a device of this user out and removes its keys.
    pub async fn delete_device(
        &self,
        account: &Account,
        device: &DeviceId,
    ) -> Result<(), DriverError> {
        self.http
            .send_with_auth(
                |auth| {
                    let mut request = delete_device::v3::Request::new(device.to_owned());
                    request.auth = auth;
                    request
                },
                |session| account.confirm(session),
            )
            .await?;
        Ok(())
    }

    /// Fetches a user's keys now: otherwise a new signature is known only after the next sync
    /// announced the change.
    async fn fetch_keys(&self, user: &UserId) -> Result<(), DriverError> {
        let (id, query) = self.olm.query_keys_for_users([user]);
        self.query_keys(&id, query).await
    }
}
