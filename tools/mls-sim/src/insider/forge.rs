//! Bytes that no honest program makes.

use ed25519_dalek::{Signer as _, SigningKey};
use matrix_sdk_crypto_mls::dmls::{
    CommitMessage, Device, Identity, LocalMember, NodeId, PendingCommit, Secret,
};
use sha2::{Digest as _, Sha256};

/// A commit that was altered and signed again.
pub struct Forged {
    pub commit: Vec<u8>,
    pub parent_context: Vec<u8>,
    pub node: NodeId,
}

/// A device that nobody knows, with a valid credential. The same names give the same keys.
pub fn invent(user_id: &str, device_id: &str) -> LocalMember {
    let key = |what: &str| -> [u8; 32] {
        Sha256::digest(format!("{what} of {user_id} {device_id}")).into()
    };
    let device_key = SigningKey::from_bytes(&key("device key"));
    let seed = Secret::from_bytes(key("MLS key"));
    let device = Device {
        user_id: user_id.to_owned(),
        device_id: device_id.to_owned(),
        device_key: device_key.verifying_key().to_bytes(),
    };
    let json = Identity::signed_json(&device, 1, &LocalMember::public_key_of(&seed));
    let identity = Identity::new(device, 1, device_key.sign(json.as_bytes()).to_bytes());
    LocalMember::new(identity, &seed).expect("it was signed just now")
}

/// The commit with its last encrypted path secret spoilt, so that its tags are wrong for everybody.
pub fn with_spoilt_path(pending: &PendingCommit, seed: &Secret) -> Option<Forged> {
    resigned(pending, seed, |content| {
        let last = content.last_mut()?;
        *last ^= 1;
        Some(())
    })
}

/// The commit with another tag of its parent in what it signs.
pub fn with_false_tag(pending: &PendingCommit, seed: &Secret) -> Option<Forged> {
    let tag = CommitMessage::parse(&pending.commit).ok()?.aad().parent_tag;
    resigned(pending, seed, |content| {
        let at = content.windows(tag.len()).position(|bytes| bytes == tag)?;
        *content.get_mut(at)? ^= 1;
        Some(())
    })
}

/// Alters what a commit signs, and signs it again. The tags stay as they were.
fn resigned(
    pending: &PendingCommit,
    seed: &Secret,
    alter: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<Forged> {
    // signature<V>, confirmation_tag<V>, membership_tag<V>
    const TAIL: usize = (2 + 64) + 2 * (1 + 32);
    let content_end = pending.commit.len().checked_sub(TAIL)?;
    let (content, tail) = pending.commit.split_at(content_end);
    let mut content = content.to_vec();
    alter(&mut content)?;
    let signed = [content.as_slice(), &pending.parent_context].concat();
    let key = SigningKey::from_bytes(seed.as_bytes());
    let signature = key.sign(&sign_content(&signed)).to_bytes();
    let mut tail = tail.to_vec();
    tail.get_mut(2..2 + 64)?.copy_from_slice(&signature);
    let commit = [content, tail].concat();
    let node = CommitMessage::parse(&commit).ok()?.node_id();
    Some(Forged { commit, parent_context: pending.parent_context.clone(), node })
}

/// `SignContent` of RFC 9420 §5.1.2.
fn sign_content(content: &[u8]) -> Vec<u8> {
    let label = b"MLS 1.0 FramedContentTBS";
    let mut out = vec![u8::try_from(label.len()).unwrap_or_default()];
    out.extend(label);
    let length = u32::try_from(content.len()).unwrap_or_default();
    match length {
        0..64 => out.push(u8::try_from(length).unwrap_or_default()),
        64..16_384 => {
            out.extend((u16::try_from(length).unwrap_or_default() | 0x4000).to_be_bytes())
        }
        _ => out.extend((length | 0x8000_0000).to_be_bytes()),
    }
    out.extend(content);
    out
}
