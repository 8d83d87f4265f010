//! Which rooms can be sent to without delay, for the application to show.

use std::collections::{BTreeMap, BTreeSet};

use matrix_sdk::{RoomMemberships, RoomState};
use matrix_sdk_crypto_mls::{MlsError, MlsMachine, Readiness, dmls::NodeId};
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use tokio::sync::Mutex;
use tracing::debug;

use super::{Engine, lock};
use crate::{error::Error, event::MlsEvent};

/// What was told, and what is to be looked at.
#[derive(Default)]
pub(super) struct Told {
    /// The epoch that a room is ready in, if it was last said to be ready. Held while one is looked
    /// at, so that what is told is told in the order in which it came to be true.
    ready: Mutex<Said>,
    pending: std::sync::Mutex<Pending>,
    without_mls: std::sync::Mutex<BTreeSet<(OwnedRoomId, OwnedUserId)>>,
}

type Said = BTreeMap<OwnedRoomId, Option<NodeId>>;

#[derive(Default)]
struct Pending {
    /// Rooms in which something has happened.
    rooms: BTreeSet<OwnedRoomId>,
    /// The changes of devices that were taken into account.
    device_changes: u64,
}

impl Engine {
    /// Something has happened that may have made the room ready, or not ready any more.
    pub(super) fn note_change(&self, room_id: &RoomId) {
        let mut pending = lock(&self.readiness.pending);
        if !pending.rooms.contains(room_id) {
            pending.rooms.insert(room_id.to_owned());
        }
    }

    /// A room was got ready.
    pub(super) async fn tell_of_readiness(
        &self,
        machine: &MlsMachine,
        room_id: &RoomId,
        readiness: Readiness,
    ) -> Result<(), Error> {
        let mut ready = self.readiness.ready.lock().await;
        self.tell_if_new(&mut ready, machine, room_id, readiness).await
    }

    /// Looks at the rooms in which something has happened, if anybody wants to know.
    pub(super) async fn look_at_readiness(&self, machine: &MlsMachine) -> Result<(), Error> {
        if !self.events.is_heard() {
            return Ok(());
        }
        let changes = machine.device_changes();
        let told: Vec<_> = self.readiness.ready.lock().await.keys().cloned().collect();
        let rooms = {
            let mut pending = lock(&self.readiness.pending);
            if std::mem::replace(&mut pending.device_changes, changes) != changes {
                pending.rooms.extend(told);
            }
            std::mem::take(&mut pending.rooms)
        };
        for room_id in &rooms {
            // Perhaps for want of a device list that is being asked for anyway.
            if !matches!(self.stands(machine, room_id).await?, Some(Readiness::Ready { .. })) {
                if let Err(error) = self.query_keys().await {
                    debug!("Device lists could not be asked for: {error}");
                }
                break;
            }
        }
        for room_id in &rooms {
            let mut ready = self.readiness.ready.lock().await;
            if let Some(readiness) = self.stands(machine, room_id).await? {
                self.tell_if_new(&mut ready, machine, room_id, readiness).await?;
            }
        }
        Ok(())
    }

    /// How a room stands, if that can be told.
    async fn stands(
        &self,
        machine: &MlsMachine,
        room_id: &RoomId,
    ) -> Result<Option<Readiness>, Error> {
        let is_joined =
            self.sdk.get_room(room_id).is_some_and(|room| room.state() == RoomState::Joined);
        if !is_joined {
            return Ok(Some(Readiness::WaitingForWelcome));
        }
        if !lock(&self.completeness).is_complete(room_id) {
            // It is looked at again when it is complete.
            return Ok(None);
        }
        match Box::pin(machine.readiness(room_id)).await {
            Ok(readiness) => Ok(Some(readiness)),
            Err(MlsError::Downgraded(_)) => Ok(Some(Readiness::WaitingForWelcome)),
            Err(MlsError::NotMls(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn tell_if_new(
        &self,
        said: &mut Said,
        machine: &MlsMachine,
        room_id: &RoomId,
        readiness: Readiness,
    ) -> Result<(), Error> {
        let before = said.get(room_id).copied().flatten();
        let Readiness::Ready { node, without_mls } = readiness else {
            if before.is_some() {
                said.insert(room_id.to_owned(), None);
                self.events.tell(MlsEvent::NotReady { room_id: room_id.to_owned() });
            }
            return Ok(());
        };
        if before == Some(node) {
            return Ok(());
        }
        said.insert(room_id.to_owned(), Some(node));
        if before.is_none() {
            let room_id = room_id.to_owned();
            self.events.tell(MlsEvent::ReadyToSend { room_id, node, without_mls });
        }
        self.tell_of_members_without_mls(machine, room_id).await
    }

    /// Tells of members who have no device in the group, once.
    async fn tell_of_members_without_mls(
        &self,
        machine: &MlsMachine,
        room_id: &RoomId,
    ) -> Result<(), Error> {
        let Some(room) = self.sdk.get_room(room_id) else { return Ok(()) };
        let Some(status) = machine.group_status(room_id).await? else { return Ok(()) };
        for member in room.members_no_sync(RoomMemberships::JOIN).await? {
            let user_id = member.user_id().to_owned();
            let name = (room_id.to_owned(), user_id.clone());
            if status.roster.has_user(user_id.as_str()) {
                lock(&self.readiness.without_mls).remove(&name);
            } else if lock(&self.readiness.without_mls).insert(name) {
                let room_id = room_id.to_owned();
                self.events.tell(MlsEvent::MemberWithoutMls { room_id, user_id });
            }
        }
        Ok(())
    }
}
