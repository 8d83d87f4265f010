//! Everybody has the same picture.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use matrix_sdk_crypto_mls::Notice;

use crate::{
    report::{Line, Step},
    stage::{Stage, status},
};

/// The graph of epochs as Alice has seen it, and whether anything was reported that should not be.
pub async fn look(stage: &mut Stage, step: &mut Step) -> Result<()> {
    let room = stage.room.clone();
    let mut labels = BTreeMap::new();
    for person in &mut stage.people {
        for (label, device) in person.devices() {
            labels.insert(device.session.device_id.to_string(), label);
        }
    }
    let alice = stage.device("Alice", 1)?;
    let entered: Vec<_> = alice
        .notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::EpochEntered { node, epoch, author, added, removed, .. } => {
                Some((*node, *epoch, author.clone(), added.len(), removed.len()))
            }
            _ => None,
        })
        .collect();
    for (node, epoch, author, added, removed) in entered {
        let commit = alice.mls.store().commit(&room, &node).await?.context("no commit")?;
        let parent = commit.content.parent.map_or_else(|| "nothing".to_owned(), |id| id.short());
        let what = match (added, removed) {
            (0, 0) => "renewed its keys".to_owned(),
            (added, 0) => format!("added {added}"),
            (0, removed) => format!("removed {removed}"),
            (added, removed) => format!("added {added}, removed {removed}"),
        };
        step.line(Line::Epoch {
            by: labels.get(&author.device_id).cloned().unwrap_or(author.device_id),
            epoch,
            node: node.short(),
            what: format!("{what} on {parent}"),
        });
    }

    let tip = status(stage.device("Alice", 1)?, &room).await?.node;
    stage.agree(step, tip).await?;
    let (mut messages, mut devices) = (0, 0);
    for person in &mut stage.people {
        for (label, device) in person.devices() {
            let failed = device.refusals.first();
            ensure!(failed.is_none(), "the server has refused {label} something: {failed:?}");
            let strange = device.notices.iter().find(|notice| {
                !matches!(
                    notice,
                    Notice::RoomIsMls { .. }
                        | Notice::EpochEntered { .. }
                        | Notice::Forked { .. }
                        | Notice::Merged { .. }
                        | Notice::Joined { .. }
                )
            });
            ensure!(strange.is_none(), "{label} has reported {strange:?}");
            messages += device.timeline(&room).iter().filter(|event| event.result.is_ok()).count();
            devices += 1;
        }
    }
    step.check(messages > 0, format!("{devices} devices hold {messages} decrypted messages"))?;
    step.check(true, "no machine has reported anything strange, no request was refused")
}
