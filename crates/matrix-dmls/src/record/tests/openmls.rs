//! What OpenMLS makes is well-formed, and our record says what OpenMLS's state says.

use std::{num::NonZeroU32, sync::Arc};

use crate::{
    CommitAad, CommitRecord, CommitSender, GroupExtension, GroupInfo, HistoryPolicy, Identity,
    MalformedError, Member, ParentView, Roster, check_founding, check_well_formed,
    test_utils::{Changes, ROOM, TestCommit, TestDevice, TestMember, extension},
};

/// Somebody without any MLS state, who follows by the commits alone.
struct Onlooker {
    record: CommitRecord,
    roster: Roster,
}

impl Onlooker {
    fn of_founding(commit: &TestCommit) -> Self {
        let (record, before) =
            check_founding(&commit.message, &commit.parent_context, ROOM).unwrap();
        let roster = record.roster_after(&before);
        Self { record, roster }
    }

    fn follow(&mut self, commit: &TestCommit) -> &CommitRecord {
        let parent = ParentView::new(ROOM, &self.record, &self.roster);
        let record = check_well_formed(&commit.message, &commit.parent_context, parent).unwrap();
        self.roster = record.roster_after(&self.roster);
        self.record = record;
        &self.record
    }

    /// Compares with the state that OpenMLS has.
    #[track_caller]
    fn agrees_with(&self, member: &TestMember) {
        // Written by OpenMLS from its own state.
        let context = GroupInfo::parse(&member.group_info()).unwrap().context;
        assert_eq!(Some(self.record.node), member.node);
        assert_eq!(self.record.epoch, context.epoch);
        assert_eq!(Some(self.record.confirmed_transcript_hash), context.confirmed_transcript_hash);
        assert_eq!(self.record.extension, context.extension);
        let roster: Roster = member
            .group()
            .members()
            .map(|member| {
                let identity = member.credential.serialized_content();
                let identity = Identity::from_bytes(identity).unwrap();
                let signature_key = member.signature_key.try_into().unwrap();
                (member.index.u32(), Arc::new(Member { identity, signature_key }))
            })
            .collect();
        assert_eq!(self.roster, roster);
    }
}

fn leaves(list: &[(u32, Arc<Member>)]) -> Vec<(u32, &str)> {
    list.iter().map(|(leaf, member)| (*leaf, member.device().user_id.as_str())).collect()
}

#[test]
fn an_onlooker_follows_everything_that_can_happen() {
    let [mut alice, mut bob, mut carol, mut dave] =
        ["alice", "bob", "carol", "dave"].map(|user| TestMember::new(user, "PHONE"));

    // Alice founds, alone.
    alice.create_group(&extension());
    let founding = alice.commit(Changes::default());
    let mut onlooker = Onlooker::of_founding(&founding);
    onlooker.agrees_with(&alice);
    assert_eq!(onlooker.record.parent, None);
    assert_eq!(onlooker.record.epoch, 1);
    assert_eq!(onlooker.record.author.leaf, Some(0));

    // She adds two, without a path.
    let adds = vec![&bob, &carol];
    let add = alice.commit(Changes { adds, without_path: true, ..Changes::default() });
    assert!(add.message.path().is_none());
    let record = onlooker.follow(&add);
    assert_eq!(leaves(&record.added), [(1, "@bob:example.org"), (2, "@carol:example.org")]);
    assert_eq!(record.updated, None);
    assert_eq!(record.parent, Some(founding.message.node_id()));
    onlooker.agrees_with(&alice);
    for joiner in [&mut bob, &mut carol] {
        joiner.join(add.welcome.as_ref().unwrap(), add.message.node_id());
        onlooker.agrees_with(joiner);
    }

    // Bob updates, and names a losing tip.
    let resolves = vec![founding.message.node_id()];
    let update = bob.commit(Changes { resolves: resolves.clone(), ..Changes::default() });
    let record = onlooker.follow(&update);
    assert_eq!((record.author.leaf, &record.resolves), (Some(1), &resolves));
    assert_eq!(leaves(record.updated.as_slice()), [(1, "@bob:example.org")]);
    alice.follow(&update.message);
    carol.follow(&update.message);
    onlooker.agrees_with(&alice);

    // Bob lost his key: Alice replaces his leaf and changes the history policy in one commit.
    let mut bob = TestMember::of(bob.device.with_seq(2));
    let days = HistoryPolicy::Days(NonZeroU32::new(30).unwrap());
    let swap = alice.commit(Changes {
        adds: vec![&bob],
        removes: vec![1],
        extension: Some(GroupExtension { history: days, ..extension() }),
        ..Changes::default()
    });
    let record = onlooker.follow(&swap);
    assert_eq!(leaves(&record.removed), [(1, "@bob:example.org")]);
    assert_eq!(leaves(&record.added), [(1, "@bob:example.org")]);
    assert_eq!(record.removes_without_readding().count(), 0);
    assert_eq!(record.extension.history, days);
    carol.follow(&swap.message);
    bob.join(swap.welcome.as_ref().unwrap(), swap.message.node_id());
    onlooker.agrees_with(&carol);
    onlooker.agrees_with(&bob);

    // Carol takes a new MLS key with her own commit.
    let new_key = Some(carol.device.with_seq(7));
    let rotation = carol.commit(Changes { new_key, ..Changes::default() });
    let record = onlooker.follow(&rotation);
    assert_eq!(record.author.member.identity.seq, 1);
    assert_eq!(record.updated.as_ref().unwrap().1.identity.seq, 7);
    alice.follow(&rotation.message);
    onlooker.agrees_with(&alice);

    // She removes Bob.
    let removal = carol.commit(Changes { removes: vec![1], ..Changes::default() });
    let record = onlooker.follow(&removal);
    assert_eq!(record.removes_without_readding().count(), 1);
    alice.follow(&removal.message);
    onlooker.agrees_with(&alice);

    // Dave, a stranger, lets himself in, at the gap.
    let external = dave.join_externally(&removal.group_info, removal.message.node_id());
    assert_eq!(external.message.sender(), CommitSender::NewMember);
    let record = onlooker.follow(&external);
    assert_eq!(record.author.leaf, None);
    assert_eq!(leaves(&record.added), [(1, "@dave:example.org")]);
    assert_eq!(record.updated, None);
    alice.follow(&external.message);
    onlooker.agrees_with(&alice);
    onlooker.agrees_with(&dave);

    // Carol lost her state but not her key and replaces herself. The gap below is lower.
    let removal = alice.commit(Changes { removes: vec![1], ..Changes::default() });
    onlooker.follow(&removal);
    let mut carol = TestMember::of(carol.device.clone());
    let resync = carol.join_externally(&removal.group_info, removal.message.node_id());
    let record = onlooker.follow(&resync);
    assert_eq!(leaves(&record.removed), [(2, "@carol:example.org")]);
    assert_eq!(leaves(&record.added), [(1, "@carol:example.org")]);
    assert_eq!(record.removes_without_readding().count(), 0);
    alice.follow(&resync.message);
    onlooker.agrees_with(&alice);
    onlooker.agrees_with(&carol);
}

#[test]
fn a_founding_may_add_whoever_is_there() {
    let mut alice = TestMember::new("alice", "PHONE");
    let (bob, laptop) = (TestMember::new("bob", "PHONE"), TestMember::new("alice", "LAPTOP"));
    alice.create_group(&extension());
    let founding = alice.commit(Changes { adds: vec![&bob, &laptop], ..Changes::default() });
    let onlooker = Onlooker::of_founding(&founding);
    onlooker.agrees_with(&alice);
    assert_eq!(onlooker.roster.len(), 3);
}

#[test]
fn the_record_survives_storage() {
    let mut alice = TestMember::new("alice", "PHONE");
    alice.create_group(&extension());
    let founding = alice.commit(Changes::default());
    let record = Onlooker::of_founding(&founding).record;
    let bytes = rmp_serde::to_vec_named(&record).unwrap();
    assert_eq!(rmp_serde::from_slice::<CommitRecord>(&bytes).unwrap(), record);
}

#[test]
fn the_message_says_what_was_put_in() {
    let mut alice = TestMember::new("alice", "PHONE");
    alice.create_group(&extension());
    let founding = alice.commit(Changes::default());
    let commit = &founding.message;
    assert_eq!((commit.group_id(), commit.epoch()), (ROOM, 0));
    assert_eq!(commit.sender(), CommitSender::Member(0));
    assert!(commit.proposals().is_empty());
    assert_eq!(commit.path().unwrap().leaf.member(), alice.device.member());
    assert!(commit.membership_tag().is_some());
    let CommitAad { parent, parent_context_hash, .. } = commit.aad();
    assert_eq!(*parent, None);
    assert_eq!(*parent_context_hash, crate::crypto::sha256(&[&founding.parent_context]));
}

#[test]
fn a_member_whose_leaf_is_on_another_branch_is_not_an_author() {
    let mut alice = TestMember::of(TestDevice::new("alice", "PHONE"));
    let mut bob = TestMember::new("bob", "PHONE");
    alice.create_group(&extension());
    let founding = alice.commit(Changes::default());
    let onlooker = Onlooker::of_founding(&founding);
    let add = alice.commit(Changes { adds: vec![&bob], ..Changes::default() });
    bob.join(add.welcome.as_ref().unwrap(), add.message.node_id());
    let update = bob.commit(Changes::default());
    let parent = ParentView::new(ROOM, &onlooker.record, &onlooker.roster);
    assert_eq!(
        check_well_formed(&update.message, &update.parent_context, parent),
        Err(crate::IllFormed::Parent)
    );
}

#[test]
fn other_messages_are_no_commits() {
    let mut alice = TestMember::new("alice", "PHONE");
    let bob = TestMember::new("bob", "PHONE");
    alice.create_group(&extension());
    let founding = alice.commit(Changes { adds: vec![&bob], ..Changes::default() });
    for bytes in [founding.welcome.unwrap(), founding.group_info] {
        assert_eq!(crate::CommitMessage::parse(&bytes), Err(MalformedError::Unsupported));
    }
}
