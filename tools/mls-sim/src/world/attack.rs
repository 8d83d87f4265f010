//! What insiders do to the room.

use std::collections::BTreeSet;

use matrix_sdk_crypto_mls::{
    dmls::{
        CommitMessage, CommitPlan, Device, ExternalJoins, Group, GroupExtension, HistoryPolicy,
        InstanceId, LocalMember, NodeId, PendingCommit, TrustRequirement, Welcome,
    },
    store::MlsStore as _,
    testing::{DeviceName, SimEvent},
    types::events::{CommitEventContent, ToDeviceWelcomeEventContent},
};
use ruma::{OwnedEventId, TransactionId};
use serde_json::json;

use super::World;
use crate::{
    action::Attack,
    failure::Failure,
    insider::{self, Deed, Forged, Insider, Invented, On},
};

/// The type of commit events.
pub(crate) const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";

/// The algorithm of key packages as one-time keys.
const KEY_PACKAGE: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

/// Why an attack came to nothing: it is no failure.
type Tried<T = ()> = Result<T, String>;

fn no(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl World {
    /// An insider does something. The device turns by its first attack.
    pub(crate) async fn attacks(&mut self, d: usize, attack: &Attack) -> Result<(), Failure> {
        if d >= self.devices.len() {
            return Ok(());
        }
        let before = self.insiders.remove(&d);
        let mut insider = match before {
            Some(insider) if self.devices[d].is_evil => insider,
            // It has followed the rules since it began to remember.
            before => {
                let Some(mut insider) = self.turns(d).await else { return Ok(()) };
                insider.old = before.and_then(|before| before.old);
                insider
            }
        };
        if *attack == Attack::Remember && !self.devices[d].is_evil {
            insider.old = Some(insider.group.clone());
            self.insiders.insert(d, insider);
            return Ok(());
        }
        self.devices[d].is_evil = true;
        let now = self.true_time();
        self.attacked_since.get_or_insert(now);
        let seen = self.commits_seen_by(d);
        let gone_on = self.gone_on_from(&seen, &insider);
        insider.follows(&seen);
        let before = self.commits();
        let tried = self.tries_attack(d, &mut insider, attack);
        if let Err(why) = tried {
            self.note(&format!("  comes to nothing: {why}"));
        }
        if *attack != Attack::Remember {
            self.stats.attacks += 1;
            self.stats.effective += usize::from(self.commits() > before);
        }
        self.notes_deeds(&mut insider, attack, &gone_on);
        self.insiders.insert(d, insider);
        Ok(())
    }

    /// The epochs that others than insiders have gone on from.
    fn gone_on_from(&self, commits: &[(Vec<u8>, Vec<u8>)], insider: &Insider) -> BTreeSet<NodeId> {
        let parsed = commits.iter().filter_map(|(commit, _)| CommitMessage::parse(commit).ok());
        let is_honest = |commit: &CommitMessage| {
            let node = commit.node_id();
            self.deed(&node).is_none() && !insider.deeds.contains_key(&node)
        };
        parsed.filter(is_honest).filter_map(|commit| commit.aad().parent).collect()
    }

    /// Remembers what an attack has posted.
    fn notes_deeds(&self, insider: &mut Insider, attack: &Attack, gone_on: &BTreeSet<NodeId>) {
        let parents = self.parents();
        for node in &insider.bad {
            let Some(parent) = parents.get(node) else { continue };
            insider.deeds.entry(*node).or_insert_with(|| Deed {
                attack: attack.name(),
                is_beside: parent.is_some_and(|parent| gone_on.contains(&parent)),
            });
        }
    }

    /// What a device has when it turns; nothing, if it is in no group.
    async fn turns(&self, d: usize) -> Option<Insider> {
        let store = self.devices[d].device.store();
        let account = store.load_account().await.ok()??;
        let room = store.load_room(&self.room_id).await.ok()??;
        let mut group = Group::new(self.room_id.as_str());
        group.apply(room.group);
        let root = room.view.group.as_ref().map(|(_, group)| group.founding);
        group.set_root(root.or(room.view.entrance), None);
        group.sending_tip()?;
        let local = LocalMember::new(account.identity, &account.seed).ok()?;
        Some(Insider::new(local, account.seed, group))
    }

    /// All commits that a device's homeserver has, with their parents' contexts.
    pub(crate) fn commits_seen_by(&self, d: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let user = &self.users[self.devices[d].user];
        self.commits_of(self.server.events_seen_by(&self.room_id, user))
    }

    /// All commits that are in the room, with their parents' contexts.
    pub(crate) fn all_commit_events(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.commits_of(self.server.events(&self.room_id))
    }

    fn commits_of(&self, events: Vec<SimEvent>) -> Vec<(Vec<u8>, Vec<u8>)> {
        let commits = events.into_iter().filter(|event| event.event_type == COMMIT);
        commits
            .map(|event| self.server.with_files(event).content)
            .filter_map(|content| serde_json::from_value::<CommitEventContent>(content).ok())
            .filter_map(|content| Some((content.commit?.0, content.parent_context.0)))
            .collect()
    }

    fn tries_attack(&mut self, d: usize, evil: &mut Insider, attack: &Attack) -> Tried {
        match attack {
            Attack::Remember => {
                evil.old = Some(evil.group.clone());
                Ok(())
            }
            Attack::Remove(users) => self.removes(d, evil, On::Tip, users),
            Attack::RemoveOnOld(users) => self.removes(d, evil, On::Old, users),
            Attack::Grow(count) => self.grows(d, evil, On::Old, *count),
            Attack::Flood(count) => self.grows(d, evil, On::Tip, *count),
            Attack::GrowWithAccounts(count, accounts) => {
                self.grows_with_accounts(d, evil, *count, *accounts)
            }
            Attack::Support(other) => self.supports(d, evil, *other),
            Attack::Stuff(count) => self.stuffs(d, evil, *count),
            Attack::Double(count) => {
                let tip = evil.group.sending_tip().ok_or("no tip")?;
                for _ in 0..*count {
                    let pending = evil.drafts(tip, CommitPlan::default()).map_err(no)?;
                    self.posts(d, &pending, false)?;
                }
                Ok(())
            }
            Attack::Welcome(user) => self.invites_by_welcome(d, evil, *user),
            Attack::Unprocessable => {
                let seed = evil.seed().clone();
                self.posts_altered(d, evil, |pending| insider::with_spoilt_path(pending, &seed))
            }
            Attack::FalseTag => {
                let seed = evil.seed().clone();
                self.posts_altered(d, evil, |pending| insider::with_false_tag(pending, &seed))
            }
            Attack::FalseContext => self.posts_altered(d, evil, |pending| {
                let mut parent_context = pending.parent_context.clone();
                *parent_context.last_mut()? ^= 1;
                let node = pending.node.record.node;
                Some(Forged { commit: pending.commit.clone(), parent_context, node })
            }),
            Attack::HalfProcessable => {
                let tip = evil.group.sending_tip().ok_or("no tip")?;
                let is_hit = |key: &[u8]| key.first().is_some_and(|byte| byte % 2 == 0);
                let spoils = Some(matrix_dmls::testing::Spoils::new(is_hit));
                let plan = CommitPlan { spoils, ..CommitPlan::default() };
                let pending = evil.commits(On::Tip, tip, plan).map_err(no)?;
                let mut content = content_of(&pending, false);
                content.group_info = Some(vec![0; 100].into());
                self.posts_content(d, &content).map(drop)
            }
            Attack::ExternalAs(user) => self.joins_as(d, evil, *user),
            Attack::FakeGroup => self.founds_another(d, evil),
            Attack::Resolve => {
                let tip = evil.on(On::Old).sending_tip().ok_or("no tip")?;
                let resolves = evil.group.graph().tips().filter(|other| *other != tip).take(32);
                let plan = CommitPlan { resolves: resolves.collect(), ..CommitPlan::default() };
                let pending = evil.commits(On::Old, tip, plan).map_err(no)?;
                self.posts(d, &pending, false).map(drop)
            }
            Attack::Withhold => {
                let tip = evil.group.sending_tip().ok_or("no tip")?;
                let pending = evil.drafts(tip, CommitPlan::default()).map_err(no)?;
                let event_id = self.posts(d, &pending, false)?;
                let mine = self.devices[d].user;
                let half = (0..self.users.len()).filter(|user| *user != mine && user % 2 == 0);
                let half: Vec<_> = half.map(|user| self.users[user].clone()).collect();
                self.server.withholds_from_users(&self.room_id, &event_id, &half);
                Ok(())
            }
        }
    }

    /// Removes the leaves of some users, or of all others.
    fn removes(&mut self, d: usize, evil: &mut Insider, on: On, users: &[usize]) -> Tried {
        let group = evil.on(on);
        let tip = group.sending_tip().ok_or("no tip")?;
        let roster = group.roster(&tip).ok_or("no roster")?;
        let own = evil.local().device().clone();
        let names: Vec<_> = users.iter().filter_map(|user| self.users.get(*user)).collect();
        let is_meant = |device: &Device| {
            *device != own
                && (names.is_empty() || names.iter().any(|name| name.as_str() == device.user_id))
        };
        let leaves = roster.iter().filter(|(_, member)| is_meant(member.device()));
        let remove: Vec<_> = leaves.map(|(leaf, _)| leaf).collect();
        let plan = CommitPlan { remove, ..CommitPlan::default() };
        let pending = evil.commits(on, tip, plan).map_err(no)?;
        self.posts(d, &pending, false).map(drop)
    }

    fn grows(&mut self, d: usize, evil: &mut Insider, on: On, count: usize) -> Tried {
        for _ in 0..count {
            let tip = evil.on(on).sending_tip().ok_or("no tip")?;
            let pending = evil.commits(on, tip, CommitPlan::default()).map_err(no)?;
            if on == On::Tip {
                // Who may commit may do so often.
                evil.bad.pop();
            }
            self.posts(d, &pending, false)?;
        }
        Ok(())
    }

    /// Adds accounts of its own on the old branch, which then commit there too.
    fn grows_with_accounts(
        &mut self,
        d: usize,
        evil: &mut Insider,
        count: usize,
        accounts: usize,
    ) -> Tried {
        let room_id = self.room_id.to_string();
        let invent = |n| Invented::new(&format!("@sock{n}:example.org"), "D", &room_id);
        let mut accounts: Vec<_> = (0..accounts).map(invent).collect();
        let tip = evil.on(On::Old).sending_tip().ok_or("no tip")?;
        let add = accounts.iter().map(Invented::key_package).collect();
        let plan = CommitPlan { add, update: true, ..CommitPlan::default() };
        let pending = evil.commits(On::Old, tip, plan).map_err(no)?;
        self.posts(d, &pending, false)?;
        let mut branch = vec![(pending.commit.clone(), pending.parent_context.clone())];
        for account in &mut accounts {
            account.joins(&pending).map_err(no)?;
        }
        for n in 0..count {
            let Some(account) = n.checked_rem(accounts.len()).and_then(|n| accounts.get_mut(n))
            else {
                break;
            };
            let update = account.updates(&branch).map_err(no)?;
            branch.push((update.commit.clone(), update.parent_context.clone()));
            evil.bad.push(update.node.record.node);
            self.posts(d, &update, true)?;
        }
        Ok(())
    }

    /// An accomplice commits on the branch that another insider has made.
    fn supports(&mut self, d: usize, evil: &mut Insider, other: usize) -> Tried {
        let bad = self.insiders.get(&other).map(|other| other.bad.clone()).unwrap_or_default();
        let tip = bad.into_iter().rev().find(|node| evil.group.state(node).is_some());
        let tip = tip.ok_or("the accomplice is not in there")?;
        let pending = evil.commits(On::Tip, tip, CommitPlan::default()).map_err(no)?;
        self.posts(d, &pending, false).map(drop)
    }

    /// Adds devices that members do not have, and lets them commit.
    fn stuffs(&mut self, d: usize, evil: &mut Insider, count: usize) -> Tried {
        let mine = self.devices[d].user;
        let room_id = self.room_id.to_string();
        let others: Vec<_> = (0..self.users.len()).filter(|user| *user != mine).collect();
        let mut invented: Vec<_> = others
            .iter()
            .cycle()
            .take(count)
            .enumerate()
            .map(|(n, user)| Invented::new(self.users[*user].as_str(), &format!("X{n}"), &room_id))
            .collect();
        let tip = evil.group.sending_tip().ok_or("no tip")?;
        let add = invented.iter().map(Invented::key_package).collect();
        let plan = CommitPlan { add, update: true, ..CommitPlan::default() };
        let pending = evil.commits(On::Tip, tip, plan).map_err(no)?;
        self.posts(d, &pending, false)?;
        let mut branch = vec![(pending.commit.clone(), pending.parent_context.clone())];
        for device in &mut invented {
            device.joins(&pending).map_err(no)?;
            let update = device.updates(&branch).map_err(no)?;
            branch.push((update.commit.clone(), update.parent_context.clone()));
            evil.bad.push(update.node.record.node);
            self.posts(d, &update, true)?;
        }
        Ok(())
    }

    /// Adds a user's devices on the old branch, and sends them Welcomes.
    fn invites_by_welcome(&mut self, d: usize, evil: &mut Insider, user: usize) -> Tried {
        let guests: Vec<_> = self
            .devices
            .iter()
            .filter(|member| member.user == user && !member.is_gone)
            .map(|member| member.device.name().clone())
            .collect();
        let tip = evil.on(On::Old).sending_tip().ok_or("no tip")?;
        let (guests, add) = self.packages_of(&guests);
        let plan = CommitPlan { add, update: true, ..CommitPlan::default() };
        let pending = evil.commits(On::Old, tip, plan).map_err(no)?;
        let event_id = self.posts(d, &pending, false)?;
        self.sends_welcomes(d, &pending, &event_id, &guests)
    }

    /// Founds a group that nobody has asked for, with everybody in it.
    fn founds_another(&mut self, d: usize, evil: &mut Insider) -> Tried {
        let guests: Vec<_> = self
            .devices
            .iter()
            .filter(|member| !member.is_gone)
            .map(|member| member.device.name().clone())
            .filter(|name| name != self.devices[d].device.name())
            .collect();
        let (guests, add) = self.packages_of(&guests);
        let extension = GroupExtension {
            instance: InstanceId::from_bytes([13; 32]),
            trust: TrustRequirement::All,
            external: ExternalJoins::Allowed,
            history: HistoryPolicy::Keep,
        };
        let mut group = Group::new(self.room_id.as_str());
        let (node, changes) = group.found(evil.local(), &extension, add).map_err(no)?;
        group.apply(changes);
        let pending = group.pending_commit(&node).cloned().ok_or("no commit")?;
        evil.bad.push(node);
        let event_id = self.posts(d, &pending, false)?;
        self.sends_welcomes(d, &pending, &event_id, &guests)
    }

    /// An external commit in somebody else's name, as if by a device of that user.
    fn joins_as(&mut self, d: usize, evil: &mut Insider, user: usize) -> Tried {
        let name = self.users.get(user).ok_or("nobody")?;
        let victim = Invented::new(name.as_str(), "XEXT", self.room_id.as_str());
        let tip = evil.group.sending_tip().ok_or("no tip")?;
        let (info, tree) = self.public_state_of(&tip).ok_or("no public state")?;
        let pending = insider::external_commit(&evil.group, &victim.local, tip, &info, &tree);
        let pending = pending.map_err(no)?;
        evil.bad.push(pending.node.record.node);
        // As its own, and as somebody else's that it passes on.
        self.posts(d, &pending, false)?;
        self.posts(d, &pending, true).map(drop)
    }

    fn public_state_of(&self, node: &NodeId) -> Option<(Vec<u8>, Vec<u8>)> {
        let events = self.server.events(&self.room_id).into_iter();
        events.filter(|event| event.event_type == COMMIT).find_map(|event| {
            let content = self.server.with_files(event).content;
            let content: CommitEventContent = serde_json::from_value(content).ok()?;
            let message = CommitMessage::parse(&content.commit?.0);
            (message.ok()?.node_id() == *node).then_some((content.group_info?.0, content.tree?.0))
        })
    }

    fn packages_of(&self, names: &[DeviceName]) -> (Vec<DeviceName>, Vec<Vec<u8>>) {
        use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
        let package = |name: &DeviceName| {
            let key = self.server.gives_one_time_key_of(name, KEY_PACKAGE)?;
            let key = key.get_field::<String>("key").ok()??;
            Some((name.clone(), STANDARD_NO_PAD.decode(key).ok()?))
        };
        names.iter().filter_map(package).unzip()
    }

    fn sends_welcomes(
        &self,
        d: usize,
        pending: &PendingCommit,
        event_id: &OwnedEventId,
        guests: &[DeviceName],
    ) -> Tried {
        let welcome = pending.welcome.as_ref().ok_or("nobody was added")?;
        let welcome = Welcome::parse(welcome).map_err(no)?;
        for (reference, guest) in welcome.recipients().zip(guests) {
            let secrets = welcome.secrets_for_recipient(&reference).ok_or("no secrets")?;
            let content = ToDeviceWelcomeEventContent::new(
                self.room_id.clone(),
                pending.node.record.node,
                event_id.clone(),
                secrets,
            );
            let event = json!({
                "type": "io.github.matrix-mls.dmls.v1.welcome",
                "sender": self.users[self.devices[d].user],
                "content": content,
            });
            self.server.forges_to_device(guest, event);
        }
        Ok(())
    }

    /// Makes a commit on the tip that it does not take part in itself, and posts what `alter` makes of
    /// it, with a broken GroupInfo.
    fn posts_altered(
        &mut self,
        d: usize,
        evil: &mut Insider,
        alter: impl FnOnce(&PendingCommit) -> Option<Forged>,
    ) -> Tried {
        let tip = evil.group.sending_tip().ok_or("no tip")?;
        let pending = evil.drafts(tip, CommitPlan::default()).map_err(no)?;
        let forged = alter(&pending).ok_or("it cannot be altered")?;
        evil.bad.push(forged.node);
        let mut content = CommitEventContent::new(forged.commit, Some(tip), forged.parent_context);
        content.group_info = Some(vec![0; 100].into());
        content.tree = Some(pending.tree.clone().into());
        self.posts_content(d, &content).map(drop)
    }

    fn posts(&mut self, d: usize, pending: &PendingCommit, relay: bool) -> Tried<OwnedEventId> {
        self.posts_content(d, &content_of(pending, relay))
    }

    fn posts_content(&mut self, d: usize, content: &CommitEventContent) -> Tried<OwnedEventId> {
        let name = self.devices[d].device.name().clone();
        let json = serde_json::to_value(content).map_err(no)?;
        let sent =
            self.server.send_event(&name, &self.room_id, COMMIT, &TransactionId::new(), json);
        sent.map_err(|status| format!("the server refuses it: {status}"))
    }
}

fn content_of(pending: &PendingCommit, relay: bool) -> CommitEventContent {
    let parent = pending.node.record.parent;
    let context = pending.parent_context.clone();
    let mut content = CommitEventContent::new(pending.commit.clone(), parent, context);
    content.group_info = Some(pending.group_info.clone().into());
    content.encrypted_group_info = pending.encrypted_group_info().map(Into::into);
    content.tree = Some(pending.tree.clone().into());
    content.relay = relay;
    content
}
