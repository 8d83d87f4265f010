//! What the OlmMachine says of devices, remembered until it may say something else.
//!
//! It tells of every change of a device or an identity that it stores. It does not tell that a device
//! list is out of date, which a sync says and [`crate::EncryptionSyncChanges`] brings to us too, nor
//! what another process has stored, nor that all lists are to be asked for again: for these, nothing
//! is remembered for long.

use std::{collections::HashMap, pin::Pin, sync::Mutex as StdMutex};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use matrix_dmls::{Device, Member};
use matrix_sdk_crypto::{CryptoStoreError, OlmMachine};

use super::{MlsMachine, lock};
use crate::trust::{self, Verdict};

/// How long what the OlmMachine says is remembered, in milliseconds: 5 s.
pub(super) const MAX_AGE: u64 = 5 * 1000;

/// At most this many verdicts are remembered.
const MAX_VERDICTS: usize = 4096;

/// Watches the OlmMachine's devices and identities.
pub(super) struct Devices {
    watch: StdMutex<Watch>,
    verdicts: StdMutex<Verdicts>,
}

struct Watch {
    changes: Pin<Box<dyn Stream<Item = ()> + Send>>,
    count: u64,
}

/// How far devices can be trusted.
#[derive(Default)]
struct Verdicts {
    /// The changes that they are after.
    changes: u64,
    /// When the first of them was asked for, in milliseconds since 1970.
    since: u64,
    by_device: HashMap<Device, Verdict>,
}

impl Devices {
    pub(super) fn new(olm: &OlmMachine) -> Self {
        let changes = Box::pin(olm.store().identities_stream_raw().map(|_| ()));
        Self { watch: StdMutex::new(Watch { changes, count: 0 }), verdicts: StdMutex::default() }
    }

    /// A number that has risen if a device, an identity or a device list has changed. To be asked for
    /// before what is remembered under it is looked up.
    pub(super) fn changes(&self) -> u64 {
        let mut watch = lock(&self.watch);
        // If there are too many for the channel the oldest are lost, but not the last ones.
        while let Some(change) = watch.changes.next().now_or_never() {
            watch.count += 1;
            if change.is_none() {
                // The channel is closed, and nobody would tell: nothing is the same any more.
                break;
            }
        }
        watch.count
    }

    /// Something has changed that the OlmMachine does not tell of.
    pub(super) fn note_change(&self) {
        lock(&self.watch).count += 1;
    }
}

impl MlsMachine {
    /// How far the owner of a leaf can be trusted.
    pub(super) async fn verdict(&self, member: &Member) -> Result<Verdict, CryptoStoreError> {
        let (changes, now) = (self.inner.devices.changes(), self.now());
        {
            let mut verdicts = lock(&self.inner.devices.verdicts);
            // A clock that was set back says nothing of age.
            let age = now.checked_sub(verdicts.since);
            if verdicts.changes != changes
                || age.is_none_or(|age| age >= MAX_AGE)
                || verdicts.by_device.len() >= MAX_VERDICTS
            {
                *verdicts = Verdicts { changes, since: now, by_device: HashMap::new() };
            } else if let Some(verdict) = verdicts.by_device.get(member.device()) {
                return Ok(*verdict);
            }
        }
        let verdict = trust::verdict(&self.inner.olm, member).await?;
        let mut verdicts = lock(&self.inner.devices.verdicts);
        if verdicts.changes == changes {
            verdicts.by_device.insert(member.device().clone(), verdict);
        }
        Ok(verdict)
    }
}
