//! Asking members to let us in (protocol §6): whom, and with what.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use matrix_dmls::{ALGORITHM, Device, KeyPackageRef, NodeId, OwnKeyPackage, new_key_package};
use ruma::{TransactionId, UserId};
use sha2::{Digest, Sha256};

use super::{MlsMachine, Room, identity};
use crate::{
    error::MlsError,
    room::Behind,
    store::{Changes, OutboxRequestKind, StoredKeyPackage},
    types::events::ToDeviceJoinRequestEventContent,
};

/// So many members are asked.
pub(super) const MAX_ASKED: usize = 3;

/// How far up from the tip its authors are looked for.
const MAX_WAY_UP: usize = 64;

/// How long the key package of a request is used in further ones, in milliseconds: 7 days.
const PACKAGE_AGE: u64 = 7 * 24 * 3600 * 1000;

/// In how many requests it is used at most: one that was used, and whose Welcome got lost, is refused.
const PACKAGE_TRIES: u32 = 3;

impl MlsMachine {
    /// Whom a device asks that is outside the tip: first who has made the tip, then who has made the
    /// epochs above it (they are on this branch, which others may not be), each user once, then
    /// the others in the tip by SHA-256(node ID ‖ identity). All who are behind the same tip
    /// ask the same ones. None if the tip, or who is in it, is not known.
    fn whom_to_ask(&self, room: &Room, tip: Option<NodeId>, asker: &Device) -> Option<Vec<Device>> {
        let tip = tip?;
        let roster = room.group.roster(&tip)?;
        let graph = room.group.graph();
        let may_be_asked = |device: &Device| {
            device != asker
                && roster.leaf_of(device).is_some()
                && !room.view.is_gone(&device.user_id)
        };
        let mut asked: Vec<Device> = Vec::new();
        let path = std::iter::once(tip).chain(graph.ancestors(&tip)).take(MAX_WAY_UP);
        for record in path.filter_map(|node| graph.get(&node)) {
            let author = record.author.member.device();
            let is_new = asked.iter().all(|known| known.user_id != author.user_id);
            if asked.len() < MAX_ASKED && is_new && may_be_asked(author) {
                asked.push(author.clone());
            }
        }
        let mut others: Vec<_> = roster
            .iter()
            .map(|(_, member)| &member.identity)
            .filter(|identity| may_be_asked(&identity.device) && !asked.contains(&identity.device))
            .map(|identity| (rank(tip.as_bytes(), &identity.to_bytes()), &identity.device))
            .collect();
        others.sort_unstable();
        asked.extend(others.into_iter().map(|(_, device)| device.clone()));
        asked.truncate(MAX_ASKED);
        Some(asked)
    }

    /// Which place we have among those whom a device asks; none if we cannot tell that it asks us.
    pub(super) async fn place_among_asked(
        &self,
        room: &Room,
        tip: Option<NodeId>,
        asker: &Device,
    ) -> Result<Option<usize>, MlsError> {
        let own = self.inner.local.device();
        let place = |asked: &[Device]| asked.iter().position(|device| device == own);
        if let Some(asked) = self.whom_to_ask(room, tip, asker) {
            return Ok(place(&asked));
        }
        // Which of its requests this is we cannot tell, but they go to so many at a time.
        let order = self.blind_order(room, asker).await?;
        Ok(place(&order).map(|place| place % MAX_ASKED))
    }

    /// In which order devices are asked where no tip is known: all devices of those who have joined, by
    /// SHA-256(room ID ‖ user ID ‖ device ID), but first two of the user's who has named the group.
    async fn blind_order(&self, room: &Room, asker: &Device) -> Result<Vec<Device>, MlsError> {
        let founder = room.view.group.as_ref().map(|(sender, _)| sender.as_str());
        let mut devices = BTreeSet::new();
        for user in room.view.wanted_users().filter(|user| room.view.is_joined(user.as_str())) {
            for known in self.inner.olm.get_user_devices(user, None).await?.devices() {
                let Some(key) = known.ed25519_key() else { continue };
                let device = Device {
                    user_id: user.to_string(),
                    device_id: known.device_id().to_string(),
                    device_key: *key.as_bytes(),
                };
                if device == *asker || known.is_dehydrated() {
                    continue;
                }
                let name = format!("{}{}", device.user_id, device.device_id);
                devices.insert((rank(room.id.as_bytes(), name.as_bytes()), device));
            }
        }
        let devices: Vec<_> = devices.into_iter().map(|(_, device)| device).collect();
        let is_founder = |device: &&Device| Some(device.user_id.as_str()) == founder;
        let first: Vec<_> = devices.iter().filter(is_founder).take(MAX_ASKED - 1).collect();
        let others = devices.iter().filter(|device| !first.contains(device));
        Ok(first.iter().copied().chain(others).cloned().collect())
    }

    /// Puts a request to be let in into the outbox. Gives whether there is somebody to ask; if so,
    /// `behind` is stored with it.
    pub(super) async fn ask(
        &self,
        room: &mut Room,
        tip: Option<NodeId>,
        mut behind: Behind,
    ) -> Result<bool, MlsError> {
        let own = self.inner.local.device();
        let asked = match self.whom_to_ask(room, tip, own) {
            Some(asked) => asked,
            None => {
                // Nothing says who is in the group, so each further request goes to the next ones.
                let order = self.blind_order(room, own).await?;
                let before = usize::try_from(behind.tries.saturating_sub(1)).unwrap_or_default();
                let from = before.saturating_mul(MAX_ASKED).checked_rem(order.len());
                let most = MAX_ASKED.min(order.len());
                order.iter().cycle().skip(from.unwrap_or_default()).take(most).cloned().collect()
            }
        };
        if asked.is_empty() {
            return Ok(false);
        }
        let mut changes = Changes::default();
        let now = self.now();
        let request_id = TransactionId::new().to_string();
        let known = std::mem::take(&mut behind.key_packages);
        let mut messages = Vec::with_capacity(asked.len());
        for device in asked {
            let Ok(user_id) = UserId::parse(&device.user_id) else { continue };
            let name = format!("{} {}", device.user_id, device.device_id);
            let (made_at, package) = self.package_to_ask(room, &behind, known.get(&name)).await?;
            if made_at == now {
                let stored = StoredKeyPackage {
                    package: package.clone(),
                    published: false,
                    replaced_at: Some(now),
                };
                changes.key_packages.insert(package.reference, Some(stored));
            }
            behind.key_packages.insert(name, (package.reference, made_at));
            let mut content = ToDeviceJoinRequestEventContent::new(
                ALGORITHM.to_owned(),
                room.id.clone(),
                tip,
                request_id.clone(),
                now,
                package.key_package,
            );
            let json = content.signed_json().ok_or(MlsError::NoDeviceSignature)?;
            let signature = identity::sign(&self.inner.olm, &json).await?;
            content.sign(self.user_id(), self.device_id(), STANDARD_NO_PAD.encode(signature));
            messages.push((user_id, device.device_id.as_str().into(), content));
        }
        let kind = OutboxRequestKind::JoinRequest { messages };
        self.put_into_outbox(room, &mut changes, kind);
        let mut view = room.view.clone();
        view.behind = Some(behind);
        changes.room(&room.id).view = Some(view);
        self.save(room, changes).await?;
        Ok(true)
    }

    /// The key package for one of those who are asked, and when it was made, in milliseconds since
    /// 1970. Everybody gets another one: two who answer at the same time make two Welcomes, and a key
    /// package opens but one. So none that a commit has used, whose Welcome may still be under way.
    async fn package_to_ask(
        &self,
        room: &Room,
        behind: &Behind,
        known: Option<&(KeyPackageRef, u64)>,
    ) -> Result<(u64, OwnKeyPackage), MlsError> {
        let now = self.now();
        if let Some((reference, made_at)) = known
            && now.saturating_sub(*made_at) < PACKAGE_AGE
            && !behind.tries.is_multiple_of(PACKAGE_TRIES)
            && !self.is_used_up(room, self.inner.local.device(), reference).await?
            && let Some(stored) = self.inner.store.key_package(reference).await?
        {
            return Ok((*made_at, stored.package));
        }
        Ok((now, new_key_package(&self.inner.local, false)?))
    }
}

fn rank(about: &[u8], whom: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(about).chain_update(whom).finalize().into()
}
