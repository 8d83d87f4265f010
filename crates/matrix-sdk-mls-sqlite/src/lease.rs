//! One process at a time: locks that run out by themselves, and count how often they changed hands.

use std::time::Duration;

use matrix_sdk_crypto_mls::store::StoreError;

use crate::{
    error::database,
    store::{SqliteMlsStore, connected},
};

impl SqliteMlsStore {
    /// Takes a lock, or renews it, until `lease` after `now`, which is in milliseconds since 1970.
    /// `None` while another holder has it.
    ///
    /// Gives the lock's generation. It rises by one whenever the holder changes, so who gets the same
    /// one twice in a row can go on with what it has in memory, and whoever gets another one has to
    /// load it anew. The first is 1.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn try_lock(
        &self,
        key: &str,
        holder: &str,
        lease: Duration,
        now: u64,
    ) -> Result<Option<u64>, StoreError> {
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let number = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let cipher = &self.inner.cipher;
        let query = sqlx::query_scalar(
            "INSERT INTO lease_lock (key, holder, expires, generation) VALUES (?1, ?2, ?3, 1)
             ON CONFLICT (key) DO UPDATE SET
                 holder = excluded.holder,
                 expires = excluded.expires,
                 generation = generation + (holder <> excluded.holder)
             WHERE holder = excluded.holder OR expires <= ?4
             RETURNING generation",
        )
        .bind(cipher.lookup("lease_lock", &[key.as_bytes()]))
        .bind(cipher.lookup("lease_lock", &[key.as_bytes(), holder.as_bytes()]))
        .bind(number(now.saturating_add(lease)))
        .bind(number(now));
        let mut writer = self.writer().await;
        let generation: Option<i64> =
            query.fetch_optional(connected(&mut writer)?).await.map_err(database)?;
        Ok(generation.map(i64::cast_unsigned))
    }

    /// Gives a lock back before it runs out. It keeps its generation, and its last holder.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn unlock(&self, key: &str, holder: &str) -> Result<(), StoreError> {
        let cipher = &self.inner.cipher;
        let query = sqlx::query("UPDATE lease_lock SET expires = 0 WHERE key = ? AND holder = ?")
            .bind(cipher.lookup("lease_lock", &[key.as_bytes()]))
            .bind(cipher.lookup("lease_lock", &[key.as_bytes(), holder.as_bytes()]));
        let mut writer = self.writer().await;
        query.execute(connected(&mut writer)?).await.map_err(database)?;
        Ok(())
    }

    /// A lock's generation, whoever holds it; 0 before it was taken for the first time.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn generation(&self, key: &str) -> Result<u64, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let generation: Option<i64> =
            sqlx::query_scalar("SELECT generation FROM lease_lock WHERE key = ?")
                .bind(self.inner.cipher.lookup("lease_lock", &[key.as_bytes()]))
                .fetch_optional(&mut *snapshot)
                .await
                .map_err(database)?;
        Ok(generation.map_or(0, i64::cast_unsigned))
    }
}
