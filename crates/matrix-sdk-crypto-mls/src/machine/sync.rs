//! What a sync response brings, beside the rooms.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ruma::{
    OneTimeKeyAlgorithm, OwnedUserId, UInt,
    api::client::sync::sync_events::DeviceLists,
    events::{AnyToDeviceEvent, StaticEventContent},
    serde::Raw,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tracing::{instrument, warn};

use super::{MlsMachine, again::again};
use crate::{
    error::MlsError,
    store::{Changes, HeldWelcome},
    types::events::{
        ToDeviceCommitRequestEventContent, ToDeviceGraphEventContent,
        ToDeviceJoinRequestEventContent, ToDeviceKeyAnswerEventContent,
        ToDeviceKeyRequestEventContent, ToDeviceWelcomeEventContent,
    },
};

/// The largest to-device content that is looked at, in bytes (protocol §12).
const MAX_TO_DEVICE: usize = 65_536;

/// At most this many Welcomes are held for one room.
const MAX_HELD_WELCOMES: usize = 32;

/// Requests for commits and epoch keys, and their answers.
const QUESTIONS: [&str; 4] = [
    ToDeviceCommitRequestEventContent::TYPE,
    ToDeviceGraphEventContent::TYPE,
    ToDeviceKeyRequestEventContent::TYPE,
    ToDeviceKeyAnswerEventContent::TYPE,
];

/// At most this many of them are looked at with one sync, the last ones.
const MAX_QUESTIONS: usize = 100;

/// The parts of a sync response that the machine wants, as `OlmMachine` does.
#[derive(Clone, Copy, Debug)]
pub struct EncryptionSyncChanges<'a> {
    /// The to-device events.
    pub to_device_events: &'a [Raw<AnyToDeviceEvent>],
    /// Whose devices have changed. Give them to the `OlmMachine` first: this machine asks it for the
    /// devices again, and would hear what it has heard before.
    pub changed_devices: &'a DeviceLists,
    /// How many one-time keys of each algorithm the server has of this device.
    pub one_time_keys_counts: &'a BTreeMap<OneTimeKeyAlgorithm, UInt>,
    /// Of which algorithms the server has an unused fallback key, if it says so.
    pub unused_fallback_keys: Option<&'a [OneTimeKeyAlgorithm]>,
}

#[derive(Deserialize)]
struct ToDeviceHead {
    #[serde(rename = "type")]
    event_type: String,
    sender: OwnedUserId,
    content: Box<RawValue>,
}

impl MlsMachine {
    /// Takes what a sync response brings beside the rooms. Before the rooms or after them: neither
    /// order loses anything, and the same response may come twice.
    ///
    /// # Errors
    ///
    /// When a store fails. Events that are not what they claim to be are no errors.
    #[instrument(skip_all)]
    pub async fn receive_sync_changes(
        &self,
        changes: EncryptionSyncChanges<'_>,
    ) -> Result<(), MlsError> {
        self.note_key_counts(changes.one_time_keys_counts, changes.unused_fallback_keys);
        if !changes.changed_devices.changed.is_empty() {
            self.inner.devices.note_change();
        }
        let mut rooms = BTreeSet::new();
        let mut questions = VecDeque::new();
        for event in changes.to_device_events {
            let Some(head) = read_head(event) else { continue };
            if let Some(content) = head.content_as::<ToDeviceWelcomeEventContent>() {
                let welcome = HeldWelcome { sender: head.sender, content, received_at: self.now() };
                if again!(self.hold(&welcome))? {
                    rooms.insert(welcome.content.room_id);
                }
            } else if let Some(content) = head.content_as::<ToDeviceJoinRequestEventContent>() {
                again!(self.hold_join_request(&head.sender, &content))?;
            } else if QUESTIONS.contains(&head.event_type.as_str()) {
                questions.push_back(head);
            }
            if questions.len() > MAX_QUESTIONS {
                // Who asks again has more use for an answer.
                questions.pop_front();
            }
        }
        // Of several of one device the last is of most use.
        for head in questions.into_iter().rev() {
            if let Some(content) = head.content_as::<ToDeviceCommitRequestEventContent>() {
                self.take_commit_request(&head.sender, &content).await?;
            } else if let Some(content) = head.content_as::<ToDeviceGraphEventContent>() {
                self.take_graph(&head.sender, &content).await?;
            } else if let Some(content) = head.content_as::<ToDeviceKeyRequestEventContent>() {
                self.take_key_request(&head.sender, &content).await?;
            } else if let Some(content) = head.content_as::<ToDeviceKeyAnswerEventContent>() {
                self.take_key_answer(&head.sender, &content).await?;
            }
        }
        for room_id in rooms {
            again!(async {
                let mut guard = self.lock_room(&room_id).await?;
                let Some(room) = guard.as_mut() else { return Ok(()) };
                Box::pin(self.try_to_join(room)).await?;
                self.look_ahead(room).await
            })?;
        }
        self.erase_by_turns().await
    }

    /// Keeps a Welcome, unless it is of no use; whether it did.
    async fn hold(&self, welcome: &HeldWelcome) -> Result<bool, MlsError> {
        let (room_id, node) = (&welcome.content.room_id, welcome.content.epoch);
        let mut guard = self.lock_room(room_id).await?;
        let Some(room) = guard.as_mut() else { return Ok(false) };
        if room.group.graph().status(&node) == Some(matrix_dmls::NodeStatus::Entered) {
            return Ok(false);
        }
        // What can never be used takes nobody's place.
        if let Err(error) = self.package_for(welcome).await? {
            self.report_dropped(room, welcome, error.to_string());
            return Ok(false);
        }
        let held = self.held_welcomes(room).await?;
        match held.iter().find(|held| held.content.epoch == node) {
            // Who comes second does not push out who may have been the true sender.
            Some(first) if first.sender != welcome.sender => return Ok(false),
            None if held.len() >= MAX_HELD_WELCOMES => {
                warn!(%room_id, "Too many Welcomes are held for the room");
                return Ok(false);
            }
            _ => {}
        }
        let mut changes = Changes::default();
        changes.room(room_id).welcomes.insert(node, Some(welcome.clone()));
        self.save(room, changes).await?;
        Ok(true)
    }
}

fn read_head(event: &Raw<AnyToDeviceEvent>) -> Option<ToDeviceHead> {
    if event.json().get().len() > 2 * MAX_TO_DEVICE {
        return None;
    }
    let head: ToDeviceHead = serde_json::from_str(event.json().get()).ok()?;
    (head.content.get().len() <= MAX_TO_DEVICE).then_some(head)
}

impl ToDeviceHead {
    /// The content, if the message is of this type.
    fn content_as<T: StaticEventContent + DeserializeOwned>(&self) -> Option<T> {
        let is_it = self.event_type == T::TYPE;
        is_it.then(|| serde_json::from_str(self.content.get()).ok()).flatten()
    }
}
