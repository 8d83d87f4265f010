//! Messages, and keys renewed.

use std::collections::BTreeSet;

use matrix_sdk_crypto_mls::{
    MlsError,
    store::MlsStore as _,
    testing::{SimDevice, SimError},
};
use ruma::events::room::member::MembershipState;

use super::{Gone, Said, World};
use crate::failure::Failure;

impl World {
    /// A device sends a message if it can.
    pub(crate) async fn says(&mut self, d: usize) -> Result<(), Failure> {
        let Some(device) = self.device(d) else { return Ok(()) };
        if self.devices[d].is_evil || !self.is_joined_there(d) {
            return Ok(());
        }
        self.tries_to_say(d, &device).await.map(drop)
    }

    /// Whether a device's own homeserver has its user in the room.
    pub(crate) fn is_joined_there(&self, d: usize) -> bool {
        let user = self.devices[d].user;
        self.membership(user, user) == MembershipState::Join
    }

    /// Whether the message was sent.
    pub(crate) async fn tries_to_say(
        &mut self,
        d: usize,
        device: &SimDevice,
    ) -> Result<bool, Failure> {
        let text = format!("message {} of {d}", self.said.len());
        let known_gone = self.known_gone(device).await?;
        match device.tries_to_say(&text).await {
            Ok(event_id) => {
                let sent = self.server.sent_messages();
                let message = sent.last().expect("it was sent just now");
                if let Some(gone) = message.readers.iter().find(|reader| known_gone.has(reader)) {
                    let found =
                        format!("{device:?} encrypts {text:?} to {gone:?}, who it knows is gone");
                    return Err(Failure::new("removed-reads", found));
                }
                self.note(&format!("  says {text:?} in {:?}", message.node));
                self.said.insert(event_id, Said { known_gone });
                self.stats.messages += 1;
                self.devices[d].waits_since = None;
                device.pumps().await;
                Ok(true)
            }
            Err(SimError::Machine(MlsError::Store(_))) => {
                device.store().heal();
                device.restarts().await;
                Ok(false)
            }
            Err(error) => {
                self.excuse(d, device, &error)?;
                let now = self.true_time();
                self.devices[d].waits_since.get_or_insert(now);
                Ok(false)
            }
        }
    }

    /// Whom a device knows to be gone.
    async fn known_gone(&self, device: &SimDevice) -> Result<Gone, Failure> {
        fn wrong(error: impl std::fmt::Display) -> Failure {
            Failure::new("store", error.to_string())
        }
        let room = device.store().load_room(&self.room_id).await.map_err(wrong)?;
        let members = room.map(|room| room.view.members).unwrap_or_default();
        let users = members.into_iter().filter(|(_, membership)| {
            matches!(membership, MembershipState::Leave | MembershipState::Ban)
        });
        let users = users.map(|(user, _)| user).collect();
        let tracked = device.olm().store().load_tracked_users().await.map_err(wrong)?;
        let fresh: BTreeSet<_> =
            tracked.into_iter().filter(|user| !user.dirty).map(|user| user.user_id).collect();
        let mut devices = BTreeSet::new();
        for gone in self.devices.iter().filter(|member| member.is_gone) {
            let name = gone.device.name();
            if fresh.contains(&name.0) {
                let list = device.olm().get_user_devices(&name.0, None).await.map_err(wrong)?;
                if list.get(&name.1).is_none() {
                    devices.insert(name.clone());
                }
            }
        }
        Ok(Gone { users, devices })
    }

    /// A device renews its keys if it can.
    pub(crate) async fn updates(&mut self, d: usize) -> Result<(), Failure> {
        let Some(device) = self.device(d) else { return Ok(()) };
        if self.devices[d].is_evil || !self.is_joined_there(d) {
            return Ok(());
        }
        match device.mls().update_keys(&self.room_id).await {
            Ok(_) => {
                device.pumps().await;
                Ok(())
            }
            Err(MlsError::Store(_)) => {
                device.store().heal();
                device.restarts().await;
                Ok(())
            }
            Err(error) => self.excuse(d, &device, &error.into()),
        }
    }

    /// Whether there may be a reason not to do something.
    fn excuse(&mut self, d: usize, device: &SimDevice, error: &SimError) -> Result<(), Failure> {
        match error {
            // Requests got lost, or a Welcome is on its way; or the room is not known yet.
            SimError::Machine(
                MlsError::NotReady(_)
                | MlsError::CommitsRefused
                | MlsError::LeftBehind
                | MlsError::Removed { .. }
                | MlsError::NotMls(_),
            )
            // It does not know yet that it is not in the room any more.
            | SimError::Refused(403) => {
                self.note(&format!("  {d} cannot: {error}"));
                Ok(())
            }
            other => Err(Failure::new("error", format!("{device:?}: {other}"))),
        }
    }
}
