//! A message as OpenMLS alone sends it, on its own SQLite storage, with keys of some past epochs.

use std::path::Path;

use anyhow::{Result, ensure};
use openmls::prelude::{
    BasicCredential, Ciphersuite, CredentialWithKey, KeyPackage, LeafNodeParameters, MlsGroup,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::{OpenMlsRustCrypto, RustCrypto};
use openmls_sqlite_storage::{Codec, Connection, SqliteStorageProvider};
use openmls_traits::OpenMlsProvider;

use super::{BODY, Cost, Options};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// As many as clients keep that use OpenMLS without an order of commits by a server.
pub const PAST_EPOCHS: usize = 5;

#[derive(Default)]
struct Json;

impl Codec for Json {
    type Error = serde_json::Error;

    fn to_vec<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Self::Error> {
        serde_json::to_vec(value)
    }

    fn from_slice<T: serde::de::DeserializeOwned>(slice: &[u8]) -> Result<T, Self::Error> {
        serde_json::from_slice(slice)
    }
}

struct Provider {
    crypto: RustCrypto,
    storage: SqliteStorageProvider<Json, Connection>,
}

impl OpenMlsProvider for Provider {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = SqliteStorageProvider<Json, Connection>;

    fn storage(&self) -> &Self::StorageProvider {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto
    }
}

/// What a message costs in a group of so many devices. Every write is durable, as in our store;
/// nothing is encrypted in the database.
pub async fn measure(directory: &Path, devices: usize, options: &Options) -> Result<Cost> {
    std::fs::create_dir_all(directory)?;
    let connection = Connection::open(directory.join("openmls.sqlite3"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let mut storage = SqliteStorageProvider::new(connection);
    storage.run_migrations()?;
    let provider = Provider { crypto: RustCrypto::default(), storage };

    let (signer, credential) = member(0)?;
    let mut group = MlsGroup::builder()
        .ciphersuite(SUITE)
        .max_past_epochs(PAST_EPOCHS)
        .build(&provider, &signer, credential)?;
    let mut packages = Vec::new();
    for number in 1..devices {
        let (signer, credential) = member(number)?;
        let elsewhere = OpenMlsRustCrypto::default();
        let bundle = KeyPackage::builder().build(SUITE, &elsewhere, &signer, credential)?;
        packages.push(bundle.key_package().clone());
    }
    group.add_members(&provider, &signer, &packages)?;
    group.merge_pending_commit(&provider)?;
    for _ in 0..PAST_EPOCHS {
        group.self_update(&provider, &signer, LeafNodeParameters::default())?;
        group.merge_pending_commit(&provider)?;
    }
    ensure!(group.members().count() == devices, "another group");

    let mut cost = Cost::default();
    for round in 0..options.warm_up + options.messages {
        let work = async { group.create_message(&provider, &signer, &[b'x'; BODY]) };
        if round < options.warm_up {
            work.await?;
        } else {
            cost.measure(work).await?;
        }
    }
    Ok(cost)
}

fn member(number: usize) -> Result<(SignatureKeyPair, CredentialWithKey)> {
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
    let credential = BasicCredential::new(format!("@user{number}:example.org/DEVICE").into());
    let signature_key = signer.public().into();
    Ok((signer, CredentialWithKey { credential: credential.into(), signature_key }))
}
