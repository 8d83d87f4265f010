//! What is beside the timeline.

use anyhow::Result;
use matrix_sdk::{RoomMemberships, RoomState, ruma::UserId};

use crate::{
    Client, Room,
    state::{Mark, MemberRow, Panels},
};

/// What a room is.
pub(crate) async fn mark(room: &Room) -> Result<Mark> {
    if room.state() == RoomState::Invited {
        return Ok(Mark::Invited);
    }
    #[cfg(feature = "mls")]
    if room.is_mls().await? {
        return Ok(Mark::Mls { is_in: room.mls_status().await?.is_some() });
    }
    let is_encrypted = room.latest_encryption_state().await?.is_encrypted();
    Ok(if is_encrypted { Mark::Megolm } else { Mark::Unencrypted })
}

/// Whether this device is verified, and backed up.
pub(crate) async fn trust(client: &Client) -> Result<String> {
    let device = client.encryption().get_own_device().await?;
    let trust = match device {
        Some(device) if device.is_cross_signed_by_owner() => "this device is verified",
        _ => "this device is not verified",
    };
    Ok(trust.to_owned())
}

/// The panels of a room.
pub(crate) async fn of(client: &Client, room: &Room) -> Result<Panels> {
    let mut members = Vec::new();
    for member in room.members_no_sync(RoomMemberships::ACTIVE).await? {
        let user = member.user_id();
        let identity = client.encryption().get_user_identity(user).await?;
        let is_good = identity.as_ref().is_some_and(|identity| identity.is_verified());
        let state = match &identity {
            Some(identity) if identity.has_verification_violation() => "identity has changed",
            Some(_) if is_good => "verified",
            _ => "not verified",
        };
        let text = format!("{user} {} {state}", member.membership());
        members.push(MemberRow { text, is_good, is_heading: true });
        members.extend(devices(client, room, user).await?);
    }
    #[cfg(not(feature = "mls"))]
    let epoch = vec!["This is not an MLS room.".to_owned()];
    #[cfg(feature = "mls")]
    let epoch = crate::mls::epoch(client, room).await?;
    Ok(Panels { members, epoch })
}

/// A member's devices, and whether they are verified.
#[cfg(not(feature = "mls"))]
async fn devices(client: &Client, _room: &Room, user: &UserId) -> Result<Vec<MemberRow>> {
    let devices = client.encryption().get_user_devices(user).await?;
    let rows = devices.devices().map(|device| {
        let is_good = device.is_verified();
        let state = if is_good { "verified" } else { "not verified" };
        MemberRow { text: format!("  {} {state}", device.device_id()), is_good, is_heading: false }
    });
    Ok(rows.collect())
}

/// A member's devices, and whether they read along.
#[cfg(feature = "mls")]
async fn devices(client: &Client, room: &Room, user: &UserId) -> Result<Vec<MemberRow>> {
    crate::mls::devices(client, room, user).await
}
