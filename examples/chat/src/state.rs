//! What is on the screen, as plain data.

use std::{collections::VecDeque, path::PathBuf};

use matrix_sdk::ruma::{
    OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedRoomOrAliasId, OwnedUserId,
    events::AnyMessageLikeEventContent,
};

use crate::{Client, input::Input};

/// Lines of the log that are kept.
const LOG: usize = 200;

/// Everything that is shown.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Who we are, and with which device.
    pub(crate) me: String,
    /// Whether our own device is verified.
    pub(crate) trust: String,
    pub(crate) is_online: bool,
    pub(crate) rooms: Vec<RoomRow>,
    /// The room that is open.
    pub(crate) open: Option<OwnedRoomId>,
    pub(crate) timeline: Vec<Row>,
    /// What is said of the verification that is going on, if one is.
    pub(crate) verification: Vec<String>,
    /// How many messages wait to be sent in it.
    pub(crate) waiting: usize,
    pub(crate) panels: Panels,
    pub(crate) side: Side,
    /// The message that was chosen with the arrows.
    pub(crate) chosen: Option<OwnedEventId>,
    /// Whether the chosen message is yet to be brought into sight.
    pub(crate) seeks_chosen: bool,
    /// How many lines the timeline was scrolled up.
    pub(crate) scroll: usize,
    /// While it is scrolled up, the message at the lower end, and how many of its lines are seen: they
    /// stay where they are when others come.
    pub(crate) at_bottom: Option<(OwnedEventId, usize)>,
    pub(crate) input: Input,
    /// What was said of late, newest last.
    pub(crate) log: VecDeque<String>,
    pub(crate) quits: bool,
}

/// A room in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomRow {
    pub(crate) id: OwnedRoomId,
    pub(crate) name: String,
    pub(crate) mark: Mark,
    /// What the server counts as new to us.
    pub(crate) unread: u64,
}

/// What a room is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// We are invited to it.
    Invited,
    Unencrypted,
    Megolm,
    /// An MLS room; whether this device is in its group.
    Mls {
        is_in: bool,
    },
}

/// A line of the timeline, before it is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) event_id: Option<OwnedEventId>,
    pub(crate) time: String,
    pub(crate) sender: String,
    pub(crate) is_own: bool,
    pub(crate) shield: Shield,
    pub(crate) text: String,
    /// What is below it: reactions.
    pub(crate) below: String,
    pub(crate) kind: RowKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKind {
    Message,
    /// Something that has happened.
    Happening,
    /// A message that cannot be read.
    Unreadable,
}

/// What is to be said of a message's sender, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shield {
    None,
    Grey(&'static str),
    Red(&'static str),
}

/// What the panels at the side show of the open room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Panels {
    pub(crate) members: Vec<MemberRow>,
    pub(crate) epoch: Vec<String>,
}

/// A member, or a device of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberRow {
    pub(crate) text: String,
    pub(crate) is_good: bool,
    pub(crate) is_heading: bool,
}

/// What is at the side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Side {
    #[default]
    Nothing,
    Help,
    Members,
    Epoch,
    Log,
}

/// What is to be done on the network.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Open(OwnedRoomId),
    New {
        name: String,
        users: Vec<OwnedUserId>,
    },
    Join(OwnedRoomOrAliasId),
    /// Verify a device; our own others if no user is named.
    Verify {
        user: Option<OwnedUserId>,
        device: Option<OwnedDeviceId>,
    },
    /// What the user says to the question that a verification asks.
    Answer(bool),
    /// In the room that was open then.
    InRoom(OwnedRoomId, Action),
}

/// What is to be done in a room.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Older messages.
    Older,
    Send(Box<AnyMessageLikeEventContent>),
    Reply(OwnedEventId, String),
    Edit(OwnedEventId, String),
    Redact(OwnedEventId),
    File(PathBuf),
    /// What waits to be sent is tried again now, or taken back.
    Retry,
    Cancel,
    /// The file of this message is to be written there.
    Save(OwnedEventId, PathBuf),
    Invite(OwnedUserId),
    Leave,
}

/// What the client tells.
#[derive(Debug)]
pub(crate) enum Update {
    Rooms(Vec<RoomRow>),
    Opened(OwnedRoomId),
    Timeline(OwnedRoomId, Vec<Row>),
    Waiting(OwnedRoomId, usize),
    Panels(OwnedRoomId, Panels),
    Trust(String),
    /// What is to be said of a verification; nothing when it is over.
    Verification(Vec<String>),
    Online(bool),
    Said(String),
}

impl State {
    /// The beginning.
    pub(crate) fn of(client: &Client) -> Self {
        let user = client.user_id().map(ToString::to_string).unwrap_or_default();
        let device = client.device_id().map(ToString::to_string).unwrap_or_default();
        let mut state = Self { me: format!("{user} {device}"), ..Self::default() };
        state.say("F1 for help");
        state
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(text.into());
    }

    /// The room that is open, as it is in the list.
    pub(crate) fn open_room(&self) -> Option<&RoomRow> {
        self.rooms.iter().find(|room| Some(&room.id) == self.open.as_ref())
    }
}
