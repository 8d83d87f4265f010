//! Commits made by hand and signed with keys that the test has: well-formed as they come, and with
//! every field open to be spoiled before it is signed.

use ed25519_dalek::{Signer as _, SigningKey};

use super::{ROOM, TestDevice, extension};
use crate::{
    CommitAad, CommitMessage, EXTENSION_TYPE, MalformedError, NodeId,
    crypto::{labelled, sha256},
    wire::tls::Writer,
};

/// A LeafNode.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) encryption_key: Vec<u8>,
    pub(crate) device: TestDevice,
    pub(crate) credential_type: u16,
    pub(crate) identity: Vec<u8>,
    pub(crate) versions: Vec<u16>,
    pub(crate) suites: Vec<u16>,
    pub(crate) extension_types: Vec<u16>,
    pub(crate) proposal_types: Vec<u16>,
    pub(crate) credential_types: Vec<u16>,
    pub(crate) source: Source,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
    /// The group ID and leaf index in the signed content, unless it is a key package's.
    pub(crate) place: (Vec<u8>, u32),
    pub(crate) signer: SigningKey,
}

#[derive(Clone)]
pub(crate) enum Source {
    KeyPackage(u64, u64),
    Update,
    Commit(Vec<u8>),
}

impl Leaf {
    fn of(device: &TestDevice, source: Source, index: u32) -> Self {
        Self {
            encryption_key: sha256(&[b"encryption key", &device.identity.to_bytes()]).to_vec(),
            device: device.clone(),
            credential_type: 1,
            identity: device.identity.to_bytes(),
            versions: vec![0x0a0a, 1],
            suites: vec![1, 3],
            extension_types: vec![EXTENSION_TYPE],
            proposal_types: vec![],
            credential_types: vec![1],
            source,
            extensions: vec![],
            place: (ROOM.to_vec(), index),
            signer: device.mls_key.clone(),
        }
    }

    /// The leaf of a commit's path, for the leaf at `index`.
    pub(crate) fn in_path(device: &TestDevice, index: u32) -> Self {
        Self::of(device, Source::Commit(vec![5; 32]), index)
    }

    pub(crate) fn in_key_package(device: &TestDevice) -> Self {
        Self::of(device, Source::KeyPackage(0, u64::MAX), 0)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.opaque(&self.encryption_key);
        out.opaque(self.device.mls_key.verifying_key().as_bytes());
        out.u16(self.credential_type);
        out.opaque(&self.identity);
        for list in [
            &self.versions,
            &self.suites,
            &self.extension_types,
            &self.proposal_types,
            &self.credential_types,
        ] {
            out.opaque(&list.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<_>>());
        }
        match &self.source {
            Source::KeyPackage(not_before, not_after) => {
                out.u8(1);
                out.u64(*not_before);
                out.u64(*not_after);
            }
            Source::Update => out.u8(2),
            Source::Commit(parent_hash) => {
                out.u8(3);
                out.opaque(parent_hash);
            }
        }
        out.raw(&extensions(&self.extensions));
        let content = out.into_bytes();
        let mut signed = Writer::new();
        signed.raw(&content);
        if !matches!(self.source, Source::KeyPackage(..)) {
            signed.opaque(&self.place.0);
            signed.u32(self.place.1);
        }
        with_signature(&content, &self.signer, "LeafNodeTBS", &signed.into_bytes())
    }

    /// An UpdatePath with this leaf and without nodes.
    pub(crate) fn path(&self) -> Option<Vec<u8>> {
        let mut path = self.encode();
        path.push(0);
        Some(path)
    }
}

/// A KeyPackage.
pub(crate) struct KeyPackage {
    pub(crate) version: u16,
    pub(crate) suite: u16,
    pub(crate) init_key: Vec<u8>,
    pub(crate) leaf: Leaf,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
    pub(crate) signer: SigningKey,
}

impl KeyPackage {
    pub(crate) fn of(device: &TestDevice) -> Self {
        Self {
            version: 1,
            suite: 1,
            init_key: vec![4; 32],
            leaf: Leaf::in_key_package(device),
            extensions: vec![],
            signer: device.mls_key.clone(),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(self.version);
        out.u16(self.suite);
        out.opaque(&self.init_key);
        out.raw(&self.leaf.encode());
        out.raw(&extensions(&self.extensions));
        let content = out.into_bytes();
        with_signature(&content, &self.signer, "KeyPackageTBS", &content)
    }
}

/// Proposals by value.
pub(crate) fn add(key_package: &KeyPackage) -> Vec<u8> {
    [&[1, 0, 1], key_package.encode().as_slice()].concat()
}

pub(crate) fn remove(leaf: u32) -> Vec<u8> {
    [&[1, 0, 3], leaf.to_be_bytes().as_slice()].concat()
}

pub(crate) fn external_init() -> Vec<u8> {
    let mut out = Writer::new();
    out.raw(&[1, 0, 6]);
    out.opaque(&[8; 32]);
    out.into_bytes()
}

pub(crate) fn group_context_extensions(list: &[(u16, Vec<u8>)]) -> Vec<u8> {
    [&[1, 0, 7], extensions(list).as_slice()].concat()
}

/// A GroupContext.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) version: u16,
    pub(crate) suite: u16,
    pub(crate) group_id: Vec<u8>,
    pub(crate) epoch: u64,
    pub(crate) confirmed_transcript_hash: Vec<u8>,
    pub(crate) extensions: Vec<(u16, Vec<u8>)>,
}

impl Context {
    pub(crate) fn new(epoch: u64, confirmed_transcript_hash: &[u8]) -> Self {
        Self {
            version: 1,
            suite: 1,
            group_id: ROOM.to_vec(),
            epoch,
            confirmed_transcript_hash: confirmed_transcript_hash.to_vec(),
            extensions: vec![
                (3, vec![2, 0xF2, 0xD1, 0, 0]),
                (EXTENSION_TYPE, extension().to_bytes()),
            ],
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(self.version);
        out.u16(self.suite);
        out.opaque(&self.group_id);
        out.u64(self.epoch);
        out.opaque(&[6; 32]);
        out.opaque(&self.confirmed_transcript_hash);
        out.raw(&extensions(&self.extensions));
        out.into_bytes()
    }
}

/// A commit of a member, or of a joiner if there is no `sender`.
pub(crate) struct Commit {
    pub(crate) version: u16,
    pub(crate) wire_format: u16,
    pub(crate) group_id: Vec<u8>,
    pub(crate) epoch: u64,
    pub(crate) sender: Option<u32>,
    pub(crate) aad: CommitAad,
    pub(crate) content_type: u8,
    pub(crate) proposals: Vec<Vec<u8>>,
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) context: Vec<u8>,
    pub(crate) signer: SigningKey,
    pub(crate) confirmation_tag: Vec<u8>,
    pub(crate) membership_tag: Vec<u8>,
}

impl Commit {
    pub(crate) fn new(
        device: &TestDevice,
        sender: Option<u32>,
        parent: Option<NodeId>,
        context: &Context,
    ) -> Self {
        let mut commit = Self {
            version: 1,
            wire_format: 1,
            group_id: context.group_id.clone(),
            epoch: context.epoch,
            sender,
            aad: CommitAad {
                parent,
                parent_context_hash: [0; 32],
                parent_tag: [9; 32],
                resolves: vec![],
            },
            content_type: 3,
            proposals: vec![],
            path: None,
            context: vec![],
            signer: device.mls_key.clone(),
            confirmation_tag: vec![1; 32],
            membership_tag: vec![2; 32],
        };
        commit.set_context(context);
        commit
    }

    /// Puts another context beside the commit, and signs for it.
    pub(crate) fn set_context(&mut self, context: &Context) {
        self.context = context.encode();
        self.aad.parent_context_hash = sha256(&[&self.context]);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.u16(self.version);
        out.u16(self.wire_format);
        out.opaque(&self.group_id);
        out.u64(self.epoch);
        match self.sender {
            Some(leaf) => {
                out.u8(1);
                out.u32(leaf);
            }
            None => out.u8(4),
        }
        out.opaque(&self.aad.to_bytes());
        out.u8(self.content_type);
        out.opaque(&self.proposals.concat());
        out.u8(u8::from(self.path.is_some()));
        out.raw(self.path.as_deref().unwrap_or_default());
        let content = out.into_bytes();
        let signed = [content.as_slice(), &self.context].concat();
        let mut out = Writer::new();
        out.raw(&with_signature(&content, &self.signer, "FramedContentTBS", &signed));
        out.opaque(&self.confirmation_tag);
        if self.sender.is_some() {
            out.opaque(&self.membership_tag);
        }
        out.into_bytes()
    }

    pub(crate) fn parse(&self) -> Result<CommitMessage, MalformedError> {
        CommitMessage::parse(&self.encode())
    }
}

fn extensions(list: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut inner = Writer::new();
    for (extension_type, data) in list {
        inner.u16(*extension_type);
        inner.opaque(data);
    }
    let mut out = Writer::new();
    out.opaque(&inner.into_bytes());
    out.into_bytes()
}

fn with_signature(content: &[u8], signer: &SigningKey, label: &str, signed: &[u8]) -> Vec<u8> {
    let signature = signer.sign(&labelled(label, signed)).to_bytes();
    let mut out = Writer::new();
    out.raw(content);
    out.opaque(&signature);
    out.into_bytes()
}
