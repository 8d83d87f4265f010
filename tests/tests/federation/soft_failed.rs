//! Events of somebody whom the receiving server has removed meanwhile: it takes them into the room's
//! graph and shows them to nobody (soft failure).

use std::time::Duration;

use matrix_mls_tests::{Federation, MlsDevice, come_together};
use ruma::{EventId, RoomId};

use crate::{
    rooms::{room_on_both, sees},
    support::{MINUTE, NOW, TURN, all_read, all_talk, devices_in, reads, time_passes, tip, user},
};

/// Erin goes on from Dave's last commit, which Alice's server does not show: Alice and Bob have it
/// from her, and read her, but not him.
#[tokio::test]
async fn a_soft_failed_commit_is_had_from_a_member() {
    let mut net = Federation::from_env().await.unwrap();
    let mut alice = user(&net.a, "alice", 1).await;
    let mut bob = user(&net.a, "bob", 1).await;
    let mut dave = user(&net.b, "dave", 1).await;
    let mut erin = user(&net.b, "erin", 1).await;
    let room = room_on_both(&mut [&mut alice, &mut bob], &mut [&mut dave, &mut erin]).await;
    let first = alice.first().say(&room, "hello").await.unwrap();
    all_read(&room, &first, "hello", &mut [&mut bob, &mut dave, &mut erin]).await;

    net.cut().await.unwrap();
    alice.first().kick(&room, dave.id()).await.unwrap();
    sees(bob.first(), &room, dave.id(), false).await;
    dave.first().update_keys(&room).await.unwrap();
    let hidden = dave.first().say(&room, "am I still here?").await.unwrap();
    reads(erin.first(), &room, &hidden.event_id, "am I still here?").await;
    let sent = erin.first().say(&room, "to me you are").await.unwrap();
    assert_eq!(sent.node, hidden.node);
    net.heal().await.unwrap();

    sees(erin.first(), &room, dave.id(), false).await;
    let everybody = &mut [&mut alice, &mut bob, &mut erin];
    let mut waited = Duration::ZERO;
    while !is_read(everybody[0].first(), &room, &sent.event_id)
        || !is_read(everybody[1].first(), &room, &sent.event_id)
    {
        assert!(waited < 5 * MINUTE, "Alice or Bob cannot read Erin");
        time_passes(everybody, TURN).await;
        waited += TURN;
        // A server that has heard nothing for a while says so to the other a little later.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    all_read(&room, &sent, "to me you are", everybody).await;
    // It is in the room, and Alice's server does not show it.
    let commit = hidden.commit_event.as_ref().unwrap();
    assert!(erin.first().get_event(&room, commit).await.is_ok());
    for event in [commit, &hidden.event_id] {
        assert!(alice.first().get_event(&room, event).await.is_err());
        assert!(alice.first().event(&room, event).is_none());
    }

    // The removal is put into effect, and Dave reads nothing more.
    let everybody = &mut [&mut alice, &mut bob, &mut erin];
    all_talk(&room, everybody).await;
    come_together(&mut [alice.first(), bob.first(), erin.first()], &room).await.unwrap();
    for user in [&mut alice, &mut bob, &mut erin] {
        assert_eq!(devices_in(user.first(), &room, dave.id()).await, 0);
    }
    dave.first().sync(NOW).await.unwrap();
    let node = tip(alice.first(), &room).await;
    assert!(!dave.first().holds(&room, node).await.unwrap());
}

fn is_read(device: &MlsDevice, room: &RoomId, event: &EventId) -> bool {
    device.event(room, event).is_some_and(|event| event.result.is_ok())
}
