//! Waiting for something that comes with a sync, but not for ever.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use matrix_sdk_crypto_mls::dmls::NodeId;
use ruma::{DeviceId, EventId, RoomId, UserId};

use super::{MlsDevice, TimelineEvent};
use crate::error::DriverError;

/// How long something may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one sync waits.
const LONG_POLL: Duration = Duration::from_secs(5);

/// Syncs all devices until they send in the same epoch, which is returned.
pub async fn come_together(
    devices: &mut [&mut MlsDevice],
    room: &RoomId,
) -> Result<NodeId, DriverError> {
    let begin = Instant::now();
    loop {
        let mut tips = BTreeSet::new();
        for device in devices.iter_mut() {
            device.sync(Duration::ZERO).await?;
            tips.insert(device.status(room).await?.map(|status| status.node));
        }
        if let (Some(Some(tip)), None) = (tips.pop_first(), tips.pop_first()) {
            return Ok(tip);
        }
        if begin.elapsed() > PATIENCE {
            return Err(DriverError::Apart(room.to_owned()));
        }
    }
}

impl MlsDevice {
    /// Syncs until a condition holds. `what` is waited for: it is what the error says.
    pub async fn sync_until(
        &mut self,
        what: &str,
        mut is_done: impl AsyncFnMut(&Self) -> Result<bool, DriverError>,
    ) -> Result<(), DriverError> {
        let begin = Instant::now();
        while !is_done(self).await? {
            let Some(left) = PATIENCE.checked_sub(begin.elapsed()) else {
                return Err(DriverError::Impatient {
                    who: self.session.user_id.clone(),
                    device: self.session.device_id.clone(),
                    what: what.to_owned(),
                });
            };
            self.sync(left.min(LONG_POLL)).await?;
        }
        Ok(())
    }

    /// Syncs until an encrypted event has come that is no longer waiting for its epoch, and gives
    /// what became of it.
    pub async fn wait_for(
        &mut self,
        room: &RoomId,
        event_id: &EventId,
    ) -> Result<&TimelineEvent, DriverError> {
        let what = format!("the event {event_id} in {room}");
        self.sync_until(&what, async |device| {
            Ok(device.event(room, event_id).is_some_and(|event| !event.is_waiting()))
        })
        .await?;
        self.event(room, event_id).ok_or_else(|| DriverError::Impatient {
            who: self.session.user_id.clone(),
            device: self.session.device_id.clone(),
            what,
        })
    }

    /// Syncs until this device is in an epoch, whether it sends there or not.
    pub async fn wait_to_enter(&mut self, room: &RoomId, node: NodeId) -> Result<(), DriverError> {
        self.sync_until(&format!("the epoch {} in {room}", node.short()), async |device| {
            Ok(device.holds(room, node).await?)
        })
        .await
    }

    /// Syncs until this device is in the room's group.
    pub async fn wait_to_join(&mut self, room: &RoomId) -> Result<(), DriverError> {
        self.sync_until(&format!("a Welcome to {room}"), async |device| {
            Ok(device.status(room).await?.is_some())
        })
        .await
    }

    /// Syncs until a user's device list has a device, or has it no longer.
    pub async fn wait_for_device(
        &mut self,
        user: &UserId,
        id: &DeviceId,
        is_there: bool,
    ) -> Result<(), DriverError> {
        let what = if is_there { "new" } else { "deletion of the" };
        self.sync_until(&format!("the {what} device {id} of {user}"), async |device| {
            Ok(device.olm.get_device(user, id, None).await?.is_some() == is_there)
        })
        .await
    }
}
