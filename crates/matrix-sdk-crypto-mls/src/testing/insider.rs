//! A member whose client does what it likes.

use std::sync::{Arc, Mutex};

use matrix_dmls::{
    CommitPlan, Group, GroupExtension, LocalMember, NodeId, OwnKeyPackage, PendingCommit, Received,
    Welcome, WelcomeParts, new_key_package, testing::Spoils,
};
use matrix_sdk_crypto::OlmMachine;
use ruma::{OwnedDeviceId, OwnedRoomId, OwnedUserId, UserId};
use serde_json::Value;

use super::{SimDevice, SimServer};
use crate::{
    MlsMachine,
    store::{MemoryStore, MlsStore as _, StoredAccount},
    types::events::CommitEventContent,
};

/// A device in the hands of somebody who knows the protocol and keeps none of its manners: it has the
/// keys of a [`SimDevice`], as they were when they were taken, or of a device that never was, and
/// makes any commit that the group's cryptography lets it make.
#[derive(Debug)]
pub struct Insider {
    server: SimServer,
    room_id: OwnedRoomId,
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    local: LocalMember,
    group: Group,
}

/// A commit that an [`Insider`] has made, and not posted yet.
#[derive(Clone, Debug)]
pub struct ForgedCommit {
    /// Its epoch.
    pub node: NodeId,
    /// The content of its event, open to be altered.
    pub content: CommitEventContent,
    pending: Arc<PendingCommit>,
}

impl Insider {
    /// Takes a copy of a device's keys, and of what it knows of the room that it looks at.
    pub async fn with_the_keys_of(device: &SimDevice) -> Self {
        let account = device.store().load_account().await.unwrap().unwrap();
        let (user_id, device_id) = device.name().clone();
        let local = local(&account);
        let (server, room_id) = (device.server().clone(), device.room().to_owned());
        let group = device.group().await;
        Self { server, room_id, user_id, device_id, local, group }
    }

    /// Makes up a device, which no server has ever heard of.
    pub async fn invents(&self, user: &str, device_id: &str) -> Self {
        let user_id = UserId::parse(format!("@{user}:example.org")).unwrap();
        let device_id = OwnedDeviceId::from(device_id);
        let (olm, store) =
            (OlmMachine::new(&user_id, &device_id).await, Arc::new(MemoryStore::new()));
        MlsMachine::with_store(olm, Arc::clone(&store)).await.unwrap();
        let local = local(&store.load_account().await.unwrap().unwrap());
        Self {
            server: self.server.clone(),
            room_id: self.room_id.clone(),
            user_id,
            device_id,
            local,
            group: Group::new(self.room_id.as_str()),
        }
    }

    /// A key package.
    pub fn key_package(&self) -> OwnKeyPackage {
        new_key_package(&self.local, false).unwrap()
    }

    /// The leaf that somebody has in an epoch.
    pub fn leaf_of(&self, node: NodeId, device: &SimDevice) -> u32 {
        let roster = self.group.roster(&node).unwrap();
        let is_theirs = |device_id: &str, user_id: &str| {
            device.name().0.as_str() == user_id && device.name().1.as_str() == device_id
        };
        let mut leaves = roster.iter();
        let found = leaves
            .find(|(_, member)| is_theirs(&member.device().device_id, &member.device().user_id));
        found.unwrap_or_else(|| panic!("{device:?} has no leaf in {node:?}")).0
    }

    /// Makes a commit, and goes on as if everybody had it.
    pub fn commits(&mut self, on: NodeId, plan: CommitPlan) -> ForgedCommit {
        let (node, changes) = self.group.commit(on, &self.local, plan).unwrap();
        self.group.apply(changes);
        let pending = Arc::clone(self.group.pending_commit(&node).unwrap());
        let changes = self.group.accept(node).unwrap();
        self.group.apply(changes);
        let content = CommitEventContent::new(
            pending.commit.clone(),
            Some(on),
            pending.parent_context.clone(),
        );
        ForgedCommit { node, content, pending }
    }

    /// Founds another group of the room, with the devices of these key packages, and goes on as if
    /// everybody had it. The content shows what others need to add themselves.
    pub fn founds(
        &mut self,
        extension: &GroupExtension,
        key_packages: Vec<Vec<u8>>,
    ) -> ForgedCommit {
        let (node, changes) = self.group.found(&self.local, extension, key_packages).unwrap();
        self.group.apply(changes);
        let pending = Arc::clone(self.group.pending_commit(&node).unwrap());
        let changes = self.group.accept(node).unwrap();
        self.group.apply(changes);
        let (commit, context) = (pending.commit.clone(), pending.parent_context.clone());
        let mut content = CommitEventContent::new(commit, None, context);
        content.group_info = Some(pending.group_info.clone().into());
        content.tree = Some(pending.tree.clone().into());
        ForgedCommit { node, content, pending }
    }

    /// Makes a commit that removes these devices.
    pub fn removes(&mut self, on: NodeId, victims: &[&SimDevice]) -> ForgedCommit {
        let remove = victims.iter().map(|victim| self.leaf_of(on, victim)).collect();
        self.commits(on, CommitPlan { remove, ..CommitPlan::default() })
    }

    /// Makes an update that these devices cannot process. Gives also who of the others cannot: who
    /// shares a node of the tree with one of them.
    pub async fn updates_against(
        &mut self,
        on: NodeId,
        victims: &[&SimDevice],
        others: &[&SimDevice],
    ) -> (ForgedCommit, Vec<SimDevice>) {
        // What is encrypted for whom is found out by spoiling one ciphertext after the other.
        let keys = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&keys);
        self.try_with(
            on,
            Spoils::new(move |key| {
                seen.lock().unwrap().push(key.to_vec());
                false
            }),
        );
        let keys = keys.lock().unwrap().clone();
        let mut spoiled = Vec::new();
        for key in keys {
            let only = key.clone();
            let commit = self.try_with(on, Spoils::new(move |other| *other == *only));
            for victim in victims {
                if !can_process(victim, &commit).await {
                    spoiled.push(key);
                    break;
                }
            }
        }
        let spoils = Some(Spoils::new(move |key| spoiled.iter().any(|spoiled| *spoiled == *key)));
        let forged = self.commits(on, CommitPlan { spoils, ..CommitPlan::default() });
        for victim in victims {
            assert!(!can_process(victim, &forged.pending).await, "{victim:?}");
        }
        let mut failing = Vec::new();
        for other in others {
            if !can_process(other, &forged.pending).await {
                failing.push((*other).clone());
            }
        }
        (forged, failing)
    }

    fn try_with(&self, on: NodeId, spoils: Spoils) -> Arc<PendingCommit> {
        let plan = CommitPlan { spoils: Some(spoils), ..CommitPlan::default() };
        let (node, changes) = self.group.commit(on, &self.local, plan).unwrap();
        changes.pending.get(&node).cloned().flatten().unwrap()
    }

    /// Posts a commit as its own user.
    pub fn posts(&self, commit: &ForgedCommit) {
        self.posts_as(commit, &self.user_id);
    }

    /// Posts a commit as another user, which a server or a joined accomplice has to help with.
    pub fn posts_as(&self, commit: &ForgedCommit, user: &OwnedUserId) {
        let content: Value = serde_json::to_value(&commit.content).unwrap();
        let event_type = <CommitEventContent as ruma::events::StaticEventContent>::TYPE;
        self.server.forges_event(&self.room_id, user, event_type, None, content);
    }

    /// Joins by the Welcome of a commit that added it.
    pub fn joins(&mut self, commit: &ForgedCommit, package: &OwnKeyPackage) {
        let pending = &commit.pending;
        let welcome = Welcome::parse(pending.welcome.as_ref().unwrap()).unwrap();
        let parts = WelcomeParts {
            welcome: &welcome.for_recipient(&package.reference).unwrap(),
            tree: &pending.tree,
            commit: &pending.commit,
            parent_context: &pending.parent_context,
            key_package: package,
        };
        let (_, changes) = self.group.join(&self.local, parts).unwrap();
        self.group.apply(changes);
    }

    /// Enters a commit of another insider.
    pub fn enters(&mut self, commit: &ForgedCommit) {
        let (bytes, context) = (&commit.pending.commit, &commit.pending.parent_context);
        let Received::Entered(_, changes) = self.group.receive(bytes, context).unwrap() else {
            panic!("{:?} cannot enter the commit", self.device_id)
        };
        self.group.apply(*changes);
    }
}

fn local(account: &StoredAccount) -> LocalMember {
    LocalMember::new(account.identity.clone(), &account.seed).unwrap()
}

/// Whether a device could enter a commit; nothing changes.
async fn can_process(device: &SimDevice, commit: &PendingCommit) -> bool {
    let group = device.group().await;
    match group.receive(&commit.commit, &commit.parent_context) {
        Ok(received) => matches!(received, Received::Entered(..)),
        Err(error) => panic!("{device:?}: {error}"),
    }
}
