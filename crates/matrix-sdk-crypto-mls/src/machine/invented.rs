//! Devices that an insider has made up, and where to commit instead of below them (protocol §5).

use std::collections::BTreeSet;

use matrix_dmls::{Device, Repair};
use ruma::{DeviceId, UserId, events::room::member::MembershipState};

use super::{MlsMachine, Room};
use crate::{error::MlsError, notice::Notice, trust::Verdict};

/// How long a device keeps away from what is below a commit with invented devices, in milliseconds:
/// 5 minutes. Within them everybody has had its turn; if they did not help, the others see it
/// otherwise, or there are too few of them.
const PATIENCE: u64 = 5 * 60 * 1000;

/// How long a device list that is not known is waited for, in milliseconds: 10 minutes.
const UNDECIDED: u64 = 10 * 60 * 1000;

/// What is known of the devices that commits have added.
#[derive(Default)]
struct Evidence {
    invented: BTreeSet<Device>,
    /// They exist, and that was not known when their epoch was entered.
    found: Vec<(Device, Verdict)>,
    /// Some device list has to come before everything is known. When the youngest commit was heard of
    /// for which that matters, in milliseconds since 1970.
    undecided: Option<u64>,
}

impl MlsMachine {
    /// What we are to repair, which decides where we commit and send. Also tells since when that
    /// cannot be decided for want of a device list, in milliseconds since 1970.
    pub(super) async fn find_repair(
        &self,
        room: &mut Room,
    ) -> Result<(Option<Repair>, Option<u64>), MlsError> {
        let Evidence { invented, found, undecided } = self.evidence(room).await?;
        if !found.is_empty() {
            let mut view = room.view.clone();
            view.verdicts.extend(found);
            self.save_view(room, view).await?;
        }
        room.beside = None;
        room.invented.clone_from(&invented);
        if invented.is_empty() {
            return Ok((None, undecided));
        }
        let now = self.now();
        let repair = room.group.repair(
            self.inner.local.device(),
            |member| invented.contains(member.device()),
            |commit| {
                let since = room.view.standing.repair_since(commit);
                since.is_some_and(|since| now.saturating_sub(since) >= PATIENCE)
            },
            |node| room.commit_times.get(node).copied(),
        );
        if let Some(repair) = &repair {
            if room.view.standing.repair_since(&repair.commit).is_none() {
                let mut view = room.view.clone();
                view.standing.note_repair(repair.commit, now);
                self.save_view(room, view).await?;
                self.notify(Notice::InventedDevices {
                    room_id: room.id.clone(),
                    node: repair.commit,
                    by: repair.author.clone(),
                    devices: repair.invented.clone(),
                });
            }
            room.beside = Some(repair.on);
        }
        Ok((repair, undecided))
    }

    /// A leaf is invented if its user never was a member in the room state that is known, or if the
    /// device list of its user, a member, is complete and fresh and lacks it, and it was never seen
    /// in there: a device that was deleted existed once.
    async fn evidence(&self, room: &Room) -> Result<Evidence, MlsError> {
        let exists = |device: &Device| {
            let verdict = room.view.verdicts.get(device);
            let is_known = |verdict: &Verdict| {
                matches!(verdict, Verdict::Verified | Verdict::CrossSigned | Verdict::Unsigned)
            };
            verdict.is_some_and(is_known) || device == self.inner.local.device()
        };
        let mut evidence = Evidence::default();
        let suspects: Vec<_> =
            room.group.suspects().filter(|(_, member)| !exists(member.device())).collect();
        if suspects.is_empty() {
            return Ok(evidence);
        }
        let fresh = self.fresh_users().await?;
        let mut known = self.known_devices(room).await?;
        for (node, member) in suspects {
            let device = member.device();
            let Ok(user_id) = UserId::parse(&device.user_id) else {
                evidence.invented.insert(device.clone());
                continue;
            };
            match room.view.members.get(&user_id) {
                None if room.view.members_complete => {
                    evidence.invented.insert(device.clone());
                }
                Some(MembershipState::Join | MembershipState::Invite) => {
                    if !fresh.contains(&device.user_id) {
                        let heard = room.commit_times.get(&node).copied().unwrap_or_default();
                        if self.now().saturating_sub(heard) < UNDECIDED {
                            evidence.undecided = evidence.undecided.max(Some(heard));
                        }
                        continue;
                    }
                    let devices = known.of(&self.inner.olm, &user_id).await?;
                    let listed = devices.get(<&DeviceId>::from(device.device_id.as_str()));
                    let same_key = listed.is_some_and(|listed| {
                        listed.ed25519_key().is_some_and(|key| *key.as_bytes() == device.device_key)
                    });
                    if same_key {
                        let verdict = self.verdict(member).await?;
                        evidence.found.push((device.clone(), verdict));
                    } else {
                        evidence.invented.insert(device.clone());
                    }
                }
                // Who was a member once is removed as everybody else.
                _ => {}
            }
        }
        Ok(evidence)
    }
}
