//! Creating a room that is an MLS room from its first event (protocol §11).

use matrix_dmls::ALGORITHM;
use ruma::{
    api::client::room::create_room,
    events::{AnyInitialStateEvent, StaticEventContent},
    serde::Raw,
};
use serde_json::{Map, Value, json, value::to_raw_value};

use crate::types::events::{CommitEventContent, GroupEventContent};

/// Makes a request to create a room into one that creates an MLS room, leaving everything else in
/// it as it is:
///
/// * `m.room.create` and `m.room.encryption` both name the algorithm. A client that knows only the
///   latter then refuses to send, instead of sending in the clear.
/// * Everybody may send commits, also where only some may send messages: a member that cannot
///   renew its keys would endanger all. Only those with power level 100 may name another group.
///
/// The user who sends it founds the group with the device that first calls
/// [`crate::MlsMachine::prepare_room`].
///
/// # Errors
///
/// When what is in the request cannot be read as JSON objects.
pub fn make_mls_room(request: &mut create_room::v3::Request) -> Result<(), serde_json::Error> {
    let mut creation = object(request.creation_content.as_ref().map(|raw| raw.json().get()))?;
    creation.insert("org.matrix.msc4245.encryption_algorithm".to_owned(), ALGORITHM.into());
    let creation: Raw<create_room::v3::CreationContent> = Raw::from_json(to_raw_value(&creation)?);
    request.creation_content = Some(creation);

    let mut levels =
        object(request.power_level_content_override.as_ref().map(|raw| raw.json().get()))?;
    let events = levels.entry("events").or_insert_with(default_levels);
    if let Some(events) = events.as_object_mut() {
        events.entry(CommitEventContent::TYPE).or_insert_with(|| 0.into());
        events.entry(GroupEventContent::TYPE).or_insert_with(|| 100.into());
    }
    request.power_level_content_override = Some(Raw::from_json(to_raw_value(&levels)?));

    let encryption = json!({
        "type": "m.room.encryption",
        "state_key": "",
        "content": { "algorithm": ALGORITHM },
    });
    request.initial_state.retain(|event| {
        event.get_field::<String>("type").ok().flatten().as_deref() != Some("m.room.encryption")
    });
    let encryption: Raw<AnyInitialStateEvent> = Raw::from_json(to_raw_value(&encryption)?);
    request.initial_state.push(encryption);
    Ok(())
}

/// The power levels that servers give to events. Naming others replaces all of them, and without
/// them everybody who may set any state could change who may do what, or turn encryption off.
fn default_levels() -> Value {
    json!({
        "m.room.avatar": 50,
        "m.room.canonical_alias": 50,
        "m.room.encryption": 100,
        "m.room.history_visibility": 100,
        "m.room.name": 50,
        "m.room.power_levels": 100,
        "m.room.server_acl": 100,
        "m.room.tombstone": 100,
    })
}

fn object(json: Option<&str>) -> Result<Map<String, Value>, serde_json::Error> {
    json.map_or_else(|| Ok(Map::new()), serde_json::from_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_algorithm_twice_and_keeps_the_rest() {
        let mut request = create_room::v3::Request::new();
        request.name = Some("A room".to_owned());
        let levels = json!({ "events_default": 50, "events": { "m.room.name": 50 } });
        request.power_level_content_override = Some(Raw::from_json(to_raw_value(&levels).unwrap()));
        make_mls_room(&mut request).unwrap();
        let levels: Value =
            request.power_level_content_override.unwrap().deserialize_as_unchecked().unwrap();
        assert_eq!(levels["events_default"], 50);
        assert_eq!(levels["events"]["m.room.name"], 50);
        assert_eq!(levels["events"]["io.github.matrix-mls.dmls.v1.commit"], 0);
        assert_eq!(levels["events"]["io.github.matrix-mls.dmls.v1.group"], 100);
        let creation: Value = request.creation_content.unwrap().deserialize_as_unchecked().unwrap();
        assert_eq!(creation["org.matrix.msc4245.encryption_algorithm"], ALGORITHM);
        let state: Value = request.initial_state[0].deserialize_as_unchecked().unwrap();
        assert_eq!(state["content"]["algorithm"], ALGORITHM);
        assert_eq!(request.name.as_deref(), Some("A room"));
    }

    #[test]
    fn the_servers_power_levels_stay() {
        let mut request = create_room::v3::Request::new();
        make_mls_room(&mut request).unwrap();
        let levels: Value =
            request.power_level_content_override.unwrap().deserialize_as_unchecked().unwrap();
        for protected in ["m.room.encryption", "m.room.power_levels"] {
            assert_eq!(levels["events"][protected], 100, "{protected}");
        }
    }
}
