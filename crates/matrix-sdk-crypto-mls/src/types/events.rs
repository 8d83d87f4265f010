//! The contents of this protocol's events, one type per file.

mod base64;
mod commit;
mod group;
mod join_request;
mod message;
#[cfg(test)]
mod tests;
mod welcome;

pub use self::{
    base64::Bytes,
    commit::{CommitEventContent, MediaFile},
    group::GroupEventContent,
    join_request::ToDeviceJoinRequestEventContent,
    message::MlsEncryptedEventContent,
    welcome::{SharedWelcome, ToDeviceWelcomeEventContent},
};
