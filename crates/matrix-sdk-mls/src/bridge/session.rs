//! The Megolm sessions that messages are handed over with.

use std::collections::BTreeMap;

use matrix_sdk_crypto::{
    OlmMachine,
    olm::{InboundGroupSession, SenderData},
    types::EventEncryptionAlgorithm,
};
use matrix_sdk_crypto_mls::{MlsEncryptionInfo, Verdict, dmls::Device};
use ruma::{DeviceId, OwnedRoomId, RoomId, UserId};
use sha2::{Digest, Sha256};
use vodozemac::{
    Curve25519PublicKey, Ed25519PublicKey,
    megolm::{GroupSession, SessionConfig},
};

use crate::error::Error;

/// A session serves for so many messages. The SDK reads all events of a session to find one.
const MAX_MESSAGES: u32 = 100;

/// One session for each device that speaks in a room, and for what is known of the device: the SDK
/// finds that out once for a session, and keeps it.
#[derive(Default)]
pub(super) struct Sessions {
    current: BTreeMap<(OwnedRoomId, Device, Verdict), Session>,
    unsaved: Vec<InboundGroupSession>,
}

pub(super) struct Session {
    pub(super) outbound: GroupSession,
    pub(super) sender_key: Curve25519PublicKey,
}

impl Sessions {
    /// The session for the next message of a device.
    pub(super) async fn of(
        &mut self,
        olm: &OlmMachine,
        room_id: &RoomId,
        info: &MlsEncryptionInfo,
    ) -> Result<&mut Session, Error> {
        let sender = &info.sender;
        let key = (room_id.to_owned(), sender.clone(), info.verdict);
        let is_worn = |session: &Session| session.outbound.message_index() >= MAX_MESSAGES;
        if self.current.get(&key).is_none_or(is_worn) {
            let (session, inbound) = make(olm, room_id, sender).await?;
            self.unsaved.push(inbound);
            self.current.insert(key.clone(), session);
        }
        self.current.get_mut(&key).ok_or_else(|| Error::Bridge("no session".to_owned()))
    }

    /// Stores new sessions, so that the SDK finds them.
    pub(super) async fn save(&mut self, olm: &OlmMachine) -> Result<(), Error> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let version = olm.backup_machine().backup_version().await;
        let version = version.as_deref().unwrap_or("none");
        let sessions = self.unsaved.clone();
        olm.store()
            .save_inbound_group_sessions(sessions, Some(version))
            .await
            .map_err(matrix_sdk::Error::from)?;
        self.unsaved.clear();
        Ok(())
    }
}

/// A new session in the name of the device, as if it had sent it to us. Who the device is, and how
/// far it can be trusted, the SDK finds out by the keys.
async fn make(
    olm: &OlmMachine,
    room_id: &RoomId,
    sender: &Device,
) -> Result<(Session, InboundGroupSession), Error> {
    let signing_key = Ed25519PublicKey::from_slice(&sender.device_key)
        .map_err(|error| Error::Bridge(error.to_string()))?;
    let sender_key = sender_key(olm, sender).await?;
    let outbound = GroupSession::new(SessionConfig::version_1());
    let inbound = InboundGroupSession::new(
        sender_key,
        signing_key,
        room_id,
        &outbound.session_key(),
        SenderData::unknown(),
        None,
        EventEncryptionAlgorithm::MegolmV1AesSha2,
        None,
        // Nobody is to get it: it opens nothing that anybody else has.
        false,
    )
    .map_err(|error| Error::Bridge(error.to_string()))?;
    inbound.mark_as_backed_up();
    Ok((Session { outbound, sender_key }, inbound))
}

/// The device's Olm key, by which the SDK finds it. A device that is not known, or is another one
/// under the same name, gets a key that nobody has: the SDK then says that it knows no such device.
async fn sender_key(olm: &OlmMachine, sender: &Device) -> Result<Curve25519PublicKey, Error> {
    if let Ok(user_id) = <&UserId>::try_from(sender.user_id.as_str()) {
        let device_id = <&DeviceId>::from(sender.device_id.as_str());
        let device = olm.get_device(user_id, device_id, None).await;
        let device = device.map_err(matrix_sdk::Error::from)?;
        let is_it = |key: Option<Ed25519PublicKey>| {
            key.is_some_and(|key| *key.as_bytes() == sender.device_key)
        };
        if let Some(device) = device.filter(|device| is_it(device.ed25519_key()))
            && let Some(key) = device.curve25519_key()
        {
            return Ok(key);
        }
    }
    let hash = Sha256::new().chain_update("no Olm key").chain_update(sender.device_key).finalize();
    Ok(Curve25519PublicKey::from_bytes(hash.into()))
}
