//! How far the owner of a leaf can be trusted.

use matrix_dmls::{Device, Member};
use matrix_sdk_crypto::{CryptoStoreError, OlmMachine};
use ruma::{DeviceId, UserId};
use serde::{Deserialize, Serialize};

/// What the OlmMachine says of the Matrix device behind a leaf (protocol §4). It decides whom one
/// sends to and how a message is labelled, never whether a commit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Verdict {
    /// The device is verified: we trust its owner's identity, or verified it itself.
    Verified,
    /// Its owner's current identity has signed it, but we have not verified the owner.
    CrossSigned,
    /// It is the user's device, but nobody has signed it.
    Unsigned,
    /// The user has a device of that ID with another key: somebody has made this leaf up, or the
    /// device was made anew.
    Mismatched,
    /// No such device is known, or not any more.
    UnknownDevice,
}

/// Asks the OlmMachine.
pub(crate) async fn verdict(
    olm: &OlmMachine,
    member: &Member,
) -> Result<Verdict, CryptoStoreError> {
    let device = member.device();
    let Some(known) = find_device(olm, device).await? else {
        return Ok(Verdict::UnknownDevice);
    };
    Ok(if known.ed25519_key().is_none_or(|key| *key.as_bytes() != device.device_key) {
        Verdict::Mismatched
    } else if known.is_verified() {
        Verdict::Verified
    } else if known.is_cross_signed_by_owner() {
        Verdict::CrossSigned
    } else {
        Verdict::Unsigned
    })
}

/// The Matrix device with a leaf's user and device ID; its key may be another.
pub(crate) async fn find_device(
    olm: &OlmMachine,
    device: &Device,
) -> Result<Option<matrix_sdk_crypto::Device>, CryptoStoreError> {
    let Ok(user_id) = <&UserId>::try_from(device.user_id.as_str()) else {
        return Ok(None);
    };
    olm.get_device(user_id, <&DeviceId>::from(device.device_id.as_str()), None).await
}
