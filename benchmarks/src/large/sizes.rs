//! How large events, Welcomes and files are.

use matrix_sdk_crypto_mls::testing::{SimDevice, SimEvent, SimServer};
use ruma::RoomId;
use serde_json::Value;

/// The type of commits.
pub const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";

/// The type of Welcomes.
const WELCOME: &str = "io.github.matrix-mls.dmls.v1.welcome";

/// As long are room and event IDs on real servers at most, in bytes: those of the simulated one are
/// shorter, so Welcomes count as if they had these.
const ID: usize = 44;

/// What somebody's addition takes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added {
    /// The devices in the room.
    pub devices: usize,
    /// Its Welcome.
    pub welcome: usize,
    /// The commit's event, without the tree if that is in it.
    pub event: usize,
    /// The commit itself, in the event or in a file.
    pub commit: usize,
    /// The tree, in the event or in a file.
    pub tree: usize,
}

/// The largest that there was, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Largest {
    /// An event's content.
    pub content: usize,
    /// An event as sync gives it.
    pub event: usize,
    /// A file.
    pub file: usize,
}

/// What the Welcomes that wait for devices take in all: their parts of the bodies of
/// `PUT /sendToDevice`.
pub fn welcomes(server: &SimServer, devices: &[SimDevice]) -> usize {
    let sizes = devices.iter().flat_map(|device| {
        let (user, id) = device.name();
        // `"user":{"device":…},`
        let around = user.as_str().len() + id.as_str().len() + 9;
        let messages = server.records_to_device_of(device.name()).into_iter();
        let messages = messages.filter(|message| text(message, "type") == Some(WELCOME));
        messages.filter_map(move |mut message| {
            let content = message.get_mut("content")?.take();
            let ids = ["room_id", "epoch_event"].map(|name| text(&content, name));
            let shorter = ids.iter().flatten().map(|id| ID.saturating_sub(id.len()));
            Some(around + content.to_string().len() + shorter.sum::<usize>())
        })
    });
    sizes.sum()
}

/// A field that is a string.
fn text<'v>(json: &'v Value, field: &str) -> Option<&'v str> {
    json.get(field)?.as_str()
}

impl Added {
    /// Of the last commit of a room, and the Welcome that waits for a device.
    pub fn of(server: &SimServer, to: &SimDevice, devices: usize) -> Option<Self> {
        let events = server.events(to.room());
        let event = events.into_iter().rev().find(|event| event.event_type == COMMIT)?;
        let whole = server.with_files(event.clone());
        let decoded = |name: &str| Some(text(&whole.content, name)?.len() / 4 * 3);
        let tree = text(&event.content, "tree").map_or(0, str::len);
        Some(Self {
            devices,
            welcome: welcomes(server, std::slice::from_ref(to)),
            event: event.content.to_string().len() - tree,
            commit: decoded("commit")?,
            tree: decoded("tree")?,
        })
    }
}

impl Largest {
    /// Of all that a server has of a room.
    pub fn of(server: &SimServer, room: &RoomId) -> Self {
        let events = server.events(room);
        let size = |event: &SimEvent| event.to_json::<Value>().json().get().len();
        Self {
            content: events.iter().map(|event| event.content.to_string().len()).max().unwrap_or(0),
            event: events.iter().map(size).max().unwrap_or(0),
            file: server.media_sizes().into_iter().max().unwrap_or(0),
        }
    }
}
