//! Large values in pieces, so that values which have much in common share it.
//!
//! A ratchet tree of 1,000 members is half a megabyte, and the trees of neighbouring epochs differ in
//! a dozen places. Values are cut where their *content* says so, hence equal stretches are cut equally
//! wherever they are, and each piece is stored once per room under the hash of its content.

mod before;
mod split;

use std::{collections::HashMap, ops::Range};

use matrix_sdk_crypto_mls::store::StoreError;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub(crate) use self::before::Before;
use self::{
    before::Key,
    split::{MAX, split},
};
use crate::{
    cipher::{Cipher, Place},
    codec,
    error::{corrupt, database},
    pack, table,
    transaction::{RoomKey, Transaction},
};

/// Shorter values stay in their row.
const INLINE: usize = 1024;

/// How much of the hash of its content a piece is named by, in bytes: there are thousands of pieces,
/// and 160 bits keep equal names as far away as is needed. Pieces of older stores have all of it.
const KEY: usize = 20;

/// Rows per statement.
const BATCH: usize = 200;

/// A value that may be in pieces.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Blob {
    /// All of it.
    Inline(#[serde(with = "crate::codec::bytes")] Vec<u8>),
    /// The next so many of the row's chunks.
    Chunks(u32),
}

/// Takes a row's values apart.
#[derive(Default)]
pub(crate) struct Cutter<'a> {
    pieces: Vec<Piece<'a>>,
    before: Option<Before>,
    /// The tree among the values, and which of the pieces are its.
    tree: Option<(&'a [u8], Range<usize>)>,
}

struct Piece<'a> {
    bytes: &'a [u8],
    form: Form,
    /// If it is known without hashing.
    key: Option<Key>,
}

/// How a piece is stored: the number is in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Plain = 0,
    /// Compressed.
    Packed = 1,
}

impl<'a> Cutter<'a> {
    /// With the tree that was stored before, which the next one may resemble.
    pub(crate) fn after(before: Option<Before>) -> Self {
        Self { before, ..Self::default() }
    }

    /// Takes a value apart that may be secret.
    pub(crate) fn cut(&mut self, value: &'a [u8]) -> Blob {
        self.cut_as(value, Form::Plain)
    }

    /// Takes a value apart that is known to all members, and compresses it.
    pub(crate) fn cut_public(&mut self, value: &'a [u8]) -> Blob {
        self.cut_as(value, Form::Packed)
    }

    /// Takes a ratchet tree apart. Public as well.
    pub(crate) fn cut_tree(&mut self, value: &'a [u8]) -> Blob {
        if value.len() < INLINE {
            return self.cut_public(value);
        }
        let first = self.pieces.len();
        if let Some(before) = &self.before {
            let pieces = before.split(value).into_iter();
            let form = Form::Packed;
            self.pieces.extend(pieces.map(|(bytes, key)| Piece { bytes, form, key }));
        } else {
            self.cut_public(value);
        }
        self.tree = Some((value, first..self.pieces.len()));
        self.blob(first)
    }

    fn cut_as(&mut self, value: &'a [u8], form: Form) -> Blob {
        if value.len() < INLINE {
            return Blob::Inline(value.to_vec());
        }
        let first = self.pieces.len();
        self.pieces.extend(split(value).map(|bytes| Piece { bytes, form, key: None }));
        self.blob(first)
    }

    fn blob(&self, first: usize) -> Blob {
        Blob::Chunks(u32::try_from(self.pieces.len() - first).unwrap_or(u32::MAX))
    }

    /// Stores the pieces that are not there yet, and gives what goes into the row's `chunks`.
    pub(crate) async fn store(
        mut self,
        transaction: &mut Transaction<'_>,
        room: &RoomKey,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let cipher = transaction.cipher;
        let keys: Vec<Key> = self
            .pieces
            .iter_mut()
            .map(|piece| {
                piece.key.take().unwrap_or_else(|| {
                    let mut key = cipher.lookup("chunk", &[&room.key, piece.bytes]);
                    key.truncate(KEY);
                    key
                })
            })
            .collect();
        let known = transaction.chunks(room).await?;
        let ids: Vec<Option<i64>> = keys.iter().map(|key| known.get(key).copied()).collect();
        let mut list = Vec::with_capacity(ids.len());
        let mut new = HashMap::new();
        let mut rows = Vec::new();
        // In the value's order, so that lists are mostly runs.
        let mut last = None;
        for ((key, piece), id) in keys.iter().zip(&self.pieces).zip(ids) {
            if let Some(id) = id.or_else(|| new.get(key).copied()) {
                list.push(id);
                continue;
            }
            let id = 1 + match last {
                Some(last) => last,
                None => transaction.last_chunk().await?,
            };
            last = Some(id);
            let packed = Some(piece.bytes).filter(|_| piece.form == Form::Packed);
            let packed = packed.and_then(pack::pack);
            let (form, value) = match &packed {
                Some(packed) => (Form::Packed, packed.as_slice()),
                None => (Form::Plain, piece.bytes),
            };
            let sealed = cipher.seal(place(id, key, form).as_ref(), value)?;
            rows.push((id, key, sealed, form));
            new.insert(key.clone(), id);
            list.push(id);
        }
        for rows in rows.chunks(BATCH) {
            let mut insert =
                sqlx::QueryBuilder::new("INSERT INTO chunk (id, room, key, value, form) ");
            insert.push_values(rows, |mut row, (id, key, value, form)| {
                row.push_bind(id).push_bind(room.id).push_bind(*key);
                row.push_bind(value).push_bind(*form as i64);
            });
            transaction.execute(insert.build().persistent(false)).await?;
        }
        transaction.chunks(room).await?.extend(new);
        if let Some(last) = last {
            transaction.note_last_chunk(last);
        }
        if let Some((tree, range)) = self.tree {
            let lengths = self.pieces.iter().map(|piece| piece.bytes.len());
            let pieces = lengths.zip(keys).skip(range.start).take(range.len()).collect();
            transaction.note_tree(room, Before::new(tree, pieces));
        }
        codec::encode_compact(&runs(list.into_iter()))
    }
}

/// A list of IDs as runs: the first, and how many follow one another.
fn runs(ids: impl Iterator<Item = i64>) -> Vec<(i64, i64)> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == id => *count += 1,
            _ => runs.push((id, 1)),
        }
    }
    runs
}

/// The list that was written as these bytes, as runs.
pub(crate) fn read_runs(bytes: &[u8]) -> Result<Vec<Range<i64>>, StoreError> {
    let runs: Vec<(i64, i64)> = codec::decode(bytes)?;
    runs.into_iter()
        .map(|(first, count)| {
            let end = first.checked_add(count).filter(|_| (0..1 << 24).contains(&count));
            Ok(first..end.ok_or_else(|| corrupt("a list of pieces"))?)
        })
        .collect()
}

/// The list that was written as these bytes.
pub(crate) fn read_list(bytes: &[u8]) -> Result<Vec<i64>, StoreError> {
    Ok(read_runs(bytes)?.into_iter().flatten().collect())
}

/// A chunk is bound to its ID as well as to its key, since lists name it by ID; and to its form.
struct ChunkPlace(&'static str, Vec<u8>);

fn place(id: i64, key: &[u8], form: Form) -> ChunkPlace {
    let column = match form {
        Form::Plain => table::CHUNK.value,
        Form::Packed => table::CHUNK.beside,
    };
    ChunkPlace(column, [&id.to_be_bytes(), key].concat())
}

impl ChunkPlace {
    fn as_ref(&self) -> Place<'_> {
        Place(self.0, &self.1)
    }
}

/// The pieces of a room in memory, while its rows are read.
pub(crate) struct Pieces(HashMap<i64, Zeroizing<Vec<u8>>>);

impl Pieces {
    pub(crate) fn open(
        cipher: &Cipher,
        rows: Vec<(i64, Vec<u8>, Vec<u8>, i64)>,
    ) -> Result<Self, StoreError> {
        rows.into_iter()
            .map(|(id, key, value, form)| {
                let form = match form {
                    0 => Form::Plain,
                    1 => Form::Packed,
                    _ => return Err(corrupt("a piece has an unknown form")),
                };
                let mut value = cipher.open(place(id, &key, form).as_ref(), value)?;
                if form == Form::Packed {
                    value = Zeroizing::new(pack::unpack(&value, MAX)?);
                }
                Ok((id, value))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The row's values can be put together again, in the order in which they were taken apart.
    pub(crate) fn of(&self, list: Vec<i64>) -> Joiner<'_> {
        Joiner { pieces: self, list: list.into_iter() }
    }

    /// All IDs.
    pub(crate) fn ids(&self) -> impl Iterator<Item = i64> {
        self.0.keys().copied()
    }
}

/// Puts a row's values together.
pub(crate) struct Joiner<'a> {
    pieces: &'a Pieces,
    list: std::vec::IntoIter<i64>,
}

impl Joiner<'_> {
    pub(crate) fn join(&mut self, blob: Blob) -> Result<Vec<u8>, StoreError> {
        let count = match blob {
            Blob::Inline(value) => return Ok(value),
            Blob::Chunks(count) => count as usize,
        };
        let parts = self
            .list
            .by_ref()
            .take(count)
            .map(|id| self.pieces.0.get(&id))
            .collect::<Option<Vec<_>>>()
            .filter(|parts| parts.len() == count)
            .ok_or_else(|| corrupt("a piece of a value is missing"))?;
        let mut value = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.into_iter().for_each(|part| value.extend_from_slice(part));
        Ok(value)
    }
}

/// Deletes the rosters of a room that no row names any more.
pub(crate) async fn delete_unused_rosters(
    transaction: &mut Transaction<'_>,
    room: &RoomKey,
) -> Result<(), StoreError> {
    let unused: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT key FROM roster WHERE room = ?1
         AND NOT EXISTS (SELECT 1 FROM record WHERE record.roster = roster.key)
         AND NOT EXISTS (SELECT 1 FROM epoch_key WHERE epoch_key.roster = roster.key)
         AND NOT EXISTS (SELECT 1 FROM pending WHERE pending.roster = roster.key)",
    )
    .bind(room.id)
    .fetch_all(transaction.connection())
    .await
    .map_err(database)?;
    for key in unused {
        transaction.delete_in_room(table::ROSTER, room, &key).await?;
    }
    Ok(())
}

/// Deletes the pieces of a room that no row names any more.
pub(crate) async fn collect_garbage(
    transaction: &mut Transaction<'_>,
    room: &RoomKey,
) -> Result<(), StoreError> {
    let lists = transaction.chunk_lists(room).await?;
    let used = union(lists.values().flatten());
    let known = transaction.chunks(room).await?;
    let mut unused = Vec::new();
    known.retain(|_, id| {
        let after = used.partition_point(|run| run.end <= *id);
        let is_used = used.get(after).is_some_and(|run| run.contains(id));
        if !is_used {
            unused.push(*id);
        }
        is_used
    });
    for ids in unused.chunks(4 * BATCH) {
        let mut delete = sqlx::QueryBuilder::new("DELETE FROM chunk WHERE id IN (");
        let mut list = delete.separated(", ");
        for id in ids {
            list.push_bind(*id);
        }
        delete.push(")");
        transaction.execute(delete.build().persistent(false)).await?;
    }
    Ok(())
}

/// What is in any of the runs, in order and without overlaps: lists of neighbouring epochs have most
/// in common.
fn union<'r>(runs: impl Iterator<Item = &'r Range<i64>>) -> Vec<Range<i64>> {
    let mut runs: Vec<_> = runs.filter(|run| !run.is_empty()).cloned().collect();
    runs.sort_unstable_by_key(|run| run.start);
    runs.dedup_by(|next, run| {
        let touches = next.start <= run.end;
        if touches {
            run.end = run.end.max(next.end);
        }
        touches
    });
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_stored_as_runs() {
        let list = [7, 8, 9, 3, 4, 9, 9, 10];
        let runs = runs(list.into_iter());
        assert_eq!(runs, [(7, 3), (3, 2), (9, 1), (9, 2)]);
        assert_eq!(read_list(&codec::encode_compact(&runs).unwrap()).unwrap(), list);
        for bad in [(1, -1), (i64::MAX, 1), (0, i64::MAX)] {
            assert!(read_list(&codec::encode_compact(&[bad]).unwrap()).is_err());
        }
    }

    #[test]
    fn runs_that_touch_are_one() {
        let runs = [7..9, 1..3, 3..4, 20..20, 8..12, 2..3];
        assert_eq!(union(runs.iter()), [1..4, 7..12]);
    }
}
