//! Commits that do not come by themselves: missed, withheld, soft-failed, redacted.

use matrix_dmls::NodeId;
use ruma::OwnedEventId;

use super::{alice_and_bob, assert_one_epoch, joins, settle};
use crate::{
    Clock,
    room::Gaps,
    store::MlsStore as _,
    testing::{Fault, RequestKind, SimDevice, SimServer, TestClock},
};

pub(super) const COMMIT: &str = "io.github.matrix-mls.dmls.v1.commit";
const SECOND: u64 = TestClock::MINUTE / 60;

/// How many requests of a kind a device has sent.
pub(super) fn requests(device: &SimDevice, kind: RequestKind) -> usize {
    let requests = device.server().requests_of(device.name());
    requests.iter().filter(|(of, _)| *of == kind).count()
}

/// What a device knows to be missing.
pub(super) async fn gaps(device: &SimDevice) -> Gaps {
    let room = device.store().load_room(device.room()).await.unwrap().unwrap();
    room.view.gaps
}

/// Alice's, Bob's and Carol's devices, in one epoch.
pub(super) async fn three() -> (SimServer, SimDevice, SimDevice, SimDevice) {
    let (server, alice, bob) = alice_and_bob().await;
    let carol = joins(&server, &alice, "carol").await;
    settle(&[&alice, &bob, &carol]).await;
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    (server, alice, bob, carol)
}

/// Renews a device's keys, and gives the commit's event.
pub(super) async fn commits(device: &SimDevice) -> OwnedEventId {
    device.updates_keys().await;
    device.server().last_event(device.room(), COMMIT)
}

/// Time passes, and everybody does what is due.
pub(super) async fn pass(devices: &[&SimDevice], time: u64) {
    devices[0].server().clock().advance(time);
    for device in devices {
        device.pumps().await;
    }
    settle(devices).await;
}

#[tokio::test]
async fn hundreds_of_missed_commits_come_by_pages() {
    let (server, alice, bob) = alice_and_bob().await;
    for _ in 0..130 {
        alice.updates_keys().await;
    }
    // A limited timeline: only what comes now is in it.
    server.drops_timeline_of(bob.name());
    let event = alice.says("what did you miss?").await;
    bob.syncs().await;
    bob.has_read(&event, "what did you miss?");
    assert_one_epoch(&[&alice, &bob]).await;
    // A few by their hints, all others by two pages, and nobody was asked.
    assert!(requests(&bob, RequestKind::GetEvent) <= 4);
    assert_eq!(requests(&bob, RequestKind::GetMessages), 2);
    assert_eq!(requests(&bob, RequestKind::CommitRequest), 0);
    assert!(gaps(&bob).await.is_empty());
}

/// What came after the gap is here, and waits.
#[tokio::test]
async fn a_gap_far_back_is_found() {
    let (server, alice, bob) = alice_and_bob().await;
    alice.updates_keys().await;
    server.drops_timeline_of(bob.name());
    for _ in 0..105 {
        alice.updates_keys().await;
    }
    let event = alice.says("what did you miss?").await;
    for _ in 0..200 {
        server.next_goes_wrong(bob.name(), RequestKind::GetEvent, Fault::Refused);
    }
    bob.syncs().await;
    bob.has_read(&event, "what did you miss?");
    assert_eq!(requests(&bob, RequestKind::GetMessages), 2);
    assert_eq!(requests(&bob, RequestKind::CommitRequest), 0);
    assert_one_epoch(&[&alice, &bob]).await;
}

/// Each of them names one that waits already, up to the one that is missing.
#[tokio::test]
async fn many_that_wait_for_one_cost_little() {
    const COMMITS: usize = 100;
    let (server, alice, bob) = alice_and_bob().await;
    let missing = commits(&alice).await;
    server.withholds_from(bob.name(), &missing, true);
    for _ in 0..COMMITS {
        alice.updates_keys().await;
    }
    let event = alice.says("what did you miss?").await;
    let before = bob.store().commit_reads();
    bob.syncs().await;
    assert_eq!(bob.reason(&event), "UnknownEpoch");
    assert_eq!(gaps(&bob).await.nodes.len(), 1);
    let reads = bob.store().commit_reads() - before;
    assert!(reads <= 2 * COMMITS, "{reads}");

    server.withholds_from(bob.name(), &missing, false);
    pass(&[&bob, &alice], 10 * TestClock::MINUTE).await;
    pass(&[&bob, &alice], 10 * TestClock::MINUTE).await;
    bob.has_read(&event, "what did you miss?");
    assert_one_epoch(&[&alice, &bob]).await;
}

/// More was named by then than one remembers who is not in the group yet.
#[tokio::test]
async fn what_is_missing_above_what_came_before_the_welcome_is_looked_for() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    let bob = server.device("bob", "LAPTOP").logs_in().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    server.holds_back_to_device_of(bob.name(), true);
    alice.syncs().await;
    alice.says("hello").await;
    let missing = commits(&alice).await;
    server.withholds_from(bob.name(), &missing, true);
    for _ in 0..40 {
        alice.updates_keys().await;
    }
    bob.syncs().await;
    assert_eq!(bob.node().await, None, "he has no Welcome");
    server.withholds_from(bob.name(), &missing, false);
    server.holds_back_to_device_of(bob.name(), false);
    bob.syncs().await;
    let event = alice.says("can you follow?").await;
    bob.syncs().await;
    bob.has_read(&event, "can you follow?");
    assert_one_epoch(&[&alice, &bob]).await;
}

/// More than fits into one answer.
#[tokio::test]
async fn a_long_withheld_branch_comes_in_several_answers() {
    let (server, alice, bob, carol) = three().await;
    for _ in 0..60 {
        let event = commits(&alice).await;
        server.withholds_from(bob.name(), &event, true);
    }
    // Nobody posts any of it again.
    for device in [&alice, &carol] {
        for _ in 0..100 {
            server.next_goes_wrong(device.name(), RequestKind::Commit, Fault::Refused);
        }
    }
    let said = alice.says("can you follow?").await;
    settle(&[&alice, &bob, &carol]).await;
    // One answer was not enough, but it was of use.
    assert_eq!(bob.reason(&said), "UnknownEpoch");
    let progress = bob.epoch().await.unwrap();
    assert!(progress > 10 && progress < alice.epoch().await.unwrap());
    for _ in 0..4 {
        pass(&[&alice, &bob, &carol], 61 * SECOND).await;
    }
    bob.has_read(&said, "can you follow?");
    let asked = requests(&bob, RequestKind::CommitRequest);
    assert!((2..=4).contains(&asked), "{asked}");
    assert_one_epoch(&[&alice, &bob, &carol]).await;
}

#[tokio::test]
async fn a_walk_back_goes_on_after_a_restart() {
    let (server, alice, bob) = alice_and_bob().await;
    for _ in 0..130 {
        alice.updates_keys().await;
    }
    server.drops_timeline_of(bob.name());
    let event = alice.says("what did you miss?").await;
    for _ in 0..4 {
        server.next_goes_wrong(bob.name(), RequestKind::GetEvent, Fault::Refused);
    }
    // The first page comes, the second one not before the restart.
    server.next_goes_wrong(bob.name(), RequestKind::GetMessages, Fault::ResponseLost);
    bob.syncs().await;
    let before = gaps(&bob).await.walk.expect("it is under way");
    assert_eq!((before.pages, before.from), (0, None));
    bob.restarts().await;
    server.next_goes_wrong(bob.name(), RequestKind::GetMessages, Fault::Late);
    bob.pumps().await;
    bob.gets_late_answers().await;
    bob.has_read(&event, "what did you miss?");
    assert!(gaps(&bob).await.is_empty());

    // Once more, killed between the pages.
    for _ in 0..130 {
        alice.updates_keys().await;
    }
    server.drops_timeline_of(bob.name());
    let event = alice.says("and what now?").await;
    bob.crashes_on_faults(true);
    server.nothing_goes_wrong_any_more(bob.name());
    for _ in 0..4 {
        server.next_goes_wrong(bob.name(), RequestKind::GetEvent, Fault::Refused);
    }
    let sync = server.sync(bob.name());
    bob.takes(&sync).await.unwrap();
    // Hints first, then the first page.
    for _ in 0..2 {
        for request in bob.mls().outgoing_requests().await.unwrap() {
            bob.is_answered(&request).await;
        }
    }
    let before = gaps(&bob).await.walk.expect("it is under way");
    assert_eq!(before.pages, 1);
    bob.restarts().await;
    let asked = requests(&bob, RequestKind::GetMessages);
    bob.syncs().await;
    bob.readiness().await;
    bob.pumps().await;
    bob.has_read(&event, "and what now?");
    assert_eq!(requests(&bob, RequestKind::GetMessages), asked + 1);
    assert_one_epoch(&[&alice, &bob]).await;
}

#[tokio::test]
async fn a_server_that_gives_no_history_is_not_asked_for_ever() {
    for fault in [Fault::Refused, Fault::RequestLost] {
        let (server, alice, bob) = alice_and_bob().await;
        let event = commits(&alice).await;
        server.withholds_from(bob.name(), &event, true);
        for _ in 0..20 {
            server.next_goes_wrong(bob.name(), RequestKind::GetMessages, fault);
        }
        let said = alice.says("hello?").await;
        bob.syncs().await;
        for _ in 0..20 {
            bob.pumps().await;
        }
        assert_eq!(bob.reason(&said), "UnknownEpoch");
        assert!(gaps(&bob).await.walk.is_none());
        // The others are asked instead.
        assert_eq!(requests(&bob, RequestKind::CommitRequest), 1);
        settle(&[&alice, &bob]).await;
        bob.has_read(&said, "hello?");
    }
}

#[tokio::test]
async fn a_commit_that_is_withheld_for_ever_is_had_from_a_member() {
    let (server, alice, bob, carol) = three().await;
    let event = commits(&alice).await;
    server.withholds_from(bob.name(), &event, true);
    let said = alice.says("on a branch that you do not see").await;
    bob.syncs().await;
    assert_eq!(bob.reason(&said), "UnknownEpoch");
    // The control: the server does not give it, and nothing else happens without the others.
    assert!(requests(&bob, RequestKind::GetMessages) > 0);
    bob.restarts().await;
    assert_eq!(bob.reason(&said), "UnknownEpoch");
    settle(&[&alice, &bob, &carol]).await;
    bob.has_read(&said, "on a branch that you do not see");
    assert_one_epoch(&[&alice, &bob, &carol]).await;
    // One request to the one who has named it, and one answer.
    assert_eq!(requests(&bob, RequestKind::CommitRequest), 1);
    assert_eq!(requests(&alice, RequestKind::Graph), 1);
    assert_eq!(requests(&carol, RequestKind::Graph), 0);
    let answer = bob.says("now I do").await;
    settle(&[&alice, &bob, &carol]).await;
    alice.has_read(&answer, "now I do");
}

#[tokio::test]
async fn a_commit_that_is_withheld_for_a_time_is_found_in_the_history() {
    let (server, alice, bob, carol) = three().await;
    let event = commits(&alice).await;
    server.withholds_from(bob.name(), &event, true);
    // Nobody can be asked.
    server.loses_to_device_of(alice.name(), 100);
    server.loses_to_device_of(carol.name(), 100);
    let said = alice.says("hello?").await;
    settle(&[&alice, &bob, &carol]).await;
    assert_eq!(bob.reason(&said), "UnknownEpoch");
    server.withholds_from(bob.name(), &event, false);
    pass(&[&alice, &bob, &carol], TestClock::HOUR).await;
    // The next message has the same hint, which is good now.
    let again = alice.says("hello again").await;
    settle(&[&alice, &bob, &carol]).await;
    bob.has_read(&said, "hello?");
    bob.has_read(&again, "hello again");
}

/// Two branches, of which one is withheld from Carol: a message, or a commit, on the other one says
/// that it exists.
#[tokio::test]
async fn a_withheld_branch_is_noticed_by_who_names_its_tip() {
    for by_a_commit in [false, true] {
        let (server, alice, bob, carol) = three().await;
        let all = [&alice, &bob, &carol];
        alice.starts_to_update_keys().await;
        bob.starts_to_update_keys().await;
        alice.pumps().await;
        let first = server.last_event(alice.room(), COMMIT);
        bob.pumps().await;
        let second = server.last_event(alice.room(), COMMIT);
        let (on_first, on_second) = (alice.node().await.unwrap(), bob.node().await.unwrap());
        let unheard = bob.says("on Bob's branch").await;
        // Carol gets to know of one branch only: of the one that wins.
        let (wins, loses) = {
            alice.syncs().await;
            bob.syncs().await;
            let chosen = alice.node().await.unwrap();
            if chosen == on_first { (on_first, on_second) } else { (on_second, on_first) }
        };
        let withheld = if loses == on_first { &first } else { &second };
        server.withholds_from(carol.name(), withheld, true);
        carol.syncs().await;
        assert_eq!(carol.node().await, Some(wins));
        assert_eq!(carol.status().await.unwrap().tips.len(), 1);
        if by_a_commit {
            commits(&alice).await;
        } else {
            alice.says("there is another branch").await;
        }
        settle(&all).await;
        assert_eq!(carol.status().await.unwrap().tips.len(), 2);
        assert_eq!(requests(&carol, RequestKind::CommitRequest), 1);
        if loses == on_second {
            carol.has_read(&unheard, "on Bob's branch");
        }
        assert_one_epoch(&all).await;
    }
}

#[tokio::test]
async fn what_was_named_long_ago_is_not_looked_for() {
    let (server, alice, bob, carol) = three().await;
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    for device in [&alice, &bob] {
        device.pumps().await;
        server.withholds_from(carol.name(), &server.last_event(alice.room(), COMMIT), true);
    }
    settle(&[&alice, &bob]).await;
    let tips = |device: &SimDevice| {
        let device = device.clone();
        async move {
            let says = device.says("hello").await;
            let content = device.server().event(device.room(), &says).content;
            let bytes = content["ciphertext"].as_str().unwrap().to_owned();
            use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
            let bytes = STANDARD_NO_PAD.decode(bytes).unwrap();
            matrix_dmls::peek(&bytes).unwrap().aad.tips().len()
        }
    };
    assert_eq!(tips(&alice).await, 1);
    server.clock().advance(8 * TestClock::DAY);
    assert_eq!(tips(&alice).await, 0);
}

/// A commit that only some servers let through: the others reject all below it, unless they get it
/// from somebody.
#[tokio::test]
async fn a_soft_failed_commit_is_posted_again() {
    let (server, alice, bob, carol) = three().await;
    let dave = joins(&server, &alice, "dave").await;
    settle(&[&alice, &bob, &carol, &dave]).await;
    let event = commits(&alice).await;
    for device in [&bob, &carol] {
        server.withholds_from(device.name(), &event, true);
    }
    // Alice is not seen again; Dave goes on from her commit.
    dave.syncs().await;
    commits(&dave).await;
    let said = dave.says("who is on my branch?").await;
    // Carol gets no answer, so for her it has to be in the room.
    server.holds_back_to_device_of(carol.name(), true);
    let others = [&bob, &carol, &dave];
    settle(&others).await;
    bob.has_read(&said, "who is on my branch?");
    assert_eq!(carol.reason(&said), "UnknownEpoch");
    let before = server.count(dave.room(), COMMIT);
    for _ in 0..10 {
        pass(&others, 5 * SECOND).await;
    }
    carol.has_read(&said, "who is on my branch?");
    assert_one_epoch(&others).await;
    // Once is enough.
    assert_eq!(server.count(dave.room(), COMMIT), before + 1);
    let copy = server.event(dave.room(), &server.last_event(dave.room(), COMMIT));
    assert_eq!(copy.content["relay"], true);
    pass(&others, TestClock::HOUR).await;
    assert_eq!(server.count(dave.room(), COMMIT), before + 1);
}

#[tokio::test]
async fn a_redacted_commit_is_posted_again_by_one_who_has_it() {
    let (server, alice, bob, carol) = three().await;
    let dave = joins(&server, &alice, "dave").await;
    let all = [&alice, &bob, &carol, &dave];
    settle(&all).await;
    let event = commits(&alice).await;
    let said = alice.says("you will not read this").await;
    for device in [&alice, &bob, &carol] {
        device.syncs().await;
    }
    // Dave has not had it when it goes, and cannot be sent anything directly.
    server.redacts(alice.user_id(), alice.room(), &event);
    server.holds_back_to_device_of(dave.name(), true);
    settle(&all).await;
    assert_eq!(dave.reason(&said), "UnknownEpoch");
    let before = server.count(alice.room(), COMMIT);
    for _ in 0..8 {
        pass(&all, 5 * SECOND).await;
    }
    dave.has_read(&said, "you will not read this");
    assert_eq!(server.count(alice.room(), COMMIT), before + 1);
    assert_one_epoch(&all).await;
    // Whoever redacts it again and again does not make everybody post for ever.
    for _ in 0..5 {
        server.redacts(alice.user_id(), alice.room(), &event);
        for _ in 0..8 {
            pass(&all, 5 * SECOND).await;
        }
    }
    assert!(server.count(alice.room(), COMMIT) <= before + 2 + 5);
    assert!(gaps(&bob).await.relays.is_empty());
}

#[tokio::test]
async fn a_losing_tip_without_children_is_not_posted_again() {
    let (server, alice, bob, carol) = three().await;
    let all = [&alice, &bob, &carol];
    alice.starts_to_update_keys().await;
    bob.starts_to_update_keys().await;
    alice.pumps().await;
    let first = server.last_event(alice.room(), COMMIT);
    bob.pumps().await;
    let second = server.last_event(alice.room(), COMMIT);
    let on_first: NodeId = alice.node().await.unwrap();
    settle(&all).await;
    let chosen = alice.node().await.unwrap();
    let (winner, loser) = if chosen == on_first { (first, second) } else { (second, first) };
    let before = server.count(alice.room(), COMMIT);
    server.redacts(alice.user_id(), alice.room(), &loser);
    settle(&all).await;
    for _ in 0..8 {
        pass(&all, 5 * SECOND).await;
    }
    assert_eq!(server.count(alice.room(), COMMIT), before);
    // The control.
    server.redacts(alice.user_id(), alice.room(), &winner);
    settle(&all).await;
    for _ in 0..8 {
        pass(&all, 5 * SECOND).await;
    }
    assert_eq!(server.count(alice.room(), COMMIT), before + 1);
}

/// Who joins after the last commit is told of none, and nobody in the group is online.
#[tokio::test]
async fn who_has_no_commit_at_all_looks_for_the_group_in_the_history() {
    for with_history in [true, false] {
        let server = SimServer::new(1);
        let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
        alice.says("is anybody there?").await;
        let bob = server.device("bob", "LAPTOP").logs_in().await;
        alice.invites(&bob);
        let bob = bob.joins(&alice).await;
        for _ in 0..if with_history { 0 } else { 10 } {
            server.next_goes_wrong(bob.name(), RequestKind::GetMessages, Fault::Refused);
        }
        let said = bob.tries_to_say("I am").await;
        assert_eq!(said.is_ok(), with_history);
        // One page was enough; those that were refused are not counted.
        assert_eq!(requests(&bob, RequestKind::GetMessages), usize::from(with_history));
        // Without the history a member has to let it in.
        for _ in 0..3 {
            pass(&[&alice, &bob], TestClock::MINUTE).await;
        }
        let said = match said {
            Ok(said) => said,
            Err(_) => bob.says("I am").await,
        };
        alice.syncs().await;
        alice.has_read(&said, "I am");
        assert_one_epoch(&[&alice, &bob]).await;
    }
}

/// A commit is missing, and the clock of the device that misses it is years ahead.
#[tokio::test]
async fn a_wrong_clock_does_not_keep_one_from_looking_for_commits() {
    let server = SimServer::new(1);
    let alice = server.device("alice", "PHONE").logs_in().await.creates_room().await;
    alice.says("hello").await;
    let ahead = Clock::now(server.clock()) + 3 * 365 * TestClock::DAY;
    let bob = server.device("bob", "LAPTOP").clock(TestClock::at(ahead)).logs_in().await;
    alice.invites(&bob);
    let bob = bob.joins(&alice).await;
    alice.syncs().await;
    alice.says("welcome").await;
    bob.syncs().await;
    // What was withheld is the parent of what comes.
    let event = commits(&alice).await;
    server.withholds_from(bob.name(), &event, true);
    bob.syncs().await;
    server.withholds_from(bob.name(), &event, false);
    commits(&alice).await;
    bob.syncs().await;
    settle(&[&alice, &bob]).await;
    assert_one_epoch(&[&alice, &bob]).await;
}
