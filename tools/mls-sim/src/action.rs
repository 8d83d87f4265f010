//! What can happen.

use matrix_sdk_crypto_mls::testing::{Fault, RequestKind};
use serde::{Deserialize, Serialize};

/// One thing that happens. Devices and users are named by their numbers; an action that makes no sense
/// when its turn comes (somebody kicks who has left, say) does nothing, so that any action can be taken
/// out of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A device sends a message, with whatever has to come before it.
    Say(usize),
    /// A device syncs once.
    Sync(usize),
    /// Everybody who is online syncs until nothing new comes.
    Settle,
    /// So many seconds pass; whoever is online does what is due, and syncs.
    Wait(u64),
    /// A device's user invites another user.
    Invite(usize, usize),
    /// A user joins.
    Join(usize),
    /// A user leaves.
    Leave(usize),
    /// A device's user throws another user out.
    Kick(usize, usize),
    /// A device renews its keys.
    Update(usize),
    /// A user logs in on one more device.
    LogIn(usize),
    /// A device is deleted.
    LogOut(usize),
    /// The next request of a kind of a device goes wrong.
    Fault(usize, Kind, Wrong),
    /// A device gets answers that were late.
    LateAnswers(usize),
    /// A device does not sync by itself any more, or does again.
    Offline(usize, bool),
    /// Events of the room do not reach a device, or do again.
    HoldTimeline(usize, bool),
    /// To-device messages do not reach a device, or do again.
    HoldToDevice(usize, bool),
    /// What waits for a device comes twice and in another order.
    Disorder(usize),
    /// A device misses the commits and messages that wait for it, as in a limited sync, and has to ask
    /// for them.
    Gap(usize),
    /// The network is cut: by user, on which side it is.
    Cut(Vec<u32>),
    /// The network is whole again.
    Heal,
    /// A device's application is started again.
    Restart(usize),
    /// A device's process is killed at a write to its store, the n-th from now on.
    Crash(usize, usize),
    /// A device is killed in the middle of something: dropped after so many times that it waits.
    Abort(usize, Doing, usize),
    /// A malicious member does something.
    Attack(usize, Attack),
}

/// What a device is killed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doing {
    /// Sending a message.
    Say,
    /// Renewing its keys.
    Update,
    /// Syncing.
    Sync,
}

/// [`RequestKind`], for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A commit.
    Commit,
    /// Welcomes.
    ToDevice,
    /// Others' key packages come down.
    KeysClaim,
    /// Key packages go up.
    KeysUpload,
    /// A missing event.
    GetEvent,
}

/// [`Fault`], for traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wrong {
    /// The server answers 403.
    Refused,
    /// The request gets lost.
    RequestLost,
    /// The response gets lost.
    ResponseLost,
    /// The response comes late.
    Late,
}

/// What a malicious member does. It has a whole device's secrets, and follows no rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attack {
    /// Keeps what its device holds now, for later.
    Remember,
    /// Commits on the tip that it is on, and removes these users' devices (all others' if none).
    Remove(Vec<usize>),
    /// The same, on the state that it has kept.
    RemoveOnOld(Vec<usize>),
    /// Grows a branch of updates on the state that it has kept.
    Grow(usize),
    /// The same, after it has added so many devices of accounts of its own.
    GrowWithAccounts(usize, usize),
    /// Commits on the branch that another insider has made.
    Support(usize),
    /// Adds so many invented devices of other users on its tip, which then commit.
    Stuff(usize),
    /// Makes so many commits side by side on its tip.
    Double(usize),
    /// Makes so many commits one after the other.
    Flood(usize),
    /// Invites a user's devices on the branch that it has kept, by Welcome.
    Welcome(usize),
    /// A commit whose bytes nobody can process, with a broken GroupInfo beside it.
    Unprocessable,
    /// A commit that every other member can process, with a broken GroupInfo beside it.
    HalfProcessable,
    /// A commit with a false `parent_context` beside it.
    FalseContext,
    /// A commit that signs a false tag of its parent.
    FalseTag,
    /// An external commit in the name of another user.
    ExternalAs(usize),
    /// Founds another group for the room, and sends Welcomes to everybody.
    FakeGroup,
    /// An update on the state that it has kept, that claims to resolve all other tips.
    Resolve,
    /// An update that the homeservers of half of the users withhold from them for ever.
    Withhold,
}

impl Attack {
    /// Its name, without what it is done to.
    pub fn name(&self) -> String {
        let all = format!("{self:?}");
        all.split('(').next().unwrap_or_default().to_owned()
    }
}

impl From<Kind> for RequestKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Commit => Self::Commit,
            Kind::ToDevice => Self::ToDevice,
            Kind::KeysClaim => Self::KeysClaim,
            Kind::KeysUpload => Self::KeysUpload,
            Kind::GetEvent => Self::GetEvent,
        }
    }
}

impl From<Wrong> for Fault {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Refused => Self::Refused,
            Wrong::RequestLost => Self::RequestLost,
            Wrong::ResponseLost => Self::ResponseLost,
            Wrong::Late => Self::Late,
        }
    }
}
