//! Real OpenMLS groups with this protocol's credentials, extension and authenticated data, for tests.
//! The key schedule is plain MLS: it does not show on the wire.

pub(crate) mod forge;

use ed25519_dalek::{Signer as _, SigningKey};
use openmls::prelude::{
    BasicCredential, Capabilities, CredentialWithKey, Extension as MlsExtension, ExtensionType,
    Extensions, GroupContext as MlsGroupContext, GroupId, KeyPackage as MlsKeyPackage,
    LeafNodeIndex, LeafNodeParameters, Lifetime, MlsGroup, MlsGroupCreateConfig,
    MlsGroupJoinConfig, MlsMessageBodyIn, MlsMessageIn, MlsMessageOut, NewSignerBundle,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProcessedMessageContent, RequiredCapabilitiesExtension,
    SignatureScheme, StagedWelcome, UnknownExtension, tls_codec::DeserializeBytes as _,
    tls_codec::Serialize as _,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider as _;

use crate::{
    CommitAad, CommitMessage, Device, EXTENSION_TYPE, ExternalJoins, GroupExtension, GroupInfo,
    HistoryPolicy, Identity, InstanceId, Member, NodeId, TrustRequirement, crypto::sha256,
    wire::tls::Reader,
};

pub(crate) const ROOM: &[u8] = b"!room:example.org";

const SUITE: openmls::prelude::Ciphersuite =
    openmls::prelude::Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// A Matrix device with an MLS key. The same arguments give the same keys.
#[derive(Clone)]
pub(crate) struct TestDevice {
    pub(crate) device_key: SigningKey,
    pub(crate) mls_key: SigningKey,
    pub(crate) identity: Identity,
}

impl TestDevice {
    pub(crate) fn new(user: &str, device_id: &str) -> Self {
        let device_key = key(&format!("device key of {user} {device_id}"));
        Self::with_device_key(user, device_id, device_key, 1)
    }

    pub(crate) fn with_device_key(
        user: &str,
        device_id: &str,
        device_key: SigningKey,
        seq: u64,
    ) -> Self {
        let device = Device {
            user_id: format!("@{user}:example.org"),
            device_id: device_id.to_owned(),
            device_key: device_key.verifying_key().to_bytes(),
        };
        let mls_key = key(&format!("MLS key {seq} of {user} {device_id}"));
        Self::sign(device, device_key, mls_key, seq)
    }

    fn sign(device: Device, device_key: SigningKey, mls_key: SigningKey, seq: u64) -> Self {
        let json = Identity::signed_json(&device, seq, &mls_key.verifying_key().to_bytes());
        let signature = device_key.sign(json.as_bytes()).to_bytes();
        let identity = Identity::new(device, seq, signature);
        Self { device_key, mls_key, identity }
    }

    /// The same device with somebody else's MLS key.
    pub(crate) fn with_mls_key_of(&self, other: &Self) -> Self {
        let Identity { device, seq, .. } = self.identity.clone();
        Self::sign(device, self.device_key.clone(), other.mls_key.clone(), seq)
    }

    /// The same device with another MLS key.
    pub(crate) fn with_seq(&self, seq: u64) -> Self {
        let Device { user_id, device_id, .. } = &self.identity.device;
        let user = user_id.trim_start_matches('@').trim_end_matches(":example.org");
        Self::with_device_key(user, device_id, self.device_key.clone(), seq)
    }

    pub(crate) fn member(&self) -> Member {
        Member {
            identity: self.identity.clone(),
            signature_key: self.mls_key.verifying_key().to_bytes(),
        }
    }

    fn signer(&self) -> SignatureKeyPair {
        SignatureKeyPair::from_raw(
            SignatureScheme::ED25519,
            self.mls_key.to_bytes().to_vec(),
            self.mls_key.verifying_key().to_bytes().to_vec(),
        )
    }

    fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.identity.to_bytes()).into(),
            signature_key: self.mls_key.verifying_key().to_bytes().to_vec().into(),
        }
    }
}

/// The signing key that a name stands for.
pub(crate) fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(&sha256(&[name.as_bytes()]))
}

pub(crate) fn extension() -> GroupExtension {
    GroupExtension {
        instance: InstanceId::from_bytes([7; 32]),
        trust: TrustRequirement::CrossSigned,
        external: ExternalJoins::Allowed,
        history: HistoryPolicy::Keep,
    }
}

fn capabilities() -> Capabilities {
    let types = [ExtensionType::Unknown(EXTENSION_TYPE), ExtensionType::LastResort];
    Capabilities::new(None, None, Some(&types), None, None)
}

fn context_extensions(extension: &GroupExtension) -> Extensions<MlsGroupContext> {
    let types = [ExtensionType::Unknown(EXTENSION_TYPE)];
    Extensions::from_vec(vec![
        MlsExtension::RequiredCapabilities(RequiredCapabilitiesExtension::new(&types, &[], &[])),
        MlsExtension::Unknown(EXTENSION_TYPE, UnknownExtension(extension.to_bytes())),
    ])
    .unwrap()
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .use_ratchet_tree_extension(true)
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .build()
}

/// A commit, and what comes with it.
pub(crate) struct TestCommit {
    pub(crate) message: CommitMessage,
    pub(crate) parent_context: Vec<u8>,
    pub(crate) welcome: Option<Vec<u8>>,
    pub(crate) group_info: Vec<u8>,
}

/// What a commit is to do. Without anything it updates the author's leaf.
#[derive(Default)]
pub(crate) struct Changes<'a> {
    pub(crate) adds: Vec<&'a TestMember>,
    pub(crate) removes: Vec<u32>,
    pub(crate) extension: Option<GroupExtension>,
    /// Leave the path out if MLS lets us.
    pub(crate) without_path: bool,
    pub(crate) new_key: Option<TestDevice>,
    pub(crate) resolves: Vec<NodeId>,
}

/// A device with an OpenMLS group.
pub(crate) struct TestMember {
    provider: OpenMlsRustCrypto,
    pub(crate) device: TestDevice,
    pub(crate) group: Option<MlsGroup>,
    pub(crate) node: Option<NodeId>,
}

impl TestMember {
    pub(crate) fn new(user: &str, device_id: &str) -> Self {
        Self::of(TestDevice::new(user, device_id))
    }

    pub(crate) fn of(device: TestDevice) -> Self {
        Self { provider: OpenMlsRustCrypto::default(), device, group: None, node: None }
    }

    pub(crate) fn group(&self) -> &MlsGroup {
        self.group.as_ref().unwrap()
    }

    /// Begins the private epoch 0.
    pub(crate) fn create_group(&mut self, extension: &GroupExtension) {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .use_ratchet_tree_extension(true)
            .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .lifetime(Lifetime::init(0, u64::MAX))
            .capabilities(capabilities())
            .with_group_context_extensions(context_extensions(extension))
            .build();
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.device.signer(),
            &config,
            GroupId::from_slice(ROOM),
            self.device.credential(),
        );
        self.group = Some(group.unwrap());
    }

    pub(crate) fn key_package(&self) -> MlsKeyPackage {
        self.build_key_package(false)
    }

    pub(crate) fn last_resort_key_package(&self) -> MlsKeyPackage {
        self.build_key_package(true)
    }

    fn build_key_package(&self, last_resort: bool) -> MlsKeyPackage {
        let mut builder = MlsKeyPackage::builder()
            .key_package_lifetime(Lifetime::init(0, u64::MAX))
            .leaf_node_capabilities(capabilities());
        if last_resort {
            builder = builder.mark_as_last_resort();
        }
        let signer = self.device.signer();
        builder
            .build(SUITE, &self.provider, &signer, self.device.credential())
            .unwrap()
            .into_key_package()
    }

    pub(crate) fn context(&self) -> Vec<u8> {
        GroupInfo::parse(&self.group_info()).unwrap().context.as_bytes().to_vec()
    }

    fn aad(&self, resolves: Vec<NodeId>) -> CommitAad {
        let tag = self.group().confirmation_tag().tls_serialize_detached().unwrap();
        CommitAad {
            parent: self.node,
            parent_context_hash: sha256(&[&self.context()]),
            parent_tag: Reader::new(&tag).opaque_array().unwrap(),
            resolves,
        }
    }

    /// Commits on the group's epoch and goes on to the new one.
    pub(crate) fn commit(&mut self, changes: Changes<'_>) -> TestCommit {
        let parent_context = self.context();
        let aad = self.aad(changes.resolves).to_bytes();
        let signer = self.device.signer();
        let group = self.group.as_mut().unwrap();
        group.set_aad(aad);
        let mut builder = group
            .commit_builder()
            .force_self_update(!changes.without_path)
            .propose_removals(changes.removes.into_iter().map(LeafNodeIndex::new))
            .propose_adds(changes.adds.iter().map(|member| member.key_package()));
        if let Some(extension) = &changes.extension {
            builder =
                builder.propose_group_context_extensions(context_extensions(extension)).unwrap();
        }
        let builder = builder.load_psks(self.provider.storage()).unwrap();
        let builder = builder.create_group_info(true);
        let (rand, crypto) = (self.provider.rand(), self.provider.crypto());
        let built = match &changes.new_key {
            None => builder.build(rand, crypto, &signer, |_| true),
            Some(device) => {
                let new = NewSignerBundle {
                    signer: &device.signer(),
                    credential_with_key: device.credential(),
                };
                builder.build_with_new_signer(rand, crypto, &signer, new, |_| true)
            }
        };
        let bundle = built.unwrap().stage_commit(&self.provider).unwrap();
        group.merge_pending_commit(&self.provider).unwrap();
        if let Some(device) = changes.new_key {
            self.device = device;
        }
        let (commit, welcome, group_info) = bundle.into_messages();
        self.finish(parent_context, &commit, welcome, group_info)
    }

    /// Joins by external commit, onto the epoch of somebody's GroupInfo.
    pub(crate) fn join_externally(&mut self, group_info: &[u8], node: NodeId) -> TestCommit {
        let info = GroupInfo::parse(group_info).unwrap();
        let aad = CommitAad {
            parent: Some(node),
            parent_context_hash: info.context.hash(),
            parent_tag: info.confirmation_tag,
            resolves: vec![],
        };
        let MlsMessageBodyIn::GroupInfo(verifiable) = read(group_info) else { panic!() };
        let leaf = LeafNodeParameters::builder().with_capabilities(capabilities()).build();
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(join_config())
            .with_aad(aad.to_bytes())
            .build_group(&self.provider, verifiable, self.device.credential())
            .unwrap()
            .leaf_node_parameters(leaf)
            .load_psks(self.provider.storage())
            .unwrap()
            .create_group_info(true)
            .build(self.provider.rand(), self.provider.crypto(), &self.device.signer(), |_| true)
            .unwrap()
            .finalize(&self.provider)
            .unwrap();
        self.group = Some(group);
        let (commit, welcome, group_info) = bundle.into_messages();
        self.finish(info.context.as_bytes().to_vec(), &commit, welcome, group_info)
    }

    fn finish(
        &mut self,
        parent_context: Vec<u8>,
        commit: &MlsMessageOut,
        welcome: Option<MlsMessageOut>,
        group_info: Option<MlsMessageOut>,
    ) -> TestCommit {
        let message = CommitMessage::parse(&commit.to_bytes().unwrap()).unwrap();
        self.node = Some(message.node_id());
        let group_info = match group_info {
            Some(info) => info.to_bytes().unwrap(),
            None => self.group_info(),
        };
        let welcome = welcome.map(|message| message.to_bytes().unwrap());
        TestCommit { message, parent_context, welcome, group_info }
    }

    pub(crate) fn group_info(&self) -> Vec<u8> {
        let signer = self.device.signer();
        let info = self.group().export_group_info(self.provider.crypto(), &signer, true);
        info.unwrap().to_bytes().unwrap()
    }

    /// Joins by Welcome.
    pub(crate) fn join(&mut self, welcome: &[u8], node: NodeId) {
        let MlsMessageBodyIn::Welcome(welcome) = read(welcome) else { panic!() };
        let staged =
            StagedWelcome::new_from_welcome(&self.provider, &join_config(), welcome, None).unwrap();
        self.group = Some(staged.into_group(&self.provider).unwrap());
        self.node = Some(node);
    }

    /// Follows somebody else's commit.
    pub(crate) fn follow(&mut self, commit: &CommitMessage) {
        let body = read(commit.as_bytes()).try_into_protocol_message().unwrap();
        let group = self.group.as_mut().unwrap();
        let processed = group.process_message(&self.provider, body).unwrap();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            panic!()
        };
        group.merge_staged_commit(&self.provider, *staged).unwrap();
        self.node = Some(commit.node_id());
    }
}

fn read(bytes: &[u8]) -> MlsMessageBodyIn {
    MlsMessageIn::tls_deserialize_exact_bytes(bytes).unwrap().extract()
}

/// To keep [`MlsMessageBodyIn`]'s match out of the tests.
trait IntoProtocolMessage {
    fn try_into_protocol_message(self) -> Option<openmls::prelude::ProtocolMessage>;
}

impl IntoProtocolMessage for MlsMessageBodyIn {
    fn try_into_protocol_message(self) -> Option<openmls::prelude::ProtocolMessage> {
        match self {
            Self::PublicMessage(message) => Some(message.into()),
            _ => None,
        }
    }
}
