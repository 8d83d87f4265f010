//! What one operation's derivations add up to.

use std::collections::HashMap;

use zeroize::Zeroizing;

use super::{
    label::Label,
    pprf::{Pprf, Punctured},
    vault::{Handle, Vault},
};
use crate::crypto::{Secret, derive_secret, expand_with_label, extract};

/// The secrets that one epoch's derivations gave, gathered under that epoch's `epoch_secret`.
#[derive(Default)]
pub(super) struct Epoch {
    pub(super) authenticator: Option<Zeroizing<Vec<u8>>>,
    pub(super) init: Option<(Handle, Secret)>,
    pub(super) external: Option<(Handle, Secret)>,
    pub(super) encryption_secret: Option<Secret>,
    pub(super) sender_data_secret: Option<Secret>,
}

/// A derivation that the key schedule does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The PPRF has been evaluated there.
    Punctured,
    /// A commit secret that no path gave.
    CommitSecret,
}

impl From<Punctured> for Fault {
    fn from(_: Punctured) -> Self {
        Self::Punctured
    }
}

/// The state of the interception. It belongs to one operation: OpenMLS derives on several threads,
/// and what one operation saw must not reach another.
#[derive(Default)]
pub(super) struct Interception {
    parent: Option<Vault>,
    /// The author is alone after this commit, so its path has no nodes and gives no "path" secret.
    alone: bool,
    epochs: HashMap<Secret, Epoch>,
    /// `conf` by commit secret.
    confirmations: HashMap<Secret, Secret>,
    /// The commit secret behind the handle that stands for `KDF.Extract(init_secret, commit_secret)`.
    extracted: HashMap<Handle, Secret>,
    pub(super) fault: Option<Fault>,
}

impl Interception {
    pub(super) fn new(parent: Option<Vault>, alone: bool) -> Self {
        Self { parent, alone, ..Self::default() }
    }

    /// `KDF.Extract(salt, ikm)`: a handle if the salt is the parent's init handle, else nothing.
    pub(super) fn extract(&mut self, salt: &[u8], ikm: &Secret) -> Option<Secret> {
        let parent = self.parent.as_ref()?;
        if salt != parent.init_handle {
            return None;
        }
        // Bound to both, and useless to whoever finds it in a log or a core dump.
        let handle = expand_with_label(ikm, "dmls extract handle", salt);
        self.extracted.insert(*handle.as_bytes(), ikm.clone());
        Some(handle)
    }

    /// `KDF.Expand` under one of the intercepted labels, of which `output` is the ordinary result.
    /// Gives what OpenMLS gets instead, or nothing if it gets the ordinary result.
    pub(super) fn expand(
        &mut self,
        prk: &Secret,
        label: Label,
        context: &[u8],
        output: &Secret,
    ) -> Result<Option<Secret>, Fault> {
        match label {
            Label::Path => {
                self.confirmations.insert(output.clone(), derive_secret(prk, "conf"));
                return Ok(None);
            }
            Label::Joiner => {
                let Some(commit_secret) = self.extracted.remove(prk.as_bytes()) else {
                    return Ok(None);
                };
                return self
                    .joiner_secret(&commit_secret, context)
                    .map(Some)
                    .inspect_err(|fault| self.fault = Some(*fault));
            }
            _ => {}
        }
        let epoch = self.epochs.entry(prk.clone()).or_default();
        let handle = match label {
            Label::Init => {
                let parent_init = derive_secret(prk, "parent_init");
                let handle = derive_secret(&parent_init, "dmls init handle");
                epoch.init = Some((*handle.as_bytes(), parent_init));
                handle
            }
            Label::External => {
                let handle = derive_secret(output, "dmls external handle");
                epoch.external = Some((*handle.as_bytes(), output.clone()));
                handle
            }
            Label::Encryption => {
                epoch.encryption_secret = Some(output.clone());
                derive_secret(output, "dmls encryption handle")
            }
            Label::SenderData => {
                epoch.sender_data_secret = Some(output.clone());
                derive_secret(output, "dmls sender data handle")
            }
            Label::Authentication => {
                epoch.authenticator = Some(Zeroizing::new(output.as_bytes().to_vec()));
                return Ok(None);
            }
            Label::Path | Label::Joiner => return Ok(None),
        };
        Ok(Some(handle))
    }

    /// The heart of it: `init_secret = PPRF(parent_init, x)`, then as RFC 9420 goes on.
    fn joiner_secret(&mut self, commit_secret: &Secret, context: &[u8]) -> Result<Secret, Fault> {
        let conf = if let Some(conf) = self.confirmations.get(commit_secret) {
            conf.clone()
        } else if *commit_secret.as_bytes() == [0; 32] || self.alone {
            derive_secret(commit_secret, "conf")
        } else {
            return Err(Fault::CommitSecret);
        };
        let input = expand_with_label(&conf, "child_init", context);
        let init: &mut Pprf = &mut self.parent.as_mut().ok_or(Fault::CommitSecret)?.init;
        let init_secret = init.evaluate(input.as_bytes())?;
        let extracted = extract(&init_secret, commit_secret.as_bytes());
        Ok(expand_with_label(&extracted, "joiner", context))
    }

    /// The real external secret behind a handle, of the parent or of an epoch derived here.
    pub(super) fn external_secret(&self, handle: &[u8]) -> Option<Option<Secret>> {
        if let Some(parent) = &self.parent
            && handle == parent.external_handle
        {
            return Some(parent.external.clone());
        }
        self.epochs
            .values()
            .filter_map(|epoch| epoch.external.as_ref())
            .find(|(known, _)| handle == known)
            .map(|(_, secret)| Some(secret.clone()))
    }

    /// Takes out the epoch with this authenticator and the parent's vault as it is now.
    pub(super) fn finish(mut self, authenticator: &[u8]) -> (Option<Vault>, Option<Epoch>) {
        let key = self.epochs.iter().find_map(|(key, epoch)| {
            (epoch.authenticator.as_deref().map(Vec::as_slice) == Some(authenticator))
                .then(|| key.clone())
        });
        let epoch = key.and_then(|key| self.epochs.remove(&key));
        (self.parent.take(), epoch)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        schedule: Schedule,
    }

    #[derive(Deserialize)]
    struct Schedule {
        epoch_secret: String,
        parent_init: String,
        path_secret_root: String,
        commit_secret: String,
        conf: String,
        group_context_utf8: String,
        pprf_input: String,
        init_secret: String,
    }

    fn secret(hex: &str) -> Secret {
        Secret::from_slice(&hex::decode(hex).unwrap()).unwrap()
    }

    /// The interception, asked as OpenMLS asks, must come to the vectors' values.
    #[test]
    fn passes_the_vectors() {
        let Vectors { schedule: v } =
            serde_json::from_str(include_str!("../../tests/vectors/dmls_key_schedule.json"))
                .unwrap();

        let epoch_secret = secret(&v.epoch_secret);
        let mut first = Interception::new(None, false);
        let ordinary = derive_secret(&epoch_secret, "init");
        let handle = first.expand(&epoch_secret, Label::Init, &[], &ordinary).unwrap().unwrap();
        assert_ne!(handle, ordinary);
        let (_, parent_init) = first.epochs.remove(&epoch_secret).unwrap().init.unwrap();
        assert_eq!(parent_init, secret(&v.parent_init));

        let vault = Vault {
            init_handle: *handle.as_bytes(),
            init: Pprf::new(parent_init),
            external_handle: [0; 32],
            external: None,
        };
        let mut second = Interception::new(Some(vault), false);
        let path_secret = secret(&v.path_secret_root);
        let commit_secret = derive_secret(&path_secret, "path");
        assert_eq!(commit_secret, secret(&v.commit_secret));
        assert_eq!(second.expand(&path_secret, Label::Path, &[], &commit_secret), Ok(None));
        assert_eq!(second.confirmations[&commit_secret], secret(&v.conf));

        let context = v.group_context_utf8.as_bytes();
        let extracted = second.extract(handle.as_bytes(), &commit_secret).unwrap();
        let ordinary = expand_with_label(&extracted, "joiner", context);
        let joiner = second.expand(&extracted, Label::Joiner, context, &ordinary).unwrap().unwrap();
        let expected = extract(&secret(&v.init_secret), commit_secret.as_bytes());
        assert_eq!(joiner, expand_with_label(&expected, "joiner", context));
        let input = secret(&v.pprf_input);
        assert!(second.parent.unwrap().init.is_punctured(input.as_bytes()));
    }

    #[test]
    fn a_commit_secret_from_nowhere_is_an_error() {
        let vault = Vault {
            init_handle: [1; 32],
            init: Pprf::new(Secret::from_bytes([2; 32])),
            external_handle: [0; 32],
            external: None,
        };
        for (alone, expected) in [(false, Err(Fault::CommitSecret)), (true, Ok(()))] {
            let mut operation = Interception::new(Some(vault.clone()), alone);
            let handle = operation.extract(&[1; 32], &Secret::from_bytes([3; 32])).unwrap();
            let result = operation.expand(&handle, Label::Joiner, b"context", &handle);
            assert_eq!(result.map(|_| ()), expected);
            assert_eq!(operation.fault, expected.err());
        }
    }
}
