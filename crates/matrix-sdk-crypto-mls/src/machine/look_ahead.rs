//! What is to be done in a room although nothing comes from the server, and when.

use super::{MlsMachine, Room, anchor::Turn};
use crate::error::MlsError;

impl MlsMachine {
    /// When [`MlsMachine::outgoing_requests`] has something to send although nothing has come from the
    /// server, in milliseconds since 1970: call it then. `None` if there is no such time. It changes
    /// with everything that the machine is given.
    ///
    /// A machine whose application never looks at this is as safe itself, and of less help to the room.
    pub fn next_deadline(&self) -> Option<u64> {
        let transient = self.transient();
        let anchors = transient.anchors.values().filter_map(Turn::due);
        let others = [&transient.standing, &transient.returns, &transient.gaps];
        let files = transient.files.next_due();
        let times = others.into_iter().flat_map(|times| times.values().copied());
        times.chain(anchors).chain(files).min()
    }

    /// Looks what is to be done in a room, and when, after anything has changed there.
    pub(super) async fn look_ahead(&self, room: &mut Room) -> Result<(), MlsError> {
        if room.view.mls_since.is_none() {
            return Ok(());
        }
        Box::pin(self.consider_other(room)).await?;
        Box::pin(self.mind_gaps(room)).await?;
        Box::pin(self.plan_to_stand_up(room)).await?;
        self.plan_to_move_anchor(room);
        Box::pin(self.plan_returns(room)).await
    }

    /// Does what is due.
    pub(super) async fn do_what_is_due(&self) -> Result<(), MlsError> {
        Box::pin(self.stand_up()).await?;
        Box::pin(self.move_anchors()).await?;
        Box::pin(self.close_gaps()).await?;
        Box::pin(self.come_back()).await
    }
}
