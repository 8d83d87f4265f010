//! Devices that talk by handing each other bytes.

use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};

use super::super::*;
use crate::{
    credential::{Device, Identity},
    crypto::Secret,
    extension::{ExternalJoins, HistoryPolicy, TrustRequirement},
    ids::InstanceId,
    wire::welcome::Welcome,
};

pub(super) const ROOM: &str = "!room:example.org";

pub(super) fn extension() -> GroupExtension {
    GroupExtension {
        instance: InstanceId::from_bytes([7; 32]),
        trust: TrustRequirement::All,
        external: ExternalJoins::Allowed,
        history: HistoryPolicy::Keep,
    }
}

pub(super) fn local(name: &str) -> LocalMember {
    local_as(name, 0)
}

/// A device of the same name with other keys.
pub(super) fn local_as(name: &str, variant: u8) -> LocalMember {
    member_with(name, &name.to_uppercase(), variant)
}

/// Another device of Bob's than [`local`] gives.
pub(super) fn second_device_of_bob() -> LocalMember {
    member_with("bob", "TABLET", 2)
}

/// The same device with another MLS key, as after its store was lost.
pub(super) fn member_with_new_key(name: &str) -> LocalMember {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    let device_key = SigningKey::from_bytes(&seed);
    let device = local(name).device().clone();
    let seed = Secret::from_bytes([9; 32]);
    let json = Identity::signed_json(&device, 2, &LocalMember::public_key_of(&seed));
    let signature = device_key.sign(json.as_bytes()).to_bytes();
    LocalMember::new(Identity::new(device, 2, signature), &seed).unwrap()
}

fn member_with(name: &str, device_id: &str, variant: u8) -> LocalMember {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    seed[30] = variant;
    let device_key = SigningKey::from_bytes(&seed);
    seed[31] = 1;
    let seed = Secret::from_bytes(seed);
    let device = Device {
        user_id: format!("@{name}:example.org"),
        device_id: device_id.to_owned(),
        device_key: device_key.verifying_key().to_bytes(),
    };
    let json = Identity::signed_json(&device, 1, &LocalMember::public_key_of(&seed));
    let signature = device_key.sign(json.as_bytes()).to_bytes();
    LocalMember::new(Identity::new(device, 1, signature), &seed).unwrap()
}

/// A commit as its event carries it.
#[derive(Clone)]
pub(super) struct Event {
    pub(super) node: NodeId,
    pub(super) commit: Vec<u8>,
    pub(super) parent_context: Vec<u8>,
    pub(super) welcome: Option<Vec<u8>>,
    pub(super) tree: Vec<u8>,
    pub(super) group_info: Vec<u8>,
}

/// One device with its view of the room's group.
#[derive(Clone)]
pub(super) struct TestDevice {
    pub(super) local: LocalMember,
    pub(super) group: Group,
    generation: u32,
}

pub(super) fn device(name: &str) -> TestDevice {
    TestDevice { local: local(name), group: Group::new(ROOM), generation: 0 }
}

impl TestDevice {
    pub(super) fn leaf(&self, node: NodeId) -> u32 {
        self.group.roster(&node).unwrap().leaf_of(self.local.device()).unwrap()
    }

    pub(super) fn key_package(&self) -> OwnKeyPackage {
        new_key_package(&self.local, false).unwrap()
    }

    pub(super) fn founds(&mut self) -> Event {
        self.founds_with(&extension())
    }

    pub(super) fn founds_with(&mut self, extension: &GroupExtension) -> Event {
        let (node, changes) = self.group.found(&self.local, extension, vec![]).unwrap();
        self.sends(node, changes)
    }

    pub(super) fn commits(&mut self, on: NodeId, plan: CommitPlan) -> Event {
        let (node, changes) = self.group.commit(on, &self.local, plan).unwrap();
        self.sends(node, changes)
    }

    pub(super) fn updates(&mut self, on: NodeId) -> Event {
        self.commits(on, CommitPlan::default())
    }

    pub(super) fn adds(&mut self, on: NodeId, packages: &[&OwnKeyPackage]) -> Event {
        let add = packages.iter().map(|package| package.key_package.clone()).collect();
        self.commits(on, CommitPlan { add, ..CommitPlan::default() })
    }

    pub(super) fn removes(&mut self, on: NodeId, who: &Self) -> Event {
        let remove = vec![who.leaf(on)];
        self.commits(on, CommitPlan { remove, ..CommitPlan::default() })
    }

    /// Stores a pending commit, which the server then accepts.
    pub(super) fn sends(&mut self, node: NodeId, changes: GroupChanges) -> Event {
        self.group.apply(changes);
        let pending = Arc::clone(self.group.pending_commit(&node).unwrap());
        let changes = self.group.accept(node).unwrap();
        self.group.apply(changes);
        assert!(self.group.pending_commit(&node).is_none());
        Event {
            node,
            commit: pending.commit.clone(),
            parent_context: pending.parent_context.clone(),
            welcome: pending.welcome.clone(),
            tree: pending.tree.clone(),
            group_info: pending.group_info.clone(),
        }
    }

    pub(super) fn receives(&mut self, event: &Event) -> Received {
        let received = self.group.receive(&event.commit, &event.parent_context).unwrap();
        match &received {
            Received::Entered(_, changes)
            | Received::Completed(_, changes)
            | Received::Seen(_, _, changes) => {
                self.group.apply((**changes).clone());
            }
            Received::Known(_) | Received::Own(_) => {}
        }
        received
    }

    pub(super) fn enters(&mut self, event: &Event) {
        match self.receives(event) {
            Received::Entered(node, _) => assert_eq!(node, event.node),
            other => panic!("{:?} did not enter: {other:?}", self.local),
        }
    }

    pub(super) fn joins(&mut self, event: &Event, package: &OwnKeyPackage) {
        let changes = self.tries_to_join(event, package).unwrap();
        self.group.apply(changes);
    }

    pub(super) fn tries_to_join(
        &self,
        event: &Event,
        package: &OwnKeyPackage,
    ) -> Result<GroupChanges, GroupError> {
        // Only our own secrets, as they come over the wire.
        let welcome = Welcome::parse(event.welcome.as_ref().unwrap()).unwrap();
        let welcome = welcome.for_recipient(&package.reference).unwrap();
        let parts = WelcomeParts {
            welcome: &welcome,
            tree: &event.tree,
            commit: &event.commit,
            parent_context: &event.parent_context,
            key_package: package,
        };
        self.group.join(&self.local, parts).map(|(_, changes)| changes)
    }

    pub(super) fn writes(&mut self, node: NodeId, text: &str) -> Vec<u8> {
        let generation = self.generation;
        self.generation += 1;
        self.group.encrypt(node, &self.local, generation, vec![], text.as_bytes()).unwrap()
    }

    pub(super) fn reads(&self, message: &[u8]) -> String {
        String::from_utf8(self.group.decrypt(message).unwrap().plaintext).unwrap()
    }
}

/// Everybody can talk to everybody in this epoch.
pub(super) fn all_talk(devices: &mut [&mut TestDevice], node: NodeId) {
    for writer in 0..devices.len() {
        let message = devices[writer].writes(node, "hello");
        for reader in devices.iter() {
            assert_eq!(reader.reads(&message), "hello");
        }
    }
}

/// Alice has founded the room and added the others.
pub(super) fn room_of(names: &[&str]) -> (Vec<TestDevice>, NodeId) {
    let mut devices: Vec<_> = names.iter().map(|name| device(name)).collect();
    let founded = devices[0].founds();
    let packages: Vec<_> = devices[1..].iter().map(TestDevice::key_package).collect();
    let added = devices[0].adds(founded.node, &packages.iter().collect::<Vec<_>>());
    for (joiner, package) in devices[1..].iter_mut().zip(&packages) {
        joiner.joins(&added, package);
    }
    (devices, added.node)
}
