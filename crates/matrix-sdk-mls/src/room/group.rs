//! A room's group that was lost, and the one that takes its place (protocol §6).

use matrix_sdk_crypto_mls::{ReplacedGroup, dmls::NodeId};

use super::Room;
use crate::error::Error;

impl Room {
    /// The group that the room names while this device stays in the one that it had; see
    /// [`MlsEvent::GroupReplaced`](crate::MlsEvent::GroupReplaced).
    ///
    /// # Errors
    ///
    /// When a store fails.
    pub async fn replaced_mls_group(&self) -> Result<Option<ReplacedGroup>, Error> {
        Ok(self.engine.machine().await?.replaced_group(self.sdk.room_id()).await?)
    }

    /// The user agrees that this device goes over to the group that the room names, by its founding: as
    /// [`MlsMachine::follow_group`](matrix_sdk_crypto_mls::MlsMachine::follow_group).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn follow_mls_group(&self, founding: &NodeId) -> Result<bool, Error> {
        let machine = self.engine.machine().await?;
        let followed = machine.follow_group(self.sdk.room_id(), founding).await?;
        self.engine.take_up(&machine).await;
        Ok(followed)
    }

    /// The user knows that nobody will let this device into the room's group: it founds another one. As
    /// [`MlsMachine::found_anew`](matrix_sdk_crypto_mls::MlsMachine::found_anew).
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn found_mls_group_anew(&self) -> Result<(), Error> {
        let machine = self.engine.machine().await?;
        machine.found_anew(self.sdk.room_id()).await?;
        self.engine.take_up(&machine).await;
        Ok(())
    }
}
