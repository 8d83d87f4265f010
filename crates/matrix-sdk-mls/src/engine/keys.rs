//! How many key packages the server has of this device. The SDK does not pass on what a sync says
//! of that.

use std::time::{Duration, Instant};

use matrix_sdk_crypto_mls::EncryptionSyncChanges;

use super::{Engine, lock};
use crate::error::Error;

/// How often the server is asked, if nothing else gives a reason.
const INTERVAL: Duration = Duration::from_secs(3600);

/// When the server was asked last.
#[derive(Default)]
pub(super) struct Counts {
    asked: Option<Instant>,
}

impl Counts {
    /// Others have used key packages up.
    pub(super) fn ask_again(&mut self) {
        self.asked = None;
    }

    fn is_due(&self) -> bool {
        self.asked.is_none_or(|asked| asked.elapsed() >= INTERVAL)
    }
}

impl Engine {
    /// Asks the server how many key packages it has, if it is time to.
    pub(super) async fn refresh_key_counts(&self) -> Result<(), Error> {
        if !lock(&self.keys).is_due() {
            return Ok(());
        }
        let response = self.peek().await?;
        let machine = self.machine().await?;
        let changes = EncryptionSyncChanges {
            // They come with the application's own sync.
            to_device_events: &[],
            changed_devices: &response.device_lists,
            one_time_keys_counts: &response.device_one_time_keys_count,
            unused_fallback_keys: response.device_unused_fallback_key_types.as_deref(),
        };
        machine.receive_sync_changes(changes).await?;
        lock(&self.keys).asked = Some(Instant::now());
        Ok(())
    }
}
