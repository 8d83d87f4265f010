//! The same join with OpenMLS alone: everything in memory, no Matrix around it.

use anyhow::{Context as _, Result, bail, ensure};
use openmls::prelude::{
    BasicCredential, Ciphersuite, CredentialWithKey, KeyPackage, MlsGroup, MlsGroupJoinConfig,
    MlsMessageBodyIn, MlsMessageIn, RatchetTreeIn, StagedWelcome,
    tls_codec::{DeserializeBytes as _, Serialize as _},
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

use crate::cpu::{Meter, Spent};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// A group, in the client of one who adds others.
pub struct Group {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    group: MlsGroup,
    /// As large as ours, in bytes.
    credential: usize,
}

impl Group {
    /// A group of so many members, whose credentials have so many bytes.
    pub fn new(devices: usize, credential: usize) -> Result<Self> {
        let provider = OpenMlsRustCrypto::default();
        let (signer, with_key) = member(credential)?;
        let mut group =
            MlsGroup::builder().ciphersuite(SUITE).build(&provider, &signer, with_key)?;
        let mut packages = Vec::new();
        for _ in 1..devices {
            let (_, package) = newcomer(credential)?;
            packages.push(package);
        }
        group.add_members_without_update(&provider, &signer, &packages)?;
        group.merge_pending_commit(&provider)?;
        ensure!(group.members().count() == devices, "another group");
        Ok(Self { provider, signer, group, credential })
    }

    /// One more is added, and joins. Gives what the joining took, from the bytes on.
    pub fn join(&mut self) -> Result<Spent> {
        let Self { provider, signer, group, credential } = self;
        let (theirs, package) = newcomer(*credential)?;
        let (_, welcome, _) = group.add_members_without_update(provider, signer, &[package])?;
        group.merge_pending_commit(provider)?;
        let welcome = welcome.tls_serialize_detached()?;
        let tree = group.export_ratchet_tree().tls_serialize_detached()?;
        let config = MlsGroupJoinConfig::builder().build();

        let meter = Meter::start();
        let (message, _) = MlsMessageIn::tls_deserialize_bytes(&welcome)?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else { bail!("no Welcome") };
        let (tree, _) = RatchetTreeIn::tls_deserialize_bytes(&tree)?;
        let staged = StagedWelcome::new_from_welcome(&theirs, &config, welcome, Some(tree))?;
        let joined = staged.into_group(&theirs)?;
        let spent = meter.stop();
        let same =
            joined.epoch_authenticator().as_slice() == group.epoch_authenticator().as_slice();
        ensure!(same, "it has joined another group");
        Ok(spent)
    }
}

fn newcomer(credential: usize) -> Result<(OpenMlsRustCrypto, KeyPackage)> {
    let provider = OpenMlsRustCrypto::default();
    let (signer, with_key) = member(credential)?;
    let bundle = KeyPackage::builder().build(SUITE, &provider, &signer, with_key)?;
    Ok((provider, bundle.key_package().clone()))
}

fn member(credential: usize) -> Result<(SignatureKeyPair, CredentialWithKey)> {
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).context("no key")?;
    let credential = BasicCredential::new(vec![b'x'; credential]);
    let signature_key = signer.public().into();
    Ok((signer, CredentialWithKey { credential: credential.into(), signature_key }))
}
