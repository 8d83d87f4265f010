//! What a test asks a device.

use std::collections::BTreeSet;

use matrix_dmls::{Group, NodeId};
use ruma::{OwnedDeviceId, OwnedEventId, UserId};
use serde_json::Value;

use super::{Reading, SimDevice};
use crate::{
    DecryptionError, GroupStatus, MlsEncryptionInfo, Notice, Readiness,
    store::{MlsStore as _, OutboxRequest},
    testing::DeviceName,
};

impl SimDevice {
    /// What became of an event; `None` if it never came.
    pub fn reading(&self, event_id: &OwnedEventId) -> Option<Reading> {
        self.memory().readings.get(event_id).cloned()
    }

    /// The text of a message that it has read.
    pub fn text(&self, event_id: &OwnedEventId) -> Option<String> {
        self.reading(event_id)?.text()
    }

    /// Asserts that it has read a message.
    #[track_caller]
    pub fn has_read(&self, event_id: &OwnedEventId, text: &str) {
        match self.reading(event_id) {
            Some(reading @ Reading::Clear(_)) => assert_eq!(reading.text().as_deref(), Some(text)),
            other => panic!("{self:?} should have read {text:?}, but: {other:?}"),
        }
    }

    /// Why it could not read an event.
    #[track_caller]
    pub fn reason(&self, event_id: &OwnedEventId) -> String {
        match self.reading(event_id) {
            Some(Reading::Unreadable(error)) => name_of(&error).to_owned(),
            other => panic!("{self:?} should not have read the event, but: {other:?}"),
        }
    }

    /// Who encrypted a message that it has read, and how.
    #[track_caller]
    pub fn encryption_info(&self, event_id: &OwnedEventId) -> MlsEncryptionInfo {
        match self.reading(event_id) {
            Some(Reading::Clear(event)) => event.encryption_info,
            other => panic!("{self:?} should have read the event, but: {other:?}"),
        }
    }

    /// Whether events came that have neither been read nor have a final reason.
    pub fn waiting_events(&self) -> Vec<OwnedEventId> {
        let memory = self.memory();
        let waits = |reading: &Reading| matches!(reading, Reading::Unreadable(e) if matches!(**e, DecryptionError::UnknownEpoch(_)));
        let waiting = memory.readings.iter().filter(|(_, reading)| waits(reading));
        waiting.map(|(event_id, _)| event_id.clone()).collect()
    }

    /// How the group stands; `None` if it is in none.
    pub async fn status(&self) -> Option<GroupStatus> {
        self.mls().group_status(self.room()).await.expect("the store works")
    }

    /// The epoch that it sends in.
    pub async fn node(&self) -> Option<NodeId> {
        self.status().await.map(|status| status.node)
    }

    /// The number of the epoch that it sends in.
    pub async fn epoch(&self) -> Option<u64> {
        self.status().await.map(|status| status.epoch)
    }

    /// The devices in the epoch that it sends in.
    pub async fn devices_in_group(&self) -> BTreeSet<DeviceName> {
        let Some(status) = self.status().await else { return BTreeSet::new() };
        let members = status.roster.iter().map(|(_, member)| {
            let device = member.device();
            let user_id = UserId::parse(&device.user_id).expect("a valid user ID");
            (user_id, OwnedDeviceId::from(device.device_id.as_str()))
        });
        members.collect()
    }

    /// Whether another device is in the epoch that this one sends in.
    pub async fn sees(&self, other: &Self) -> bool {
        self.devices_in_group().await.contains(other.name())
    }

    /// Whether the room can be sent to.
    pub async fn readiness(&self) -> Readiness {
        self.mls().prepare_room(self.room()).await.expect("the room can be prepared")
    }

    /// The notices so far, which are taken.
    pub fn takes_notices(&self) -> Vec<Notice> {
        let mut memory = self.memory();
        let mut notices = std::mem::take(&mut memory.notices);
        notices.extend(self.mls().take_notices());
        notices
    }

    /// The room's group, as the store has it.
    pub async fn group(&self) -> Group {
        let stored = self.store().load_room(self.room()).await.expect("the store works");
        let mut group = Group::new(self.room().as_str());
        group.apply(stored.unwrap_or_default().group);
        group
    }

    /// What waits to be sent.
    pub async fn store_outbox(&self) -> Vec<OutboxRequest> {
        self.store().outbox().await.expect("the store works")
    }
}

impl Reading {
    /// The text of a message.
    pub fn text(&self) -> Option<String> {
        let Self::Clear(event) = self else { return None };
        let content = event.event.get_field::<Value>("content").ok()??;
        content.get("body")?.as_str().map(ToOwned::to_owned)
    }

    /// Whether it was read.
    pub const fn is_clear(&self) -> bool {
        matches!(self, Self::Clear(_))
    }
}

const fn name_of(error: &DecryptionError) -> &'static str {
    match error {
        DecryptionError::UnknownEpoch(_) => "UnknownEpoch",
        DecryptionError::BeforeOurJoin => "BeforeOurJoin",
        DecryptionError::AfterOurRemoval => "AfterOurRemoval",
        DecryptionError::KeysExpired => "KeysExpired",
        DecryptionError::AlreadyRead => "AlreadyRead",
        DecryptionError::Replay { .. } => "Replay",
        DecryptionError::InvalidSender { .. } => "InvalidSender",
        DecryptionError::WrongRoom => "WrongRoom",
        DecryptionError::Malformed(_) => "Malformed",
        DecryptionError::Machine(_) => "Machine",
    }
}
