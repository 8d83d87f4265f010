//! Files that are asked for, and those that came a short while ago. In memory only: what waits for a
//! file is stored, and asks for it again after a restart.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use ruma::{
    OwnedRoomId, OwnedTransactionId, OwnedUserId, RoomId, TransactionId, UserId,
    api::client::authenticated_media::get_content,
};

use super::File;
use crate::types::{
    events::{GraphContent, MediaFile},
    requests::{AnyOutgoingRequest, OutgoingRequest},
};

const MINUTE: u64 = 60 * 1000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// At most this many files are remembered that are to be fetched, of all rooms together: each has a limit
/// of its own. So many are fetched at once.
const MAX_DOWNLOADS: usize = 10_000;
const MAX_AT_ONCE: usize = 4;

/// So much is fetched in an hour of what one user has posted, in bytes.
const MAX_OF_ONE_USER: u64 = 128 * 1024 * 1024;

/// How long a file is kept in memory for those who need it, in milliseconds, and how much in all, in
/// bytes.
const CACHED_AGE: u64 = 10 * MINUTE;
const MAX_CACHED: usize = 64 * 1024 * 1024;

/// At most this many graphs wait for their files.
const MAX_GRAPHS: usize = 8;

struct Download {
    id: OwnedTransactionId,
    room_id: OwnedRoomId,
    file: MediaFile,
    tries: u32,
    /// Somebody has the request and may answer it.
    handed_out: bool,
    /// Not asked for before this time, in milliseconds since 1970.
    rests_until: u64,
    /// When somebody has wanted it last; forgotten a day later.
    wanted_at: u64,
}

/// Files that are asked for, and those that came.
#[derive(Default)]
pub(in super::super) struct Files {
    downloads: Vec<Download>,
    here: VecDeque<([u8; 32], Arc<Vec<u8>>, u64)>,
    /// By user, the hour that began then, and the bytes in it.
    fetched: BTreeMap<OwnedUserId, (u64, u64)>,
    graphs: Vec<(OwnedRoomId, GraphContent)>,
}

impl Files {
    /// Gives a file, or asks for it. `by` is who has posted it.
    pub(in super::super) fn want(
        &mut self,
        room_id: &RoomId,
        file: &MediaFile,
        by: &UserId,
        now: u64,
    ) -> File {
        let Some(hash) = file.hash().filter(|_| file.may_be_fetched()) else {
            return File::Unavailable;
        };
        self.here.retain(|(_, _, at)| now.saturating_sub(*at) <= CACHED_AGE);
        if let Some((_, bytes, _)) = self.here.iter().find(|(here, ..)| *here == hash) {
            return File::Here(Arc::clone(bytes));
        }
        if let Some(known) = self.downloads.iter_mut().find(|download| download.file == *file) {
            known.wanted_at = now;
            return if known.tries == 0 { File::Coming } else { File::Unavailable };
        }
        if self.downloads.len() >= MAX_DOWNLOADS {
            return File::Unavailable;
        }
        let rests_until = self.free_at(by, file.size, now);
        self.downloads.push(Download {
            id: TransactionId::new(),
            room_id: room_id.to_owned(),
            file: file.clone(),
            tries: 0,
            handed_out: false,
            rests_until,
            wanted_at: now,
        });
        File::Coming
    }

    /// When a user's next file may be fetched.
    fn free_at(&mut self, by: &UserId, size: u64, now: u64) -> u64 {
        self.fetched.retain(|_, (since, _)| now.saturating_sub(*since) < HOUR && *since <= now);
        let (since, bytes) = self.fetched.entry(by.to_owned()).or_insert((now, 0));
        *bytes = bytes.saturating_add(size);
        if *bytes <= MAX_OF_ONE_USER { 0 } else { since.saturating_add(HOUR) }
    }

    /// Whether a file is being asked for, and was not in vain.
    pub(in super::super) fn is_coming(&self, hash: &[u8; 32]) -> bool {
        let mut downloads = self.downloads.iter();
        downloads.any(|one| one.tries == 0 && one.file.hash() == Some(*hash))
    }

    /// The same for any file of a room.
    pub(in super::super) fn is_fetching(&self, room_id: &RoomId) -> bool {
        self.downloads.iter().any(|one| one.tries == 0 && one.room_id == room_id)
    }

    /// When the next request is due that nobody has yet, in milliseconds since 1970.
    pub(in super::super) fn next_due(&self) -> Option<u64> {
        let open = self.downloads.iter().filter(|one| !one.handed_out);
        open.map(|one| one.rests_until).min()
    }

    /// What to ask for now.
    pub(in super::super) fn requests(
        &mut self,
        now: u64,
    ) -> impl Iterator<Item = OutgoingRequest> + '_ {
        self.downloads.retain(|one| now.saturating_sub(one.wanted_at) <= DAY);
        let due = self.downloads.iter_mut().filter(move |one| one.rests_until <= now);
        due.take(MAX_AT_ONCE).filter_map(|one| {
            one.handed_out = true;
            Some(OutgoingRequest {
                request_id: one.id.clone(),
                room_id: Some(one.room_id.clone()),
                request: AnyOutgoingRequest::MediaDownload(
                    get_content::v1::Request::from_uri(&one.file.url).ok()?,
                ),
            })
        })
    }

    /// Which file a request is for.
    pub(in super::super) fn find(&self, id: &TransactionId) -> Option<(OwnedRoomId, MediaFile)> {
        let found = self.downloads.iter().find(|one| one.id == id);
        found.map(|one| (one.room_id.clone(), one.file.clone()))
    }

    /// The server does not have it, or has something else: not again before a minute, then before twice
    /// as long each time, up to an hour.
    pub(in super::super) fn has_failed(&mut self, id: &TransactionId, now: u64) {
        if let Some(one) = self.downloads.iter_mut().find(|one| one.id == id) {
            let pause = MINUTE.saturating_mul(1 << one.tries.min(16)).min(HOUR);
            one.tries = one.tries.saturating_add(1);
            one.handed_out = false;
            one.rests_until = now.saturating_add(pause);
        }
    }

    /// Keeps a file for a while.
    pub(super) fn keep(&mut self, hash: [u8; 32], bytes: &[u8], now: u64) -> Arc<Vec<u8>> {
        let bytes = Arc::new(bytes.to_vec());
        self.here.retain(|(here, ..)| *here != hash);
        self.here.push_back((hash, Arc::clone(&bytes), now));
        while self.here.iter().map(|(_, bytes, _)| bytes.len()).sum::<usize>() > MAX_CACHED
            && self.here.len() > 1
        {
            self.here.pop_front();
        }
        bytes
    }

    /// A file has come, and was used.
    pub(super) fn is_done(&mut self, id: &TransactionId) {
        self.downloads.retain(|one| one.id != id);
    }

    /// Nobody waits for a file any more.
    pub(super) fn forget(&mut self, room_id: &RoomId, file: &MediaFile) {
        self.downloads.retain(|one| one.room_id != room_id || one.file != *file);
    }

    /// Keeps a graph until its files are here.
    pub(in super::super) fn hold_graph(&mut self, room_id: &RoomId, graph: &GraphContent) {
        let held = (room_id.to_owned(), graph.clone());
        if self.graphs.contains(&held) {
            return;
        }
        if self.graphs.len() >= MAX_GRAPHS {
            self.graphs.remove(0);
        }
        self.graphs.push(held);
    }

    /// The graphs of a room that were held, out of the hold.
    pub(super) fn take_graphs(&mut self, room_id: &RoomId) -> Vec<GraphContent> {
        let taken = self.graphs.extract_if(.., |(of, _)| of == room_id);
        taken.map(|(_, graph)| graph).collect()
    }
}
