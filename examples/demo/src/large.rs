//! A large room: hundreds of people with a device each, in one process, every one with both machines.

mod arrival;
mod crowd;
mod ending;
mod late;
mod removal;
mod talking;
mod traffic;

use anyhow::Result;
use matrix_mls_tests::HttpClient;

use self::{crowd::Crowd, traffic::Traffic};
use crate::report::Report;

/// So many devices renew their keys, or all if there are fewer.
const UPDATES: usize = 50;

/// Plays it from the beginning to the end, with so many devices and two that come late.
pub async fn play(http: &HttpClient, devices: usize, report: &mut Report) -> Result<()> {
    let begin = Traffic::of(http);
    let people = report
        .step(&format!("{devices} people log in"), async |step| {
            arrival::log_in(http, devices, step).await
        })
        .await?;
    let mut crowd = report
        .step("They come into one room", async |step| arrival::gather(people, step).await)
        .await?;
    let crowd = &mut crowd;
    report
        .step("The first one founds the group", async |step| {
            talking::found(http, crowd, step).await
        })
        .await?;
    report.step("Everybody reads", async |step| talking::first(crowd, step).await).await?;
    report
        .step("Somebody comes late, and is added", async |step| {
            late::by_welcome(http, crowd, step).await
        })
        .await?;
    report
        .step("Somebody comes late, and adds itself", async |step| {
            late::by_external_commit(http, crowd, step).await
        })
        .await?;
    report.step("Somebody is removed", async |step| removal::kick(crowd, step).await).await?;
    let updates = UPDATES.min(devices);
    report
        .step(&format!("{updates} devices renew their keys"), async |step| {
            talking::renew(crowd, updates, step).await
        })
        .await?;
    report
        .step("What everybody knows in the end", async |step| {
            ending::look(http, &begin, crowd, step).await
        })
        .await
}
