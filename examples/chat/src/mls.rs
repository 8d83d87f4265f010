//! What is said of MLS rooms, and only of those.

use anyhow::Result;
use matrix_sdk::ruma::{OwnedEventId, UserId};
use matrix_sdk_mls::{Advice, MlsEvent};

use crate::{Client, Room, state::MemberRow};

/// Epochs that are shown of the group's graph.
const EPOCHS: u64 = 30;

/// A member's devices, and whether they read along.
pub(crate) async fn devices(
    _client: &Client,
    room: &Room,
    user: &UserId,
) -> Result<Vec<MemberRow>> {
    let is_mls = room.is_mls().await?;
    let devices = room.mls_devices().await?.into_iter().filter(|device| device.user_id == user);
    let rows = devices.map(|device| {
        let reads = match (device.in_group, device.is_known) {
            _ if !is_mls => "",
            (_, false) => "should not be here, ",
            (true, _) => "reads along, ",
            (false, _) if device.has_no_mls => "has no MLS, ",
            (false, _) => "does not read along, ",
        };
        let verified = if device.is_verified { "verified" } else { "not verified" };
        MemberRow {
            text: format!("  {} {reads}{verified}", device.device_id),
            is_good: device.is_verified && (device.in_group || !is_mls),
            is_heading: false,
        }
    });
    Ok(rows.collect())
}

/// How a room's group stands.
pub(crate) async fn epoch(client: &Client, room: &Room) -> Result<Vec<String>> {
    if !room.is_mls().await? {
        return Ok(vec!["This is not an MLS room.".to_owned()]);
    }
    let Some(status) = room.mls_status().await? else {
        return Ok(vec!["This device is in no group.".to_owned()]);
    };
    let graph = client.mls_machine().await?.epoch_graph(room.room_id()).await?;
    let chosen = if status.is_chosen { "everybody's" } else { "not everybody's" };
    let mut lines = vec![
        format!("epoch {} {:?}, {chosen}", status.epoch, status.node),
        format!("{} devices", status.roster.len()),
        format!("{} branches, {} epochs held", status.tips.len(), status.retained),
        String::new(),
    ];
    lines.extend(graph.last(EPOCHS).to_string().lines().map(ToOwned::to_owned));
    Ok(lines)
}

/// The message that cannot be read, and why.
pub(crate) fn unreadable(event: &MlsEvent) -> Option<(OwnedEventId, String)> {
    let MlsEvent::Undecryptable { event_id, reason, advice, .. } = event else { return None };
    let reason = match advice {
        Advice::Wait => format!("yet: {advice}"),
        _ => format!("({reason}): {advice}"),
    };
    Some((event_id.clone(), reason))
}

/// What is said of an event, if anything is.
pub(crate) fn text(client: &Client, event: &MlsEvent) -> Option<String> {
    let text = match event {
        MlsEvent::BecameMls { .. } => "is an MLS room from now on".to_owned(),
        MlsEvent::ReadyToSend { without_mls, .. } if without_mls.is_empty() => {
            "is ready".to_owned()
        }
        MlsEvent::ReadyToSend { without_mls, .. } => {
            format!("is ready, but for {} devices without MLS", without_mls.len())
        }
        MlsEvent::NotReady { .. } => "is brought in line before the next message".to_owned(),
        MlsEvent::Joined { .. } => "this device is in the group".to_owned(),
        MlsEvent::Removed { by, .. } => format!("this device was removed by {}", by.user_id),
        MlsEvent::GroupReplaced { by, obstacle: None, .. } => {
            format!("the group was founded anew by {by}, and this device follows")
        }
        MlsEvent::GroupReplaced { by, .. } => {
            format!("{by} has named another group, and this device stays where it is")
        }
        MlsEvent::EpochChanged { epoch, devices, author, added, removed, .. } => {
            let by = author.as_ref().map_or("another branch", |author| &author.user_id);
            let (added, removed) = (added.len(), removed.len());
            format!("epoch {epoch} by {by}, {devices} devices (+{added} -{removed})")
        }
        MlsEvent::ForkSeen { .. } => "two commits at once, both are read".to_owned(),
        MlsEvent::ForkMerged { branches, .. } => {
            format!("{} branches were brought together", branches.len() + 1)
        }
        MlsEvent::MemberWithoutMls { user_id, .. } => format!("{user_id} has no MLS"),
        MlsEvent::DeviceWithoutMls { user_id, device_id, reason, .. } => {
            format!("{user_id}'s {device_id} cannot read along: {reason}")
        }
        MlsEvent::UnverifiedDevice { device, .. } => {
            format!("{}'s {} is new, and not verified", device.user_id, device.device_id)
        }
        MlsEvent::UnexpectedMember { device, .. } => {
            format!("{}'s {} should not be here", device.user_id, device.device_id)
        }
        MlsEvent::UploadRefused { bytes, .. } => {
            format!("nobody can come in: the server takes no file of {bytes} bytes")
        }
        MlsEvent::DowngradeAttempt { .. } => {
            "somebody tried to turn MLS off; nothing is sent here any more".to_owned()
        }
        MlsEvent::BackupState(state) => format!("key backup: {state:?}"),
        MlsEvent::Missed(count) => format!("{count} happenings were missed"),
        _ => return None,
    };
    let room = event.room_id().and_then(|room_id| client.get_room(room_id));
    let name = room.and_then(|room| room.cached_display_name()).map(|name| name.to_string());
    Some(match (name, event.room_id()) {
        (Some(name), _) => format!("{name}: {text}"),
        (None, Some(room_id)) => format!("{room_id}: {text}"),
        (None, None) => text,
    })
}
