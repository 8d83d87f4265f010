//! Device keys, one-time keys, to-device messages.

use std::collections::BTreeMap;

use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedTransactionId, OwnedUserId, UInt,
    api::client::{
        keys::{claim_keys, get_keys, upload_keys},
        to_device::send_event_to_device,
    },
    encryption::OneTimeKey,
    events::{AnyToDeviceEvent, AnyToDeviceEventContent},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde_json::json;

use super::{Device, DeviceName, FallbackKey, SimServer, State};

/// As many one-time keys as an `OlmMachine` wants its server to have.
const ALL_OLM_KEYS: u32 = 50;

impl SimServer {
    /// `POST /keys/upload`.
    pub(super) fn upload_keys(
        &self,
        by: &DeviceName,
        request: &upload_keys::v3::Request,
    ) -> upload_keys::v3::Response {
        let mut state = self.state();
        if request.device_keys.is_some() {
            state.changed_users.push(by.0.clone());
        }
        let without_olm_keys = state.without_olm_keys;
        let device = state.device(by);
        if request.device_keys.is_some() {
            device.keys.clone_from(&request.device_keys);
        }
        for (id, key) in &request.one_time_keys {
            let keys = device.one_time_keys.entry(id.algorithm()).or_default();
            // The same key again is the same request again.
            if keys.iter().all(|(known, _)| known != id) {
                keys.push_back((id.clone(), key.clone()));
            }
        }
        for (id, key) in &request.fallback_keys {
            let key = FallbackKey { id: id.clone(), key: key.clone(), used: false };
            device.fallback_keys.insert(id.algorithm(), key);
        }
        upload_keys::v3::Response::new(device.key_counts(without_olm_keys))
    }

    /// `POST /keys/query`; `None` if it cannot be answered.
    pub(super) fn query_keys(
        &self,
        by: &DeviceName,
        users: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Option<get_keys::v3::Response> {
        let state = self.state();
        let mut response = get_keys::v3::Response::new();
        for user in users.keys() {
            if state.unreachable.contains(user) || state.is_cut(&by.0, user) {
                if state.cuts_state {
                    continue;
                }
                return None;
            }
            let keys = state.devices.iter().filter(|((of, _), _)| of == user).filter_map(
                |((_, device_id), device)| Some((device_id.clone(), device.keys.clone()?)),
            );
            response.device_keys.insert(user.clone(), keys.collect());
        }
        // Those whom it leaves out are asked for again.
        if response.device_keys.is_empty() && !users.is_empty() { None } else { Some(response) }
    }

    /// `POST /keys/claim`.
    pub(super) fn claim_keys(
        &self,
        by: &DeviceName,
        wanted: &BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>,
    ) -> claim_keys::v3::Response {
        let mut state = self.state();
        let mut found: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        let mut failures = BTreeMap::new();
        for (user, devices) in wanted {
            if state.is_cut(&by.0, user) {
                let error = json!({ "status": 503, "message": "Failed to send request" });
                failures.insert(user.server_name().to_string(), error);
                continue;
            }
            for (device_id, algorithm) in devices {
                let name = (user.clone(), device_id.clone());
                let Some(device) = state.devices.get_mut(&name) else { continue };
                let key = device.one_time_keys.get_mut(algorithm).and_then(|keys| keys.pop_front());
                let key = key.or_else(|| {
                    let fallback = device.fallback_keys.get_mut(algorithm)?;
                    fallback.used = true;
                    Some((fallback.id.clone(), fallback.key.clone()))
                });
                if let Some(key) = key {
                    found
                        .entry(user.clone())
                        .or_default()
                        .insert(device_id.clone(), BTreeMap::from([key]));
                }
            }
        }
        let mut response = claim_keys::v3::Response::new(found);
        response.failures = failures;
        response
    }

    /// `PUT /sendToDevice`.
    pub(super) fn send_to_device(
        &self,
        by: &DeviceName,
        event_type: &str,
        txn_id: &OwnedTransactionId,
        messages: &send_event_to_device::v3::Messages,
    ) {
        let mut state = self.state();
        if !state.device(by).to_device_transactions.insert(txn_id.clone()) {
            return;
        }
        for (user, devices) in messages {
            for (device, content) in devices {
                let recipients: Vec<_> = match device {
                    DeviceIdOrAllDevices::DeviceId(device) => vec![(user.clone(), device.clone())],
                    DeviceIdOrAllDevices::AllDevices => {
                        state.devices.keys().filter(|(of, _)| of == user).cloned().collect()
                    }
                };
                for recipient in recipients {
                    state.deliver_to_device(&by.0, &recipient, event_type, content);
                }
            }
        }
    }

    /// A one-time key of a device, as anybody gets one who claims it.
    pub fn gives_one_time_key_of(
        &self,
        name: &DeviceName,
        algorithm: &str,
    ) -> Option<Raw<OneTimeKey>> {
        let wanted = BTreeMap::from([(name.1.clone(), OneTimeKeyAlgorithm::from(algorithm))]);
        let found = self.claim_keys(name, &BTreeMap::from([(name.0.clone(), wanted)]));
        found.one_time_keys.get(&name.0)?.get(&name.1)?.values().next().cloned()
    }

    /// Puts any to-device event into a device's inbox, as a hostile server can.
    pub fn forges_to_device(&self, to: &DeviceName, event: serde_json::Value) {
        let event = Raw::from_json(serde_json::value::to_raw_value(&event).unwrap());
        self.state().device(to).to_device.push(event);
    }

    /// The to-device messages that wait for a device, as a server can record them.
    pub fn records_to_device_of(&self, name: &DeviceName) -> Vec<serde_json::Value> {
        let waiting = self.state().device(name).to_device.clone();
        waiting.iter().map(|event| serde_json::from_str(event.json().get()).unwrap()).collect()
    }

    /// Deletes a device: its keys are gone, and everybody is told.
    pub fn deletes_device(&self, name: &DeviceName) {
        let mut state = self.state();
        if let Some(device) = state.devices.get_mut(name) {
            device.keys = None;
            device.one_time_keys.clear();
            device.fallback_keys.clear();
        }
        state.changed_users.push(name.0.clone());
    }

    /// Tells everybody that a user's device list has changed.
    pub fn announces_devices_of(&self, user: &OwnedUserId) {
        self.state().changed_users.push(user.clone());
    }

    /// How many one-time keys of an algorithm the server has of a device.
    pub fn one_time_key_count(&self, name: &DeviceName, algorithm: &str) -> usize {
        let algorithm = OneTimeKeyAlgorithm::from(algorithm);
        let mut state = self.state();
        state.device(name).one_time_keys.get(&algorithm).map_or(0, |keys| keys.len())
    }

    /// Drops the one-time keys of an algorithm, and the fallback key too if that is wanted.
    pub fn drops_one_time_keys(&self, name: &DeviceName, algorithm: &str, fallback_too: bool) {
        let algorithm = OneTimeKeyAlgorithm::from(algorithm);
        let mut state = self.state();
        state.device(name).one_time_keys.remove(&algorithm);
        if fallback_too {
            state.device(name).fallback_keys.remove(&algorithm);
        }
    }
}

impl State {
    fn deliver_to_device(
        &mut self,
        sender: &OwnedUserId,
        to: &DeviceName,
        event_type: &str,
        content: &Raw<AnyToDeviceEventContent>,
    ) {
        let cut = self.is_cut(sender, &to.0);
        let Some(device) = self.devices.get_mut(to) else { return };
        if device.loses_to_device > 0 {
            device.loses_to_device -= 1;
            return;
        }
        let json = json!({ "type": event_type, "sender": sender, "content": content });
        let event: Raw<AnyToDeviceEvent> =
            Raw::from_json(serde_json::value::to_raw_value(&json).unwrap());
        let copies = if device.doubles_to_device { 2 } else { 1 };
        for _ in 0..copies {
            if cut || device.holds_to_device {
                device.held_to_device.push(event.clone());
            } else {
                device.to_device.push(event.clone());
            }
        }
    }
}

impl Device {
    /// What it is told of its one-time keys.
    pub(super) fn key_counts(&self, without_olm_keys: bool) -> BTreeMap<OneTimeKeyAlgorithm, UInt> {
        let mut counts: BTreeMap<_, _> = self
            .one_time_keys
            .iter()
            .filter(|(_, keys)| !keys.is_empty())
            .map(|(algorithm, keys)| (algorithm.clone(), UInt::try_from(keys.len()).unwrap()))
            .collect();
        // As Synapse does, so that a device without any learns of it.
        let of_olm = counts.entry(OneTimeKeyAlgorithm::SignedCurve25519).or_default();
        if without_olm_keys {
            *of_olm = UInt::from(ALL_OLM_KEYS);
        }
        counts
    }
}
