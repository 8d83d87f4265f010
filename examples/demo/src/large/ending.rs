//! Everybody has the same picture, and what all of it has cost.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use matrix_mls_tests::{HttpClient, MlsDevice};
use matrix_sdk_crypto_mls::Notice;
use ruma::{RoomId, api::client::message::get_message_events, uint};

use super::{Crowd, Traffic, crowd::each};
use crate::{report::Step, stage::status};

/// What a homeserver takes, in bytes.
const MAX_EVENT: usize = 65_536;

/// One epoch, nothing refused, nothing strange, nothing too large.
pub async fn look(
    http: &HttpClient,
    begin: &Traffic,
    crowd: &mut Crowd,
    step: &mut Step,
) -> Result<()> {
    let (room, all) = (crowd.room.clone(), crowd.people.len());
    let tip = crowd.come_together().await?;
    let group = status(crowd.device(0)?, &room).await?;
    let what =
        format!("all {all} devices send in the epoch {}, number {}", tip.short(), group.epoch);
    step.check(group.node == tip && group.roster.len() == all, what)?;
    step.check(group.is_chosen, "it is the one that is chosen among all that is known")?;
    let messages = each(&mut crowd.people, async |device| {
        let own = device.user_id().to_owned();
        let failed = device.refusals.first();
        ensure!(failed.is_none(), "the server has refused {own} something: {failed:?}");
        let strange = device.notices.iter().find(|notice| !is_ordinary(notice));
        ensure!(strange.is_none(), "{own} has reported {strange:?}");
        Ok(device.timeline(&room).iter().filter(|event| event.result.is_ok()).count())
    })
    .await?;
    let messages: usize = messages.into_iter().sum();
    step.check(messages > 0, format!("they hold {messages} decrypted messages"))?;
    step.check(true, "no machine has reported anything strange, no request was refused")?;

    let mut largest = 0;
    for (event_type, sizes) in sizes(crowd.device(0)?, &room).await? {
        let (count, sum) = (sizes.len(), sizes.iter().sum::<usize>());
        let max = sizes.into_iter().max().unwrap_or_default();
        largest = largest.max(max);
        let name = event_type.replace(matrix_sdk_crypto_mls::dmls::NAMESPACE, "…");
        step.note(format!("{count} events {name}: {sum} bytes, at most {max}"));
    }
    step.check(largest <= MAX_EVENT, format!("the largest event has {largest} bytes"))?;
    let Traffic { to_device, uploaded, downloaded } = Traffic::of(http).since(begin);
    step.note(format!("to devices directly: {to_device} bytes"));
    step.note(format!("files: {uploaded} bytes uploaded, {downloaded} bytes downloaded"));
    Ok(())
}

/// Whether a notice is one that a room brings in which nobody does anything wrong.
const fn is_ordinary(notice: &Notice) -> bool {
    matches!(
        notice,
        Notice::RoomIsMls { .. }
            | Notice::EpochEntered { .. }
            | Notice::Forked { .. }
            | Notice::Merged { .. }
            | Notice::Joined { .. }
    )
}

/// The sizes of all events of a room, as the server gives them without `unsigned`, by type, in bytes.
async fn sizes(device: &MlsDevice, room: &RoomId) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut sizes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut from = None;
    loop {
        let mut request = get_message_events::v3::Request::backward(room.to_owned());
        request.limit = uint!(100);
        request.from = from;
        let page = device.messages(request).await?;
        for event in &page.chunk {
            let mut event: serde_json::Map<String, serde_json::Value> =
                event.deserialize_as_unchecked()?;
            event.remove("unsigned");
            let event_type = event.get("type").and_then(|name| name.as_str()).unwrap_or_default();
            sizes.entry(event_type.to_owned()).or_default().push(serde_json::to_vec(&event)?.len());
        }
        from = page.end;
        if from.is_none() || page.chunk.is_empty() {
            return Ok(sizes);
        }
    }
}
