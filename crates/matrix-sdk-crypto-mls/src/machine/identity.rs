//! Our MLS signature key, and the device's signature on it (protocol §4).

use matrix_dmls::{Device, Identity, LocalMember, Secret};
use matrix_sdk_crypto::OlmMachine;
use ruma::DeviceKeyId;
use zeroize::Zeroizing;

use crate::{
    error::MlsError,
    store::{Changes, MlsStore, StoredAccount},
};

/// Loads our keys, or makes them.
pub(super) async fn load_or_make(
    olm: &OlmMachine,
    store: &dyn MlsStore,
    now: u64,
) -> Result<(StoredAccount, LocalMember), MlsError> {
    let device = Device {
        user_id: olm.user_id().to_string(),
        device_id: olm.device_id().to_string(),
        device_key: *olm.identity_keys().ed25519.as_bytes(),
    };
    let account = match store.load_account().await? {
        Some(account) if account.identity.device == device => account,
        Some(account) => {
            let stored = format!("{:?}", account.identity.device);
            return Err(MlsError::WrongDevice { stored });
        }
        None => {
            let account = make(olm, device, now).await?;
            let changes = Changes { account: Some(account.clone()), ..Changes::default() };
            store.save_changes(changes).await?;
            account
        }
    };
    let local = LocalMember::new(account.identity.clone(), &account.seed)
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
