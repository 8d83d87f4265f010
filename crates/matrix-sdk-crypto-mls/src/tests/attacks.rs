//! What members can do whose clients keep no manners, and what becomes of it (protocol §5, §8). Each
//! of these ends with all honest devices on one tip, who then read one another.

mod faults;
mod processing;
mod removals;
mod stuffing;

use matrix_dmls::NodeId;
use ruma::events::room::member::MembershipState;

use super::{assert_no_generation_is_reused, assert_one_epoch, settle};
use crate::{
    Notice,
    testing::{SimDevice, SimServer, TestClock},
};

const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";
const SECOND: u64 = TestClock::MINUTE / 60;

/// A room that the first of them has made, with a device of each, and everybody in the group.
async fn room_of(names: &[&str]) -> (SimServer, Vec<SimDevice>) {
    let server = SimServer::new(1);
    let first = server.device(names[0], "DEVICE").logs_in().await.creates_room().await;
    first.says("my room").await;
    let mut devices = vec![first];
    for name in &names[1..] {
        let device = server.device(name, "DEVICE").logs_in().await;
        devices[0].invites(&device);
        let device = device.joins(&devices[0]).await;
        devices[0].syncs().await;
        devices[0].says("welcome").await;
        devices.push(device);
    }
    let all: Vec<_> = devices.iter().collect();
    settle(&all).await;
    let members: Vec<_> =
        devices.iter().map(|d| (d.user_id().clone(), MembershipState::Join)).collect();
    for device in &devices {
        device.mls().set_room_members(device.room(), members.clone()).await.unwrap();
        device.takes_notices();
    }
    assert_one_epoch(&all).await;
    (server, devices)
}

/// All pump and sync for some seconds, in steps of five.
async fn seconds_pass(server: &SimServer, devices: &[&SimDevice], seconds: usize) {
    for _ in 0..seconds.div_ceil(5) {
        server.clock().advance(5 * SECOND);
        for device in devices {
            device.pumps().await;
            settle(devices).await;
        }
    }
}

fn commits(server: &SimServer, device: &SimDevice) -> usize {
    server.count(device.room(), COMMIT)
}

async fn chosen(device: &SimDevice) -> NodeId {
    device.mls().epoch_graph(device.room()).await.unwrap().chosen.unwrap()
}

fn objections(device: &SimDevice) -> usize {
    let notices = device.takes_notices();
    notices.iter().filter(|notice| matches!(notice, Notice::Objected { .. })).count()
}

/// All send in the chosen epoch, with exactly these members, read one another, and find nothing more
/// to do.
async fn assert_all_is_well(server: &SimServer, honest: &[&SimDevice], members: &[&SimDevice]) {
    settle(honest).await;
    assert_one_epoch(honest).await;
    let names = members.iter().map(|device| device.name().clone()).collect();
    for device in honest {
        assert_eq!(device.node().await, Some(chosen(device).await), "{device:?}");
        assert_eq!(device.devices_in_group().await, names, "{device:?}");
        assert_eq!(device.mls().is_left_behind_since(device.room()).await.unwrap(), None);
    }
    let before = commits(server, honest[0]);
    for speaker in honest {
        let text = format!("{speaker:?} is here");
        let event = speaker.says(&text).await;
        settle(honest).await;
        honest.iter().for_each(|reader| reader.has_read(&event, &text));
    }
    assert_eq!(commits(server, honest[0]), before);
    assert_one_epoch(honest).await;
    assert_no_generation_is_reused(server, honest);
}
