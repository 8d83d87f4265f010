//! A malicious member: a whole device's secrets, and a program that follows no rule. It works on
//! `matrix_dmls::Group` itself, not through a machine.

mod forge;

use std::{collections::BTreeMap, sync::Arc};

use matrix_sdk_crypto_mls::dmls::{
    CommitPlan, Group, GroupError, LocalMember, NodeId, OwnKeyPackage, PendingCommit, PublicState,
    Received, Secret, WelcomeParts, new_key_package,
};

pub use self::forge::{Forged, with_false_tag, with_spoilt_path};

/// What a device had when it turned.
pub struct Insider {
    local: LocalMember,
    seed: Secret,
    /// Follows the room.
    pub group: Group,
    /// What it has kept for later.
    pub old: Option<Group>,
    /// Epochs that its attacks have made.
    pub bad: Vec<NodeId>,
    /// What is known of those that it has posted.
    pub deeds: BTreeMap<NodeId, Deed>,
}

/// An epoch that an attack has made.
#[derive(Clone, Debug)]
pub struct Deed {
    /// The attack's name.
    pub attack: String,
    /// The insider's homeserver had an honest commit on the same parent before: the attack's goes beside
    /// what others have done.
    pub is_beside: bool,
}

/// Which of its two groups an insider works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The one that follows the room.
    Tip,
    /// The one that it has kept.
    Old,
}

impl Insider {
    /// With a device's secrets.
    pub fn new(local: LocalMember, seed: Secret, group: Group) -> Self {
        Self { local, seed, group, old: None, bad: Vec::new(), deeds: BTreeMap::new() }
    }

    /// Who it is.
    pub const fn local(&self) -> &LocalMember {
        &self.local
    }

    /// The seed of its MLS key.
    pub const fn seed(&self) -> &Secret {
        &self.seed
    }

    /// The group of this name; what is followed, if nothing was kept.
    pub fn on(&self, on: On) -> &Group {
        match (&self.old, on) {
            (Some(old), On::Old) => old,
            _ => &self.group,
        }
    }

    fn on_mut(&mut self, on: On) -> &mut Group {
        match (&mut self.old, on) {
            (Some(old), On::Old) => old,
            _ => &mut self.group,
        }
    }

    /// Takes commits of the room, in any order.
    pub fn follows(&mut self, commits: &[(Vec<u8>, Vec<u8>)]) {
        follow(&mut self.group, commits);
    }

    /// Makes a commit on a node, and takes it for accepted.
    pub fn commits(
        &mut self,
        on: On,
        parent: NodeId,
        plan: CommitPlan,
    ) -> Result<Arc<PendingCommit>, GroupError> {
        let local = self.local.clone();
        let pending = make(self.on_mut(on), &local, parent, plan)?;
        self.bad.push(pending.node.record.node);
        Ok(pending)
    }

    /// Makes a commit that nobody is to have processed, itself neither.
    pub fn drafts(
        &self,
        parent: NodeId,
        plan: CommitPlan,
    ) -> Result<Arc<PendingCommit>, GroupError> {
        make(&mut self.group.clone(), &self.local, parent, plan)
    }
}

/// Takes commits into a group, until none brings anything new.
pub fn follow(group: &mut Group, commits: &[(Vec<u8>, Vec<u8>)]) {
    let mut left: Vec<_> = commits.iter().collect();
    loop {
        let before = left.len();
        left.retain(|(commit, context)| match group.receive(commit, context) {
            Ok(
                Received::Entered(_, changes)
                | Received::Completed(_, changes)
                | Received::Seen(_, _, changes),
            ) => {
                group.apply(*changes);
                false
            }
            Ok(_) => false,
            // Its parent is not there yet.
            Err(GroupError::UnknownParent(_)) => true,
            Err(_) => false,
        });
        if left.len() == before {
            return;
        }
    }
}

/// Makes a commit, and takes it for accepted.
pub fn make(
    group: &mut Group,
    local: &LocalMember,
    parent: NodeId,
    plan: CommitPlan,
) -> Result<Arc<PendingCommit>, GroupError> {
    let (node, changes) = group.commit(parent, local, plan)?;
    accept(group, node, changes)
}

fn accept(
    group: &mut Group,
    node: NodeId,
    changes: matrix_sdk_crypto_mls::dmls::GroupChanges,
) -> Result<Arc<PendingCommit>, GroupError> {
    group.apply(changes);
    let pending = group.pending_commit(&node).cloned().ok_or(GroupError::NotPending(node))?;
    let changes = group.accept(node)?;
    group.apply(changes);
    Ok(pending)
}

/// Somebody who does not exist: a device of any user, with a key of its own.
pub struct Invented {
    pub local: LocalMember,
    package: OwnKeyPackage,
    group: Group,
}

impl Invented {
    /// A device of a user, which that user does not know.
    pub fn new(user_id: &str, device_id: &str, room_id: &str) -> Self {
        let local = forge::invent(user_id, device_id);
        let package = new_key_package(&local, false).expect("there is randomness");
        Self { local, package, group: Group::new(room_id) }
    }

    /// Its key package.
    pub fn key_package(&self) -> Vec<u8> {
        self.package.key_package.clone()
    }

    /// Joins by the commit that adds it.
    pub fn joins(&mut self, added_by: &PendingCommit) -> Result<(), GroupError> {
        let Some(welcome) = &added_by.welcome else { return Err(GroupError::WelcomeMismatch) };
        let parts = WelcomeParts {
            welcome,
            tree: &added_by.tree,
            commit: &added_by.commit,
            parent_context: &added_by.parent_context,
            key_package: &self.package,
        };
        let (_, changes) = self.group.join(&self.local, parts)?;
        self.group.apply(changes);
        Ok(())
    }

    /// Renews its keys, on the tip that it knows.
    pub fn updates(
        &mut self,
        commits: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<Arc<PendingCommit>, GroupError> {
        follow(&mut self.group, commits);
        let tip = self.group.sending_tip().ok_or(GroupError::StateMissing)?;
        make(&mut self.group, &self.local, tip, CommitPlan::default())
    }
}

/// An external commit of somebody who does not exist.
pub fn external_commit(
    group: &Group,
    local: &LocalMember,
    parent: NodeId,
    group_info: &[u8],
    tree: &[u8],
) -> Result<Arc<PendingCommit>, GroupError> {
    let record = group.graph().get(&parent).ok_or(GroupError::StateMissing)?;
    let state = PublicState { record, group_info, tree };
    let (node, changes) = group.external_commit(local, state)?;
    accept(&mut group.clone(), node, changes)
}
