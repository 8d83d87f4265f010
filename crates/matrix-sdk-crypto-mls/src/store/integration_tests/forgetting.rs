//! Keys that are erased as they are used, and records that nobody needs any more (protocol §7, §9).

use matrix_dmls::{DecryptError, Group, GroupError, GroupExtension, HistoryPolicy};

use super::{
    assert_same_group,
    fixtures::{extension, ledger_entry, local, room},
    load_group, save, save_group,
};
use crate::store::{Changes, MessageKey, MlsStore};

#[allow(missing_docs)]
pub async fn an_epoch_key_is_punctured(store: impl MlsStore) {
    let local = local().await;
    let mut group = Group::new(room().as_str());
    let once = GroupExtension { history: HistoryPolicy::None, ..extension() };
    let (node, made) = group.found(&local, &once, Vec::new()).unwrap();
    group.apply(made.clone());
    let accepted = group.accept(node).unwrap();
    group.apply(accepted.clone());
    save_group(&store, made).await;
    save_group(&store, accepted).await;
    let messages: Vec<_> = (0..4)
        .map(|generation| group.encrypt(node, &local, generation, Vec::new(), b"text").unwrap())
        .collect();
    for generation in [2, 0, 3] {
        let loaded = load_group(&store).await;
        let (read, changes) = loaded.read(&messages[generation]).unwrap();
        assert_eq!(read.plaintext, b"text");
        // The message and that it was read are one batch.
        let mut batch = Changes::default();
        let key = MessageKey { node, leaf: 0, generation: read.generation };
        batch.room(room()).ledger.insert(key, ledger_entry("$read"));
        batch.room(room()).group = changes.clone();
        save(&store, batch).await;
        group.apply(changes);
        assert_same_group(&store, &group).await;
        let loaded = load_group(&store).await;
        let again = loaded.read(&messages[generation]).unwrap_err();
        assert!(matches!(again, GroupError::Decrypt(DecryptError::KeyErased { .. })), "{again}");
        assert!(store.ledger_entry(room(), &key).await.unwrap().is_some());
    }
    let loaded = load_group(&store).await;
    assert_eq!(loaded.read(&messages[1]).unwrap().0.plaintext, b"text");
    assert!(loaded.epoch_key(&node).unwrap().encryption_secret().is_none());
}

#[allow(missing_docs)]
pub async fn records_are_forgotten(store: impl MlsStore) {
    let local = local().await;
    let mut group = Group::new(room().as_str());
    let mut nodes = Vec::new();
    for _ in 0..5 {
        let (node, mut made) = match nodes.last() {
            None => group.found(&local, &extension(), Vec::new()).unwrap(),
            Some(parent) => group.commit(*parent, &local, Default::default()).unwrap(),
        };
        group.apply(made.clone());
        let accepted = group.accept(node).unwrap();
        group.apply(accepted.clone());
        made.extend(accepted);
        save_group(&store, made).await;
        nodes.push(node);
    }
    group.set_root(Some(nodes[0]), Some(nodes[3]));
    assert!(group.compact(nodes[2]).is_empty(), "states are held above it");
    for node in &nodes[..2] {
        let changes = group.erase_state(*node);
        save_group(&store, changes.clone()).await;
        group.apply(changes);
    }
    assert!(group.compact(nodes[4]).is_empty(), "the choice starts above it");
    for oldest in [nodes[1], nodes[2]] {
        let changes = group.compact(oldest);
        assert!(!changes.forgotten.is_empty());
        save_group(&store, changes.clone()).await;
        group.apply(changes);
        assert_same_group(&store, &group).await;
    }
    let loaded = load_group(&store).await;
    assert_eq!(loaded.graph().len(), 3);
    assert_eq!(loaded.graph().summary(), group.graph().summary());
    assert!(loaded.graph().is_forgotten(&nodes[0], 1));
    assert!(!loaded.graph().contains(&nodes[1]));
    // Who was in it is told from the oldest one's roster.
    assert_eq!(loaded.roster(&nodes[4]), group.roster(&nodes[4]));
    assert!(loaded.epoch_key(&nodes[0]).is_some(), "the policy keeps it");
    assert_eq!(loaded.sending_tip(), Some(nodes[4]));
}
