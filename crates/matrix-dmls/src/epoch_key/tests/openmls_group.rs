//! Real OpenMLS groups, whose epoch secrets are listened to on their way through the crypto
//! provider.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use ed25519_dalek::SigningKey;
use openmls::prelude::{tls_codec::Serialize as _, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::{MemoryStorage, RustCrypto};
use openmls_traits::{
    OpenMlsProvider,
    crypto::OpenMlsCrypto,
    types::{
        AeadType, CryptoError, ExporterSecret, HashType, HpkeCiphertext, HpkeConfig, HpkeKeyPair,
        KemOutput, SignatureScheme,
    },
};
use rand::{Rng, RngExt, seq::IndexedRandom, seq::SliceRandom};

use super::fixtures::member;
use crate::{
    crypto::Secret,
    epoch_key::{EpochKey, EpochKeyParts, SecretTree},
    ids::NodeId,
    roster::Roster,
    wire::tls::Reader,
};

pub(super) const NODE: NodeId = NodeId::from_bytes([0x11; 32]);

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// What is derived from one epoch secret: label → output.
type Heard = HashMap<String, Vec<u8>>;

/// RustCrypto, with an ear for what is derived from each epoch secret.
#[derive(Default)]
pub(super) struct Listener {
    inner: RustCrypto,
    heard: Mutex<HashMap<Vec<u8>, Heard>>,
}

impl Listener {
    /// What was derived under a label in the epoch with this authenticator.
    fn secret(&self, epoch_authenticator: &[u8], label: &str) -> Secret {
        let heard = self.heard.lock().unwrap();
        let mut epochs = heard.values().filter(|heard| {
            heard.get("MLS 1.0 authentication").is_some_and(|a| a == epoch_authenticator)
        });
        let epoch = epochs.next().unwrap();
        assert!(epochs.next().is_none());
        Secret::from_slice(&epoch[label]).unwrap()
    }
}

impl OpenMlsCrypto for Listener {
    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        length: usize,
    ) -> Result<SecretVLBytes, CryptoError> {
        let out = self.inner.hkdf_expand(hash, prk, info, length)?;
        let label = info.get(2..).and_then(|label| Reader::new(label).opaque().ok());
        if let Some(label) = label.and_then(|label| std::str::from_utf8(label).ok())
            && ["MLS 1.0 encryption", "MLS 1.0 sender data", "MLS 1.0 authentication"]
                .contains(&label)
        {
            let mut heard = self.heard.lock().unwrap();
            let epoch = heard.entry(prk.to_vec()).or_default();
            epoch.insert(label.to_owned(), out.as_slice().to_vec());
        }
        Ok(out)
    }

    fn supports(&self, suite: Ciphersuite) -> Result<(), CryptoError> {
        self.inner.supports(suite)
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        self.inner.supported_ciphersuites()
    }

    fn hkdf_extract(
        &self,
        hash: HashType,
        salt: &[u8],
        ikm: &[u8],
    ) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hkdf_extract(hash, salt, ikm)
    }

    fn hmac(&self, hash: HashType, key: &[u8], data: &[u8]) -> Result<SecretVLBytes, CryptoError> {
        self.inner.hmac(hash, key, data)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.inner.hash(hash, data)
    }

    fn aead_encrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_encrypt(aead, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.aead_decrypt(aead, key, data, nonce, aad)
    }

    fn signature_key_gen(
        &self,
        scheme: SignatureScheme,
    ) -> Result<(Vec<u8>, Vec<u8>), CryptoError> {
        self.inner.signature_key_gen(scheme)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        self.inner.verify_signature(scheme, data, key, signature)
    }

    fn sign(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.sign(scheme, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
        text: &[u8],
    ) -> Result<HpkeCiphertext, CryptoError> {
        self.inner.hpke_seal(config, key, info, aad, text)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        self.inner.hpke_open(config, input, key, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<(KemOutput, ExporterSecret), CryptoError> {
        self.inner.hpke_setup_sender_and_export(config, key, info, context, length)
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        enc: &[u8],
        key: &[u8],
        info: &[u8],
        context: &[u8],
        length: usize,
    ) -> Result<ExporterSecret, CryptoError> {
        self.inner.hpke_setup_receiver_and_export(config, enc, key, info, context, length)
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        ikm: &[u8],
    ) -> Result<HpkeKeyPair, CryptoError> {
        self.inner.derive_hpke_keypair(config, ikm)
    }
}

#[derive(Default)]
pub(super) struct Provider {
    crypto: Listener,
    storage: MemoryStorage,
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = Listener;
    type RandProvider = RustCrypto;
    type StorageProvider = MemoryStorage;

    fn crypto(&self) -> &Listener {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto.inner
    }

    fn storage(&self) -> &MemoryStorage {
        &self.storage
    }
}

/// A client without a group.
struct Newcomer {
    provider: Provider,
    signing_key: SigningKey,
    signer: SignatureKeyPair,
    padding: usize,
}

impl Newcomer {
    fn new(rng: &mut impl Rng) -> Self {
        let provider = Provider::default();
        let signing_key = SigningKey::from_bytes(&rng.random());
        let signer = SignatureKeyPair::from_raw(
            SignatureScheme::ED25519,
            signing_key.to_bytes().to_vec(),
            signing_key.verifying_key().to_bytes().to_vec(),
        );
        let padding = *[0, 1, 7, 64, 128, 1000].choose(rng).unwrap();
        Self { provider, signing_key, signer, padding }
    }

    fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(b"whoever".to_vec()).into(),
            signature_key: self.signer.to_public_vec().into(),
        }
    }

    fn key_package(&self) -> KeyPackage {
        KeyPackage::builder()
            .build(SUITE, &self.provider, &self.signer, self.credential())
            .unwrap()
            .key_package()
            .clone()
    }

    fn config(&self) -> MlsGroupCreateConfig {
        MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .use_ratchet_tree_extension(true)
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .sender_ratchet_configuration(SenderRatchetConfiguration::new(500, 20_000))
            .padding_size(self.padding)
            .build()
    }

    fn found(self) -> Client {
        let id = GroupId::from_slice(b"!room:example.org");
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer,
            &self.config(),
            id,
            self.credential(),
        )
        .unwrap();
        Client { who: self, group }
    }

    fn join(self, welcome: &MlsMessageOut) -> Client {
        let MlsMessageBodyOut::Welcome(welcome) = welcome.body() else { panic!("no welcome") };
        let config = self.config();
        let group = StagedWelcome::new_from_welcome(
            &self.provider,
            config.join_config(),
            welcome.clone(),
            None,
        )
        .unwrap()
        .into_group(&self.provider)
        .unwrap();
        Client { who: self, group }
    }
}

/// A member of the OpenMLS group.
pub(super) struct Client {
    who: Newcomer,
    group: MlsGroup,
}

/// What OpenMLS says of an application message.
pub(super) struct Read {
    pub(super) leaf: u32,
    pub(super) aad: Vec<u8>,
    pub(super) plaintext: Vec<u8>,
}

impl Client {
    pub(super) fn signing_key(&self) -> &SigningKey {
        &self.who.signing_key
    }

    pub(super) fn encrypt(&mut self, aad: Vec<u8>, plaintext: &[u8]) -> Vec<u8> {
        self.group.set_aad(aad);
        let message = self.group.create_message(&self.who.provider, &self.who.signer, plaintext);
        message.unwrap().to_bytes().unwrap()
    }

    pub(super) fn decrypt(&mut self, bytes: &[u8]) -> Result<Read, String> {
        let message = self.process(bytes)?;
        let Sender::Member(leaf) = message.sender() else { return Err("no member".to_owned()) };
        let (leaf, aad) = (leaf.u32(), message.aad().to_vec());
        match message.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => {
                Ok(Read { leaf, aad, plaintext: message.into_bytes() })
            }
            _ => Err("no application message".to_owned()),
        }
    }

    fn process(&mut self, bytes: &[u8]) -> Result<ProcessedMessage, String> {
        let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes)
            .map_err(|error| error.to_string())?
            .try_into_protocol_message()
            .map_err(|error| error.to_string())?;
        self.group
            .process_message(&self.who.provider, message)
            .map_err(|error| format!("{error:?}"))
    }

    fn follow(&mut self, commit: &[u8]) {
        match self.process(commit).unwrap().into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => {
                self.group.merge_staged_commit(&self.who.provider, *staged).unwrap();
            }
            _ => panic!("not a commit"),
        }
    }

    /// The GroupContext, by way of a GroupInfo: a group does not show it otherwise.
    fn group_context(&self) -> Vec<u8> {
        let Newcomer { provider, signer, .. } = &self.who;
        let info = self.group.export_group_info(provider.crypto(), signer, false).unwrap();
        let MlsMessageBodyOut::GroupInfo(info) = info.body() else { panic!("no group info") };
        info.group_context().tls_serialize_detached().unwrap()
    }

    /// Our epoch key for the client's present epoch.
    pub(super) fn epoch_key(&self) -> EpochKey {
        let authenticator = self.group.epoch_authenticator().as_slice();
        let secret = |label| self.who.provider.crypto.secret(authenticator, label);
        let roster: Roster = self
            .group
            .members()
            .map(|them| {
                let key = them.signature_key.try_into().unwrap();
                (them.index.u32(), member(&format!("user{}", them.index.u32()), key))
            })
            .collect();
        EpochKey::from_parts(EpochKeyParts {
            node: NODE,
            group_context: self.group_context(),
            tree: SecretTree::Whole(secret("MLS 1.0 encryption")),
            sender_data_secret: secret("MLS 1.0 sender data"),
            roster: Arc::new(roster),
        })
        .unwrap()
    }
}

/// An OpenMLS group: its members by leaf.
pub(super) struct Group(pub(super) BTreeMap<u32, Client>);

impl Group {
    /// A group of `size` members of whom `removed` are removed again, which leaves blanks, or a
    /// narrower tree.
    pub(super) fn new(rng: &mut impl Rng, size: u32, removed: &[u32]) -> Self {
        let mut founder = Newcomer::new(rng).found();
        let others: Vec<_> = (1..size).map(|_| Newcomer::new(rng)).collect();
        let packages: Vec<_> = others.iter().map(Newcomer::key_package).collect();
        let Client { who, group } = &mut founder;
        let (_, welcome, _) = group.add_members(&who.provider, &who.signer, &packages).unwrap();
        group.merge_pending_commit(&who.provider).unwrap();
        let mut members: BTreeMap<_, _> = others
            .into_iter()
            .map(|other| other.join(&welcome))
            .chain([founder])
            .map(|client| (client.group.own_leaf_index().u32(), client))
            .collect();

        if !removed.is_empty() {
            members.retain(|leaf, _| !removed.contains(leaf));
            let committer = *members.keys().collect::<Vec<_>>().choose(rng).copied().unwrap();
            let Client { who, group } = members.get_mut(&committer).unwrap();
            let leaves: Vec<_> = removed.iter().copied().map(LeafNodeIndex::new).collect();
            let (commit, _, _) = group.remove_members(&who.provider, &who.signer, &leaves).unwrap();
            group.merge_pending_commit(&who.provider).unwrap();
            let commit = commit.to_bytes().unwrap();
            for (_, other) in members.iter_mut().filter(|(leaf, _)| **leaf != committer) {
                other.follow(&commit);
            }
        }
        Self(members)
    }

    /// A random choice of leaves to remove, at least two stay.
    pub(super) fn some_leaves(rng: &mut impl Rng, size: u32) -> Vec<u32> {
        let mut leaves: Vec<_> = (0..size).collect();
        leaves.shuffle(rng);
        leaves.truncate(rng.random_range(0..=size as usize - 2));
        leaves
    }

    pub(super) fn random_leaf(&self, rng: &mut impl Rng) -> u32 {
        *self.0.keys().collect::<Vec<_>>().choose(rng).copied().unwrap()
    }
}
