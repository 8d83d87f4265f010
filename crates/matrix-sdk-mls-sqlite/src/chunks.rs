//! Large values in pieces, so that values which have much in common share it.
//!
//! A ratchet tree of 1,000 members is half a megabyte, and the trees of neighbouring epochs differ in
//! a dozen places. Values are cut where their *content* says so, hence equal stretches are cut equally
//! wherever they are, and each piece is stored once per room under the hash of its content.

mod split;

use std::collections::HashMap;

use matrix_sdk_crypto_mls::store::StoreError;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::split::{MAX, split};
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
pub(crate) struct Cutter<'a>(Vec<(&'a [u8], Form)>);

/// How a piece is stored: the number is in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Plain = 0,
    /// Compressed.
    Packed = 1,
}

impl<'a> Cutter<'a> {
    /// Takes a value apart that may be secret.
    pub(crate) fn cut(&mut self, value: &'a [u8]) -> Blob {
        self.cut_as(value, Form::Plain)
    }

    /// Takes a value apart that is known to all members, and compresses it.
    pub(crate) fn cut_public(&mut self, value: &'a [u8]) -> Blob {
        self.cut_as(value, Form::Packed)
    }

    fn cut_as(&mut self, value: &'a [u8], form: Form) -> Blob {
        if value.len() < INLINE {
            return Blob::Inline(value.to_vec());
        }
        let before = self.0.len();
        self.0.extend(split(value).map(|piece| (piece, form)));
        Blob::Chunks(u32::try_from(self.0.len() - before).unwrap_or(u32::MAX))
    }

    /// Stores the pieces that are not there yet, and gives what goes into the row's `chunks`.
    pub(crate) async fn store(
        self,
        transaction: &mut Transaction<'_>,
        room: &RoomKey,
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let keys: Vec<_> = self
            .0
            .iter()
            .map(|(piece, _)| {
                let mut key = transaction.cipher.lookup("chunk", &[&room.key, piece]);
                key.truncate(KEY);
                key
            })
            .collect();
        let known = transaction.chunks(room).await?;
        let mut ids: HashMap<_, _> =
            keys.iter().filter_map(|key| Some((key.clone(), *known.get(key)?))).collect();
        // In the value's order, so that lists are mostly runs.
        let mut next = None;
        let mut rows = Vec::new();
        for (key, (piece, form)) in keys.iter().zip(&self.0) {
            if ids.contains_key(key) {
                continue;
            }
            let id = 1 + match next {
                Some(last) => last,
                None => transaction.last_chunk().await?,
            };
            next = Some(id);
            let packed = Some(piece).filter(|_| *form == Form::Packed).and_then(|p| pack::pack(p));
            let (form, value) = match &packed {
                Some(packed) => (Form::Packed, packed.as_slice()),
                None => (Form::Plain, *piece),
            };
            let sealed = transaction.cipher.seal(place(id, key, form).as_ref(), value)?;
            rows.push((id, key, sealed, form));
            ids.insert(key.clone(), id);
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
        let list =
            codec::encode_compact(&runs(keys.iter().filter_map(|key| ids.get(key)).copied()));
        transaction.chunks(room).await?.extend(ids);
        if let Some(last) = next {
            transaction.note_last_chunk(last);
        }
        list
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

/// The list that was written as these bytes.
pub(crate) fn read_list(bytes: &[u8]) -> Result<Vec<i64>, StoreError> {
    let runs: Vec<(i64, i64)> = codec::decode(bytes)?;
    let mut list = Vec::new();
    for (first, count) in runs {
        let end = first.checked_add(count).filter(|_| (0..1 << 24).contains(&count));
        list.extend(first..end.ok_or_else(|| corrupt("a list of pieces"))?);
    }
    Ok(list)
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

/// Deletes the pieces of a room that no row names any more, and the rosters before them.
pub(crate) async fn collect_garbage(
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
    let lists = transaction.chunk_lists(room).await?;
    let used: std::collections::HashSet<i64> = lists.values().flatten().copied().collect();
    let known = transaction.chunks(room).await?;
    let mut unused = Vec::new();
    known.retain(|_, id| {
        let is_used = used.contains(id);
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
}
