//! What the SDK's types say of who has encrypted an event. They know no algorithm but Olm and Megolm,
//! so it says Megolm, without a session.

use std::{collections::BTreeMap, sync::Arc};

use matrix_sdk::deserialized_responses::{
    AlgorithmInfo, DecryptedRoomEvent, DeviceLinkProblem, EncryptionInfo, VerificationLevel,
    VerificationState,
};
use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_crypto_mls::{MlsEncryptionInfo, Verdict};
use ruma::{DeviceId, DeviceKeyAlgorithm, UserId};
use vodozemac::Ed25519PublicKey;

use crate::error::Error;

/// Of a message that was decrypted.
async fn of(olm: &OlmMachine, info: &MlsEncryptionInfo) -> Result<Arc<EncryptionInfo>, Error> {
    let sender = &info.sender;
    let malformed = |reason: &str| Error::Bridge(reason.to_owned());
    let user_id = <&UserId>::try_from(sender.user_id.as_str())
        .map_err(|_| malformed("the sender's user ID is none"))?;
    let device_id = <&DeviceId>::from(sender.device_id.as_str());
    let device = olm.get_device(user_id, device_id, None).await.map_err(matrix_sdk::Error::from)?;
    let curve25519 = device.and_then(|device| device.curve25519_key());
    let ed25519 = Ed25519PublicKey::from_slice(&sender.device_key)
        .map_err(|error| malformed(&error.to_string()))?;
    Ok(Arc::new(EncryptionInfo {
        sender: user_id.to_owned(),
        sender_device: Some(device_id.to_owned()),
        forwarder: None,
        algorithm_info: algorithm_info(
            curve25519.map(|key| key.to_base64()).unwrap_or_default(),
            ed25519.to_base64(),
        ),
        verification_state: verification_state(info.verdict),
    }))
}

/// A message that was decrypted, as one of the SDK's.
pub(crate) async fn event(
    olm: &OlmMachine,
    decrypted: matrix_sdk_crypto_mls::DecryptedRoomEvent,
) -> Result<DecryptedRoomEvent, Error> {
    let encryption_info = of(olm, &decrypted.encryption_info).await?;
    let event = decrypted.event;
    Ok(DecryptedRoomEvent { event, encryption_info, unsigned_encryption_info: None })
}

/// Of what this device sends.
pub(crate) fn own(olm: &OlmMachine) -> EncryptionInfo {
    let keys = olm.identity_keys();
    EncryptionInfo {
        sender: olm.user_id().to_owned(),
        sender_device: Some(olm.device_id().to_owned()),
        forwarder: None,
        algorithm_info: algorithm_info(keys.curve25519.to_base64(), keys.ed25519.to_base64()),
        verification_state: VerificationState::Verified,
    }
}

fn algorithm_info(curve25519_key: String, ed25519: String) -> AlgorithmInfo {
    AlgorithmInfo::MegolmV1AesSha2 {
        curve25519_key,
        sender_claimed_keys: BTreeMap::from([(DeviceKeyAlgorithm::Ed25519, ed25519)]),
        session_id: None,
    }
}

fn verification_state(verdict: Verdict) -> VerificationState {
    let level = match verdict {
        Verdict::Verified => return VerificationState::Verified,
        Verdict::CrossSigned => VerificationLevel::UnverifiedIdentity,
        Verdict::Unsigned => VerificationLevel::UnsignedDevice,
        // A device under that name with another key is not this one.
        _ => VerificationLevel::None(DeviceLinkProblem::MissingDevice),
    };
    VerificationState::Unverified(level)
}
