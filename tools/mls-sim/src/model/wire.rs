//! Commits, read once more: as much of RFC 9420 and the protocol page as the model needs.

use sha2::{Digest as _, Sha256};

/// A node ID.
pub type Id = [u8; 32];

/// A device, as its leaf names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    pub user: String,
    pub id: String,
    pub key: Vec<u8>,
}

/// A commit.
#[derive(Clone, Debug)]
pub struct Commit {
    pub id: Id,
    pub parent: Option<Id>,
    /// The author's leaf; none of an external joiner.
    pub leaf: Option<u32>,
    pub removes: Vec<u32>,
    pub adds: Vec<Device>,
    /// The device in the path's leaf.
    pub path: Option<Device>,
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// `opaque <V>`: the first two bits say how many bytes the length has.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let first = self.number(1)?;
        let more = (1_usize << (first >> 6)) - 1;
        let length = (first & 0x3f) << (8 * more) | self.number(more)?;
        self.take(usize::try_from(length).ok()?)
    }

    fn leaf_node(&mut self) -> Option<Device> {
        let _encryption_key = self.vector()?;
        let _signature_key = self.vector()?;
        let _credential_type = self.number(2)?;
        let mut identity = Bytes(self.vector()?);
        for _capability in 0..5 {
            self.vector()?;
        }
        match self.number(1)? {
            1 => drop(self.take(16)?),
            2 => {}
            _ => drop(self.vector()?),
        }
        let _extensions = self.vector()?;
        let _signature = self.vector()?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        Some(Device {
            user: text(identity.vector()?)?,
            id: text(identity.vector()?)?,
            key: identity.vector()?.to_vec(),
        })
    }
}

/// Reads an MLSMessage with a commit in it; `None` if it is something else.
pub fn read(message: &[u8]) -> Option<Commit> {
    let mut bytes = Bytes(message);
    if bytes.number(2)? != 1 || bytes.number(2)? != 1 {
        return None;
    }
    let _group_id = bytes.vector()?;
    let _epoch = bytes.number(8)?;
    let leaf = match bytes.number(1)? {
        1 => Some(u32::try_from(bytes.number(4)?).ok()?),
        4 => None,
        _ => return None,
    };
    let mut aad = Bytes(bytes.vector()?);
    let _version = aad.number(2)?;
    let parent = Id::try_from(aad.vector()?).ok();
    if bytes.number(1)? != 3 {
        return None;
    }
    let mut proposals = Bytes(bytes.vector()?);
    let (mut removes, mut adds) = (Vec::new(), Vec::new());
    while !proposals.0.is_empty() {
        proposals.number(1)?;
        match proposals.number(2)? {
            1 => {
                proposals.number(4)?;
                proposals.vector()?;
                adds.push(proposals.leaf_node()?);
                proposals.vector()?;
                proposals.vector()?;
            }
            3 => removes.push(u32::try_from(proposals.number(4)?).ok()?),
            _ => drop(proposals.vector()?),
        }
    }
    let mut path = None;
    if bytes.number(1)? == 1 {
        path = Some(bytes.leaf_node()?);
        bytes.vector()?;
    }
    let _signature = bytes.vector()?;
    let hashed = message.len() - bytes.0.len();
    let id = Sha256::new().chain_update("dmls commit v1").chain_update(&message[2..hashed]);
    Some(Commit { id: id.finalize().into(), parent, leaf, removes, adds, path })
}
