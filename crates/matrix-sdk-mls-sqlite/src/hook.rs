//! A place for tests to fail or kill at every write.

#[cfg(feature = "testing")]
use std::sync::Arc;

#[cfg(feature = "testing")]
use matrix_sdk_crypto_mls::store::StoreError;
#[cfg(feature = "testing")]
use sqlx::SqliteConnection;

/// Where in a batch the store is.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WritePoint {
    /// Before a statement that writes.
    Statement,
    /// Before the commit.
    Commit {
        /// Whether what is committed survives that power fails, as the database sees it
        /// (`PRAGMA synchronous` is at least FULL).
        durable: bool,
    },
    /// After the commit: an error from here on is ignored.
    Committed,
}

/// Called at every [`WritePoint`]. An error is the operation's.
#[cfg(feature = "testing")]
pub type WriteHook = Arc<dyn Fn(WritePoint) -> Result<(), StoreError> + Send + Sync>;

/// The hook, which does nothing in earnest.
#[derive(Clone, Default)]
pub(crate) struct Hook {
    #[cfg(feature = "testing")]
    pub(crate) hook: Option<WriteHook>,
}

macro_rules! points {
    ($($name:ident $point:ident)*) => {$(
        #[cfg(feature = "testing")]
        pub(crate) fn $name(&self) -> Result<(), StoreError> {
            self.hook.as_ref().map_or(Ok(()), |hook| hook(WritePoint::$point))
        }

        #[cfg(not(feature = "testing"))]
        #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
        pub(crate) fn $name(&self) -> Result<(), matrix_sdk_crypto_mls::store::StoreError> {
            Ok(())
        }
    )*};
}

impl Hook {
    points!(statement Statement committed Committed);

    /// Before the commit.
    #[cfg(feature = "testing")]
    pub(crate) async fn commit(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .fetch_one(connection)
            .await
            .map_err(crate::error::database)?;
        hook(WritePoint::Commit { durable: synchronous >= 2 })
    }

    #[cfg(not(feature = "testing"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, clippy::unused_async)]
    pub(crate) async fn commit(
        &self,
        _: &mut sqlx::SqliteConnection,
    ) -> Result<(), matrix_sdk_crypto_mls::store::StoreError> {
        Ok(())
    }
}
