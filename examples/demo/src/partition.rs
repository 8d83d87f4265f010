//! A story of two halves: a room on two homeservers that are cut off from one another, in which both
//! halves go on by themselves.

mod apart;
mod before;
mod together;

use std::path::Path;

use anyhow::Result;
use matrix_mls_tests::Federation;

use crate::{report::Report, stage::Message};

/// Plays it from the beginning to the end. The devices have their stores in `stores`.
pub async fn play(net: &mut Federation, stores: &Path, report: &mut Report) -> Result<()> {
    let mut halves = report
        .step("Eight people log in on two homeservers", async |step| {
            before::arrive(net, stores, step).await
        })
        .await?;
    let halves = &mut halves;
    report
        .step("Six of them talk in a room", async |step| before::talk(halves, step).await)
        .await?;
    report
        .step("The servers are cut off from one another", async |step| apart::cut(net, step).await)
        .await?;
    let on_a = report
        .step("One half goes on: Carol comes, Gina goes", async |step| {
            apart::go_on(&mut halves.a, &apart::A, step).await
        })
        .await?;
    let on_b = report
        .step("The other half goes on: Frank comes, Hank goes", async |step| {
            apart::go_on(&mut halves.b, &apart::B, step).await
        })
        .await?;
    report
        .step("The servers reach each other again", async |step| {
            together::catch_up(net, halves, &on_a, &on_b, step).await
        })
        .await?;
    let after = report
        .step("Three messages later, the room is one again", async |step| {
            together::merge(halves, step).await
        })
        .await?;
    let unread = [
        on_a.iter().chain(&after).collect::<Vec<_>>(),
        on_b.iter().chain(&after).collect::<Vec<_>>(),
    ];
    report
        .step("What the removed have of it", async |step| {
            together::removed(halves, &unread, step).await
        })
        .await?;
    report.step("The graph of epochs", async |step| together::draw(halves, step).await).await
}

/// What was said while the halves were apart.
type Said = Vec<Message>;
