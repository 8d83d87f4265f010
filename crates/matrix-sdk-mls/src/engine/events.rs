//! What the application is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::{self, Discriminant},
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt as _;
use matrix_sdk_crypto_mls::{
    DecryptionError, MlsMachine, Notice,
    dmls::{Device, NodeId},
};
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, UserId};
use tokio::sync::{Mutex, broadcast};
use tracing::warn;

use super::{Engine, lock};
use crate::{
    error::Error,
    event::{Advice, MlsEvent},
    room::RoomDevice,
};

/// How many messages that cannot be read are remembered. What is told twice does no harm.
const MAX_UNREADABLE: usize = 10_000;

/// How long it is waited for a device list that is being asked for.
const DEVICE_LIST: Duration = Duration::from_secs(10);

/// What was told last, so that it is told once.
#[derive(Default)]
pub(super) struct Told {
    /// Held while epochs are compared, so that they are told in their order.
    epochs: Mutex<BTreeMap<OwnedRoomId, NodeId>>,
    unreadable: std::sync::Mutex<Unreadable>,
    /// Devices that have come into groups, and are yet to be looked at.
    newcomers: std::sync::Mutex<Vec<(OwnedRoomId, Device)>>,
}

type Unreadable = BTreeMap<(OwnedRoomId, OwnedEventId), Discriminant<DecryptionError>>;

/// Tells of the SDK's backup.
pub(super) async fn watch_backup(engine: Weak<Engine>) {
    let Some(mut states) = engine.upgrade().map(|it| it.sdk.encryption().backups().state_stream())
    else {
        return;
    };
    while let Some(state) = states.next().await {
        let Some(engine) = engine.upgrade() else { return };
        // Of those that were missed only the last one matters.
        if let Ok(state) = state {
            engine.events.tell(MlsEvent::BackupState(state));
        }
    }
}

impl Engine {
    pub(crate) fn subscribe_to_events(&self) -> broadcast::Receiver<MlsEvent> {
        self.events.subscribe()
    }

    /// Tells what the machine reports, as far as it says so itself. What follows from it is for
    /// [`Engine::tell_of_epochs`].
    pub(super) fn tell_notice(&self, notice: &Notice) {
        let event = match notice.clone() {
            Notice::RoomIsMls { room_id } => MlsEvent::BecameMls { room_id },
            Notice::Joined { room_id, .. } => MlsEvent::Joined { room_id },
            Notice::Removed { room_id, by, .. } => MlsEvent::Removed { room_id, by },
            Notice::GroupReplaced { room_id, founding, by, obstacle } => {
                MlsEvent::GroupReplaced { room_id, founding, by, obstacle }
            }
            Notice::Forked { room_id, node, parent } => {
                MlsEvent::ForkSeen { room_id, node, parent }
            }
            Notice::Merged { room_id, node, branches } => {
                MlsEvent::ForkMerged { room_id, node, branches }
            }
            Notice::DeviceWithoutMls { room_id, user_id, device_id, reason } => {
                MlsEvent::DeviceWithoutMls { room_id, user_id, device_id, reason }
            }
            Notice::UnexpectedMember { room_id, device, added_by } => {
                MlsEvent::UnexpectedMember { room_id, device, added_by }
            }
            Notice::UploadRefused { room_id, bytes } => MlsEvent::UploadRefused { room_id, bytes },
            Notice::DowngradeAttempt { room_id, event_id } => {
                MlsEvent::DowngradeAttempt { room_id, event_id }
            }
            Notice::Readable { room_id, event_id, .. } => {
                lock(&self.told.unreadable).remove(&(room_id.clone(), event_id.clone()));
                MlsEvent::Readable { room_id, event_id }
            }
            Notice::EpochEntered { room_id, author, is_external, added, .. } => {
                let own = self.sdk.device_id().map(ToString::to_string);
                let comes = added.into_iter().chain(is_external.then_some(author));
                let others = comes.filter(|device| Some(&device.device_id) != own.as_ref());
                lock(&self.told.newcomers).extend(others.map(|device| (room_id.clone(), device)));
                return;
            }
            _ => return,
        };
        self.events.tell(event);
    }

    /// Tells of rooms that are in another epoch than before.
    pub(super) async fn tell_of_epochs(&self, machine: &MlsMachine, notices: &[Notice]) {
        let mut told = self.told.epochs.lock().await;
        let rooms: BTreeSet<_> = notices.iter().filter_map(moves).collect();
        for room_id in rooms {
            let status = match machine.group_status(room_id).await {
                Ok(Some(status)) => status,
                Ok(None) => continue,
                Err(error) => {
                    warn!(%room_id, "How does its group stand? {error}");
                    continue;
                }
            };
            let before = told.insert(room_id.clone(), status.node);
            let made = notices.iter().find_map(|notice| match notice {
                Notice::EpochEntered { node, author, added, removed, .. }
                    if *node == status.node =>
                {
                    Some((author.clone(), added.clone(), removed.clone()))
                }
                _ => None,
            });
            let joined = notices.iter().any(|notice| {
                matches!(notice, Notice::Joined { room_id: joined, .. } if joined == room_id)
            });
            // After a start, what is not new is no change.
            let is_new = made.is_some() || joined || before.is_some();
            if before == Some(status.node) || !is_new {
                continue;
            }
            let (author, added, removed) = match made {
                Some((author, added, removed)) => (Some(author), added, removed),
                None => (None, Vec::new(), Vec::new()),
            };
            self.events.tell(MlsEvent::EpochChanged {
                room_id: room_id.clone(),
                node: status.node,
                epoch: status.epoch,
                devices: status.roster.len(),
                author,
                added,
                removed,
            });
        }
    }

    /// Looks at the devices that have come into groups, once their users' device lists are there.
    pub(super) async fn look_at_newcomers(&self) -> Result<(), Error> {
        let newcomers = mem::take(&mut *lock(&self.told.newcomers));
        if newcomers.is_empty() || !self.events.is_heard() {
            return Ok(());
        }
        self.query_keys().await?;
        let olm = self.olm().await?;
        for (room_id, device) in newcomers {
            let Ok(user_id) = UserId::parse(&device.user_id) else { continue };
            let device_id = device.device_id.as_str().into();
            let known = olm.get_device(&user_id, device_id, Some(DEVICE_LIST)).await;
            let known = known.map_err(matrix_sdk::Error::from)?;
            let known = known.filter(|known| {
                known.ed25519_key().is_some_and(|key| *key.as_bytes() == device.device_key)
            });
            if known.as_ref().is_some_and(|known| known.is_verified()) {
                continue;
            }
            let device = RoomDevice {
                user_id,
                device_id: device_id.to_owned(),
                in_group: true,
                is_known: known.is_some(),
                is_cross_signed: known.is_some_and(|known| known.is_cross_signed_by_owner()),
                is_verified: false,
                has_no_mls: false,
            };
            self.events.tell(MlsEvent::UnverifiedDevice { room_id, device });
        }
        Ok(())
    }

    /// A message could not be read.
    pub(crate) fn note_undecryptable(
        &self,
        room_id: &RoomId,
        event_id: &EventId,
        reason: &Arc<DecryptionError>,
    ) {
        if !self.events.is_heard() {
            return;
        }
        {
            let name = (room_id.to_owned(), event_id.to_owned());
            let mut unreadable = lock(&self.told.unreadable);
            if unreadable.len() >= MAX_UNREADABLE {
                unreadable.clear();
            }
            let kind = mem::discriminant(&**reason);
            if unreadable.insert(name, kind) == Some(kind) {
                return;
            }
        }
        self.events.tell(MlsEvent::Undecryptable {
            room_id: room_id.to_owned(),
            event_id: event_id.to_owned(),
            reason: Arc::clone(reason),
            advice: Advice::on(reason),
        });
    }

    /// Whether somebody wants to know which messages cannot be read, and nobody tries to read them
    /// for a timeline.
    pub(super) fn wants_undecryptable(&self) -> bool {
        self.events.is_heard() && !self.sdk.event_cache().has_subscribed()
    }
}

/// The room whose epoch may be another one after this.
const fn moves(notice: &Notice) -> Option<&OwnedRoomId> {
    match notice {
        Notice::Joined { room_id, .. }
        | Notice::EpochEntered { room_id, .. }
        | Notice::EpochNotEntered { room_id, .. }
        | Notice::Forked { room_id, .. }
        | Notice::Removed { room_id, .. }
        | Notice::InventedDevices { room_id, .. } => Some(room_id),
        _ => None,
    }
}
