//! Founding anew, and following or staying (protocol §6).

use std::collections::{BTreeMap, BTreeSet};

use matrix_dmls::{CommitPlan, ExternalJoins, GroupExtension, HistoryPolicy, InstanceId, NodeId};

use super::{
    alice_and_bob, assert_no_generation_is_reused, assert_one_epoch, commits_in, joins, settle,
    time_passes,
};
use crate::{
    MlsError, Notice, Obstacle, Readiness, RoomSettings,
    dmls::TrustRequirement,
    testing::{
        Fault, ForgedCommit, Insider, RequestKind, RoomOptions, SimDevice, SimServer, TestClock,
    },
    types::events::GroupEventContent,
};

const GROUP: &str = "io.github.matrix-mls.dmls.v1.group";
const KEY_PACKAGE: &str = "io.github.matrix-mls.dmls.v1.key_package.1";

fn everybody() -> RoomSettings {
    RoomSettings { trust: TrustRequirement::All, ..RoomSettings::default() }
}

/// Everybody may name the group.
fn open() -> RoomOptions {
    RoomOptions { events: BTreeMap::from([(GROUP.to_owned(), 0)]), ..RoomOptions::default() }
}

/// Alice, Bob and Carol in a room that Alice has made, and in which all have talked.
async fn three(settings: RoomSettings, options: RoomOptions) -> (SimServer, [SimDevice; 3]) {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").room_settings(settings).logs_in().await;
    let alice = alice.creates_room_with(options).await;
    alice.says("hello").await;
    let bob = joins(&server, &alice, "bob").await;
    let carol = joins(&server, &alice, "carol").await;
    settle(&[&alice, &bob, &carol]).await;
    for device in [&alice, &bob, &carol] {
        device.says("here I am").await;
    }
    settle(&[&alice, &bob, &carol]).await;
    for device in [&alice, &bob, &carol] {
        device.takes_notices();
    }
    (server, [alice, bob, carol])
}

/// Its MLS store is gone, and its old key packages are used up.
async fn loses_everything(device: &SimDevice) {
    device.server().clock().advance(TestClock::MINUTE);
    device.server().drops_one_time_keys(device.name(), KEY_PACKAGE, true);
    device.loses_mls_store().await;
    device.pumps().await;
    device.syncs().await;
}

/// How often the room was given a group, or an anchor.
fn namings(device: &SimDevice) -> usize {
    device.server().count(device.room(), GROUP)
}

/// What was told of groups that take the place of others.
fn replaced(device: &SimDevice) -> Vec<(NodeId, Option<Obstacle>)> {
    let notices = device.takes_notices().into_iter();
    let replaced = notices.filter_map(|notice| match notice {
        Notice::GroupReplaced { founding, obstacle, .. } => Some((founding, obstacle)),
        _ => None,
    });
    replaced.collect()
}

/// Each says something that all read.
async fn all_talk(all: &[&SimDevice]) {
    for speaker in all {
        let event = speaker.says("all in").await;
        settle(all).await;
        all.iter().for_each(|device| device.has_read(&event, "all in"));
    }
    assert_one_epoch(all).await;
}

/// The settings of the group that a device is in.
async fn extension(device: &SimDevice) -> GroupExtension {
    device.status().await.unwrap().extension
}

/// The event that names the group.
fn named(device: &SimDevice) -> GroupEventContent {
    let server = device.server();
    let event = server.event(device.room(), &server.last_event(device.room(), GROUP));
    serde_json::from_value(event.content).unwrap()
}

/// Somebody's word, or a server's, that this is the room's group now.
fn names(server: &SimServer, by: &SimDevice, group: &GroupEventContent) {
    let content = serde_json::to_value(group).unwrap();
    server.clock().advance(1000);
    server.forges_event(by.room(), by.user_id(), GROUP, Some(""), content);
}

#[tokio::test]
async fn when_all_have_lost_their_stores_one_founds_anew() {
    let (_, [alice, bob, carol]) = three(everybody(), RoomOptions::default()).await;
    let all = [&alice, &bob, &carol];
    let (old, settings) = (named(&alice), extension(&alice).await);
    for device in all {
        loses_everything(device).await;
    }
    settle(&all).await;
    assert_eq!(namings(&alice), 1);
    time_passes(&all, TestClock::HOUR).await;
    // Alice alone may name it.
    assert_eq!(namings(&alice), 2);
    let new = named(&alice);
    assert!(new.founding != old.founding && new.instance != old.instance);
    assert_one_epoch(&all).await;
    all_talk(&all).await;
    let now = extension(&bob).await;
    assert_eq!(now, GroupExtension { instance: new.instance, ..settings });
    assert_eq!(namings(&alice), 2);
}

/// Control: who still has its store lets the others in.
#[tokio::test]
async fn as_long_as_somebody_has_a_store_nobody_founds_anew() {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let all = [&alice, &bob, &carol];
    let old = named(&alice);
    for device in [&alice, &bob] {
        loses_everything(device).await;
    }
    // Carol is away for long.
    time_passes(&[&alice, &bob], 3 * TestClock::DAY).await;
    assert_eq!(named(&alice), old);
    assert!(alice.node().await.is_none());
    settle(&all).await;
    time_passes(&all, 2 * TestClock::HOUR).await;
    all_talk(&all).await;
    assert_eq!(named(&alice).instance, old.instance);
    assert_eq!(extension(&alice).await.instance, old.instance);
    drop(server);
}

#[tokio::test]
async fn who_is_alone_founds_anew_and_lets_others_in() {
    let (server, alice, bob) = alice_and_bob().await;
    bob.leaves();
    bob.syncs().await;
    alice.syncs().await;
    loses_everything(&alice).await;
    assert_eq!(alice.readiness().await, Readiness::NeedsRequests);
    alice.pumps().await;
    time_passes(&[&alice], 9 * TestClock::MINUTE).await;
    assert_eq!(namings(&alice), 1);
    time_passes(&[&alice], 10 * TestClock::MINUTE).await;
    assert_eq!(namings(&alice), 2);
    let event = alice.says("a new beginning").await;
    alice.restarts().await;
    alice.syncs().await;
    alice.has_read(&event, "a new beginning");
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    settle(&[&alice, &bob]).await;
    // Bob has missed it, and looks for it.
    let welcome = alice.says("welcome back").await;
    settle(&[&alice, &bob]).await;
    time_passes(&[&alice, &bob], TestClock::HOUR).await;
    bob.has_read(&welcome, "welcome back");
    all_talk(&[&alice, &bob]).await;
    drop(server);
}

#[tokio::test]
async fn who_may_not_name_the_group_does_not_found_anew() {
    let (_, alice, bob) = alice_and_bob().await;
    alice.leaves();
    bob.syncs().await;
    loses_everything(&bob).await;
    time_passes(&[&bob], 2 * TestClock::DAY).await;
    assert_eq!(namings(&bob), 1);
    let refused = bob.mls().found_anew(bob.room()).await;
    assert!(matches!(refused, Err(MlsError::CannotFoundAnew)), "{refused:?}");
}

/// Bob could let Alice in, if he came. Her application knows that he will not, and errs.
#[tokio::test]
async fn who_stays_behind_alone_follows_by_itself() {
    let (server, alice, bob) = alice_and_bob().await;
    let before = alice.says("before").await;
    settle(&[&alice, &bob]).await;
    let early = alice.mls().found_anew(alice.room()).await;
    assert!(matches!(early, Err(MlsError::CannotFoundAnew)), "{early:?}");
    loses_everything(&alice).await;
    time_passes(&[&alice], TestClock::DAY).await;
    assert_eq!(namings(&alice), 1);
    alice.mls().found_anew(alice.room()).await.unwrap();
    alice.pumps().await;
    alice.syncs().await;
    assert_eq!(namings(&alice), 2);

    // Bob comes: all that he has is Alice's old key.
    let all = [&alice, &bob];
    settle(&all).await;
    assert_eq!(replaced(&bob), [(named(&alice).founding, None)]);
    time_passes(&all, TestClock::HOUR).await;
    all_talk(&all).await;
    assert_eq!(extension(&bob).await.instance, named(&alice).instance);
    // What he had stays readable.
    bob.restarts().await;
    reads_again(&server, &bob).await;
    bob.has_read(&before, "before");
}

/// Reads everything in the room anew.
async fn reads_again(server: &SimServer, device: &SimDevice) {
    for event in server.events(device.room()) {
        device.reads_event(device.room(), &event.to_json()).await.unwrap();
    }
}

/// Carol has lost her store, the others do not answer, and her application has founded anew. They are
/// back now.
async fn carol_founds_anew() -> (SimServer, [SimDevice; 3], GroupEventContent) {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let before = named(&alice);
    loses_everything(&carol).await;
    time_passes(&[&carol], TestClock::HOUR).await;
    carol.mls().found_anew(carol.room()).await.unwrap();
    carol.pumps().await;
    carol.syncs().await;
    settle(&[&alice, &bob, &carol]).await;
    (server, [alice, bob, carol], before)
}

#[tokio::test]
async fn a_living_group_is_not_left_unless_the_application_agrees() {
    let (server, [alice, bob, carol], before) = carol_founds_anew().await;
    let (all, new) = ([&alice, &bob, &carol], named(&carol));
    for device in [&alice, &bob] {
        assert_eq!(replaced(device), [(new.founding, Some(Obstacle::OthersAreThere))]);
        let waits = device.mls().replaced_group(device.room()).await.unwrap().unwrap();
        assert_eq!((waits.founding, &waits.by), (new.founding, carol.user_id()));
    }
    time_passes(&all, 2 * TestClock::DAY).await;
    let old = extension(&alice).await.instance;
    assert_ne!(old, new.instance);
    let here = alice.says("we stay").await;
    settle(&all).await;
    bob.has_read(&here, "we stay");
    assert!(carol.text(&here).is_none());
    assert_eq!(extension(&carol).await.instance, new.instance);
    // Nobody has named the old one again.
    assert_eq!(named(&alice), new);
    assert_eq!(replaced(&alice), []);

    // Another one than the room names is none to agree to.
    let other = NodeId::from_bytes([1; 32]);
    let refused = bob.mls().follow_group(bob.room(), &other).await;
    assert!(matches!(refused, Err(MlsError::CannotFollow(None))), "{refused:?}");
    let late = alice.says("under way").await;
    assert!(bob.mls().follow_group(bob.room(), &new.founding).await.unwrap());
    assert_eq!(replaced(&bob), [(new.founding, None)]);
    settle(&[&bob]).await;
    bob.has_read(&late, "under way");
    bob.restarts().await;
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(extension(&bob).await.instance, new.instance);
    assert_eq!(extension(&alice).await.instance, old);
    reads_again(&server, &bob).await;
    bob.has_read(&here, "we stay");
    // Alice's word for the old one, shown again, leads Bob nowhere.
    names(&server, &alice, &before);
    settle(&all).await;
    assert_eq!(replaced(&bob), [(before.founding, Some(Obstacle::WasLeft))]);
    assert_eq!(alice.mls().replaced_group(alice.room()).await.unwrap(), None);
    names(&server, &carol, &new);
    settle(&all).await;
    assert_eq!(bob.mls().replaced_group(bob.room()).await.unwrap(), None);
    assert_eq!(extension(&bob).await.instance, new.instance);
    assert_eq!(replaced(&alice), [(new.founding, Some(Obstacle::OthersAreThere))]);
    // What Bob says there shows Alice that she is alone.
    bob.says("come over").await;
    settle(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(replaced(&alice), [(new.founding, None)]);
    all_talk(&all).await;
    assert_eq!(named(&alice).instance, new.instance);
    assert_no_generation_is_reused(&server, &all);
}

/// The server can show old words again, but nobody goes back by itself.
#[tokio::test]
async fn nobody_goes_to_and_fro() {
    let (server, alice, bob) = alice_and_bob().await;
    let (all, old) = ([&alice, &bob], named(&alice));
    loses_everything(&alice).await;
    time_passes(&[&alice], TestClock::HOUR).await;
    alice.mls().found_anew(alice.room()).await.unwrap();
    alice.pumps().await;
    settle(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    all_talk(&all).await;
    all.iter().for_each(|device| drop(device.takes_notices()));
    let (new, commits) = (named(&alice), commits_in(&alice));
    for _ in 0..5 {
        for group in [&old, &new] {
            names(&server, &alice, group);
            settle(&all).await;
            all_talk(&all).await;
        }
    }
    names(&server, &alice, &old);
    settle(&all).await;
    // Alice's old key is none that anybody would go to.
    let told = replaced(&bob);
    assert_eq!(told, [(old.founding, Some(Obstacle::UntrustedFounder)); 6]);
    assert_eq!(extension(&bob).await.instance, new.instance);
    assert_eq!(commits_in(&alice), commits);
    // Nor when the word is an older one.
    names(&server, &alice, &new);
    settle(&all).await;
    assert_eq!(bob.mls().replaced_group(bob.room()).await.unwrap(), None);
}

/// A group that Carol's device has founded and the room names.
async fn forged(
    server: &SimServer,
    carol: &SimDevice,
    change: impl FnOnce(&mut GroupExtension),
) -> (ForgedCommit, GroupEventContent) {
    let mut insider = Insider::with_the_keys_of(carol).await;
    let mut extension = extension(carol).await;
    extension.instance = InstanceId::from_bytes([7; 32]);
    change(&mut extension);
    let founding = insider.founds(&extension, Vec::new());
    insider.posts(&founding);
    let group = GroupEventContent::new(founding.node, extension.instance);
    names(server, carol, &group);
    (founding, group)
}

/// Asserts that a device stays, whether its application agrees or not.
async fn must_stay(device: &SimDevice, group: &GroupEventContent, why: Obstacle) {
    let before = extension(device).await;
    assert_eq!(replaced(device), [(group.founding, Some(why))]);
    let refused = device.mls().follow_group(device.room(), &group.founding).await;
    assert!(matches!(refused, Err(MlsError::CannotFollow(Some(w))) if w == why), "{refused:?}");
    device.restarts().await;
    device.syncs().await;
    let event = device.says("I stay").await;
    device.syncs().await;
    device.has_read(&event, "I stay");
    assert_eq!(extension(device).await, before);
    assert!(!why.can_be_agreed_to());
}

/// Asserts that a device stays until its application agrees.
async fn may_go(device: &SimDevice, group: &GroupEventContent, why: Obstacle) {
    assert_eq!(replaced(device), [(group.founding, Some(why))]);
    assert!(device.mls().follow_group(device.room(), &group.founding).await.unwrap());
    assert!(device.node().await.is_none());
}

#[tokio::test]
async fn the_rules_do_not_get_weaker() {
    type Weakening = fn(&mut GroupExtension);
    let weaker: [(RoomSettings, Weakening); 3] = [
        (RoomSettings { external: ExternalJoins::Forbidden, ..everybody() }, |extension| {
            extension.external = ExternalJoins::Allowed
        }),
        (RoomSettings { history: HistoryPolicy::None, ..everybody() }, |extension| {
            extension.history = HistoryPolicy::Days(1.try_into().unwrap())
        }),
        (
            RoomSettings { history: HistoryPolicy::Days(3.try_into().unwrap()), ..everybody() },
            |extension| extension.history = HistoryPolicy::Keep,
        ),
    ];
    for (settings, weaken) in weaker {
        for weakens in [true, false] {
            let (server, [alice, bob, carol]) = three(settings.clone(), open()).await;
            let change = |extension: &mut GroupExtension| {
                if weakens {
                    weaken(extension);
                }
            };
            let (_, group) = forged(&server, &carol, change).await;
            settle(&[&alice, &bob]).await;
            if weakens {
                must_stay(&bob, &group, Obstacle::WeakerRules).await;
            } else {
                may_go(&bob, &group, Obstacle::OthersAreThere).await;
            }
            drop(alice);
        }
    }
}

#[tokio::test]
async fn a_founder_that_would_not_be_let_in_is_not_followed() {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let mut ghost = Insider::with_the_keys_of(&carol).await.invents("carol", "GHOST").await;
    let mut rules = extension(&carol).await;
    rules.instance = InstanceId::from_bytes([8; 32]);
    let founding = ghost.founds(&rules, Vec::new());
    ghost.posts(&founding);
    let group = GroupEventContent::new(founding.node, rules.instance);
    names(&server, &carol, &group);
    settle(&[&alice, &bob]).await;
    must_stay(&bob, &group, Obstacle::UntrustedFounder).await;

    // Nor one who has left. The control is what others of these tests agree to.
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let (_, group) = forged(&server, &carol, |_| ()).await;
    carol.leaves();
    settle(&[&alice, &bob]).await;
    must_stay(&bob, &group, Obstacle::UntrustedFounder).await;
}

#[tokio::test]
async fn what_is_named_has_to_be_a_founding() {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let instance = InstanceId::from_bytes([9; 32]);
    // A commit of the group that everybody is in.
    let commit = GroupEventContent::new(alice.node().await.unwrap(), instance);
    names(&server, &carol, &commit);
    settle(&[&alice, &bob]).await;
    must_stay(&bob, &commit, Obstacle::NotAFounding).await;
    // Nothing at all.
    let nothing = GroupEventContent::new(NodeId::from_bytes([3; 32]), instance);
    names(&server, &carol, &nothing);
    settle(&[&alice, &bob]).await;
    must_stay(&bob, &nothing, Obstacle::Unknown).await;
    // Another founding that says it is of this instance.
    let ours = extension(&bob).await.instance;
    let (_, twin) = forged(&server, &carol, |extension| extension.instance = ours).await;
    settle(&[&alice, &bob]).await;
    must_stay(&bob, &twin, Obstacle::NotAFounding).await;
    // Control: Alice's word for the old one, and all is as it was.
    let old = named(&alice);
    assert_eq!(old, twin);
    let event = alice.says("still here").await;
    settle(&[&alice, &bob]).await;
    bob.has_read(&event, "still here");
}

#[tokio::test]
async fn a_founding_that_somebody_else_names_takes_the_applications_word() {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let mut insider = Insider::with_the_keys_of(&carol).await;
    let mut rules = extension(&carol).await;
    rules.instance = InstanceId::from_bytes([8; 32]);
    let founding = insider.founds(&rules, Vec::new());
    insider.posts(&founding);
    let group = GroupEventContent::new(founding.node, rules.instance);
    names(&server, &alice, &group);
    settle(&[&alice, &bob]).await;
    may_go(&bob, &group, Obstacle::NamedByAnother).await;
}

/// Who has founded the old group may found another one with another device, as long as nobody else has
/// built on the old one.
#[tokio::test]
async fn what_one_user_has_built_alone_that_users_other_device_may_replace() {
    for others_have_built in [false, true] {
        let (server, [alice, bob, carol]) = three(everybody(), RoomOptions::default()).await;
        let laptop = server.device("alice", "LAPTOP").logs_in().await.looks_with(&alice);
        settle(&[&alice, &bob, &carol]).await;
        alice.says("welcome, laptop").await;
        settle(&[&alice, &bob, &carol, &laptop]).await;
        if others_have_built {
            carol.updates_keys().await;
            settle(&[&alice, &bob, &carol, &laptop]).await;
        }
        let (_, group) = forged(&server, &laptop, |_| ()).await;
        settle(&[&alice, &bob]).await;
        if others_have_built {
            may_go(&bob, &group, Obstacle::OthersAreThere).await;
        } else {
            assert_eq!(replaced(&bob), [(group.founding, None)]);
            assert!(bob.node().await.is_none());
        }
    }
}

/// A commit in somebody's name is none of that user's going over.
#[tokio::test]
async fn who_is_invented_has_not_gone_over() {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let mut insider = Insider::with_the_keys_of(&carol).await;
    let mut ghost = insider.invents("alice", "GHOST").await;
    let (mut rules, package) = (extension(&carol).await, ghost.key_package());
    rules.instance = InstanceId::from_bytes([8; 32]);
    let founding = insider.founds(&rules, vec![package.key_package.clone()]);
    insider.posts(&founding);
    ghost.joins(&founding, &package);
    let update = CommitPlan { update: true, ..CommitPlan::default() };
    let gone_over = ghost.commits(founding.node, update.clone());
    ghost.posts(&gone_over);
    let group = GroupEventContent::new(founding.node, rules.instance);
    names(&server, &carol, &group);
    settle(&[&alice, &bob]).await;
    assert!(bob.group().await.graph().contains(&gone_over.node));
    assert_eq!(replaced(&bob), [(group.founding, Some(Obstacle::OthersAreThere))]);

    // Control: with her own device Alice has.
    let mut true_one = Insider::with_the_keys_of(&alice).await;
    let package = true_one.key_package();
    let add = CommitPlan { add: vec![package.key_package.clone()], ..update.clone() };
    let added = insider.commits(founding.node, add);
    insider.posts(&added);
    true_one.joins(&added, &package);
    let gone_over = true_one.commits(added.node, update);
    true_one.posts(&gone_over);
    settle(&[&bob]).await;
    assert_eq!(replaced(&bob), [(group.founding, None)]);
}

/// Founding and naming take their time, and somebody else was faster.
#[tokio::test]
async fn of_two_that_found_anew_at_once_one_gives_way() {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let all = [&alice, &bob, &carol];
    for device in all {
        loses_everything(device).await;
    }
    time_passes(&all, 6 * TestClock::MINUTE).await;
    // Neither has heard of the other.
    for device in [&alice, &bob] {
        device.mls().found_anew(device.room()).await.unwrap();
    }
    for device in [&alice, &bob] {
        device.pumps().await;
        server.clock().advance(10);
    }
    assert_eq!(namings(&alice), 3);
    settle(&all).await;
    time_passes(&all, 2 * TestClock::HOUR).await;
    all_talk(&all).await;
    assert_eq!(extension(&alice).await.instance, named(&bob).instance);
    assert_eq!(namings(&alice), 3);
}

/// Two devices of the founder that both have a founding commit to send, which adds Bob.
async fn two_founders() -> (SimServer, [SimDevice; 3]) {
    let server = SimServer::new(1);
    let phone = server.device("alice", "PHONE").logs_in().await;
    let laptop = server.device("alice", "LAPTOP").logs_in().await;
    let bob = server.device("bob", "DEVICE").logs_in().await;
    let phone = phone.creates_room().await;
    let laptop = laptop.looks_with(&phone);
    phone.invites(&bob);
    let bob = bob.joins(&phone).await;
    for device in [&phone, &laptop] {
        device.syncs().await;
    }
    for device in [&phone, &laptop] {
        while commits_of(device).await == 0 {
            assert_eq!(device.readiness().await, Readiness::NeedsRequests);
            if commits_of(device).await == 0 {
                device.pumps().await;
            }
        }
    }
    (server, [phone, laptop, bob])
}

#[tokio::test]
async fn two_founders_at_once_end_in_one_group() {
    let (server, [phone, laptop, bob]) = two_founders().await;
    let all = [&phone, &laptop, &bob];
    for device in [&phone, &laptop] {
        device.pumps().await;
        server.clock().advance(10);
    }
    assert_eq!((commits_in(&phone), namings(&phone)), (2, 2));
    settle(&all).await;
    time_passes(&all, 2 * TestClock::HOUR).await;
    all_talk(&all).await;
    assert_eq!(extension(&phone).await.instance, named(&laptop).instance);
}

/// Who hears that the room has named another group before its own word for its own one has come
/// through does not send that any more.
#[tokio::test]
async fn what_has_lost_is_not_named_afterwards() {
    let (server, [phone, laptop, bob]) = two_founders().await;
    let all = [&phone, &laptop, &bob];
    server.next_goes_wrong(phone.name(), RequestKind::GroupState, Fault::RequestLost);
    phone.pumps().await;
    assert_eq!(namings(&phone), 0);
    laptop.pumps().await;
    settle(&all).await;
    time_passes(&all, 2 * TestClock::HOUR).await;
    all_talk(&all).await;
    assert_eq!(namings(&phone), 1);
}

/// Who stays moves the anchor of its own group no more: that would name it again.
#[tokio::test]
async fn who_stays_names_nothing() {
    for replaced in [false, true] {
        let (server, [alice, bob, carol]) = three(everybody(), open()).await;
        let all = [&alice, &bob, &carol];
        for device in [&bob, &carol] {
            device.updates_keys().await;
            settle(&all).await;
        }
        if replaced {
            forged(&server, &carol, |_| ()).await;
        }
        settle(&all).await;
        let before = namings(&alice);
        time_passes(&[&alice, &bob], TestClock::HOUR).await;
        // Control: else the anchor is moved.
        assert_eq!(namings(&alice), if replaced { before } else { before + 1 });
    }
}

/// Before the room has named what was founded anew, nobody is led there.
#[tokio::test]
async fn nobody_is_added_before_the_room_has_named_the_group() {
    let (server, alice, bob) = alice_and_bob().await;
    loses_everything(&alice).await;
    time_passes(&[&alice], TestClock::HOUR).await;
    alice.mls().found_anew(alice.room()).await.unwrap();
    server.next_goes_wrong(alice.name(), RequestKind::GroupState, Fault::RequestLost);
    alice.pumps().await;
    let commits = commits_in(&alice);
    assert_eq!(namings(&alice), 1);
    assert_eq!(alice.readiness().await, Readiness::WaitingForWelcome);
    alice.restarts().await;
    assert_eq!(alice.readiness().await, Readiness::WaitingForWelcome);
    assert_eq!(commits_in(&alice), commits);
    // Control: it is named, and Bob is let in.
    alice.pumps().await;
    settle(&[&alice, &bob]).await;
    time_passes(&[&alice, &bob], TestClock::HOUR).await;
    all_talk(&[&alice, &bob]).await;
}

/// Commits that wait to be sent.
async fn commits_of(device: &SimDevice) -> usize {
    use crate::store::OutboxRequestKind;
    let outbox = device.store_outbox().await;
    outbox.iter().filter(|r| matches!(r.kind, OutboxRequestKind::Commit { .. })).count()
}

/// What was founded anew and cannot be named is given up, and not tried again at once.
#[tokio::test]
async fn a_founding_that_the_server_does_not_let_one_name_is_given_up() {
    let (server, alice, bob) = alice_and_bob().await;
    bob.leaves();
    alice.syncs().await;
    loses_everything(&alice).await;
    server.next_goes_wrong(alice.name(), RequestKind::GroupState, Fault::Refused);
    time_passes(&[&alice], 12 * TestClock::HOUR).await;
    assert_eq!(namings(&alice), 1);
    assert!(alice.node().await.is_none());
    let commits = commits_in(&alice);
    alice.restarts().await;
    time_passes(&[&alice], 6 * TestClock::HOUR).await;
    assert_eq!(commits_in(&alice), commits);
    // Control: a day later it is.
    time_passes(&[&alice], TestClock::DAY).await;
    assert_eq!(namings(&alice), 2);
    alice.says("at last").await;
}

/// Where a write fails.
#[derive(Clone, Copy, Debug)]
enum At {
    Fails,
    AnswerIsLost,
    Crashes,
}

/// Carol founds anew and Bob follows, and a write of one of them fails.
async fn story(whose: &str, at: At, nth: usize) -> bool {
    let (server, [alice, bob, carol]) = three(everybody(), open()).await;
    let all = [&alice, &bob, &carol];
    let before = alice.says("before").await;
    settle(&all).await;
    loses_everything(&carol).await;
    time_passes(&[&carol], TestClock::HOUR).await;
    let watched: &SimDevice = if whose == "carol" { &carol } else { &bob };
    let faulty = watched.store();
    let start = faulty.attempts();
    match at {
        At::Fails => faulty.fail_at(nth),
        At::AnswerIsLost => faulty.lose_answer_at(nth),
        At::Crashes => faulty.die_at(nth),
    }
    watched.crashes_on_faults(matches!(at, At::Crashes));
    // An application tries again.
    while carol.mls().found_anew(carol.room()).await.is_err() {
        if matches!(at, At::Crashes) {
            faulty.heal();
            carol.restarts().await;
        }
        if commits_of(&carol).await > 0 {
            break;
        }
    }
    carol.pumps().await;
    carol.syncs().await;
    settle(&all).await;
    let new = named(&carol);
    while !matches!(bob.mls().follow_group(bob.room(), &new.founding).await, Ok(true)) {
        if matches!(at, At::Crashes) {
            faulty.heal();
            bob.restarts().await;
        }
        if bob.mls().replaced_group(bob.room()).await.unwrap().is_none() {
            break;
        }
    }
    settle(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    let context = format!("{whose} {at:?} {nth}");
    let here = bob.says("here").await;
    settle(&all).await;
    time_passes(&all, TestClock::HOUR).await;
    assert_eq!(carol.text(&here).as_deref(), Some("here"), "{context}");
    all_talk(&all).await;
    // A word whose answer was lost is given again; but of two groups only.
    let events = server.events(alice.room()).into_iter();
    let namings = events.filter(|event| event.event_type == GROUP);
    let foundings: BTreeSet<_> =
        namings.map(|event| event.content["founding"].to_string()).collect();
    assert_eq!(foundings.len(), 2, "{context}");
    reads_again(&server, &bob).await;
    assert_eq!(bob.text(&before).as_deref(), Some("before"), "{context}");
    assert_no_generation_is_reused(&server, &all);
    watched.store().attempts() > start + nth
}

async fn at_every_write(whose: &str, at: At) {
    let mut nth = 0;
    while story(whose, at, nth).await {
        nth += 1;
        assert!(nth < 400);
    }
    assert!(nth > 10, "only {nth} writes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founders_writes_fail() {
    at_every_write("carol", At::Fails).await;
    at_every_write("carol", At::AnswerIsLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_founder_crashes() {
    at_every_write("carol", At::Crashes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_followers_writes_fail() {
    at_every_write("bob", At::Fails).await;
    at_every_write("bob", At::AnswerIsLost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_follower_crashes() {
    at_every_write("bob", At::Crashes).await;
}
