//! One event, encrypted again.

use matrix_sdk::deserialized_responses::{
    TimelineEvent, TimelineEventKind, UnableToDecryptInfo, UnableToDecryptReason,
};
use matrix_sdk_crypto_mls::{DecryptedRoomEvent, dmls::ALGORITHM};
use ruma::{events::AnySyncTimelineEvent, serde::Raw};
use serde::Deserialize;
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use super::session::Session;
use crate::error::Error;

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EncryptedHead {
    algorithm: Option<String>,
}

/// Whether it is a message of an MLS room.
pub(crate) fn is_message<T>(event: &Raw<T>) -> bool {
    let json = event.json().get();
    // Before it is parsed: most are not.
    if !json.contains(ALGORITHM) {
        return false;
    }
    let Ok(Head { event_type, content: Some(content) }) = serde_json::from_str(json) else {
        return false;
    };
    event_type == "m.room.encrypted"
        && serde_json::from_str(content.get())
            .is_ok_and(|head: EncryptedHead| head.algorithm.as_deref() == Some(ALGORITHM))
}

/// Whether it is one that the SDK has as it came.
pub(super) fn is_unread(event: &TimelineEvent) -> bool {
    matches!(&event.kind, TimelineEventKind::PlainText { event } if is_message(event))
}

/// The plaintext of a Megolm message.
#[derive(serde::Serialize)]
struct Plaintext<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
    room_id: &'a str,
}

#[derive(Deserialize)]
struct Decrypted<'a> {
    #[serde(rename = "type")]
    event_type: String,
    #[serde(borrow)]
    content: &'a RawValue,
    room_id: String,
}

/// The same event as one that the SDK can decrypt and has not decrypted yet, and the ID of its
/// session.
pub(super) fn encrypt(
    mut event: TimelineEvent,
    decrypted: &DecryptedRoomEvent,
    session: &mut Session,
) -> Result<(TimelineEvent, String), Error> {
    let said: Decrypted<'_> = serde_json::from_str(decrypted.event.json().get())?;
    let plaintext = serde_json::to_string(&Plaintext {
        event_type: &said.event_type,
        content: said.content,
        room_id: &said.room_id,
    })?;
    let session_id = session.outbound.session_id();
    let mut content = json!({
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": session.outbound.encrypt(&plaintext).to_base64(),
        "sender_key": session.sender_key.to_base64(),
        "device_id": decrypted.encryption_info.sender.device_id,
        "session_id": session_id,
    });
    let mut whole: Map<String, Value> = serde_json::from_str(event.raw().json().get())?;
    let relation = whole.get("content").and_then(|content| content.get("m.relates_to"));
    if let (Some(content), Some(relation)) = (content.as_object_mut(), relation) {
        content.insert("m.relates_to".to_owned(), relation.clone());
    }
    whole.insert("content".to_owned(), content);
    let whole: Raw<AnySyncTimelineEvent> = Raw::from_json(to_raw_value(&whole)?);
    let utd_info = UnableToDecryptInfo {
        session_id: Some(session_id.clone()),
        reason: UnableToDecryptReason::MissingMegolmSession { withheld_code: None },
    };
    event.kind = TimelineEventKind::UnableToDecrypt { event: whole, utd_info };
    Ok((event, session_id))
}
