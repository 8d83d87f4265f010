//! Who can read what is sent.

use std::collections::BTreeMap;

use matrix_sdk::RoomMemberships;
use matrix_sdk_crypto_mls::{MlsError, Readiness};
use ruma::{OwnedDeviceId, OwnedUserId, UserId};

use super::Room;
use crate::error::Error;

/// A device of a member, or one that is in the room's group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomDevice {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// Its ID.
    pub device_id: OwnedDeviceId,
    /// Whether it is in the group's current epoch, and so reads what is sent. One that is not has no
    /// MLS, or is not let in, or is added with the next commit.
    pub in_group: bool,
    /// Whether it should be in the group and cannot be added, because it has published no key package
    /// that can be used: so do the devices of applications without MLS. Found out when something is sent,
    /// or [`Room::prepare_mls`] is called, and again after an hour; never said of a room that is not
    /// ready.
    pub has_no_mls: bool,
    /// Whether the device that is known under this name is this one. If not, it was deleted or has
    /// never been, and the next commit removes it.
    pub is_known: bool,
    /// Whether its owner's identity has signed it.
    pub is_cross_signed: bool,
    /// Whether we have verified it, or its owner's identity that has signed it.
    pub is_verified: bool,
}

impl Room {
    /// The devices of the room's members, each with how it stands to the room's group, by user and
    /// device ID. Members and devices are those that the SDK knows; nothing is asked of the server.
    ///
    /// # Errors
    ///
    /// When a store fails.
    pub async fn mls_devices(&self) -> Result<Vec<RoomDevice>, Error> {
        let mut group = BTreeMap::new();
        if let Some(status) = self.mls_status().await? {
            for (_, member) in status.roster.iter() {
                let device = member.device();
                let name = (device.user_id.clone(), device.device_id.clone());
                group.insert(name, device.device_key);
            }
        }
        let without_mls = self.without_mls().await?;
        let olm = self.engine.olm().await?;
        let mut devices = Vec::new();
        let members = self.sdk.members_no_sync(RoomMemberships::JOIN).await?;
        let mut users: Vec<_> = members.iter().map(|member| member.user_id().to_owned()).collect();
        let in_group = group.keys().filter_map(|(user, _)| UserId::parse(user).ok());
        users.extend(in_group);
        users.sort();
        users.dedup();
        for user_id in users {
            let known = olm.get_user_devices(&user_id, None).await;
            for device in known.map_err(matrix_sdk::Error::from)?.devices() {
                let name = (user_id.to_string(), device.device_id().to_string());
                let key = device.ed25519_key().map(|key| *key.as_bytes());
                let leaf = group.remove(&name);
                let is_it = leaf.is_none() || leaf == key;
                let is_same = |(user, id): &(OwnedUserId, OwnedDeviceId)| {
                    *user == user_id && id == device.device_id()
                };
                devices.push(RoomDevice {
                    user_id: user_id.clone(),
                    device_id: device.device_id().to_owned(),
                    in_group: leaf.is_some(),
                    is_known: is_it,
                    is_cross_signed: is_it && device.is_cross_signed_by_owner(),
                    is_verified: is_it && device.is_verified(),
                    has_no_mls: without_mls.iter().any(is_same),
                });
            }
        }
        // What is left are leaves of devices that nobody has.
        for (user_id, device_id) in group.into_keys() {
            let Ok(user_id) = UserId::parse(&user_id) else { continue };
            devices.push(RoomDevice {
                user_id,
                device_id: device_id.into(),
                in_group: true,
                is_known: false,
                is_cross_signed: false,
                is_verified: false,
                has_no_mls: false,
            });
        }
        devices.sort_by(|a, b| (&a.user_id, &a.device_id).cmp(&(&b.user_id, &b.device_id)));
        Ok(devices)
    }

    /// The devices that cannot be added, as far as that was found out.
    async fn without_mls(&self) -> Result<Vec<(OwnedUserId, OwnedDeviceId)>, Error> {
        let machine = self.engine.machine().await?;
        match Box::pin(machine.readiness(self.room_id())).await {
            Ok(Readiness::Ready { without_mls, .. }) => Ok(without_mls),
            Ok(_) | Err(MlsError::NotMls(_) | MlsError::Downgraded(_)) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}
