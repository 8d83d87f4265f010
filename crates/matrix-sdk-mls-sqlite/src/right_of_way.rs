//! Fairness between processes that write all the time.
//!
//! A machine whose memory is out of date loads it anew, and by then the other process may have
//! written again: the one that is up to date would win every time. So who was refused several times
//! takes a lease, which is a write too: it makes the memory of all others out of date. They look for
//! it only then, and wait until it is given back or runs out. Where nobody is refused it costs
//! nothing, and nothing is wrong without it.

use std::{
    process,
    sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use matrix_sdk_crypto_mls::store::StoreError;

use crate::{
    error::database,
    store::{SqliteMlsStore, connected},
};

/// The lock's name.
const KEY: &str = "right of way";

/// So often in a row one is refused before one asks for it.
const PATIENCE: u32 = 3;

/// How long it lasts if it is not given back: a process that was stopped keeps nobody waiting.
const LEASE: Duration = Duration::from_millis(500);

/// How long others wait before they look again.
const PAUSE: Duration = Duration::from_millis(1);

/// What a store object knows of it.
pub(crate) struct RightOfWay {
    holder: String,
    /// How often in a row a batch was refused.
    refused: AtomicU32,
    held: AtomicBool,
    /// The version that was seen last.
    seen: AtomicI64,
}

impl RightOfWay {
    pub(crate) fn new() -> Self {
        static STORES: AtomicU64 = AtomicU64::new(0);
        let number = STORES.fetch_add(1, Ordering::Relaxed);
        Self {
            holder: format!("{} {number}", process::id()),
            refused: AtomicU32::new(0),
            held: AtomicBool::new(false),
            seen: AtomicI64::new(i64::MIN),
        }
    }
}

impl SqliteMlsStore {
    /// The version, when it is our turn.
    pub(crate) async fn version_in_turn(&self) -> Result<i64, StoreError> {
        let way = &self.inner.way;
        let mut version = self.data_version().await?;
        if way.seen.load(Ordering::Acquire) != version {
            // Not longer than a lease, should somebody's clock be wrong.
            let begin = Instant::now();
            while begin.elapsed() < LEASE && self.must_give_way().await? {
                tokio::time::sleep(PAUSE).await;
            }
            version = self.data_version().await?;
            way.seen.store(version, Ordering::Release);
        }
        Ok(version)
    }

    async fn must_give_way(&self) -> Result<bool, StoreError> {
        let cipher = &self.inner.cipher;
        let holder = &self.inner.way.holder;
        let query = sqlx::query_scalar(
            "SELECT 1 FROM lease_lock WHERE key = ? AND holder <> ? AND expires > ?",
        )
        .bind(cipher.lookup("lease_lock", &[KEY.as_bytes()]))
        .bind(cipher.lookup("lease_lock", &[KEY.as_bytes(), holder.as_bytes()]))
        .bind(i64::try_from(now()).unwrap_or(i64::MAX));
        let mut writer = self.writer().await;
        let held: Option<i64> =
            query.fetch_optional(connected(&mut writer)?).await.map_err(database)?;
        Ok(held.is_some())
    }

    /// Takes note of what became of a batch. A failure here is none of the batch.
    pub(crate) async fn note_outcome(&self, outcome: &Result<(), StoreError>) {
        let way = &self.inner.way;
        match outcome {
            Ok(()) => {
                way.refused.store(0, Ordering::Release);
                if way.held.swap(false, Ordering::AcqRel)
                    && let Err(error) = self.unlock(KEY, &way.holder).await
                {
                    tracing::debug!(%error, "the right of way runs out by itself");
                }
            }
            Err(StoreError::Outdated) => {
                if way.refused.fetch_add(1, Ordering::AcqRel) + 1 >= PATIENCE {
                    let taken = self.try_lock(KEY, &way.holder, LEASE, now()).await;
                    way.held.store(matches!(taken, Ok(Some(_))), Ordering::Release);
                }
            }
            Err(_) => {}
        }
    }
}

/// In milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
