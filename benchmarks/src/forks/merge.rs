//! The commit that follows a fork: it brings over what only the losing branch had.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use matrix_dmls::{CommitPlan, Group, LocalMember, NodeId, Received, WelcomeParts};

use super::Options;
use crate::{
    people::Person,
    report::{Row, number},
    sample::{Samples, Summary},
    store::extension,
};

/// So many devices were added, and so many removed, on the losing branch alone.
const MOVED: usize = 2;

/// Of so many members every one has a group, and has committed before.
const COMMITTERS: usize = 16;

struct Device {
    local: LocalMember,
    group: Group,
}

/// A commit in the form in which it is received.
struct Made {
    node: NodeId,
    commit: Vec<u8>,
    parent_context: Vec<u8>,
}

impl Device {
    fn make(&self, on: NodeId, plan: CommitPlan) -> Result<(NodeId, matrix_dmls::GroupChanges)> {
        Ok(self.group.commit(on, &self.local, plan)?)
    }

    fn commit(&mut self, on: NodeId, plan: CommitPlan) -> Result<Made> {
        let (node, changes) = self.make(on, plan)?;
        self.group.apply(changes);
        let pending = Arc::clone(self.group.pending_commit(&node).context("no commit")?);
        self.group.apply(self.group.accept(node)?);
        let parent_context = pending.parent_context.clone();
        Ok(Made { node, commit: pending.commit.clone(), parent_context })
    }

    fn receive(&mut self, made: &Made) -> Result<()> {
        match self.group.receive(&made.commit, &made.parent_context)? {
            Received::Entered(_, changes) => self.group.apply(*changes),
            other => bail!("the commit is not entered: {other:?}"),
        }
        let changes = self.group.enforce_limits(&matrix_dmls::GroupChanges::default());
        self.group.apply(changes);
        Ok(())
    }
}

/// On the same parent, in turns: the merge, and a commit that only renews its author's keys.
pub(super) fn measure(options: &Options) -> Result<Vec<Row>> {
    let people = (0..options.devices + MOVED).map(Person::new).collect::<Result<Vec<_>>>()?;
    let (inside, outside) = people.split_at(options.devices);
    let (mut devices, mut tip) = group(inside)?;
    for author in 0..devices.len() {
        tip = share(&mut devices, author, tip)?;
    }

    // The fork: the first one's branch wins, since its user has the lowest leaf and both sides have
    // one user; what the second one did there has to be done again.
    let packages = || outside.iter().map(|person| person.package.key_package.clone()).collect();
    let [winner, loser, author, receiver, ..] = devices.as_mut_slice() else {
        bail!("too few devices");
    };
    let roster = winner.group.roster(&tip).context("no roster")?;
    let remove: Vec<u32> = inside
        .iter()
        .rev()
        .take(MOVED)
        .filter_map(|person| roster.leaf_of(person.local.device()))
        .collect();
    let won = winner.commit(tip, CommitPlan::default())?;
    let lost = loser.commit(
        tip,
        CommitPlan { remove: remove.clone(), add: packages(), ..CommitPlan::default() },
    )?;
    for device in [&mut *author, &mut *receiver] {
        device.receive(&won)?;
        device.receive(&lost)?;
    }
    let merge = || CommitPlan {
        remove: remove.clone(),
        add: packages(),
        resolves: vec![lost.node],
        ..CommitPlan::default()
    };

    let mut made = [Samples::default(), Samples::default()];
    let mut received = [Samples::default(), Samples::default()];
    for _ in 0..options.runs {
        for (number, plan) in [CommitPlan::default(), merge()].into_iter().enumerate() {
            let mut ignored = Samples::default();
            let into = made.get_mut(number).unwrap_or(&mut ignored);
            // Nothing has happened until the changes are applied, so all are made on the same epoch.
            let (node, changes) = into.time_now(|| author.make(won.node, plan))?;
            let pending = changes.pending.get(&node).cloned().flatten().context("no commit")?;
            let into = received.get_mut(number).unwrap_or(&mut ignored);
            let entered =
                into.time_now(|| receiver.group.receive(&pending.commit, &pending.parent_context))?;
            ensure!(matches!(entered, Received::Entered(..)), "the commit is not entered");
        }
    }
    let row = |what: &str, [ordinary, merge]: [Summary; 2]| {
        let ratio = merge.median / ordinary.median;
        Row {
            what: format!(
                "{what} the commit that merges two branches of {} devices ({MOVED} removed and \
                 {MOVED} added again)",
                options.devices
            ),
            bound: Some("2x a commit that renews keys".to_owned()),
            measured: format!(
                "{} ms ({}), a commit that renews keys {} ms ({}): {}x",
                number(merge.median),
                number(merge.p95),
                number(ordinary.median),
                number(ordinary.p95),
                number(ratio)
            ),
            holds: Some(ratio <= 2.0),
            values: vec![
                ("merge_median_ms".to_owned(), merge.median),
                ("ordinary_median_ms".to_owned(), ordinary.median),
                ("ratio".to_owned(), ratio),
            ],
        }
    };
    Ok(vec![
        row("make", made.map(|samples| samples.summary())),
        row("enter", received.map(|samples| samples.summary())),
    ])
}

/// The first founds a group with all others; some of them join.
fn group(people: &[Person]) -> Result<(Vec<Device>, NodeId)> {
    let (founder, others) = people.split_first().context("nobody")?;
    let mut group = Group::new("!room:example.org");
    let packages = others.iter().map(|person| person.package.key_package.clone()).collect();
    let (founding, changes) = group.found(&founder.local, &extension(), packages)?;
    group.apply(changes);
    let pending = Arc::clone(group.pending_commit(&founding).context("no commit")?);
    group.apply(group.accept(founding)?);
    let mut devices = vec![Device { local: founder.local.clone(), group }];
    let welcome = pending.welcome.as_ref().context("no Welcome")?;
    let step = (others.len() / COMMITTERS).max(1);
    for person in others.iter().step_by(step).take(COMMITTERS - 1) {
        let welcome = matrix_dmls::Welcome::parse(welcome)?
            .for_recipient(&person.package.reference)
            .context("a Welcome is missing")?;
        let mut group = Group::new("!room:example.org");
        let (_, changes) = group.join(
            &person.local,
            WelcomeParts {
                welcome: &welcome,
                tree: &pending.tree,
                commit: &pending.commit,
                parent_context: &pending.parent_context,
                key_package: &person.package,
            },
        )?;
        group.apply(changes);
        devices.push(Device { local: person.local.clone(), group });
    }
    Ok((devices, founding))
}

/// One device renews its keys; the others follow.
fn share(devices: &mut [Device], author: usize, tip: NodeId) -> Result<NodeId> {
    let made =
        devices.get_mut(author).context("no such device")?.commit(tip, CommitPlan::default())?;
    for (number, device) in devices.iter_mut().enumerate() {
        if number != author {
            device.receive(&made)?;
        }
    }
    Ok(made.node)
}
