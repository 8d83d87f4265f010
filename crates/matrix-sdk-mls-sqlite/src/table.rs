//! The tables, and the places of their values.

/// A table of sealed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: &'static str,
    /// The place of its `value`.
    pub(crate) value: &'static str,
    /// The place of its `chunks`, or of what else is sealed beside the value.
    pub(crate) beside: &'static str,
    /// Whether its rows belong to a room.
    pub(crate) of_room: bool,
}

macro_rules! tables {
    ($($constant:ident $name:literal $beside:literal $of_room:literal;)*) => {
        $(pub(crate) const $constant: Table = Table {
            name: $name,
            value: concat!($name, ".value"),
            beside: concat!($name, ".", $beside),
            of_room: $of_room,
        };)*

        /// All of them, for checks.
        pub(crate) const ALL: &[Table] = &[$($constant),*];
    };
}

tables! {
    ACCOUNT "account" "" false;
    KEY_PACKAGE "key_package" "" false;
    OUTBOX "outbox" "" false;
    ROOM "room" "" false;
    VIEW "view" "" true;
    CHUNK "chunk" "packed" true;
    ROSTER "roster" "chunks" true;
    RECORD "record" "" true;
    NODE_STATE "node_state" "chunks" true;
    VAULT "vault" "" true;
    EPOCH_KEY "epoch_key" "" true;
    PENDING "pending" "chunks" true;
    GENERATION "generation" "" true;
    COMMIT_EVENT "commit_event" "event" true;
    QUEUED "queued" "" true;
    WELCOME "welcome" "" true;
    LEDGER "ledger" "" true;
    SEAL "seal" "" false;
}

/// The tables whose rows name chunks.
pub(crate) const CHUNKED: [Table; 3] = [ROSTER, NODE_STATE, PENDING];

/// The tables whose rows name a roster.
pub(crate) const WITH_ROSTER: [Table; 3] = [RECORD, EPOCH_KEY, PENDING];

/// The tables that are read with the room, whose rows a seal holds together.
pub(crate) const SEALED: [Table; 8] =
    [VIEW, ROSTER, RECORD, NODE_STATE, VAULT, EPOCH_KEY, PENDING, GENERATION];

/// The tables whose values are compressed: what is public in the group, and may be long.
pub(crate) const PACKED: [Table; 2] = [RECORD, COMMIT_EVENT];

/// The tables with rows that are replaced again and again, one batch after the other.
pub(crate) const REPLACED_OFTEN: [Table; 2] = [GENERATION, VAULT];
