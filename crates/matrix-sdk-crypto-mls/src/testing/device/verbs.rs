//! What a person does with a device.

use std::collections::BTreeSet;

use ruma::{
    OwnedDeviceId, OwnedEventId, OwnedUserId,
    events::{AnyMessageLikeEventContent, room::member::MembershipState},
    owned_event_id,
    serde::Raw,
};
use serde_json::{Value, json};

use super::{
    super::server::{RoomOptions, SentMessage},
    SimDevice, SimError,
};
use crate::{MlsError, Readiness};

/// How often a message is tried again after requests were sent.
const MAX_TRIES: usize = 20;

impl SimDevice {
    /// Makes an MLS room and looks at it.
    pub async fn creates_room(&self) -> Self {
        self.creates_room_with(RoomOptions::default()).await
    }

    /// Makes a room and looks at it.
    pub async fn creates_room_with(&self, options: RoomOptions) -> Self {
        let room_id = self.server().creates_room(self.user_id(), options);
        self.syncs().await;
        self.in_room(&room_id)
    }

    /// Invites another device's user.
    pub fn invites(&self, other: &Self) {
        self.changes_membership(other, &MembershipState::Invite);
    }

    /// Joins the room that another device looks at, syncs, and looks at it too.
    pub async fn joins(&self, other: &Self) -> Self {
        let device = self.looks_with(other);
        device.changes_membership(&device, &MembershipState::Join);
        device.syncs().await;
        device
    }

    /// Leaves the room.
    pub fn leaves(&self) {
        self.changes_membership(self, &MembershipState::Leave);
    }

    /// Throws another device's user out.
    pub fn kicks(&self, other: &Self) {
        self.changes_membership(other, &MembershipState::Leave);
    }

    /// Throws another device's user out for good.
    pub fn bans(&self, other: &Self) {
        self.changes_membership(other, &MembershipState::Ban);
    }

    fn changes_membership(&self, of: &Self, to: &MembershipState) {
        self.server()
            .set_membership(self.user_id(), self.room(), of.user_id(), to)
            .unwrap_or_else(|status| panic!("{self:?} may not set {of:?} to {to}: {status}"));
    }

    /// Loses the events that have come and were not synced.
    pub fn drops_what_came(&self) {
        self.server().drops_timeline_of(self.name());
    }

    /// Sets a state event.
    pub fn sets_state(&self, event_type: &str, content: Value) -> OwnedEventId {
        self.server()
            .send_state(self.user_id(), self.room(), event_type, "", content)
            .expect("the server takes the state")
    }

    /// Sends a message, with whatever must come before it.
    pub async fn says(&self, text: &str) -> OwnedEventId {
        for _ in 0..MAX_TRIES {
            match self.tries_to_say(text).await {
                Ok(event_id) => {
                    // Applications do it all the time.
                    self.pumps().await;
                    return event_id;
                }
                Err(SimError::Machine(error @ MlsError::Store(_))) => self.recovers(error).await,
                Err(error) => panic!("{self:?} cannot say {text:?}: {error}"),
            }
        }
        panic!("the store of {self:?} fails all the time");
    }

    /// Sends a message, with whatever must come before it.
    ///
    /// # Errors
    ///
    /// When the room cannot be sent to, as things are.
    pub async fn tries_to_say(&self, text: &str) -> Result<OwnedEventId, SimError> {
        self.tries_to_send(json!({ "msgtype": "m.text", "body": text })).await
    }

    /// Sends a message with any content.
    ///
    /// # Errors
    ///
    /// When the room cannot be sent to, as things are.
    pub async fn tries_to_send(&self, content: Value) -> Result<OwnedEventId, SimError> {
        for _ in 0..MAX_TRIES {
            self.tries_to_prepare().await?;
            match self.encrypts_and_sends(&content).await {
                Err(SimError::Machine(MlsError::NotReady(Readiness::NeedsRequests))) => {}
                other => return other,
            }
        }
        panic!("{self:?} is never ready");
    }

    /// Gets the room ready, and gives the devices that it cannot reach.
    ///
    /// # Errors
    ///
    /// When the room cannot be sent to, as things are.
    pub async fn tries_to_prepare(&self) -> Result<Vec<(OwnedUserId, OwnedDeviceId)>, SimError> {
        for _ in 0..MAX_TRIES {
            match self.mls().prepare_room(self.room()).await? {
                Readiness::Ready { without_mls, .. } => return Ok(without_mls),
                Readiness::NeedsRequests => {
                    if !self.tries_to_pump().await? {
                        return Err(MlsError::NotReady(Readiness::NeedsRequests).into());
                    }
                }
                Readiness::WaitingForWelcome => {
                    return Err(MlsError::NotReady(Readiness::WaitingForWelcome).into());
                }
            }
        }
        panic!("{self:?} never gets the room ready");
    }

    /// Encrypts a message for the room as it is now, and sends it.
    ///
    /// # Errors
    ///
    /// When the machine does not encrypt it, or the server does not take it.
    pub async fn encrypts_and_sends(&self, content: &Value) -> Result<OwnedEventId, SimError> {
        let raw: Raw<AnyMessageLikeEventContent> =
            Raw::from_json(serde_json::value::to_raw_value(content).unwrap());
        let mls = self.mls();
        let encrypted = mls.encrypt_room_event_raw(self.room(), "m.room.message", &raw).await?;
        let readers = self.devices_in_group().await;
        let event: Value = encrypted.content.deserialize_as_unchecked().unwrap();
        let message = SentMessage {
            // The server gives it one.
            event_id: owned_event_id!("$not-yet"),
            room_id: self.room().to_owned(),
            sender: self.name().clone(),
            text: content.get("body").and_then(Value::as_str).unwrap_or_default().to_owned(),
            node: encrypted.node,
            generation: encrypted.generation,
            readers,
        };
        self.home().send_message(self.name(), message, event).map_err(SimError::Refused)
    }

    /// Renews its keys.
    pub async fn updates_keys(&self) {
        self.starts_to_update_keys().await;
        self.pumps().await;
    }

    /// Makes the commit that renews its keys, and does not send it.
    pub async fn starts_to_update_keys(&self) {
        for _ in 0..MAX_TRIES {
            let before = self.pending().await;
            match self.mls().update_keys(self.room()).await {
                Ok(readiness) => assert_eq!(readiness, Readiness::NeedsRequests),
                Err(error) => self.recovers(error).await,
            }
            if self.pending().await != before {
                return;
            }
            // Device lists and key packages come first.
            self.pumps().await;
        }
        panic!("{self:?} never renews its keys");
    }

    async fn pending(&self) -> BTreeSet<ruma::OwnedTransactionId> {
        let outbox = self.store_outbox().await;
        outbox.into_iter().map(|request| request.id).collect()
    }
}
