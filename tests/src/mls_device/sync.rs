//! The way in: from a sync to the MLS machine.

use std::time::Duration;

use matrix_sdk_crypto_mls::EncryptionSyncChanges;
use ruma::{
    OwnedUserId, RoomId,
    api::client::membership::get_member_events,
    events::{
        AnySyncStateEvent,
        room::member::{MembershipState, RoomMemberEventContent},
    },
    serde::Raw,
};

use super::MlsDevice;
use crate::{
    error::DriverError,
    sync::{RoomUpdate, SyncUpdate},
};

/// The type of events about members.
const MEMBER: &str = "m.room.member";

impl MlsDevice {
    /// Syncs once, waiting up to `timeout` for something new, and decrypts what came.
    pub async fn sync(&mut self, timeout: Duration) -> Result<SyncUpdate, DriverError> {
        let response = self.device.sync_raw(timeout).await?;
        let update = self.device.process_sync(response).await?;
        self.process(&update).await?;
        Ok(update)
    }

    /// Gives a sync that the Olm machine has had to the MLS machine, decrypts the messages, and
    /// sends what both machines want sent.
    ///
    /// What comes directly may also be given after the rooms: see
    /// [`receive_to_device`](Self::receive_to_device), [`receive_rooms`](Self::receive_rooms).
    pub async fn process(&mut self, update: &SyncUpdate) -> Result<(), DriverError> {
        self.receive_to_device(update).await?;
        self.receive_rooms(update).await?;
        self.decrypt_update(update).await?;
        self.pump().await
    }

    /// Gives the MLS machine what a sync brought beside the rooms: Welcomes, and how many key
    /// packages the server has left.
    pub async fn receive_to_device(&self, update: &SyncUpdate) -> Result<(), DriverError> {
        let changes = EncryptionSyncChanges {
            to_device_events: &update.to_device_raw,
            changed_devices: &update.device_lists,
            one_time_keys_counts: &update.one_time_key_counts,
            unused_fallback_keys: update.unused_fallback_keys.as_deref(),
        };
        Ok(self.mls.receive_sync_changes(changes).await?)
    }

    /// Gives the MLS machine what a sync brought of rooms: state, members, and commits.
    pub async fn receive_rooms(&mut self, update: &SyncUpdate) -> Result<(), DriverError> {
        for (room, news) in &update.joined {
            self.mls.receive_room_events(room, &news.state, &news.timeline).await?;
            self.complete_members(room, news).await?;
        }
        for (room, news) in &update.left {
            self.mls.receive_room_events(room, &news.state, &news.timeline).await?;
            self.complete.remove(room);
        }
        Ok(())
    }

    /// Asks for everybody's membership when sync may have left some out or got it wrong. The server
    /// loads members lazily, and the machine removes only those of whom it knows that they are gone.
    ///
    /// What a sync says of members *before* its timeline is the state there, and when two servers
    /// have been cut off from one another, that is the state on the other server's side: it brings
    /// those back who were removed on ours. So it is not believed, and for the same reason the server
    /// is asked for the members now, not for those at the end of the timeline.
    async fn complete_members(
        &mut self,
        room: &RoomId,
        news: &RoomUpdate,
    ) -> Result<(), DriverError> {
        let tells_of_members = |event: &Raw<AnySyncStateEvent>| {
            event.get_field::<String>("type").is_ok_and(|name| name.as_deref() == Some(MEMBER))
        };
        let is_certain = !news.limited && !news.state.iter().any(tells_of_members);
        if self.complete.contains(room) && is_certain {
            return Ok(());
        }
        let request = get_member_events::v3::Request::new(room.to_owned());
        let mut members: Vec<(OwnedUserId, MembershipState)> = Vec::new();
        for event in self.device.http.send(request).await?.chunk {
            let user = event.get_field::<OwnedUserId>("state_key")?;
            let content = event.get_field::<RoomMemberEventContent>("content")?;
            members.extend(user.zip(content.map(|content| content.membership)));
        }
        if let Some(seen) = self.device.rooms.get_mut(room) {
            seen.memberships = members.iter().cloned().collect();
        }
        self.mls.set_room_members(room, members).await?;
        self.complete.insert(room.to_owned());
        Ok(())
    }
}
