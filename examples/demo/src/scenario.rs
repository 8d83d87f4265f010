//! The story: who comes, who goes, and what is required on the way.

mod arrival;
mod branches;
mod ending;
mod late;
mod removal;
mod renewal;
mod restart;
mod talking;

use std::path::Path;

use anyhow::Result;
use matrix_mls_tests::HttpClient;

use crate::report::Report;

/// Plays it from the beginning to the end.
pub async fn play(http: &HttpClient, stores: &Path, report: &mut Report) -> Result<()> {
    let mut people = report
        .step("Three people log in", async |step| arrival::log_in(http, stores, step).await)
        .await?;
    let mut stage = report
        .step("Alice makes a room", async |step| arrival::gather(&mut people, step).await)
        .await?;
    stage.people = people;
    let stage = &mut stage;
    report
        .step("Everybody writes and everybody reads", async |step| {
            talking::founding(stage, step).await
        })
        .await?;
    report
        .step("Two members commit at the same moment", async |step| {
            branches::race(stage, step).await
        })
        .await?;
    report
        .step("A device renews its keys", async |step| renewal::update(stage, step).await)
        .await?;
    report
        .step("Everybody is restarted", async |step| restart::everybody(stage, step).await)
        .await?;
    let carol =
        report.step("Carol is removed", async |step| removal::kick(stage, step).await).await?;
    report
        .step("Carol gets hold of everything that follows", async |step| {
            removal::try_everything(stage, carol, step).await
        })
        .await?;
    report
        .step("Dave comes late", async |step| late::join(http, stores, stage, step).await)
        .await?;
    report
        .step("What everybody knows in the end", async |step| ending::look(stage, step).await)
        .await
}
