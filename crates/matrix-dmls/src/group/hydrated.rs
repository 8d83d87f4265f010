//! Where we meet OpenMLS: its configuration, and its group while an operation works on it.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialType, Extension, ExtensionType,
    Extensions, GroupContext, GroupId, KeyPackage, KeyPackageIn, MlsGroup, MlsGroupJoinConfig,
    PURE_PLAINTEXT_WIRE_FORMAT_POLICY, ProtocolVersion, RequiredCapabilitiesExtension,
    UnknownExtension,
};
use openmls_traits::OpenMlsProvider as _;
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::{
    error::GroupError,
    node::{NewNode, NodeState},
};
use crate::{
    credential::{Device, Identity},
    epoch_key::EpochKey,
    extension::GroupExtension,
    ids::EXTENSION_TYPE,
    record::CommitRecord,
    roster::{Member, Roster},
    schedule::{Operation, Provider, Vault},
};

/// Cipher suite 0x0001, which RFC 9420 makes mandatory.
pub(crate) const CIPHERSUITE: Ciphersuite =
    Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// What every leaf of ours says it can do.
pub(super) fn capabilities() -> Capabilities {
    Capabilities::new(
        Some(&[ProtocolVersion::Mls10]),
        Some(&[CIPHERSUITE]),
        Some(&[ExtensionType::Unknown(EXTENSION_TYPE), ExtensionType::LastResort]),
        None,
        Some(&[CredentialType::Basic]),
    )
}

/// The GroupContext's extensions: ours, and that everybody must understand it.
pub(super) fn context_extensions(
    extension: &GroupExtension,
) -> Result<Extensions<GroupContext>, GroupError> {
    let ours = ExtensionType::Unknown(EXTENSION_TYPE);
    Extensions::from_vec(vec![
        Extension::RequiredCapabilities(RequiredCapabilitiesExtension::new(&[ours], &[], &[])),
        Extension::Unknown(EXTENSION_TYPE, UnknownExtension(extension.to_bytes())),
    ])
    .map_err(GroupError::openmls)
}

/// No past epochs (we keep nodes), no tree in GroupInfos (it travels beside them), commits in the
/// clear (protocol §2).
pub(super) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(0)
        .build()
}

/// Reads a key package for OpenMLS, which verifies it once more.
pub(super) fn key_package(provider: &Provider, bytes: &[u8]) -> Result<KeyPackage, GroupError> {
    KeyPackageIn::tls_deserialize_exact_bytes(bytes)
        .map_err(GroupError::openmls)?
        .validate(provider.crypto(), ProtocolVersion::Mls10)
        .map_err(GroupError::openmls)
}

/// Runs a step of OpenMLS. It has assertions that bad input may reach; a panic there must not take
/// the application down, and cannot tear anything: the operation's provider is dropped.
pub(super) fn guarded<T>(step: impl FnOnce() -> Result<T, GroupError>) -> Result<T, GroupError> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or(Err(GroupError::Panicked))
}

/// The provider and the group of an operation on a node.
pub(super) fn hydrate(
    state: &NodeState,
    vault: &Vault,
    group_id: &[u8],
    alone: bool,
) -> Result<(Provider, MlsGroup), GroupError> {
    let provider = Provider::new(Operation {
        entries: state.entries.clone(),
        vault: Some(vault.clone()),
        alone,
        ..Operation::default()
    });
    let group = MlsGroup::load(provider.storage(), &GroupId::from_slice(group_id))
        .map_err(GroupError::Storage)?
        .ok_or(GroupError::StateMissing)?;
    Ok((provider, group))
}

/// Who is in an OpenMLS group. Every credential is verified, unless the very same was `verified` at its
/// leaf before, and every device and signature key is there once, as in a well-formed commit.
pub(super) fn roster(
    members: impl Iterator<Item = openmls::prelude::Member>,
    verified: &Roster,
) -> Result<Roster, GroupError> {
    let mut roster = Roster::new();
    let (mut devices, mut keys) = (HashSet::new(), HashSet::new());
    for member in members {
        let credential = BasicCredential::try_from(member.credential)
            .map_err(|_| GroupError::UnsupportedCredential)?;
        let identity = Identity::from_bytes(credential.identity())?;
        let signature_key = member
            .signature_key
            .as_slice()
            .try_into()
            .map_err(|_| GroupError::UnsupportedCredential)?;
        let index = member.index.u32();
        let member = Member { identity, signature_key };
        if verified.get(index).is_none_or(|verified| **verified != member) {
            member.identity.verify(&signature_key)?;
        }
        let Device { user_id, device_id, .. } = member.device().clone();
        if !devices.insert((user_id, device_id)) || !keys.insert(signature_key) {
            return Err(GroupError::DuplicateDevice);
        }
        roster.insert(index, Arc::new(member));
    }
    Ok(roster)
}

/// Whether exactly these are in an OpenMLS group. They were verified when they came in; doing so for
/// all of them with every commit would take seconds in large rooms.
pub(super) fn has_roster(
    mut members: impl Iterator<Item = openmls::prelude::Member>,
    roster: &Roster,
) -> bool {
    let mut count = 0;
    let same = |member: openmls::prelude::Member| {
        count += 1;
        let Some(expected) = roster.get(member.index.u32()) else { return false };
        member.signature_key == expected.signature_key
            && BasicCredential::try_from(member.credential)
                .is_ok_and(|credential| credential.identity() == expected.identity.to_bytes())
    };
    members.all(same) && count == roster.len()
}

/// Ends an operation that made an epoch: takes everything out of OpenMLS, and the punctured vault
/// of the parent with it.
pub(super) fn dehydrate(
    provider: Provider,
    group: &MlsGroup,
    record: CommitRecord,
    roster: Arc<Roster>,
) -> Result<(NewNode, Option<Vault>), GroupError> {
    let context = group
        .public_group()
        .group_context()
        .tls_serialize_detached()
        .map_err(GroupError::openmls)?;
    let confirmation_tag = confirmation_tag(group)?;
    let outcome =
        provider.finish(group.epoch_authenticator().as_slice()).ok_or(GroupError::StateMissing)?;
    let state = NodeState {
        entries: outcome.entries,
        own_leaf: group.own_leaf_index().u32(),
        context: context.clone(),
        confirmation_tag,
    };
    let epoch_key = EpochKey::new(
        record.node,
        context,
        outcome.encryption_secret,
        outcome.sender_data_secret,
        Arc::clone(&roster),
    )?;
    let node = NewNode {
        record: Arc::new(record),
        state: Arc::new(state),
        vault: outcome.vault,
        epoch_key: Arc::new(epoch_key),
        roster,
    };
    Ok((node, outcome.parent))
}

/// The confirmation tag of the group's epoch.
pub(super) fn confirmation_tag(group: &MlsGroup) -> Result<[u8; 32], GroupError> {
    let encoded = group.confirmation_tag().tls_serialize_detached().map_err(GroupError::openmls)?;
    let mut reader = crate::wire::tls::Reader::new(&encoded);
    Ok(reader.opaque_array()?)
}
