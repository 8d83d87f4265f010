//! The devices in a room, as their homeserver would show them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use matrix_dmls::{Device, Identity, LocalMember, OwnKeyPackage, Secret, new_key_package};
use matrix_sdk_crypto::{
    OlmMachine,
    types::requests::{AnyOutgoingRequest, KeysQueryRequest},
    vodozemac::{Ed25519SecretKey, olm::Account},
};
use ruma::{
    CanonicalJsonValue, DeviceId, OwnedDeviceId, OwnedUserId, UserId,
    api::client::keys::{claim_keys, get_keys, upload_keys},
    serde::Raw,
};
use serde_json::{Value, json, value::to_raw_value};

/// Somebody else's device. Its owner has cross-signed it.
pub struct Person {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device, the only one of the user.
    pub device_id: OwnedDeviceId,
    /// Its MLS key and credential.
    pub local: LocalMember,
    /// A key package of it.
    pub package: OwnKeyPackage,
    device_keys: Value,
    master_key: Value,
    self_signing_key: Value,
    /// A one-time key, for Megolm.
    one_time_key: (String, Value),
}

impl Person {
    /// Makes one with new keys.
    pub fn new(number: usize) -> Result<Self> {
        let user_id = UserId::parse(format!("@user{number}:example.org"))?;
        let device_id = OwnedDeviceId::from(format!("DEVICE{number:06}"));
        let mut account = Account::new();
        let ed25519 = account.ed25519_key();
        let device = Device {
            user_id: user_id.to_string(),
            device_id: device_id.to_string(),
            device_key: *ed25519.as_bytes(),
        };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        let seed = Secret::from_bytes(seed);
        let text = Identity::signed_json(&device, 1, &LocalMember::public_key_of(&seed));
        let identity = Identity::new(device, 1, account.sign(text).to_bytes());
        let local = LocalMember::new(identity, &seed)?;

        let sign_as_device =
            |json: &Value| -> Result<String> { Ok(account.sign(canonical(json)?).to_base64()) };
        let key_id = format!("ed25519:{device_id}");
        let mut device_keys = json!({
            "user_id": user_id,
            "device_id": device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                &key_id: ed25519.to_base64(),
                format!("curve25519:{device_id}"): account.curve25519_key().to_base64(),
            },
        });
        let (master, own) = (Ed25519SecretKey::new(), Ed25519SecretKey::new());
        let cross_signing_key = |key: &Ed25519SecretKey, usage: &str| {
            let public = key.public_key().to_base64();
            json!({
                "user_id": user_id,
                "usage": [usage],
                "keys": { format!("ed25519:{public}"): public },
            })
        };
        let master_key = cross_signing_key(&master, "master");
        let mut self_signing_key = cross_signing_key(&own, "self_signing");
        let by = |key: &Ed25519SecretKey| format!("ed25519:{}", key.public_key().to_base64());
        let signature = master.sign(canonical(&self_signing_key)?.as_bytes()).to_base64();
        sign(&mut self_signing_key, &user_id, json!({ by(&master): signature }));
        let signatures = json!({
            &key_id: sign_as_device(&device_keys)?,
            by(&own): own.sign(canonical(&device_keys)?.as_bytes()).to_base64(),
        });
        sign(&mut device_keys, &user_id, signatures);

        let one_time_key = {
            let result = account.generate_one_time_keys(1);
            let key = result.created.first().context("no one-time key")?;
            let mut json = json!({ "key": key.to_base64() });
            let signature = account.sign(canonical(&json)?).to_base64();
            sign(&mut json, &user_id, json!({ key_id: signature }));
            (format!("signed_curve25519:AAAA{number:06}"), json)
        };
        let package = new_key_package(&local, false)?;
        Ok(Self {
            user_id,
            device_id,
            local,
            package,
            device_keys,
            master_key,
            self_signing_key,
            one_time_key,
        })
    }
}

fn canonical(json: &Value) -> Result<String> {
    Ok(CanonicalJsonValue::try_from(json.clone())?.to_string())
}

fn sign(json: &mut Value, user: &UserId, signatures: Value) {
    if let Some(object) = json.as_object_mut() {
        object.insert("signatures".to_owned(), json!({ user.as_str(): signatures }));
    }
}

fn raw<T>(json: &Value) -> Result<Raw<T>> {
    Ok(Raw::from_json(to_raw_value(json)?))
}

/// Answers an `OlmMachine`'s requests as the homeserver of all these people, until it has no more.
pub async fn introduce(olm: &OlmMachine, people: &[Person]) -> Result<()> {
    let by_user: BTreeMap<&UserId, &Person> =
        people.iter().map(|person| (&*person.user_id, person)).collect();
    let users = by_user.keys().copied().chain([olm.user_id()]);
    olm.update_tracked_users(users).await?;
    let mut own_keys = None;
    loop {
        let requests = olm.outgoing_requests().await?;
        if requests.is_empty() {
            return Ok(());
        }
        for request in requests {
            match request.request() {
                AnyOutgoingRequest::KeysUpload(upload) => {
                    own_keys = own_keys.or_else(|| upload.device_keys.clone());
                    let mut counts = BTreeMap::new();
                    for id in upload.one_time_keys.keys() {
                        *counts.entry(id.algorithm()).or_default() += ruma::uint!(1);
                    }
                    let response = upload_keys::v3::Response::new(counts);
                    olm.mark_request_as_sent(request.request_id(), &response).await?;
                }
                AnyOutgoingRequest::KeysQuery(query) => {
                    let own = own_keys.clone().map(|keys| (olm.device_id(), keys));
                    let response = keys_of(query, &by_user, own)?;
                    olm.mark_request_as_sent(request.request_id(), &response).await?;
                }
                other => bail!("an unexpected request: {other:?}"),
            }
        }
    }
}

fn keys_of(
    query: &KeysQueryRequest,
    people: &BTreeMap<&UserId, &Person>,
    own: Option<(&DeviceId, Raw<ruma::encryption::DeviceKeys>)>,
) -> Result<get_keys::v3::Response> {
    let mut response = get_keys::v3::Response::new();
    for user in query.device_keys.keys() {
        let devices = response.device_keys.entry(user.clone()).or_default();
        let Some(person) = people.get(&**user) else {
            // We ourselves.
            devices.extend(own.clone().map(|(device, keys)| (device.to_owned(), keys)));
            continue;
        };
        devices.insert(person.device_id.clone(), raw(&person.device_keys)?);
        response.master_keys.insert(user.clone(), raw(&person.master_key)?);
        response.self_signing_keys.insert(user.clone(), raw(&person.self_signing_key)?);
    }
    Ok(response)
}

/// Lets an `OlmMachine` that knows these people have an Olm session with each of their devices.
pub async fn open_olm_sessions(olm: &OlmMachine, people: &[Person]) -> Result<()> {
    let users = || people.iter().map(|person| &*person.user_id);
    // One answer may be enough; a second request would be for those that had no key.
    if let Some((id, request)) = olm.get_missing_sessions(users()).await? {
        let mut found = BTreeMap::new();
        for person in people.iter().filter(|p| request.one_time_keys.contains_key(&p.user_id)) {
            let (key_id, key) = &person.one_time_key;
            let keys = BTreeMap::from([(key_id.as_str().try_into()?, raw(key)?)]);
            let devices = BTreeMap::from([(person.device_id.clone(), keys)]);
            found.insert(person.user_id.clone(), devices);
        }
        let response = claim_keys::v3::Response::new(found);
        olm.mark_request_as_sent(&id, &response).await?;
    }
    if olm.get_missing_sessions(users()).await?.is_some() {
        bail!("there are devices without an Olm session");
    }
    Ok(())
}
