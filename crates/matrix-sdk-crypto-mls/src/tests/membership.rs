//! Who is in the group.

use super::{alice_and_bob, settle};

#[tokio::test]
async fn all_devices_of_a_member_are_in() {
    let (server, alice, bob) = alice_and_bob().await;
    let desktop = server.device("bob", "DESKTOP").logs_in().await.looks_with(&bob);
    settle(&[&alice, &bob, &desktop]).await;
    let event = alice.says("to both of you").await;
    settle(&[&alice, &bob, &desktop]).await;
    bob.has_read(&event, "to both of you");
    desktop.has_read(&event, "to both of you");
    assert_eq!(alice.devices_in_group().await.len(), 3);
}
