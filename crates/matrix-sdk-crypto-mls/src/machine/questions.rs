//! What requests for commits and requests for epoch keys have in common (protocol §6): how often they are
//! made, and who is answered.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use matrix_dmls::{NodeId, TrustRequirement};
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, UserId};

use super::{DeviceName, MlsMachine, Room, identity};
use crate::{
    error::MlsError,
    store::OutboxRequestKind,
    types::events::{ToDeviceCommitRequestEventContent, ToDeviceKeyRequestEventContent},
};

const MINUTE: u64 = 60 * 1000;

/// At most this many requests of a kind are made in a room in a minute.
const PER_MINUTE: usize = 3;

/// A device is answered so often, in milliseconds.
pub(super) const ANSWER_PAUSE: u64 = MINUTE;

/// At most this many devices are remembered that were answered within that time; who comes then has to
/// ask again.
const MAX_ANSWERED: usize = 1000;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Commits,
    Keys,
}

/// The devices that were answered within the last minute, and when.
pub(super) type Answered = BTreeMap<(OwnedRoomId, DeviceName, Subject), u64>;

/// Signatures of requests: by user, and by the name of the key.
pub(crate) type Signatures = BTreeMap<OwnedUserId, BTreeMap<String, String>>;

/// A request of another device.
pub(super) trait Question {
    const SUBJECT: Subject;

    fn room_id(&self) -> &OwnedRoomId;
    fn is_within_limits(&self) -> bool;
    fn signatures(&self) -> &Signatures;
    fn signed_json(&self) -> Result<String, serde_json::Error>;
}

macro_rules! question {
    ($content:ty, $subject:expr) => {
        impl Question for $content {
            const SUBJECT: Subject = $subject;

            fn room_id(&self) -> &OwnedRoomId {
                &self.room_id
            }

            fn is_within_limits(&self) -> bool {
                self.is_within_limits()
            }

            fn signatures(&self) -> &Signatures {
                &self.signatures
            }

            fn signed_json(&self) -> Result<String, serde_json::Error> {
                self.signed_json()
            }
        }
    };
}

question!(ToDeviceCommitRequestEventContent, Subject::Commits);
question!(ToDeviceKeyRequestEventContent, Subject::Keys);

/// The device that says that it asks, and its signature.
pub(super) struct Asker {
    pub(super) name: DeviceName,
    signature: Vec<u8>,
}

/// When the next request may be made, after those that were made at these times.
pub(super) fn free_at(times: impl Iterator<Item = u64>) -> u64 {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let free = times.iter().rev().nth(PER_MINUTE - 1).map(|time| time.saturating_add(MINUTE));
    free.unwrap_or_default()
}

impl MlsMachine {
    /// Our device's signature over a request, as the request carries it.
    pub(crate) async fn signatures_of(&self, signed_json: &str) -> Result<Signatures, MlsError> {
        let signature = identity::sign(&self.inner.olm, signed_json).await?;
        let key = format!("ed25519:{}", self.device_id());
        let keys = [(key, STANDARD_NO_PAD.encode(signature))].into();
        Ok([(self.user_id().to_owned(), keys)].into())
    }

    /// Who asks, if the request is one that may be looked at: within its limits, by another device, and
    /// not before the pause is over. The signature is not verified yet.
    pub(super) fn asker<Q: Question>(&self, sender: &UserId, question: &Q) -> Option<Asker> {
        let (device_id, signature) = signature_of(sender, question.signatures())?;
        let name = (sender.to_owned(), device_id);
        let is_own = name.0 == self.user_id() && name.1 == self.device_id();
        if is_own || !question.is_within_limits() {
            return None;
        }
        let now = self.now();
        let answered = &mut self.transient().answered;
        answered.retain(|_, time| now.saturating_sub(*time) < ANSWER_PAUSE);
        let key = (question.room_id().clone(), name.clone(), Q::SUBJECT);
        let may_answer = answered.len() < MAX_ANSWERED && !answered.contains_key(&key);
        may_answer.then_some(Asker { name, signature })
    }

    /// Notes that the device is answered, or that it was found out whether it can be.
    pub(super) fn has_answered<Q: Question>(&self, asker: &Asker, question: &Q) {
        let now = self.now();
        let key = (question.room_id().clone(), asker.name.clone(), Q::SUBJECT);
        self.transient().answered.insert(key, now);
    }

    /// The Matrix key of a device, if the room's group is to have the device and it has signed this
    /// request. `tip` is the epoch that we send in.
    pub(super) async fn asking_device<Q: Question>(
        &self,
        room: &Room,
        tip: &NodeId,
        asker: &Asker,
        question: &Q,
    ) -> Result<Option<[u8; 32]>, MlsError> {
        let (user_id, device_id) = &asker.name;
        if !room.view.wanted_users().any(|wanted| wanted == user_id) {
            return Ok(None);
        }
        let Some(device) = self.inner.olm.get_device(user_id, device_id, None).await? else {
            return Ok(None);
        };
        if room.trust(tip) == TrustRequirement::CrossSigned && !device.is_cross_signed_by_owner() {
            return Ok(None);
        }
        let json = question.signed_json()?;
        let key = device.ed25519_key().map(|key| *key.as_bytes());
        let has_signed =
            |key: &[u8; 32]| matrix_dmls::verify_device_signature(key, &json, &asker.signature);
        Ok(key.filter(has_signed))
    }
}

/// A to-device message for one device.
pub(super) fn message_to<T: ruma::events::StaticEventContent + serde::Serialize>(
    (user_id, device_id): DeviceName,
    content: &T,
) -> Result<OutboxRequestKind, MlsError> {
    Ok(OutboxRequestKind::ToDevice {
        event_type: T::TYPE.to_owned(),
        messages: vec![(user_id, device_id, serde_json::to_string(content)?)],
    })
}

/// The device that has signed a request, and its signature, if there is exactly one.
fn signature_of(sender: &UserId, signatures: &Signatures) -> Option<(OwnedDeviceId, Vec<u8>)> {
    let keys = signatures.get(sender).filter(|keys| keys.len() == 1)?;
    let (key, signature) = keys.first_key_value()?;
    let device_id = key.strip_prefix("ed25519:")?;
    Some((OwnedDeviceId::from(device_id), STANDARD_NO_PAD.decode(signature).ok()?))
}
