use matrix_sdk::ruma::{EventId, event_id, owned_room_id};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{Event, KeyCode},
};

use super::*;
use crate::state::{MemberRow, Panels, RoomRow, Update};

/// The screen as text.
fn screen(state: &mut State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    terminal.backend().to_string()
}

fn row(text: &str) -> Row {
    Row {
        event_id: Some(event_id!("$1").to_owned()),
        time: "20:15".to_owned(),
        sender: "bob".to_owned(),
        is_own: false,
        shield: Shield::None,
        text: text.to_owned(),
        below: String::new(),
        kind: RowKind::Message,
    }
}

/// A room that is open, with these rows.
fn state(rows: Vec<Row>) -> State {
    let mut state = State { me: "@alice:x PHONE".to_owned(), ..State::default() };
    let id = owned_room_id!("!a:x");
    let rooms = [
        (id.clone(), "evening", Mark::Mls { is_in: true }),
        (owned_room_id!("!b:x"), "outside", Mark::Mls { is_in: false }),
        (owned_room_id!("!c:x"), "old", Mark::Megolm),
        (owned_room_id!("!d:x"), "bare", Mark::Unencrypted),
        (owned_room_id!("!e:x"), "party", Mark::Invited),
    ];
    let rooms =
        rooms.map(|(id, name, mark)| RoomRow { id, name: name.to_owned(), mark, unread: 3 });
    state.take(Update::Rooms(rooms.into()));
    state.take(Update::Opened(id.clone()));
    state.take(Update::Timeline(id, rows));
    state
}

#[test]
fn rooms_messages_and_what_is_to_be_said_of_senders_are_shown() {
    let grey = Row { shield: Shield::Grey("not verified"), ..row("hello") };
    let red = Row { shield: Shield::Red("unknown device"), ..row("let me in") };
    let unreadable = Row { kind: RowKind::Unreadable, ..row("not readable: too early") };
    let below = Row { below: "👍 alice".to_owned(), ..row("liked") };
    let mut state = state(vec![grey, red, unreadable, below]);
    state.take(Update::Trust("verified".to_owned()));
    state.take(Update::Online(true));
    state.take(Update::Waiting(owned_room_id!("!a:x"), 2));
    state.take(Update::Said("epoch 2".to_owned()));
    let screen = screen(&mut state, 90, 16);
    for expected in [
        "@alice:x PHONE  verified  online",
        "MLS  evening",
        "MLS? outside",
        "E2EE old (3)",
        "open bare",
        "new  party",
        "20:15 <bob> hello [not verified]",
        "20:15 <bob> let me in [! unknown device]",
        "20:15 <bob> not readable: too early",
        "👍",
        "2 waiting to be sent…",
        "epoch 2",
    ] {
        assert!(screen.contains(expected), "{expected}\n{screen}");
    }
}

#[test]
fn the_newest_messages_are_shown_until_it_is_scrolled() {
    let rows = (0..100).map(|number| row(&format!("message {number}"))).collect();
    let mut state = state(rows);
    let shown = screen(&mut state, 80, 16);
    assert!(shown.contains("message 99") && !shown.contains("message 80"), "{shown}");
    state.scroll = 10;
    let shown = screen(&mut state, 80, 16);
    assert!(!shown.contains("message 99") && shown.contains("message 89"), "{shown}");
    state.scroll = 10_000;
    let shown = screen(&mut state, 80, 16);
    assert!(shown.contains("message 0 "), "{shown}");
    assert!(state.scroll < 100);
}

#[test]
fn what_is_read_stays_where_it_is_while_others_come() {
    let numbered = |number: usize| Row {
        event_id: Some(EventId::parse(format!("${number}")).unwrap()),
        ..row(&format!("message {number}"))
    };
    let mut state = state((0..50).map(numbered).collect());
    state.scroll = 20;
    let before = screen(&mut state, 80, 16);
    assert!(before.contains("message 29") && !before.contains("message 30"), "{before}");
    // Older ones, and newer ones.
    let rows = (100..130).chain(0..55).map(numbered).collect();
    state.take(Update::Timeline(owned_room_id!("!a:x"), rows));
    assert_eq!(screen(&mut state, 80, 16), before);
    // At the end it follows.
    state.event(&Event::Key(KeyCode::Esc.into()));
    let rows = (0..60).map(numbered).collect();
    state.take(Update::Timeline(owned_room_id!("!a:x"), rows));
    assert!(screen(&mut state, 80, 16).contains("message 59"));

    // What is chosen is seen.
    for number in (30..60).rev() {
        state.event(&Event::Key(KeyCode::Up.into()));
        let shown = screen(&mut state, 80, 16);
        assert!(shown.contains(&format!("message {number} ")), "{number}\n{shown}");
    }
    for number in 31..60 {
        state.event(&Event::Key(KeyCode::Down.into()));
        let shown = screen(&mut state, 80, 16);
        assert!(shown.contains(&format!("message {number} ")), "{number}\n{shown}");
    }
}

#[test]
fn panels_show_members_and_epochs() {
    let mut state = state(Vec::new());
    let member =
        |text: &str, is_heading| MemberRow { text: text.to_owned(), is_good: false, is_heading };
    let panels = Panels {
        members: vec![member("@bob:x", true), member("  LAPTOP no MLS", false)],
        epoch: vec!["epoch 7".to_owned()],
    };
    state.take(Update::Panels(owned_room_id!("!a:x"), panels));
    state.side = Side::Members;
    let shown = screen(&mut state, 100, 16);
    assert!(shown.contains("@bob:x") && shown.contains("  LAPTOP no MLS"), "{shown}");
    state.side = Side::Epoch;
    assert!(screen(&mut state, 100, 16).contains("epoch 7"));
    state.side = Side::Help;
    assert!(screen(&mut state, 100, 40).contains("/invite USER"));
    state.say("something happened");
    state.side = Side::Log;
    assert!(screen(&mut state, 100, 16).contains("something happened"));
    // A question is before everything else, until it is answered.
    state.take(Update::Verification(vec!["the same? /yes or /no".to_owned()]));
    for side in [Side::Nothing, Side::Log] {
        state.side = side;
        assert!(screen(&mut state, 100, 16).contains("the same? /yes or /no"));
    }
    state.take(Update::Verification(Vec::new()));
    assert!(screen(&mut state, 100, 16).contains("something happened"));
}

#[test]
fn any_size_will_do_and_nothing_disturbs_the_terminal() {
    let mut state = state(vec![row("\u{1b}[2Jgone\u{202e}!\u{7}"), row(&"long ".repeat(100))]);
    state.input.set(&"typed\n".repeat(100));
    for (width, height) in [(1, 1), (10, 3), (40, 10), (200, 60)] {
        screen(&mut state, width, height);
    }
    let shown = screen(&mut state, 80, 30);
    assert!(shown.contains("<bob> [2Jgone!"), "{shown}");
    assert!(shown.contains("typed⏎ │"), "the end of what is typed\n{shown}");
}

#[test]
fn lines_are_broken_between_words() {
    assert_eq!(wrap("one two three", 7), ["one two", "three"]);
    assert_eq!(wrap("a\nb", 7), ["a", "b"]);
    assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
    assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    assert_eq!(wrap("", 4), [""]);
}
