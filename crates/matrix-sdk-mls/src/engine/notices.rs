//! What the machine reports.

use matrix_sdk_crypto_mls::{MlsMachine, Notice};
use tracing::warn;

use super::{Engine, lock};

impl Engine {
    /// After the machine was told something: passes on what it reports, and has its requests sent.
    pub(crate) async fn take_up(&self, machine: &MlsMachine) {
        self.take_notices(machine).await;
        self.wake.notify_one();
    }

    /// Takes what the machine reports, does what follows from it, and passes it on.
    pub(super) async fn take_notices(&self, machine: &MlsMachine) {
        let notices = machine.take_notices();
        for notice in &notices {
            self.tell_notice(notice);
            match notice {
                Notice::Joined { room_id, .. } => {
                    // It has used up a key package.
                    lock(&self.keys).ask_again();
                    self.wake.notify_one();
                    self.bridge.look_again(room_id);
                    self.bridge_room(room_id).await;
                }
                Notice::Readable { room_id, event_id, event }
                | Notice::NotReadable { room_id, event_id, event } => {
                    self.bridge.forget(room_id, event_id);
                    self.bridge_late(room_id, event_id, event).await;
                    self.tell_of(room_id, std::slice::from_ref(event)).await;
                }
                Notice::DowngradeAttempt { room_id, .. } => {
                    warn!(%room_id, "Somebody tried to turn MLS off");
                    // It would send with whatever the room's state names now.
                    if let Some(room) = self.sdk.get_room(room_id) {
                        room.send_queue().set_enabled(false);
                    }
                }
                _ => {}
            }
            self.notices.tell(notice.clone());
        }
        self.tell_of_epochs(machine, &notices).await;
        self.note_progress();
    }
}
