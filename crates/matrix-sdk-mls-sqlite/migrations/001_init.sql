-- Lookup keys (`key`) are 32-byte hashes of what they stand for, keyed when the store is encrypted.
-- Everything else in BLOB columns is sealed with table, column and key as associated data.

-- What is needed to open the store. Not sealed; `cipher` is wrapped with the key or passphrase.
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_lock (
    key BLOB NOT NULL PRIMARY KEY,
    holder BLOB NOT NULL,
    expires INTEGER NOT NULL,
    generation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE account (
    key BLOB NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE key_package (
    key BLOB NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE outbox (
    key BLOB NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- `value` is the room ID.
CREATE TABLE room (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE view (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    value BLOB NOT NULL
) STRICT;

-- Pieces of large values, each once per room: `key` is the hash of the content. IDs are never used
-- again. A piece goes with the last row whose `chunks` names it.
CREATE TABLE chunk (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    room INTEGER NOT NULL REFERENCES room (id),
    key BLOB NOT NULL UNIQUE,
    value BLOB NOT NULL
) STRICT;
CREATE INDEX chunk_room ON chunk (room);

-- Who is in an epoch, by content: goes with the last row whose `roster` names it.
CREATE TABLE roster (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    chunks BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE INDEX roster_room ON roster (room);

CREATE TABLE record (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    roster BLOB REFERENCES roster (key),
    value BLOB NOT NULL
) STRICT;
CREATE INDEX record_room ON record (room);
CREATE INDEX record_roster ON record (roster) WHERE roster IS NOT NULL;

CREATE TABLE node_state (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    chunks BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE INDEX node_state_room ON node_state (room);

CREATE TABLE vault (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    value BLOB NOT NULL
) STRICT;
CREATE INDEX vault_room ON vault (room);

CREATE TABLE epoch_key (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    roster BLOB NOT NULL REFERENCES roster (key),
    value BLOB NOT NULL
) STRICT;
CREATE INDEX epoch_key_room ON epoch_key (room);
CREATE INDEX epoch_key_roster ON epoch_key (roster);

CREATE TABLE pending (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    roster BLOB NOT NULL REFERENCES roster (key),
    chunks BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE INDEX pending_room ON pending (room);
CREATE INDEX pending_roster ON pending (roster);

CREATE TABLE generation (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX generation_room ON generation (room);

-- `event` comes before `value`, which may be long, so that it is read without it.
CREATE TABLE commit_event (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    event BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE INDEX commit_event_room ON commit_event (room);

-- `node` is a lookup key too.
CREATE TABLE queued (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    node BLOB NOT NULL,
    value BLOB NOT NULL
) STRICT;
CREATE INDEX queued_room_node ON queued (room, node);

CREATE TABLE welcome (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    value BLOB NOT NULL
) STRICT;
CREATE INDEX welcome_room ON welcome (room);

-- Which versions of a table's rows a room has, all together: a row that was put back to an older one
-- does not fit. Only in encrypted stores, and only of tables that are read with the room.
CREATE TABLE seal (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    key BLOB NOT NULL PRIMARY KEY,
    room INTEGER NOT NULL REFERENCES room (id),
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
