use serde::Serialize;

/// Something that happened in a step.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// In words.
    Note {
        /// The words.
        text: String,
    },
    /// Something was required, and holds.
    Check {
        /// What.
        what: String,
    },
    /// Somebody made a new epoch.
    Epoch {
        /// The device.
        by: String,
        /// The epoch's number.
        epoch: u64,
        /// The beginning of its ID.
        node: String,
        /// What the commit did.
        what: String,
    },
    /// The graph of epochs, as a device has it.
    Graph {
        /// The device.
        of: String,
        /// The drawing, one epoch a line.
        drawing: String,
    },
    /// Somebody wrote, and all of these have read it.
    Message {
        /// The device.
        from: String,
        /// What it wrote.
        text: String,
        /// The number of the epoch that it was encrypted in.
        epoch: u64,
        /// The beginning of the epoch's ID.
        node: String,
        /// The devices that have decrypted exactly this text, and the sender right.
        read_by: Vec<String>,
    },
    /// A device was given an event and could not read it, as it must be.
    Unreadable {
        /// The device.
        device: String,
        /// What the event says to those who can read it.
        text: String,
        /// Why it could not.
        reason: String,
    },
}
