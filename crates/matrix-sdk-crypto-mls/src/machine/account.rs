//! Our own keys in memory.

use tokio::sync::MutexGuard;

use super::MlsMachine;
use crate::{
    error::MlsError,
    store::{Changes, StoreError, StoreVersion, StoredAccount},
};

/// Our own keys, as the store has them.
pub(super) struct Account {
    pub(super) stored: StoredAccount,
    /// The store's version that they are of; none while nobody knows what the store has.
    pub(super) version: Option<StoreVersion>,
}

impl MlsMachine {
    /// Our own keys, locked: whoever changes what is stored of key packages has them.
    pub(super) async fn lock_account(&self) -> Result<MutexGuard<'_, Account>, MlsError> {
        let mut account = self.inner.account.lock().await;
        let version = self.inner.store.version().await?;
        if account.version != Some(version) {
            let gone = || StoreError::Corrupt("the account is gone".to_owned());
            let stored = self.inner.store.load_account().await?.ok_or_else(gone)?;
            if stored.identity != *self.inner.local.identity() {
                // The keys that this machine works with are not the store's any more.
                let stored = format!("{:?}", stored.identity.device);
                return Err(MlsError::WrongDevice { stored });
            }
            *account = Account { stored, version: Some(version) };
        }
        Ok(account)
    }

    /// Stores changes of the account or its key packages, then lets memory follow.
    pub(super) async fn save_account(
        &self,
        account: &mut Account,
        mut changes: Changes,
    ) -> Result<(), MlsError> {
        changes.based_on = account.version.take();
        let version = changes.based_on;
        let stored = changes.account.clone();
        self.inner.store.save_changes(changes).await?;
        account.version = version;
        if let Some(stored) = stored {
            account.stored = stored;
        }
        Ok(())
    }
}
