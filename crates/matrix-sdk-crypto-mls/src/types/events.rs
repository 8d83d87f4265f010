//! The contents of this protocol's events, one type per file.

mod base64;
mod commit;
mod commit_request;
mod graph;
mod group;
mod join_request;
mod key_request;
mod message;
#[cfg(test)]
mod tests;
mod welcome;

pub use self::{
    base64::Bytes,
    commit::{CommitEventContent, MediaFile},
    commit_request::ToDeviceCommitRequestEventContent,
    graph::{GraphCommit, GraphContent, ToDeviceGraphEventContent},
    group::GroupEventContent,
    join_request::ToDeviceJoinRequestEventContent,
    key_request::{
        EncryptedEpochKey, ToDeviceKeyAnswerEventContent, ToDeviceKeyRequestEventContent,
    },
    message::MlsEncryptedEventContent,
    welcome::ToDeviceWelcomeEventContent,
};
