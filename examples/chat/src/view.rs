//! What a room's timeline looks like.

use std::{collections::BTreeMap, pin::Pin};

use anyhow::Result;
use futures_util::{Stream, StreamExt as _};
use matrix_sdk::ruma::OwnedEventId;
use matrix_sdk_ui::timeline::{
    EventTimelineItem, Timeline, TimelineBuilder, TimelineEventShieldState, TimelineItemContent,
};

use crate::Room;

/// How much of the past is shown when a room is opened.
const PAST: u16 = 20;

/// A room that is open.
pub(crate) struct View {
    timeline: Timeline,
    /// Something whenever the timeline has changed.
    pub(crate) changes: Pin<Box<dyn Stream<Item = ()> + Send>>,
    shown: BTreeMap<OwnedEventId, String>,
}

impl View {
    pub(crate) async fn open(room: &Room) -> Result<Self> {
        let timeline = TimelineBuilder::new(room).build().await?;
        let (_, changes) = timeline.subscribe().await;
        timeline.paginate_backwards(PAST).await?;
        let changes = Box::pin(changes.map(drop));
        Ok(Self { timeline, changes, shown: BTreeMap::new() })
    }

    /// The lines of what has come or has changed since the last call.
    pub(crate) async fn news(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for item in self.timeline.items().await {
            let Some(event) = item.as_event() else { continue };
            let Some(event_id) = event.event_id() else { continue };
            let Some(line) = line(event) else { continue };
            if self.shown.get(event_id) != Some(&line) {
                self.shown.insert(event_id.to_owned(), line.clone());
                lines.push(line);
            }
        }
        lines
    }
}

fn line(event: &EventTimelineItem) -> Option<String> {
    let sender = event.sender();
    let shield = match event.get_shield(false) {
        TimelineEventShieldState::None => "",
        TimelineEventShieldState::Grey { .. } => " (?)",
        TimelineEventShieldState::Red { .. } => " (!)",
    };
    let content = event.content();
    if let Some(message) = content.as_message() {
        let edited = if message.is_edited() { " (edited)" } else { "" };
        return Some(format!("<{sender}>{shield} {}{edited}", message.body()));
    }
    match content {
        content if content.is_redacted() => Some(format!("<{sender}> (deleted)")),
        // An MLS message that cannot be read (yet) is of the second kind.
        content if content.is_unable_to_decrypt() => Some(format!("<{sender}> (not readable)")),
        TimelineItemContent::FailedToParseMessageLike { event_type, .. }
            if event_type.to_string() == "m.room.encrypted" =>
        {
            Some(format!("<{sender}> (not readable)"))
        }
        TimelineItemContent::MembershipChange(change) => {
            let change_of = change.change().map(|change| format!("{change:?}"));
            Some(format!("- {}: {}", change.user_id(), change_of.unwrap_or_default()))
        }
        _ => None,
    }
}

/// What is said of a notice, if anything is.
#[cfg(feature = "mls")]
pub(crate) fn notice(notice: &matrix_sdk_mls::machine::Notice) -> Option<String> {
    use matrix_sdk_mls::machine::Notice;
    Some(match notice {
        Notice::Joined { room_id, .. } => format!("{room_id}: this device is in the group"),
        Notice::EpochEntered { room_id, epoch, author, added, removed, .. } => {
            let (user, come, gone) = (&author.user_id, added.len(), removed.len());
            format!("{room_id}: epoch {epoch} by {user}, {come} devices added, {gone} removed")
        }
        Notice::Removed { room_id, by, .. } => {
            format!("{room_id}: this device was removed by {}", by.user_id)
        }
        Notice::DeviceWithoutMls { room_id, user_id, device_id, reason } => {
            format!("{room_id}: {user_id}'s device {device_id} cannot read along: {reason}")
        }
        Notice::UnexpectedMember { room_id, device, .. } => {
            format!(
                "{room_id}: {}'s device {} should not be here",
                device.user_id, device.device_id
            )
        }
        Notice::DowngradeAttempt { room_id, .. } => {
            format!("{room_id}: somebody tried to turn MLS off; nothing is sent here any more")
        }
        _ => return None,
    })
}
