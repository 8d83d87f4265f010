//! The halves find each other again.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use matrix_mls_tests::{Federation, come_together};
use matrix_sdk_crypto_mls::{
    GroupStatus, Notice,
    dmls::{Device, EpochGraph, NodeStatus},
};

use super::{
    Said,
    before::{Half, Halves, sees},
};
use crate::{
    report::{Line, Step},
    stage::{Message, Stage, status},
};

/// Whoever was there before reads what was said on the other side meanwhile.
pub async fn catch_up(
    net: &mut Federation,
    halves: &mut Halves,
    on_a: &Said,
    on_b: &Said,
    step: &mut Step,
) -> Result<()> {
    net.heal().await?;
    step.note("each server has asked the other one something, which wakes both up");
    let Halves { a, b } = halves;
    for (half, newcomer, said) in [(&mut *a, "Carol", on_b), (&mut *b, "Frank", on_a)] {
        // Who came meanwhile was not there when the branches parted.
        let newcomer = half.stage.dismiss(newcomer)?;
        for message in said {
            half.stage.read(step, message).await?;
        }
        half.stage.people.push(newcomer);
    }
    let (carol, frank) = (id(a, "Carol")?, id(b, "Frank")?);
    let gone = [a.removed.as_ref(), b.removed.as_ref()].map(|gone| gone.map(|p| p.user.id()));
    for stage in [&mut a.stage, &mut b.stage] {
        let room = stage.room.clone();
        for person in &mut stage.people {
            for (label, device) in person.devices() {
                for user in [&carol, &frank] {
                    sees(device, &room, user, true).await.context(label.clone())?;
                }
                for user in gone.into_iter().flatten() {
                    sees(device, &room, user, false).await.context(label.clone())?;
                }
            }
        }
    }
    step.check(true, "everybody has seen who came and who went on the other side")
}

fn id(half: &mut Half, name: &str) -> Result<ruma::OwnedUserId> {
    Ok(half.stage.person(name)?.user.id().to_owned())
}

/// Three people write, one after the other, and everybody reads it.
pub async fn merge(halves: &mut Halves, step: &mut Step) -> Result<Said> {
    let mut said = Vec::new();
    let script = [
        (true, "Erin", "Together again."),
        (false, "Alice", "At last."),
        (true, "Frank", "Nice to meet you all."),
    ];
    for (is_b, name, text) in script {
        let Halves { a, b } = &mut *halves;
        let (here, there) = if is_b { (b, a) } else { (a, b) };
        let room = here.stage.room.clone();
        let message = here.stage.write(name, 1, text).await?;
        let group = status(here.stage.device(name, 1)?, &room).await?;
        step.epoch(&format!("{name}/1"), &group, "writes");
        for gone in [&here.removed, &there.removed].into_iter().flatten() {
            let is_in = contains(&group, gone.user.id().as_str());
            ensure!(!is_in, "{} is in the group again", gone.name);
        }
        here.stage.read(step, &message).await?;
        there.stage.read(step, &message).await?;
        said.push(message);
    }
    step.check(true, "nobody who was removed on either side was in the group that they wrote to")?;

    let Halves { a, b } = halves;
    let room = a.stage.room.clone();
    let mut devices: Vec<_> = all(&mut a.stage).chain(all(&mut b.stage)).collect();
    let tip = come_together(&mut devices, &room).await?;
    let number = devices.len();
    let members = status(a.stage.device("Alice", 1)?, &room).await?.roster.len();
    let what = format!("all {number} devices send in the epoch {}", tip.short());
    step.check(members == number, format!("{what}, which has {members} members"))?;
    Ok(said)
}

fn all(stage: &mut Stage) -> impl Iterator<Item = &mut matrix_mls_tests::MlsDevice> {
    stage.people.iter_mut().flat_map(|person| person.user.devices())
}

fn contains(group: &GroupStatus, user: &str) -> bool {
    group.roster.iter().any(|(_, member)| member.device().user_id == user)
}

/// The removed have no key of what was said without them.
pub async fn removed(
    halves: &mut Halves,
    unread: &[Vec<&Message>; 2],
    step: &mut Step,
) -> Result<()> {
    let room = halves.a.stage.room.clone();
    let gone = [halves.a.removed.as_mut(), halves.b.removed.as_mut()];
    for (gone, unread) in gone.into_iter().flatten().zip(unread) {
        let name = gone.name;
        let device = gone.first();
        device.sync(std::time::Duration::ZERO).await?;
        for message in unread {
            let has_key = device.holds(&room, message.sent.node).await?;
            ensure!(!has_key, "{name} has the key of {message:?}");
        }
        let what = format!("{name} has the key of none of {} messages since", unread.len());
        step.check(!unread.is_empty(), what)?;
    }
    Ok(())
}

/// The graph as Alice has it, with the names that people have here.
pub async fn draw(halves: &mut Halves, step: &mut Step) -> Result<()> {
    let room = halves.a.stage.room.clone();
    let mut names = BTreeMap::new();
    let Halves { a, b } = halves;
    for (side, half) in [("A", &mut *a), ("B", &mut *b)] {
        for person in half.stage.people.iter_mut().chain(half.removed.as_mut()) {
            for (label, device) in person.devices() {
                let id = (device.user_id().to_string(), device.session.device_id.to_string());
                let (name, number) = label.split_once('/').unwrap_or((&label, ""));
                names.insert(id, (format!("{name}@{side}"), number.to_owned()));
            }
        }
    }
    let alice = a.stage.device("Alice", 1)?;
    let graph = alice.mls.epoch_graph(&room).await?;
    let chosen = graph.chosen.context("nothing is chosen")?;
    let branches = graph.nodes.iter().filter(|node| {
        graph.nodes.iter().filter(|other| other.parent == Some(node.node)).count() > 1
    });
    step.check(branches.count() > 0, "there was more than one branch")?;
    let is_entered = graph.nodes.iter().all(|node| node.status == NodeStatus::Entered);
    step.check(is_entered, format!("Alice has entered all {} epochs", graph.nodes.len()))?;
    let drawing = with_names(graph, &names).to_string();
    step.line(Line::Graph { of: "Alice/1".to_owned(), drawing });

    for stage in [&mut a.stage, &mut b.stage] {
        for person in &mut stage.people {
            for (label, device) in person.devices() {
                let failed = device.refusals.first();
                ensure!(failed.is_none(), "the server has refused {label} something: {failed:?}");
                let strange = device.notices.iter().find(|notice| {
                    matches!(
                        notice,
                        Notice::CommitDropped { .. }
                            | Notice::WelcomeDropped { .. }
                            | Notice::DowngradeAttempt { .. }
                            | Notice::DeviceWithoutMls { .. }
                    )
                });
                ensure!(strange.is_none(), "{label} has reported {strange:?}");
            }
        }
    }
    step.check(
        a.stage.device("Alice", 1)?.mls.epoch_graph(&room).await?.chosen == Some(chosen),
        "no machine has dropped anything, no request was refused",
    )
}

fn with_names(
    mut graph: EpochGraph,
    names: &BTreeMap<(String, String), (String, String)>,
) -> EpochGraph {
    let rename = |device: &mut Device| {
        let id = (device.user_id.clone(), device.device_id.clone());
        if let Some((user, number)) = names.get(&id) {
            device.user_id.clone_from(user);
            device.device_id.clone_from(number);
        }
    };
    for commit in graph.nodes.iter_mut().filter_map(|node| node.commit.as_mut()) {
        rename(&mut commit.author);
        commit.added.iter_mut().chain(&mut commit.removed).for_each(rename);
    }
    graph
}
