//! Our key packages on the server, and other devices' (protocol §1, §6).

use std::collections::BTreeMap;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use matrix_dmls::{KeyPackage, KeyPackageRef, new_key_package};
use ruma::{
    OneTimeKeyAlgorithm, OwnedOneTimeKeyId, OwnedTransactionId, TransactionId, UInt,
    api::client::keys::{claim_keys, upload_keys},
    encryption::OneTimeKey,
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{json, value::to_raw_value};

use super::{DeviceName, MlsMachine, identity};
use crate::{
    error::MlsError,
    store::{Changes, StoredKeyPackage},
    types::requests::{AnyOutgoingRequest, OutgoingRequest},
};

/// The algorithm under which key packages of cipher suite 0x0001 are one-time keys.
const KEY_PACKAGE_ALGORITHM: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

/// How many one-time key packages the server is to have, unless the builder was told otherwise.
pub(super) const WANTED: u32 = 50;

/// How old a last-resort key package gets before another takes its place, in milliseconds: 30 days.
const LAST_RESORT_AGE: u64 = 30 * 24 * 3600 * 1000;

/// The largest one-time key that is looked at, in bytes.
const MAX_ONE_TIME_KEY: usize = 32 * 1024;

/// What the server says of our key packages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServerCounts {
    /// How many one-time key packages it has, once it has said so.
    pub(super) one_time: Option<u64>,
    /// It has handed out the last-resort package, or lost it.
    pub(super) last_resort_used: bool,
    /// It has refused an upload, and no sync has come since.
    pub(super) refused: bool,
}

/// An upload that the server has not answered.
#[derive(Clone, Debug)]
pub(super) struct Upload {
    pub(super) id: OwnedTransactionId,
    request: upload_keys::v3::Request,
    one_time: Vec<KeyPackageRef>,
    last_resort: Option<KeyPackageRef>,
}

/// The signed object that is the one-time key.
#[derive(Deserialize)]
struct SignedKeyPackage {
    key: String,
    #[serde(default)]
    signatures: BTreeMap<String, BTreeMap<String, String>>,
}

pub(super) fn algorithm() -> OneTimeKeyAlgorithm {
    OneTimeKeyAlgorithm::from(KEY_PACKAGE_ALGORITHM)
}

impl MlsMachine {
    /// Takes what a sync says of our one-time and fallback keys.
    pub(super) fn note_key_counts(
        &self,
        counts: &BTreeMap<OneTimeKeyAlgorithm, UInt>,
        unused_fallback_keys: Option<&[OneTimeKeyAlgorithm]>,
    ) {
        let mut transient = self.transient();
        transient.counts.refused = false;
        // A server that has none of ours leaves the algorithm out, but only if it counts at all.
        if !counts.is_empty() || unused_fallback_keys.is_some() {
            let count = counts.get(&algorithm()).copied().unwrap_or_default();
            transient.counts.one_time = Some(count.into());
        }
        if let Some(unused) = unused_fallback_keys {
            transient.counts.last_resort_used = !unused.contains(&algorithm());
        }
    }

    /// The upload that is due, if any. Its private keys are stored before it is returned.
    pub(super) async fn key_package_upload(&self) -> Result<Option<OutgoingRequest>, MlsError> {
        // Held over the awaits below, so that two callers do not both make an upload.
        let mut account = self.lock_account().await?;
        if let Some(upload) = &self.transient().upload {
            return Ok(Some(upload.to_request()));
        }
        let now = self.now();
        let counts = self.transient().counts;
        if counts.refused {
            return Ok(None);
        }
        let wanted = u64::from(self.inner.key_packages);
        // New ones are uploaded when a fifth is gone: not one by one.
        let missing = match counts.one_time {
            None if account.stored.published => 0,
            None => wanted,
            Some(count) if count < wanted - wanted / 5 => wanted - count,
            Some(_) => 0,
        };
        let last_resort_due = account.stored.last_resort.is_none()
            || counts.last_resort_used
            || now.saturating_sub(account.stored.last_resort_since) > LAST_RESORT_AGE;
        if missing == 0 && !last_resort_due {
            return Ok(None);
        }

        let mut changes = Changes::default();
        let mut request = upload_keys::v3::Request::new();
        let mut one_time = Vec::new();
        for _ in 0..missing {
            let (id, key, package) = self.make_key_package(false).await?;
            one_time.push(package.package.reference);
            changes.key_packages.insert(package.package.reference, Some(package));
            request.one_time_keys.insert(id, key);
        }
        let mut last_resort = None;
        if last_resort_due {
            let (id, key, package) = self.make_key_package(true).await?;
            last_resort = Some(package.package.reference);
            changes.key_packages.insert(package.package.reference, Some(package));
            request.fallback_keys.insert(id, key);
        }
        self.save_account(&mut account, changes).await?;
        let upload = Upload { id: TransactionId::new(), request, one_time, last_resort };
        let outgoing = upload.to_request();
        self.transient().upload = Some(upload);
        Ok(Some(outgoing))
    }

    async fn make_key_package(
        &self,
        last_resort: bool,
    ) -> Result<(OwnedOneTimeKeyId, Raw<OneTimeKey>, StoredKeyPackage), MlsError> {
        let package = new_key_package(&self.inner.local, last_resort)?;
        let name = URL_SAFE_NO_PAD.encode(package.reference.as_bytes());
        let id = OwnedOneTimeKeyId::try_from(format!("{KEY_PACKAGE_ALGORITHM}:{name}"))
            .map_err(serde::de::Error::custom)
            .map_err(MlsError::Json)?;
        let key = STANDARD_NO_PAD.encode(&package.key_package);
        let signature = identity::sign(&self.inner.olm, &signed_json(&key)).await?;
        let signature = STANDARD_NO_PAD.encode(signature);
        let device_key_id = format!("ed25519:{}", self.device_id());
        let signed = json!({
            "key": key,
            "signatures": { self.user_id(): { device_key_id: signature } },
        });
        let stored = StoredKeyPackage { package, published: false, replaced_at: None };
        Ok((id, Raw::from_json(to_raw_value(&signed)?), stored))
    }

    /// The server has our upload.
    pub(super) async fn uploaded(
        &self,
        response: &upload_keys::v3::Response,
    ) -> Result<(), MlsError> {
        let mut account = self.lock_account().await?;
        let Some(upload) = self.transient().upload.clone() else {
            return Err(MlsError::UnknownRequest);
        };
        let now = self.now();
        let mut changes = Changes::default();
        let replaced = account.stored.last_resort.filter(|_| upload.last_resort.is_some());
        for reference in upload.one_time.iter().chain(&upload.last_resort).chain(&replaced) {
            if let Some(mut package) = self.inner.store.key_package(reference).await? {
                package.published = true;
                if Some(*reference) == replaced {
                    package.replaced_at = Some(now);
                }
                changes.key_packages.insert(*reference, Some(package));
            }
        }
        let mut new = account.stored.clone();
        new.published = true;
        if upload.last_resort.is_some() {
            new.last_resort = upload.last_resort;
            new.last_resort_since = now;
        }
        changes.account = Some(new);
        self.save_account(&mut account, changes).await?;
        let mut transient = self.transient();
        transient.upload = None;
        transient.counts.one_time =
            response.one_time_key_counts.get(&algorithm()).map(|count| u64::from(*count));
        if upload.last_resort.is_some() {
            transient.counts.last_resort_used = false;
        }
        Ok(())
    }

    /// Takes the key packages that a claim gave, checked, and says which devices gave none.
    pub(super) async fn take_claimed(
        &self,
        wanted: &[DeviceName],
        response: &claim_keys::v3::Response,
    ) -> Result<Vec<(DeviceName, String)>, MlsError> {
        let mut failed = Vec::new();
        for name in wanted {
            let (user_id, device_id) = name;
            let keys = response.one_time_keys.get(user_id).and_then(|user| user.get(device_id));
            let key = keys.and_then(|keys| {
                keys.iter().find(|(id, _)| id.algorithm() == algorithm()).map(|(_, key)| key)
            });
            let checked = match key {
                Some(key) => self.check_key_package(name, key).await?,
                None if response.failures.contains_key(user_id.server_name().as_str()) => {
                    Err("the device's server could not be reached".to_owned())
                }
                None => Err("the device has published no key package".to_owned()),
            };
            match checked {
                Ok(package) => {
                    self.transient().claimed.insert(name.clone(), package);
                }
                Err(reason) => failed.push((name.clone(), reason)),
            }
        }
        Ok(failed)
    }

    /// Whether a claimed key is a key package of exactly that device.
    async fn check_key_package(
        &self,
        (user_id, device_id): &DeviceName,
        key: &Raw<OneTimeKey>,
    ) -> Result<Result<Vec<u8>, String>, MlsError> {
        let Some(device) = self.inner.olm.get_device(user_id, device_id, None).await? else {
            return Ok(Err("the device is not known".to_owned()));
        };
        let Some(device_key) = device.ed25519_key() else {
            return Ok(Err("the device has no key".to_owned()));
        };
        let json = key.json().get();
        let check = || {
            if json.len() > MAX_ONE_TIME_KEY {
                return Err("the key package is too large".to_owned());
            }
            let signed: SignedKeyPackage =
                serde_json::from_str(json).map_err(|_| "not a signed key".to_owned())?;
            let signature = signed
                .signatures
                .get(user_id.as_str())
                .and_then(|keys| keys.get(&format!("ed25519:{device_id}")))
                .and_then(|text| STANDARD_NO_PAD.decode(text).ok())
                .ok_or("the device has not signed the key package")?;
            if !matrix_dmls::verify_device_signature(
                device_key.as_bytes(),
                &signed_json(&signed.key),
                &signature,
            ) {
                return Err("the device's signature is wrong".to_owned());
            }
            let bytes = STANDARD_NO_PAD
                .decode(&signed.key)
                .map_err(|_| "the key package is not base64".to_owned())?;
            let package = KeyPackage::parse_and_verify(&bytes).map_err(|e| e.to_string())?;
            let member = package.member();
            let owner = member.device();
            if owner.user_id != user_id.as_str()
                || owner.device_id != device_id.as_str()
                || owner.device_key != *device_key.as_bytes()
            {
                return Err("the key package is another device's".to_owned());
            }
            Ok(bytes)
        };
        Ok(check())
    }
}

impl Upload {
    fn to_request(&self) -> OutgoingRequest {
        OutgoingRequest {
            request_id: self.id.clone(),
            room_id: None,
            request: AnyOutgoingRequest::KeysUpload(self.request.clone()),
        }
    }
}

/// The canonical JSON that the device signs. Base64 needs no escapes.
fn signed_json(key: &str) -> String {
    format!("{{\"key\":\"{key}\"}}")
}
