//! Rows that were put back to an older version of themselves, or deleted, are noticed: beside each
//! table, a room has the sum of what its rows are now.
//!
//! The sum is the exclusive or of a keyed hash of every row. Each row is new by the nonce that it is
//! sealed with, and nobody without the key knows a hash or the sum, so nobody can choose older rows
//! that add up to the same.

use std::collections::HashMap;

use matrix_sdk_crypto_mls::store::StoreError;

use crate::{
    cipher::{Cipher, Place},
    error::corrupt,
    table::{SEAL, SEALED, Table},
};

/// What a sealed value begins with: no two are alike.
pub(crate) type Nonce = [u8; 24];

/// A sealed value's nonce.
pub(crate) fn nonce_of(sealed: &[u8]) -> Result<Nonce, StoreError> {
    let nonce = sealed.first_chunk().copied();
    nonce.ok_or_else(|| corrupt("a sealed value is cut off"))
}

/// The sum of rows.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    /// Adds a row, or takes it away.
    pub(crate) fn toggle(&mut self, cipher: &Cipher, table: Table, key: &[u8], nonce: &Nonce) {
        // The nonce says which version of the row it is; the tag is not needed, since it is checked.
        let hash = cipher.lookup("seal row", &[table.name.as_bytes(), key, nonce]);
        for (byte, other) in self.0.iter_mut().zip(hash) {
            *byte ^= other;
        }
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether a table's rows have a sum.
pub(crate) fn is_sealed(cipher: &Cipher, table: Table) -> bool {
    cipher.is_encrypted() && SEALED.contains(&table)
}

/// The lookup key of a sum.
pub(crate) fn sum_key(cipher: &Cipher, table: Table, room: &[u8]) -> Vec<u8> {
    cipher.lookup(SEAL.name, &[room, table.name.as_bytes()])
}

/// Reads a stored sum.
pub(crate) fn open_sum(cipher: &Cipher, key: &[u8], sealed: Vec<u8>) -> Result<Sum, StoreError> {
    let bytes = cipher.open(Place(SEAL.value, key), sealed)?;
    let bytes = bytes.as_slice().try_into();
    bytes.map(Sum).map_err(|_| corrupt("a seal has another length"))
}

/// The sums of a room, while it is read.
#[derive(Default)]
pub(crate) struct Sums(pub(crate) HashMap<Vec<u8>, Sum>);

impl Sums {
    /// Compares the rows of a table with their sum.
    pub(crate) fn check<'a>(
        &self,
        cipher: &Cipher,
        table: Table,
        room: &[u8],
        rows: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), StoreError> {
        if !is_sealed(cipher, table) {
            return Ok(());
        }
        let mut sum = Sum::default();
        for (key, sealed) in rows {
            sum.toggle(cipher, table, key, &nonce_of(sealed)?);
        }
        let expected = self.0.get(&sum_key(cipher, table, room)).copied().unwrap_or_default();
        if sum == expected {
            return Ok(());
        }
        Err(corrupt(format!("rows of {} are missing, or older than they should be", table.name)))
    }
}
