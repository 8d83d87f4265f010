//! Commits of real OpenMLS groups, and commits that were spoiled before they were signed.

mod altered;
mod external;
mod founding;
mod leaves;
mod member;
mod openmls;

use std::sync::Arc;

use super::{CommitRecord, IllFormed, ParentView, check_well_formed};
use crate::{
    GroupExtension, NodeId, Roster,
    test_utils::{
        ROOM, TestDevice, extension,
        forge::{Commit, Context, KeyPackage, Leaf},
    },
};

/// An epoch with Alice at leaf 0, Bob at 1, nobody at 2, Carol at 3; and commits on it that are
/// well-formed until a test spoils them.
struct Epoch {
    alice: TestDevice,
    bob: TestDevice,
    carol: TestDevice,
    dave: TestDevice,
    node: NodeId,
    epoch: u64,
    confirmed_transcript_hash: [u8; 32],
    extension: GroupExtension,
    roster: Roster,
}

impl Epoch {
    fn new() -> Self {
        let [alice, bob, carol, dave] =
            ["alice", "bob", "carol", "dave"].map(|user| TestDevice::new(user, "PHONE"));
        let members = [(0, &alice), (1, &bob), (3, &carol)];
        Self {
            roster: members
                .into_iter()
                .map(|(leaf, device)| (leaf, Arc::new(device.member())))
                .collect(),
            alice,
            bob,
            carol,
            dave,
            node: NodeId::from_bytes([3; 32]),
            epoch: 5,
            confirmed_transcript_hash: [2; 32],
            extension: extension(),
        }
    }

    fn context(&self) -> Context {
        let mut context = Context::new(self.epoch, &self.confirmed_transcript_hash);
        context.extensions[1].1 = self.extension.to_bytes();
        context
    }

    /// Bob's commit, still without proposals, with a path.
    fn commit(&self) -> Commit {
        let mut commit = Commit::new(&self.bob, Some(1), Some(self.node), &self.context());
        commit.path = Leaf::in_path(&self.bob, 1).path();
        commit
    }

    /// Bob's commit that adds without a path.
    fn adding(&self, key_package: &KeyPackage) -> Commit {
        let mut commit = self.commit();
        commit.path = None;
        commit.proposals = vec![crate::test_utils::forge::add(key_package)];
        commit
    }

    /// A commit by which somebody joins at `leaf`.
    fn joining(&self, device: &TestDevice, leaf: u32) -> Commit {
        let mut commit = Commit::new(device, None, Some(self.node), &self.context());
        commit.proposals = vec![crate::test_utils::forge::external_init()];
        commit.path = Leaf::in_path(device, leaf).path();
        commit
    }

    fn view(&self) -> ParentView<'_> {
        ParentView {
            group_id: ROOM,
            node: self.node,
            epoch: self.epoch,
            confirmed_transcript_hash: self.confirmed_transcript_hash,
            extension: &self.extension,
            roster: &self.roster,
        }
    }

    fn check(&self, commit: &Commit) -> Result<CommitRecord, IllFormed> {
        check_well_formed(&commit.parse().unwrap(), &commit.context, self.view())
    }

    #[track_caller]
    fn refuses(&self, commit: &Commit, why: IllFormed) {
        assert_eq!(self.check(commit), Err(why));
    }
}
