//! A room with many devices, in the stores of one of them.

use std::{path::Path, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result, ensure};
use matrix_dmls::{
    CommitPlan, Group, GroupChanges, GroupExtension, InstanceId, LocalMember, NodeId, Received,
    WelcomeParts,
};
use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_crypto_mls::{
    MlsMachine, RoomSettings, Verdict,
    store::{Changes, MemoryStore, MlsStore, StoredCommit},
    types::events::{CommitEventContent, GroupEventContent, MlsEncryptedEventContent},
};
use matrix_sdk_mls_sqlite::SqliteMlsStore;
use matrix_sdk_sqlite::SqliteCryptoStore;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
    events::{AnyMessageLikeEventContent, AnySyncStateEvent, AnySyncTimelineEvent},
    serde::Raw,
    user_id,
};
use serde_json::{Value, json, value::to_raw_value};

use crate::people::{self, Person};

/// Of both stores.
pub const KEY: [u8; 32] = [42; 32];

/// What a commit event's content may have, in bytes (protocol §2).
const MAX_CONTENT: usize = 60 * 1024;

/// A member whose client is simulated at the level of the group.
struct Member {
    user_id: OwnedUserId,
    local: LocalMember,
    group: Group,
}

/// A room, in the stores of our device, and the members who write and commit there.
pub struct Room {
    /// The room.
    pub id: OwnedRoomId,
    /// Our Olm machine, on `SqliteCryptoStore`.
    pub olm: OlmMachine,
    /// Our MLS machine, on `SqliteMlsStore`.
    pub machine: MlsMachine,
    /// Its store.
    pub store: SqliteMlsStore,
    /// The same device's machine, whose MLS store is in memory.
    pub in_memory: MlsMachine,
    /// Everybody else.
    pub people: Vec<Person>,
    /// Those of them who commit.
    committers: Vec<Member>,
    tip: NodeId,
    tip_event: OwnedEventId,
    events: u64,
    generation: u32,
}

/// Stores that get the same.
struct Stores<'a> {
    room: &'a RoomId,
    sqlite: &'a dyn MlsStore,
    memory: &'a dyn MlsStore,
}

impl Stores<'_> {
    async fn save(&self, fill: impl FnOnce(&mut Changes)) -> Result<()> {
        let mut changes = Changes::default();
        fill(&mut changes);
        self.memory.save_changes(changes.clone()).await?;
        Ok(self.sqlite.save_changes(changes).await?)
    }

    async fn entered(&self, group: GroupChanges, node: NodeId, commit: StoredCommit) -> Result<()> {
        self.save(|changes| {
            let room = changes.room(self.room);
            room.group = group;
            room.commits.insert(node, Some(commit));
        })
        .await
    }
}

impl Room {
    /// A room in which so many devices, each of another user, have been since its group was
    /// founded, and so many of them have committed once since.
    ///
    /// The group's state is written into the stores as the machine would have: commits and Welcomes
    /// that need the media repository are something that the machine cannot do yet.
    pub async fn new(directory: &Path, devices: usize, committers: usize) -> Result<Self> {
        let id = RoomId::parse(format!("!room-of-{devices}:example.org"))?;
        let own = user_id!("@me:example.org");
        let crypto = SqliteCryptoStore::open_with_key(directory, Some(&KEY)).await?;
        let olm = OlmMachine::with_store(own, "MYDEVICE".into(), crypto, None).await?;
        let people = (1..devices).map(Person::new).collect::<Result<Vec<_>>>()?;
        people::introduce(&olm, &people).await?;
        let store = SqliteMlsStore::open_with_key(directory, Some(&KEY)).await?;
        let memory = Arc::new(MemoryStore::new());
        let stores = Stores { room: &id, sqlite: &store, memory: &*memory };

        // The room's state goes through the machine.
        let machine = MlsMachine::with_store(olm.clone(), store.clone()).await?;
        machine.receive_room_events(&id, &state(own, &people)?, &[]).await?;
        let members = people.iter().map(|person| person.user_id.clone());
        let members = members.chain([own.to_owned()]).map(|user| (user, "join".into()));
        machine.set_room_members(&id, members).await?;
        let account = store.load_account().await?.context("the machine has no account")?;
        let local = LocalMember::new(account.identity.clone(), &account.seed)?;
        drop(machine);

        // Then the founding.
        let mut group = Group::new(id.as_str());
        let extension = extension();
        let packages = people.iter().map(|person| person.package.key_package.clone()).collect();
        let (founding, changes) = group.found(&local, &extension, packages)?;
        group.apply(changes);
        let pending = Arc::clone(group.pending_commit(&founding).context("no commit")?);
        let changes = group.accept(founding)?;
        group.apply(changes.clone());
        let mut view = store.load_room(&id).await?.context("no room")?.view;
        view.entrance = Some(founding);
        view.updated_at = now();
        let content = GroupEventContent::new(founding, extension.instance);
        view.group = Some((own.to_owned(), content));
        for person in &people {
            view.verdicts.insert(person.local.device().clone(), Verdict::CrossSigned);
        }
        let content = commit_content(&pending.commit, None, &pending.parent_context, None);
        let founded = stored(event_id(0)?, own.to_owned(), content);
        stores.save(|changes| changes.account = Some(account)).await?;
        stores.save(|changes| changes.room(&id).view = Some(view)).await?;
        stores.entered(changes, founding, founded).await?;

        // Some of the others are there too, spread over the tree.
        let mut members = Vec::new();
        let welcome = pending.welcome.as_ref().context("no Welcome")?;
        let step = (people.len() / committers.max(1)).max(1);
        for person in people.iter().step_by(step).take(committers) {
            let welcome = matrix_dmls::Welcome::parse(welcome)?
                .for_recipient(&person.package.reference)
                .context("a Welcome is missing")?;
            let mut theirs = Group::new(id.as_str());
            let (_, changes) = theirs.join(
                &person.local,
                WelcomeParts {
                    welcome: &welcome,
                    tree: &pending.tree,
                    commit: &pending.commit,
                    parent_context: &pending.parent_context,
                    key_package: &person.package,
                },
            )?;
            theirs.apply(changes);
            let (user_id, local) = (person.user_id.clone(), person.local.clone());
            members.push(Member { user_id, local, group: theirs });
        }

        // They renew their keys, as they would have by now, so that the tree has inner nodes and a
        // commit fits into an event.
        let (mut tip, mut tip_event, mut events) = (founding, event_id(0)?, 0);
        for author in 0..members.len() {
            let made = commit(&mut members, author, tip, &tip_event)?;
            events += 1;
            let event_id = event_id(events)?;
            let parent_context = made.content.parent_context.0.clone();
            let changes = match group.receive(&made.commit, &parent_context)? {
                Received::Entered(_, changes) => *changes,
                other => anyhow::bail!("the commit is not entered: {other:?}"),
            };
            group.apply(changes.clone());
            let stored = stored(event_id.clone(), made.author, made.content);
            stores.entered(changes, made.node, stored).await?;
            (tip, tip_event) = (made.node, event_id);
        }

        let machine = MlsMachine::with_store(olm.clone(), store.clone()).await?;
        let in_memory = MlsMachine::with_store(olm.clone(), memory).await?;
        for machine in [&machine, &in_memory] {
            let status = machine.group_status(&id).await?.context("not in the group")?;
            ensure!(status.node == tip && status.roster.len() == devices, "another group");
        }
        let committers = members;
        Ok(Self {
            id,
            olm,
            machine,
            store,
            in_memory,
            people,
            committers,
            tip,
            tip_event,
            events,
            generation: 0,
        })
    }

    /// The epoch that everybody is in.
    pub const fn tip(&self) -> NodeId {
        self.tip
    }

    /// A commit of the next committer, as an event. Everybody but our machines has entered it.
    pub fn next_commit(&mut self) -> Result<Raw<AnySyncTimelineEvent>> {
        self.events += 1;
        let author = usize::try_from(self.events)? % self.committers.len();
        let made = commit(&mut self.committers, author, self.tip, &self.tip_event)?;
        let event_id = event_id(self.events)?;
        let event = json!({
            "type": "io.github.matrix-mls.dmls.v1.commit",
            "event_id": event_id,
            "sender": made.author,
            "origin_server_ts": now(),
            "content": made.content,
        });
        ensure!(event.to_string().len() < 65_536, "the commit is too large for an event");
        self.tip = made.node;
        self.tip_event = event_id;
        self.generation = 0;
        raw(&event)
    }

    /// A message of somebody else's, with a body of so many bytes, as an event.
    pub fn next_message(&mut self, bytes: usize) -> Result<Raw<AnySyncTimelineEvent>> {
        self.events += 1;
        let sender = self.committers.first().context("nobody writes")?;
        let plaintext = json!({
            "type": "m.room.message", "content": body(bytes), "room_id": self.id,
        });
        let plaintext = serde_json::to_vec(&plaintext)?;
        let generation = self.generation;
        self.generation += 1;
        let ciphertext =
            sender.group.encrypt(self.tip, &sender.local, generation, vec![], &plaintext)?;
        let mut content = MlsEncryptedEventContent::new(ciphertext, self.tip);
        content.epoch_event = Some(self.tip_event.clone());
        raw(&json!({
            "type": "m.room.encrypted",
            "event_id": event_id(self.events)?,
            "sender": sender.user_id,
            "origin_server_ts": now(),
            "content": content,
        }))
    }
}

/// The settings of a group, as a machine founds it.
pub fn extension() -> GroupExtension {
    let defaults = RoomSettings::default();
    GroupExtension {
        instance: InstanceId::from_bytes([7; 32]),
        trust: defaults.trust,
        external: defaults.external,
        history: defaults.history,
    }
}

/// A text message whose body has so many bytes.
pub fn message(bytes: usize) -> Result<Raw<AnyMessageLikeEventContent>> {
    raw(&body(bytes))
}

fn body(bytes: usize) -> Value {
    json!({ "msgtype": "m.text", "body": "x".repeat(bytes) })
}

struct Made {
    author: OwnedUserId,
    node: NodeId,
    commit: Vec<u8>,
    content: CommitEventContent,
}

/// One member renews its keys; the others follow.
fn commit(
    members: &mut [Member],
    author: usize,
    tip: NodeId,
    tip_event: &OwnedEventId,
) -> Result<Made> {
    let member = members.get_mut(author).context("no such member")?;
    let (node, changes) = member.group.commit(tip, &member.local, CommitPlan::default())?;
    member.group.apply(changes);
    let pending = Arc::clone(member.group.pending_commit(&node).context("no commit")?);
    let changes = member.group.accept(node)?;
    member.group.apply(changes);
    let made = Made {
        author: member.user_id.clone(),
        node,
        commit: pending.commit.clone(),
        content: commit_content(
            &pending.commit,
            Some(tip),
            &pending.parent_context,
            Some(tip_event.clone()),
        ),
    };
    for (number, other) in members.iter_mut().enumerate() {
        if number != author {
            let received = other.group.receive(&pending.commit, &pending.parent_context)?;
            let Received::Entered(_, changes) = received else {
                anyhow::bail!("the commit is not entered");
            };
            other.group.apply(*changes);
        }
        let changes = other.group.enforce_limits(&GroupChanges::default());
        other.group.apply(changes);
    }
    Ok(made)
}

/// As the machine makes it for a large room. A commit that does not fit would be in a file; then
/// what is left is the reference to it.
fn commit_content(
    commit: &[u8],
    parent: Option<NodeId>,
    parent_context: &[u8],
    parent_event: Option<OwnedEventId>,
) -> CommitEventContent {
    let mut content = CommitEventContent::new(commit.to_vec(), parent, parent_context.to_vec());
    content.parent_event = parent_event;
    if (commit.len() + parent_context.len()).div_ceil(3) * 4 > MAX_CONTENT {
        content.commit = None;
    }
    content
}

fn stored(
    event_id: OwnedEventId,
    sender: OwnedUserId,
    content: CommitEventContent,
) -> StoredCommit {
    StoredCommit { event_id, sender, content, received_at: now() }
}

/// The state of a room as a sync brings it to somebody who has just come.
fn state(creator: &ruma::UserId, people: &[Person]) -> Result<Vec<Raw<AnySyncStateEvent>>> {
    let event = |number: usize, event_type: &str, key: &str, sender: &str, content: Value| {
        raw(&json!({
            "type": event_type, "state_key": key, "sender": sender, "content": content,
            "event_id": format!("$state{number}"), "origin_server_ts": 1,
        }))
    };
    let algorithm = json!({ "algorithm": matrix_dmls::ALGORITHM });
    let joined = json!({ "membership": "join" });
    let me = creator.as_str();
    let mut state = vec![
        event(0, "m.room.create", "", me, json!({ "room_version": "11" }))?,
        event(1, "m.room.encryption", "", me, algorithm)?,
        event(2, "m.room.member", me, me, joined.clone())?,
    ];
    for (number, person) in people.iter().enumerate() {
        let user = person.user_id.as_str();
        state.push(event(number + 3, "m.room.member", user, user, joined.clone())?);
    }
    Ok(state)
}

fn raw<T>(json: &Value) -> Result<Raw<T>> {
    Ok(Raw::from_json(to_raw_value(json)?))
}

/// As long as those of room version 11.
fn event_id(number: u64) -> Result<OwnedEventId> {
    Ok(format!("${number:043}").try_into()?)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
