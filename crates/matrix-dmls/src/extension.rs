//! What all members of a group agree on: our GroupContext extension, type 0xF2D1 (protocol §1).

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use crate::{
    error::MalformedError,
    ids::InstanceId,
    wire::{
        message::expect,
        tls::{Reader, Writer},
    },
};

/// The version that this protocol writes and reads.
const VERSION: u16 = 1;

/// The 0xF2D1 extension of a group's GroupContext, 41 bytes:
///
/// ```text
/// struct { uint16 version = 1; opaque instance[32]; uint8 trust; uint8 external;
///          uint8 history; uint32 history_days; }
/// ```
///
/// Only [`history`](Self::history) can change, by a GroupContextExtensions proposal (protocol §7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupExtension {
    /// Which founding of the room's group this is.
    pub instance: InstanceId,
    /// Whose devices are let in.
    pub trust: TrustRequirement,
    /// Who may let itself in.
    pub external: ExternalJoins,
    /// How long epoch keys are kept.
    pub history: HistoryPolicy,
}

/// Which devices the room lets in (protocol §5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TrustRequirement {
    /// Every device of a joined user: 0.
    All,
    /// Those that their owner's current identity has cross-signed: 1.
    #[default]
    CrossSigned,
}

/// Who may join by external commit (protocol §6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExternalJoins {
    /// Only users who have a leaf already: 0.
    Forbidden,
    /// Everybody: 1.
    #[default]
    Allowed,
}

/// How long epoch keys are kept (protocol §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HistoryPolicy {
    /// For ever: 0.
    #[default]
    Keep,
    /// That many days: 1.
    Days(NonZeroU32),
    /// Not at all; keys are punctured as they are used: 2.
    None,
}

impl GroupExtension {
    /// The encoding.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(VERSION);
        out.raw(self.instance.as_bytes());
        out.u8(match self.trust {
            TrustRequirement::All => 0,
            TrustRequirement::CrossSigned => 1,
        });
        out.u8(match self.external {
            ExternalJoins::Forbidden => 0,
            ExternalJoins::Allowed => 1,
        });
        let (history, days) = match self.history {
            HistoryPolicy::Keep => (0, 0),
            HistoryPolicy::Days(days) => (1, days.get()),
            HistoryPolicy::None => (2, 0),
        };
        out.u8(history);
        out.u32(days);
        out.into_bytes()
    }

    /// Reads the encoding.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly 41, or have a version or value that this protocol does not
    /// have: days without the policy that counts them, and zero days, included.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedError> {
        let mut reader = Reader::new(bytes);
        expect(reader.u16()?, VERSION)?;
        let instance = InstanceId::from_bytes(reader.array()?);
        let trust = match reader.u8()? {
            0 => TrustRequirement::All,
            1 => TrustRequirement::CrossSigned,
            _ => return Err(MalformedError::Unsupported),
        };
        let external = match reader.u8()? {
            0 => ExternalJoins::Forbidden,
            1 => ExternalJoins::Allowed,
            _ => return Err(MalformedError::Unsupported),
        };
        let history = match (reader.u8()?, NonZeroU32::new(reader.u32()?)) {
            (0, None) => HistoryPolicy::Keep,
            (1, Some(days)) => HistoryPolicy::Days(days),
            (2, None) => HistoryPolicy::None,
            _ => return Err(MalformedError::Unsupported),
        };
        reader.finish()?;
        Ok(Self { instance, trust, external, history })
    }

    /// Whether `other` differs in nothing but the history policy, the one thing that may change.
    pub fn is_same_but_history(&self, other: &Self) -> bool {
        Self { history: other.history, ..self.clone() } == *other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(history: HistoryPolicy) -> GroupExtension {
        GroupExtension {
            instance: InstanceId::from_bytes([9; 32]),
            trust: TrustRequirement::default(),
            external: ExternalJoins::default(),
            history,
        }
    }

    #[test]
    fn has_exactly_one_encoding() {
        let days = HistoryPolicy::Days(NonZeroU32::new(30).unwrap());
        for history in [HistoryPolicy::Keep, days, HistoryPolicy::None] {
            let bytes = extension(history).to_bytes();
            assert_eq!(bytes.len(), 41);
            assert_eq!(GroupExtension::from_bytes(&bytes).unwrap(), extension(history));
            for end in 0..bytes.len() {
                assert_eq!(
                    GroupExtension::from_bytes(&bytes[..end]),
                    Err(MalformedError::Truncated)
                );
            }
            let long = [bytes.as_slice(), &[0]].concat();
            assert_eq!(GroupExtension::from_bytes(&long), Err(MalformedError::TrailingBytes));
        }
        assert_eq!(
            hex::encode(extension(days).to_bytes()),
            format!("0001{}0101010000001e", "09".repeat(32))
        );
    }

    #[test]
    fn values_of_other_protocols_are_refused() {
        let good = extension(HistoryPolicy::Keep).to_bytes();
        // version, trust, external, history, days without policy
        for (at, value) in [(1, 2), (34, 2), (35, 2), (36, 1), (36, 3), (40, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(GroupExtension::from_bytes(&bad), Err(MalformedError::Unsupported));
        }
    }

    #[test]
    fn only_the_history_may_differ() {
        let old = extension(HistoryPolicy::Keep);
        assert!(old.is_same_but_history(&extension(HistoryPolicy::None)));
        let mut other = extension(HistoryPolicy::None);
        other.trust = TrustRequirement::All;
        assert!(!old.is_same_but_history(&other));
    }
}
