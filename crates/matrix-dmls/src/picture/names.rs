//! Names and deeds in words. What comes from others is made harmless.

use std::fmt::Write as _;

use super::{EpochCommit, EpochNode};
use crate::credential::Device;

/// The longest user or device ID that is shown whole, in characters.
const MAX_NAME: usize = 40;

/// At most this many devices are named in a list.
const MAX_NAMED: usize = 3;

/// A user or device ID with nothing in it that a terminal or a reader would take for something else:
/// control characters, white space and whatever changes the direction or cannot be seen are escaped.
pub(super) fn harmless(name: &str) -> String {
    let mut harmless = String::new();
    for (position, character) in name.chars().enumerate() {
        if position == MAX_NAME {
            harmless.push('…');
            break;
        }
        match character {
            '!'..='~' => harmless.push(character),
            letter if letter.is_alphanumeric() => harmless.push(letter),
            // Writing to a String does not fail.
            other => drop(write!(harmless, "\\u{{{:x}}}", u32::from(other))),
        }
    }
    harmless
}

pub(super) fn device(device: &Device) -> String {
    format!("{}/{}", harmless(&device.user_id), harmless(&device.device_id))
}

fn devices(devices: &[Device]) -> String {
    let mut names: Vec<_> = devices.iter().take(MAX_NAMED).map(device).collect();
    if let more @ 1.. = devices.len().saturating_sub(MAX_NAMED) {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

/// What a node's commit did, as a sentence about its author.
pub(super) fn deed(node: &EpochNode) -> String {
    let Some(commit) = &node.commit else {
        return "only its members are known".to_owned();
    };
    format!("{} {}", device(&commit.author), deeds(node, commit).join(", "))
}

fn deeds(node: &EpochNode, commit: &EpochCommit) -> Vec<String> {
    let mut deeds = Vec::new();
    if node.parent.is_none() {
        deeds.push("founds".to_owned());
    }
    if commit.is_external {
        deeds.push("joins by itself".to_owned());
    }
    if !commit.removed.is_empty() {
        deeds.push(format!("removes {}", devices(&commit.removed)));
    }
    if !commit.added.is_empty() {
        deeds.push(format!("adds {}", devices(&commit.added)));
    }
    if deeds.is_empty() {
        deeds.push(if commit.updated { "updates" } else { "changes nobody" }.to_owned());
    }
    if !commit.resolves.is_empty() {
        let tips: Vec<_> = commit.resolves.iter().map(|tip| tip.short()).collect();
        deeds.push(format!("resolves {}", tips.join(" ")));
    }
    deeds
}
