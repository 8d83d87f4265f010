//! What was found, for people and for programs.

use std::fmt::Write as _;

use matrix_sdk_mls_sqlite::{Inspection, Problem, RoomInspection};
use serde_json::{Map, Value, json};

use crate::copy::Copied;

/// For people.
pub fn text(copied: &Copied, content: Option<&Inspection>, problems: &[Problem]) -> String {
    let mut text = format!("{}\n", copied.file.display());
    if let Some(content) = content {
        if copied.schema_version != content.schema_version {
            // The rest is that of the copy, which was brought up to date.
            let _ = writeln!(text, "schema {} in the file, here:", copied.schema_version);
        }
        let _ = write!(text, "{content}");
    }
    for problem in problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    text.push_str(if problems.is_empty() { "sound\n" } else { "not sound\n" });
    text
}

/// For programs.
pub fn json(
    copied: &Copied,
    content: Option<&Inspection>,
    problems: &[Problem],
) -> serde_json::Result<String> {
    let mut document = Map::new();
    document.insert("file".into(), copied.file.display().to_string().into());
    document.insert("schema_version".into(), copied.schema_version.into());
    if let Some(content) = content {
        let requests = content.requests.iter().map(
            |(order, room_id, kind)| json!({ "order": order, "room_id": room_id, "kind": kind }),
        );
        document.insert("encrypted".into(), content.encrypted.into());
        document.insert("file_bytes".into(), content.file_bytes.into());
        document.insert("log_bytes".into(), content.log_bytes.into());
        document.insert("key_packages".into(), content.key_packages.into());
        document.insert("requests".into(), requests.collect());
        document.insert("rooms".into(), content.rooms.iter().map(room).collect());
    }
    let problems: Vec<Value> = problems.iter().map(|one| one.to_string().into()).collect();
    document.insert("sound".into(), problems.is_empty().into());
    document.insert("problems".into(), problems.into());
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn room(room: &RoomInspection) -> Value {
    let tips =
        room.tips.iter().map(|(epoch, node)| json!({ "epoch": epoch, "node": node.to_base64() }));
    let counts: Map<_, _> =
        room.counts.iter().map(|(name, count)| ((*name).to_owned(), (*count).into())).collect();
    json!({
        "room_id": room.room_id,
        "tips": tips.collect::<Value>(),
        "rows": counts,
        "shared_bytes": room.shared_bytes,
    })
}
