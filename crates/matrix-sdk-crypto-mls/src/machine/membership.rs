//! Membership follows the room: what has to change before something is sent (protocol §5).

use std::collections::{BTreeMap, BTreeSet, HashSet, btree_map::Entry};

use matrix_dmls::{Device, GENERATION_LIMIT, Identity, Member, NodeId, TrustRequirement};
use matrix_sdk_crypto::{CryptoStoreError, OlmMachine, UserDevices};
use ruma::{DeviceId, OwnedUserId, UserId};

use super::{DeviceName, MlsMachine, Room};
use crate::error::MlsError;

/// A device whose key packages gave nothing is asked again after this time: an hour.
pub(super) const CLAIM_PAUSE: u64 = 3600 * 1000;

/// How far below the limit of generations we renew our keys.
const GENERATIONS_LEFT: u32 = 256;

/// A device to be added, with its key package.
pub(super) struct Addition {
    pub(super) name: DeviceName,
    pub(super) key_package: Vec<u8>,
    /// The key package came in a join request, not by a claim.
    pub(super) requested: bool,
    /// The device's old leaf, which the same commit removes.
    pub(super) replaces: Option<u32>,
}

impl Addition {
    /// One whose key package was claimed.
    pub(super) const fn claimed(name: DeviceName, key_package: Vec<u8>) -> Self {
        Self { name, key_package, requested: false, replaces: None }
    }

    /// As it is kept until it is used, if it was claimed.
    pub(super) fn to_claimed(&self) -> Option<(DeviceName, Vec<u8>)> {
        (!self.requested).then(|| (self.name.clone(), self.key_package.clone()))
    }
}

/// The difference between the wanted set and the leaves of an epoch.
#[derive(Default)]
pub(super) struct Difference {
    /// Leaves for whose removal there is evidence.
    pub(super) remove: Vec<u32>,
    /// Leaves that are to be removed if their devices are added by the same commit, which come first
    /// among the additions.
    pub(super) replaced: Vec<u32>,
    /// Devices that can be added.
    pub(super) add: Vec<Addition>,
    /// Devices whose key package has to be claimed first.
    pub(super) claim: Vec<DeviceName>,
    /// Devices that cannot be added now.
    pub(super) without_mls: Vec<DeviceName>,
    /// Users whose device list is not known, or known to be out of date.
    pub(super) stale: Vec<OwnedUserId>,
    /// Whether our own keys are to be renewed.
    pub(super) update: bool,
}

impl Difference {
    /// Whether there is nothing to do and nothing to wait for. Devices that cannot be added now do
    /// not count.
    pub(super) fn is_none(&self) -> bool {
        // What is replaced is added too.
        let Self { remove, replaced: _, add, claim, without_mls: _, stale, update } = self;
        remove.is_empty() && add.is_empty() && claim.is_empty() && stale.is_empty() && !update
    }
}

/// The devices of users, each user looked up once.
pub(super) struct KnownDevices {
    by_user: BTreeMap<OwnedUserId, UserDevices>,
    /// Devices of which a key package was seen with a higher `seq` than in any commit of the room.
    newer: BTreeMap<Device, u64>,
}

impl KnownDevices {
    /// Whether a higher `seq` of the device was seen (protocol §4): only the highest is wanted.
    pub(super) fn is_outdated(&self, room: &Room, identity: &Identity) -> bool {
        let newer = self.newer.get(&identity.device).is_some_and(|seq| *seq > identity.seq);
        newer || is_replaced(room, identity)
    }

    pub(super) async fn of(
        &mut self,
        olm: &OlmMachine,
        user_id: &UserId,
    ) -> Result<&UserDevices, CryptoStoreError> {
        Ok(match self.by_user.entry(user_id.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(olm.get_user_devices(user_id, None).await?),
        })
    }
}

/// Whether some commit of the room has a higher `seq` of the device: then all who know the commit agree
/// that this one is not wanted.
fn is_replaced(room: &Room, identity: &Identity) -> bool {
    room.group.graph().highest_seq(&identity.device).is_some_and(|seq| seq > identity.seq)
}

impl MlsMachine {
    /// Compares. `node` is the epoch to send in; without one, the group is about to be founded by
    /// us alone.
    pub(super) async fn difference(
        &self,
        room: &Room,
        node: Option<NodeId>,
        trust: TrustRequirement,
    ) -> Result<Difference, MlsError> {
        let mut difference = Difference::default();
        let tracked: BTreeMap<_, _> = self
            .inner
            .olm
            .store()
            .load_tracked_users()
            .await?
            .into_iter()
            .map(|user| (user.user_id.to_string(), user.dirty))
            .collect();
        let is_fresh = |user: &str| tracked.get(user) == Some(&false);
        let roster = match node {
            Some(node) => room.group.roster(&node),
            None => None,
        }
        .unwrap_or_default();

        let mut known = self.known_devices(room).await?;
        // A key package says that these have another key now, which the others have not seen.
        let mut outdated = Vec::new();
        for (leaf, member) in roster.iter() {
            let is_fresh = is_fresh(&member.device().user_id);
            if member.device() == self.inner.local.device() {
                continue;
            }
            if self.is_to_be_removed(room, member, trust, is_fresh, &mut known).await? {
                difference.remove.push(leaf);
            } else if known.is_outdated(room, &member.identity) {
                outdated.push((leaf, member.device()));
            }
        }
        let wanted: Vec<_> = room.view.wanted_users().map(ToOwned::to_owned).collect();
        if wanted.iter().any(|user| !tracked.contains_key(user.as_str())) {
            // It was begun when they came, but perhaps not finished.
            self.track_members(room).await?;
        }
        let seated: HashSet<_> = roster
            .iter()
            .filter(|(_, member)| !known.is_outdated(room, &member.identity))
            .map(|(_, member)| member.device())
            .collect();
        for user_id in wanted {
            if !is_fresh(user_id.as_str()) {
                difference.stale.push(user_id.clone());
            }
            known.of(&self.inner.olm, &user_id).await?;
            self.compare_user(room, &user_id, &known, &seated, trust, &mut difference);
        }
        for (leaf, device) in outdated {
            let is_theirs = |addition: &Addition| {
                let (user_id, device_id) = &addition.name;
                user_id.as_str() == device.user_id && device_id.as_str() == device.device_id
            };
            // Only together with the addition, or the others would add it by another old one.
            if let Some(place) = difference.add.iter().position(is_theirs) {
                difference.replaced.push(leaf);
                let addition = difference.add.remove(place);
                difference.add.insert(0, addition);
            }
        }
        difference.update = node.is_some_and(|node| self.keys_are_due(room, &node));
        Ok(difference)
    }

    /// To look up devices with.
    pub(super) async fn known_devices(&self, room: &Room) -> Result<KnownDevices, MlsError> {
        let account = self.lock_account().await?;
        let graph = room.group.graph();
        let is_newer = |(device, seq): &(&Device, &u64)| {
            graph.highest_seq(device).is_some_and(|seen| seen < **seq)
        };
        let newer = account.stored.seqs.iter().filter(is_newer);
        let newer = newer.map(|(device, seq)| (device.clone(), *seq)).collect();
        Ok(KnownDevices { by_user: BTreeMap::new(), newer })
    }

    /// The users whose device list is known and up to date.
    pub(super) async fn fresh_users(&self) -> Result<BTreeSet<String>, MlsError> {
        let tracked = self.inner.olm.store().load_tracked_users().await?;
        Ok(tracked
            .into_iter()
            .filter(|user| !user.dirty)
            .map(|user| user.user_id.to_string())
            .collect())
    }

    /// Removal needs evidence: never a failed query, an exhausted supply of key packages, or what
    /// only we think.
    pub(super) async fn is_to_be_removed(
        &self,
        room: &Room,
        member: &Member,
        trust: TrustRequirement,
        is_fresh: bool,
        known: &mut KnownDevices,
    ) -> Result<bool, MlsError> {
        let device = member.device();
        if room.view.is_gone(&device.user_id) || is_replaced(room, &member.identity) {
            return Ok(true);
        }
        let Ok(user_id) = UserId::parse(&device.user_id) else { return Ok(is_fresh) };
        if !is_fresh {
            return Ok(false);
        }
        let devices = known.of(&self.inner.olm, &user_id).await?;
        let Some(known) = devices.get(<&DeviceId>::from(device.device_id.as_str())) else {
            return Ok(true);
        };
        let other_key = known.ed25519_key().is_none_or(|key| *key.as_bytes() != device.device_key);
        Ok(other_key
            || (trust == TrustRequirement::CrossSigned && !known.is_cross_signed_by_owner()))
    }

    fn compare_user(
        &self,
        room: &Room,
        user_id: &OwnedUserId,
        known: &KnownDevices,
        seated: &HashSet<&Device>,
        trust: TrustRequirement,
        difference: &mut Difference,
    ) {
        let Some(devices) = known.by_user.get(user_id) else { return };
        for device in devices.devices() {
            let Some(key) = device.ed25519_key() else { continue };
            let wanted = Device {
                user_id: user_id.to_string(),
                device_id: device.device_id().to_string(),
                device_key: *key.as_bytes(),
            };
            let is_ours = wanted == *self.inner.local.device();
            if is_ours || device.is_dehydrated() || seated.contains(&wanted) {
                continue;
            }
            if trust == TrustRequirement::CrossSigned && !device.is_cross_signed_by_owner() {
                continue;
            }
            let name = (user_id.clone(), device.device_id().to_owned());
            let claimed = self.transient().claimed.get(&name).cloned();
            // What was claimed before the device got another key is useless now.
            let claimed = claimed.filter(|bytes| {
                matrix_dmls::KeyPackage::parse_and_verify(bytes).is_ok_and(|package| {
                    let member = package.member();
                    *member.device() == wanted && !known.is_outdated(room, &member.identity)
                })
            });
            let failed = room.view.failed_claims.get(&format!("{} {}", name.0, name.1));
            if failed.is_some_and(|at| self.now().saturating_sub(*at) < CLAIM_PAUSE) {
                difference.without_mls.push(name);
            } else if let Some(key_package) = claimed {
                difference.add.push(Addition::claimed(name, key_package));
            } else {
                difference.claim.push(name);
            }
        }
    }

    pub(super) fn keys_are_due(&self, room: &Room, node: &NodeId) -> bool {
        let sent = self.sent(room, node);
        let too_many =
            room.view.rotation_period_msgs.is_some_and(|max| u64::from(sent) >= max.max(1));
        let too_long = room
            .view
            .rotation_period_ms
            // Shorter than an hour is not to be taken seriously, as in Megolm rooms.
            .is_some_and(|max| {
                self.now().saturating_sub(room.view.updated_at) > max.max(CLAIM_PAUSE)
            });
        room.view.must_update
            || sent >= GENERATION_LIMIT.saturating_sub(GENERATIONS_LEFT)
            || (sent > 0 && (too_many || too_long))
    }
}
