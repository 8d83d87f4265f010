//! Devices that have replaced their MLS key (protocol §4): the highest `seq` that was seen in key
//! packages is remembered for all rooms, and only that one is wanted. What commits say of it, the
//! graph of their room knows.

use std::collections::BTreeMap;

use matrix_dmls::{Device, KeyPackage};
use ruma::RoomId;

use super::{DeviceName, MlsMachine};
use crate::{error::MlsError, machine::again::again, store::Changes};

/// At most this many devices are remembered; those with the lowest `seq`, which is a time, go first.
const MAX_SEQS: usize = 4096;

impl MlsMachine {
    /// Takes note of the key packages that were claimed of these devices for a room. Those that were
    /// made before their device replaced its key are dropped, and given with the reason.
    pub(super) async fn note_seqs(
        &self,
        room_id: &RoomId,
        devices: &[DeviceName],
    ) -> Result<Vec<(DeviceName, String)>, MlsError> {
        let claimed: Vec<_> = {
            let transient = self.transient();
            let packages = devices.iter().filter_map(|name| {
                let package = transient.claimed.get(name)?;
                let member = KeyPackage::parse_and_verify(package).ok()?.member();
                Some((name.clone(), member.identity))
            });
            packages.collect()
        };
        let seen: Vec<_> = self
            .with_room(room_id, |room| {
                let graph = room.group.graph();
                claimed.iter().map(|(_, identity)| graph.highest_seq(&identity.device)).collect()
            })
            .await?;
        let noted = again!(self.note_in_account(&claimed))?;
        let mut outdated = Vec::new();
        for ((name, identity), seen) in claimed.into_iter().zip(seen) {
            if seen.max(noted.get(&identity.device).copied()).is_some_and(|s| s > identity.seq) {
                self.transient().claimed.remove(&name);
                let reason = "its key package is older than its MLS key".to_owned();
                outdated.push((name, reason));
            }
        }
        Ok(outdated)
    }

    /// Remembers what is higher than what was known. Gives what is known of these devices.
    pub(super) async fn note_in_account(
        &self,
        claimed: &[(DeviceName, matrix_dmls::Identity)],
    ) -> Result<BTreeMap<Device, u64>, MlsError> {
        let mut account = self.lock_account().await?;
        let mut seqs = account.stored.seqs.clone();
        for (_, identity) in claimed {
            let known = seqs.entry(identity.device.clone()).or_default();
            *known = identity.seq.max(*known);
        }
        let of_claimed = claimed.iter().filter_map(|(_, identity)| {
            Some((identity.device.clone(), *seqs.get(&identity.device)?))
        });
        let of_claimed = of_claimed.collect();
        while seqs.len() > MAX_SEQS {
            let lowest = seqs.iter().min_by_key(|(_, seq)| **seq).map(|(device, _)| device.clone());
            let Some(lowest) = lowest else { break };
            seqs.remove(&lowest);
        }
        if seqs != account.stored.seqs {
            let mut new = account.stored.clone();
            new.seqs = seqs;
            let changes = Changes { account: Some(new), ..Changes::default() };
            self.save_account(&mut account, changes).await?;
            // Leaves that were wanted may not be any more, in any room.
            self.inner.devices.note_change();
        }
        Ok(of_claimed)
    }
}
