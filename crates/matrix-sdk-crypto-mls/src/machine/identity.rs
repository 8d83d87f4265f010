//! Our MLS signature key, and the device's signature on it (protocol §4).

use std::collections::BTreeMap;

use matrix_dmls::{Device, Identity, LocalMember, Secret};
use matrix_sdk_crypto::OlmMachine;
use ruma::DeviceKeyId;
use zeroize::Zeroizing;

use super::account::Account;
use crate::{
    error::MlsError,
    store::{Changes, MlsStore, StoreError, StoredAccount},
};

/// Loads our keys, or makes them.
pub(super) async fn load_or_make(
    olm: &OlmMachine,
    store: &dyn MlsStore,
    now: u64,
) -> Result<(Account, LocalMember), MlsError> {
    let device = Device {
        user_id: olm.user_id().to_string(),
        device_id: olm.device_id().to_string(),
        device_key: *olm.identity_keys().ed25519.as_bytes(),
    };
    let account = loop {
        let version = store.version().await?;
        let stored = match store.load_account().await? {
            Some(stored) if stored.identity.device == device => stored,
            Some(stored) => {
                let stored = format!("{:?}", stored.identity.device);
                return Err(MlsError::WrongDevice { stored });
            }
            None => {
                let stored = make(olm, device.clone(), now).await?;
                let account = Some(stored.clone());
                let changes = Changes { account, based_on: Some(version), ..Changes::default() };
                match store.save_changes(changes).await {
                    // Another process may have made them first.
                    Err(StoreError::Outdated) => continue,
                    saved => saved?,
                }
                stored
            }
        };
        break Account { stored, version: Some(version) };
    };
    let local = LocalMember::new(account.stored.identity.clone(), &account.stored.seed)
        .map_err(matrix_dmls::GroupError::from)?;
    Ok((account, local))
}

async fn make(olm: &OlmMachine, device: Device, seq: u64) -> Result<StoredAccount, MlsError> {
    let mut seed = Zeroizing::new([0; 32]);
    rand::fill(&mut *seed);
    let seed = Secret::from_bytes(*seed);
    let json = Identity::signed_json(&device, seq, &LocalMember::public_key_of(&seed));
    let signature = sign(olm, &json).await?;
    Ok(StoredAccount {
        identity: Identity::new(device, seq, signature),
        seed,
        published: false,
        last_resort: None,
        last_resort_since: 0,
        seqs: BTreeMap::new(),
    })
}

/// The device key's signature over canonical JSON.
pub(super) async fn sign(olm: &OlmMachine, json: &str) -> Result<[u8; 64], MlsError> {
    let key_id = DeviceKeyId::from_parts(ruma::DeviceKeyAlgorithm::Ed25519, olm.device_id());
    let signatures = olm.sign(json).await?;
    signatures
        .get_signature(olm.user_id(), &key_id)
        .map(|signature| signature.to_bytes())
        .ok_or(MlsError::NoDeviceSignature)
}
