//! Which rooms' state has to be asked for, and asking for it.

use std::collections::BTreeMap;

use matrix_sdk_crypto_mls::{dmls::ALGORITHM, types::events::CommitEventContent};
use ruma::{
    OwnedRoomId, OwnedUserId, RoomId,
    api::{
        Direction,
        client::{filter::RoomEventFilter, message::get_message_events, state::get_state_events},
    },
    events::{
        AnySyncStateEvent, AnySyncTimelineEvent, StaticEventContent,
        room::member::{MembershipState, RoomMemberEventContent},
    },
    serde::Raw,
    uint,
};
use tracing::debug;

use super::{Engine, lock};
use crate::error::Error;

/// The rooms whose whole state the machine has, and those whose state is being asked for, each with
/// the number of the attempt. Any other room is incomplete.
#[derive(Default)]
pub(super) struct Completeness {
    rooms: BTreeMap<OwnedRoomId, Progress>,
    attempts: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The room has come with a sync, and is to be completed.
    Wanted,
    Asking(u64),
    Complete,
}

impl Completeness {
    pub(super) fn is_complete(&self, room_id: &RoomId) -> bool {
        self.rooms.get(room_id) == Some(&Progress::Complete)
    }

    /// Something may have been missed, so what is being asked for now does not suffice.
    pub(super) fn want(&mut self, room_id: &RoomId) {
        self.rooms.insert(room_id.to_owned(), Progress::Wanted);
    }

    /// What is known of the room does not matter any more.
    pub(super) fn forget(&mut self, room_id: &RoomId) {
        self.rooms.remove(room_id);
    }

    /// The room has come with a sync that was whole.
    pub(super) fn touch(&mut self, room_id: &RoomId) {
        self.rooms.entry(room_id.to_owned()).or_insert(Progress::Wanted);
    }

    pub(super) fn wanted(&self) -> Vec<OwnedRoomId> {
        let wanted = self.rooms.iter().filter(|(_, progress)| **progress == Progress::Wanted);
        wanted.map(|(room_id, _)| room_id.clone()).collect()
    }

    fn begin(&mut self, room_id: &RoomId) -> u64 {
        self.attempts += 1;
        self.rooms.insert(room_id.to_owned(), Progress::Asking(self.attempts));
        self.attempts
    }

    fn end(&mut self, room_id: &RoomId, attempt: u64, to: Progress) {
        // Unless something was missed meanwhile, or somebody has begun after that.
        if let Some(progress) = self.rooms.get_mut(room_id)
            && *progress == Progress::Asking(attempt)
        {
            *progress = to;
        }
    }
}

impl Engine {
    /// Completes the room unless it is complete.
    pub(super) async fn ensure_complete(&self, room_id: &RoomId) -> Result<(), Error> {
        if lock(&self.completeness).is_complete(room_id) {
            return Ok(());
        }
        self.complete(room_id).await
    }

    /// Asks for the room's whole state and its latest commits.
    pub(crate) async fn complete(&self, room_id: &RoomId) -> Result<(), Error> {
        let attempt = lock(&self.completeness).begin(room_id);
        let result = Box::pin(self.ask_for_state(room_id)).await;
        let to = if result.is_ok() { Progress::Complete } else { Progress::Wanted };
        lock(&self.completeness).end(room_id, attempt, to);
        self.note_change(room_id);
        self.note_progress();
        result
    }

    async fn ask_for_state(&self, room_id: &RoomId) -> Result<(), Error> {
        debug!(%room_id, "Asking for the room's state");
        let request = get_state_events::v3::Request::new(room_id.to_owned());
        let response = self.sdk.send(request).await?;
        let mut members: Vec<(OwnedUserId, MembershipState)> = Vec::new();
        let mut state: Vec<Raw<AnySyncStateEvent>> = Vec::new();
        for event in response.room_state {
            let event_type = event.get_field::<String>("type")?;
            if event_type.as_deref() != Some("m.room.member") {
                state.push(event.cast());
                continue;
            }
            // What cannot be read is nobody's membership.
            let user = event.get_field::<OwnedUserId>("state_key").ok().flatten();
            let content = event.get_field::<RoomMemberEventContent>("content").ok().flatten();
            members.extend(user.zip(content.map(|content| content.membership)));
        }
        let machine = self.machine().await?;
        Box::pin(machine.receive_room_events(room_id, &state, &[])).await?;
        let is_mls = self.look_at_latch(room_id).await?;
        Box::pin(machine.set_room_members(room_id, members)).await?;
        if is_mls {
            let commits = self.latest_commits(room_id).await?;
            Box::pin(machine.receive_room_events(room_id, &[], &commits)).await?;
        }
        Ok(())
    }

    /// The room's latest commits, oldest first. The machine finds by itself what lies before them.
    async fn latest_commits(
        &self,
        room_id: &RoomId,
    ) -> Result<Vec<Raw<AnySyncTimelineEvent>>, Error> {
        let mut request =
            get_message_events::v3::Request::new(room_id.to_owned(), Direction::Backward);
        let mut filter = RoomEventFilter::default();
        filter.types = Some(vec![CommitEventContent::TYPE.to_owned()]);
        request.filter = filter;
        request.limit = uint!(100);
        let response = self.sdk.send(request).await?;
        Ok(response.chunk.into_iter().rev().map(Raw::cast).collect())
    }
}

/// Whether an event of the room's state, or of its timeline, makes the room an MLS room.
pub(super) fn turns_mls_on<T>(event: &Raw<T>) -> bool {
    // The machine reads it properly; this only spares it the rooms that are none of its business.
    event.json().get().contains(ALGORITHM)
        && event.get_field::<String>("type").ok().flatten().is_some_and(|event_type| {
            event_type == "m.room.encryption" || event_type == "m.room.create"
        })
}

/// Whether an event is about somebody's membership.
pub(super) fn is_about_members<T>(event: &Raw<T>) -> bool {
    event.get_field::<String>("type").ok().flatten().as_deref() == Some("m.room.member")
}
