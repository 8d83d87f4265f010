//! The room that is open: its timeline, and what waits to be sent.

use std::sync::Arc;

use anyhow::Result;
use futures_util::StreamExt as _;
use matrix_sdk::ruma::{
    MilliSecondsSinceUnixEpoch, api::client::receipt::create_receipt::v3::ReceiptType,
};
#[cfg(not(feature = "mls"))]
use matrix_sdk::send_queue::RoomSendQueueUpdate;
#[cfg(feature = "mls")]
use matrix_sdk_mls::RoomSendQueueUpdate;
use matrix_sdk_ui::timeline::{
    EventTimelineItem, MembershipChange, Timeline, TimelineBuilder, TimelineEventShieldState,
    TimelineEventShieldStateCode as Code, TimelineItemContent,
};
use tokio::{
    sync::{Notify, broadcast},
    task::AbortHandle,
};

use crate::{
    Room,
    backend::{Inner, queue},
    files,
    state::{Row, RowKind, Shield, Update},
};

/// A room, followed until this is dropped.
pub(crate) struct OpenRoom {
    pub(crate) room: Room,
    pub(crate) timeline: Arc<Timeline>,
    again: Arc<Notify>,
    tasks: [AbortHandle; 2],
}

impl OpenRoom {
    pub(crate) async fn open(room: Room, backend: Arc<Inner>) -> Result<Self> {
        let timeline = Arc::new(TimelineBuilder::new(&room).build().await?);
        let (waiting, updates) = queue(&room).subscribe().await?;
        let sending = Sending { room: room.clone(), waiting: waiting.len(), updates };
        let again = Arc::new(Notify::new());
        let shown = show(room.clone(), Arc::clone(&timeline), Arc::clone(&again), backend.clone());
        let tasks = [tokio::spawn(shown), tokio::spawn(sending.follow(backend))];
        let tasks = tasks.map(|task| task.abort_handle());
        Ok(Self { room, timeline, again, tasks })
    }

    /// Shows the timeline anew: more is known of its messages.
    pub(crate) fn look_again(&self) {
        self.again.notify_one();
    }
}

impl Drop for OpenRoom {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Tells of the timeline whenever it changes.
async fn show(room: Room, timeline: Arc<Timeline>, again: Arc<Notify>, backend: Arc<Inner>) {
    let (_, mut changes) = timeline.subscribe().await;
    loop {
        let mut rows = Vec::new();
        for item in timeline.items().await {
            if let Some(event) = item.as_event() {
                rows.extend(row(event, &backend));
            }
        }
        backend.tell(Update::Timeline(room.room_id().to_owned(), rows));
        // It is on the screen; whether the server is told in time matters little.
        timeline.mark_as_read(ReceiptType::Read).await.ok();
        tokio::select! {
            change = changes.next() => if change.is_none() { return },
            () = again.notified() => {}
        }
    }
}

/// The room's send queue.
struct Sending {
    room: Room,
    waiting: usize,
    updates: broadcast::Receiver<RoomSendQueueUpdate>,
}

impl Sending {
    async fn follow(mut self, backend: Arc<Inner>) {
        loop {
            let room = self.room.room_id().to_owned();
            backend.tell(Update::Waiting(room, self.waiting));
            match self.updates.recv().await {
                Ok(RoomSendQueueUpdate::NewLocalEvent(_)) => self.waiting += 1,
                Ok(
                    RoomSendQueueUpdate::SentEvent { .. }
                    | RoomSendQueueUpdate::CancelledLocalEvent { .. },
                ) => self.waiting = self.waiting.saturating_sub(1),
                Ok(RoomSendQueueUpdate::SendError { error, is_recoverable, .. }) => {
                    let what = if is_recoverable { "is tried again" } else { "was not sent" };
                    backend.tell(Update::Said(format!("! a message {what}: {error}")));
                    if !is_recoverable {
                        // The SDK's queue has stopped; it goes on with the next message.
                        queue(&self.room).set_enabled(true);
                    }
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

fn row(event: &EventTimelineItem, backend: &Inner) -> Option<Row> {
    // What waits to be sent is counted elsewhere.
    let event_id = event.event_id()?;
    let content = event.content();
    let (kind, text) = if let Some(message) = content.as_message() {
        let edited = if message.is_edited() { " (edited)" } else { "" };
        let reply = if content.in_reply_to().is_some() { "↪ " } else { "" };
        let file = files::label(message.msgtype());
        (RowKind::Message, format!("{reply}{file}{}{edited}", message.body()))
    } else if content.is_redacted() {
        (RowKind::Happening, format!("{} has deleted a message", event.sender()))
    } else {
        match content {
            // A message of an MLS room that cannot be read (yet) is of the second kind.
            TimelineItemContent::FailedToParseMessageLike { event_type, .. }
                if event_type.to_string() != "m.room.encrypted" =>
            {
                return None;
            }
            TimelineItemContent::FailedToParseMessageLike { .. } => {
                let reason = backend.reasons().get(event_id).cloned().unwrap_or_default();
                (RowKind::Unreadable, format!("not readable {reason}"))
            }
            content if content.is_unable_to_decrypt() => {
                (RowKind::Unreadable, "not readable".to_owned())
            }
            TimelineItemContent::MembershipChange(change) => {
                let what = happening(change.change()?);
                (RowKind::Happening, format!("{} {what}", change.user_id()))
            }
            _ => return None,
        }
    };
    let reactions = content.reactions().into_iter().flat_map(|all| all.iter());
    let below: Vec<_> = reactions
        .map(|(key, by)| {
            let by: Vec<_> = by.keys().map(|user| user.localpart()).collect();
            format!("{key} {}", by.join(", "))
        })
        .collect();
    Some(Row {
        event_id: Some(event_id.to_owned()),
        time: clock(event.timestamp()),
        sender: event.sender().localpart().to_owned(),
        is_own: event.is_own(),
        // What is no message was not encrypted, and need not be.
        shield: if kind == RowKind::Message { shield(event) } else { Shield::None },
        text,
        below: below.join("  "),
        kind,
    })
}

fn happening(change: MembershipChange) -> &'static str {
    match change {
        MembershipChange::Joined => "is here",
        MembershipChange::Left => "has left",
        MembershipChange::Banned | MembershipChange::KickedAndBanned => "was banned",
        MembershipChange::Kicked => "was removed",
        MembershipChange::Invited => "is invited",
        MembershipChange::InvitationAccepted => "has joined",
        MembershipChange::InvitationRejected => "does not want to join",
        MembershipChange::InvitationRevoked => "is not invited any more",
        _ => "has changed something",
    }
}

fn shield(event: &EventTimelineItem) -> Shield {
    let why = |code| match code {
        Code::AuthenticityNotGuaranteed => "perhaps not authentic",
        Code::UnknownDevice => "unknown device",
        Code::UnsignedDevice => "device not signed by its owner",
        Code::UnverifiedIdentity => "not verified",
        Code::VerificationViolation => "was verified, and is not any more",
        Code::MismatchedSender => "not the sender's device",
        Code::SentInClear => "not encrypted",
    };
    // Strictly, so that the user sees who is not verified.
    match event.get_shield(true) {
        TimelineEventShieldState::None => Shield::None,
        TimelineEventShieldState::Grey { code } => Shield::Grey(why(code)),
        TimelineEventShieldState::Red { code: Code::UnverifiedIdentity } => {
            Shield::Grey(why(Code::UnverifiedIdentity))
        }
        TimelineEventShieldState::Red { code } => Shield::Red(why(code)),
    }
}

/// The time of day, in UTC.
fn clock(time: MilliSecondsSinceUnixEpoch) -> String {
    let minutes = u64::from(time.0) / 60_000;
    format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
}
