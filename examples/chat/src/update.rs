//! How the screen changes: by keys, and by what the client tells.

use matrix_sdk::ruma::{
    OwnedEventId, RoomOrAliasId, UserId,
    events::{
        AnyMessageLikeEventContent, reaction::ReactionEventContent, relation::Annotation,
        room::message::RoomMessageEventContent,
    },
};
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::state::{Action, Command, Mark, RowKind, Side, State, Update};

/// How far a page is.
const PAGE: usize = 10;

impl State {
    /// Does what a key says; what is left to be done on the network is returned.
    pub(crate) fn event(&mut self, event: &Event) -> Vec<Command> {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            Event::Paste(text) => {
                // Terminals send lines as they would be typed.
                self.input.insert(&text.replace("\r\n", "\n").replace('\r', "\n"));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn key(&mut self, key: KeyEvent) -> Vec<Command> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c' | 'q') => self.quits = true,
                KeyCode::Char('u') => self.input.set(""),
                KeyCode::Char('j') => self.input.insert("\n"),
                _ => {}
            }
            return Vec::new();
        }
        match key.code {
            KeyCode::Tab => return self.go(1),
            KeyCode::BackTab => return self.go(-1),
            KeyCode::F(1) => self.toggle(Side::Help),
            KeyCode::F(2) => self.toggle(Side::Members),
            KeyCode::F(3) => self.toggle(Side::Epoch),
            KeyCode::F(4) => self.toggle(Side::Log),
            KeyCode::Up => self.choose(-1),
            KeyCode::Down => self.choose(1),
            KeyCode::Esc => {
                self.chosen = None;
                self.scroll_to(0);
            }
            KeyCode::PageUp => {
                self.scroll_to(self.scroll + PAGE);
                let room = self.open.clone();
                return room.map(|room| Command::InRoom(room, Action::Older)).into_iter().collect();
            }
            KeyCode::PageDown => self.scroll_to(self.scroll.saturating_sub(PAGE)),
            KeyCode::Enter if key.modifiers.contains(KeyModifiers::ALT) => self.input.insert("\n"),
            KeyCode::Enter => {
                let line = self.input.take();
                match self.line(line.trim()) {
                    Ok(command) => return command.into_iter().collect(),
                    Err(what) => {
                        // To be mended, not typed again.
                        self.input.set(&line);
                        self.say(format!("! {what}"));
                    }
                }
            }
            code => self.input.key(code),
        }
        Vec::new()
    }

    fn scroll_to(&mut self, lines: usize) {
        (self.scroll, self.at_bottom) = (lines, None);
    }

    fn toggle(&mut self, side: Side) {
        self.side = if self.side == side { Side::Nothing } else { side };
    }

    /// Opens the next room, or the one before.
    fn go(&mut self, step: isize) -> Vec<Command> {
        let count = self.rooms.len();
        let at = self.rooms.iter().position(|room| Some(&room.id) == self.open.as_ref());
        let next = match at {
            Some(at) => at.checked_add_signed(step).unwrap_or(count.wrapping_sub(1)) % count.max(1),
            None => 0,
        };
        let Some(room) = self.rooms.get(next) else { return Vec::new() };
        vec![Command::Open(room.id.clone())]
    }

    /// Chooses a message for an answer, an edit or a reaction.
    fn choose(&mut self, step: isize) {
        let messages: Vec<&OwnedEventId> = self
            .timeline
            .iter()
            .filter(|row| row.kind == RowKind::Message)
            .filter_map(|row| row.event_id.as_ref())
            .collect();
        let at = messages.iter().position(|id| Some(*id) == self.chosen.as_ref());
        let next = match at {
            Some(at) => at.checked_add_signed(step),
            None if step < 0 => messages.len().checked_sub(1),
            None => None,
        };
        // Below the last one nothing is chosen, and above the first one nothing changes.
        let next = if step < 0 { next.or(at) } else { next };
        self.chosen = next.and_then(|next| messages.get(next)).map(|id| (*id).clone());
        self.seeks_chosen = self.chosen.is_some();
    }

    /// What a line asks for.
    fn line(&mut self, line: &str) -> Result<Option<Command>, String> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let user = |text: &str| UserId::parse(text).map_err(|_| format!("{text:?} is no user"));
        let needed = |what: &str| {
            if rest.is_empty() { Err(format!("{word} {what}")) } else { Ok(rest.to_owned()) }
        };
        let action = match word {
            "" => return Ok(None),
            "/quit" => {
                self.quits = true;
                return Ok(None);
            }
            "/help" => {
                self.toggle(Side::Help);
                return Ok(None);
            }
            "/new" => {
                let mut words = rest.split_whitespace();
                let name = words.next().ok_or("/new NAME [USER]…")?.to_owned();
                let users = words.map(user).collect::<Result<_, _>>()?;
                return Ok(Some(Command::New { name, users }));
            }
            "/join" if rest.is_empty() => match self.open_room() {
                Some(room) if room.mark == Mark::Invited => {
                    return Ok(Some(Command::Join(room.id.clone().into())));
                }
                _ => return Err("/join ROOM".to_owned()),
            },
            "/join" => {
                let room =
                    RoomOrAliasId::parse(rest).map_err(|_| format!("{rest:?} is no room"))?;
                return Ok(Some(Command::Join(room)));
            }
            "/yes" => return Ok(Some(Command::Answer(true))),
            "/no" => return Ok(Some(Command::Answer(false))),
            "/verify" => {
                let mut words = rest.split_whitespace();
                let user = words.next().map(user).transpose()?;
                let device = words.next().map(Into::into);
                return Ok(Some(Command::Verify { user, device }));
            }
            "/retry" => Action::Retry,
            "/cancel" => Action::Cancel,
            "/file" => Action::File(needed("PATH")?.into()),
            "/save" => Action::Save(self.target(false)?, needed("PATH")?.into()),
            "/invite" => Action::Invite(user(&needed("USER")?)?),
            "/leave" => Action::Leave,
            "/reply" => Action::Reply(self.target(false)?, needed("TEXT")?),
            "/edit" => Action::Edit(self.target(true)?, needed("TEXT")?),
            "/delete" => Action::Redact(self.target(true)?),
            "/react" => {
                let annotation = Annotation::new(self.target(false)?, needed("EMOJI")?);
                let content = ReactionEventContent::new(annotation);
                Action::Send(Box::new(AnyMessageLikeEventContent::Reaction(content)))
            }
            _ if word.starts_with('/') => return Err(format!("there is no {word}; F1 for help")),
            _ => {
                self.scroll_to(0);
                let content = RoomMessageEventContent::text_plain(line);
                Action::Send(Box::new(AnyMessageLikeEventContent::RoomMessage(content)))
            }
        };
        let room = self.open.clone().ok_or("no room is open")?;
        Ok(Some(Command::InRoom(room, action)))
    }

    /// The message that was chosen, or the last one; for some things it has to be our own.
    fn target(&mut self, own: bool) -> Result<OwnedEventId, String> {
        let is_it = |id: &OwnedEventId| self.chosen.as_ref().is_none_or(|chosen| chosen == id);
        let mut messages = self.timeline.iter().rev().filter(|row| row.kind == RowKind::Message);
        let found =
            messages.find(|row| (!own || row.is_own) && row.event_id.as_ref().is_some_and(is_it));
        let found = found.and_then(|row| row.event_id.clone());
        found.ok_or_else(|| "there is no message to do this to".to_owned())
    }

    /// Takes what the client tells; what follows from it is returned.
    pub(crate) fn take(&mut self, update: Update) -> Vec<Command> {
        match update {
            Update::Rooms(rooms) => {
                self.rooms = rooms;
                if self.open.is_none() {
                    return self.go(0);
                }
            }
            Update::Opened(room) => {
                if self.open.as_ref() != Some(&room) {
                    (self.timeline, self.waiting, self.panels) = Default::default();
                }
                (self.open, self.chosen) = (Some(room), None);
                self.scroll_to(0);
            }
            Update::Timeline(room, rows) if Some(&room) == self.open.as_ref() => {
                self.timeline = rows;
            }
            Update::Waiting(room, count) if Some(&room) == self.open.as_ref() => {
                self.waiting = count;
            }
            Update::Panels(room, panels) if Some(&room) == self.open.as_ref() => {
                self.panels = panels;
            }
            // Of a room that was closed meanwhile.
            Update::Timeline(..) | Update::Waiting(..) | Update::Panels(..) => {}
            Update::Trust(trust) => self.trust = trust,
            Update::Verification(lines) => self.verification = lines,
            Update::Online(is_online) => self.is_online = is_online,
            Update::Said(text) => self.say(text),
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use matrix_sdk::ruma::{EventId, owned_room_id};

    use super::*;
    use crate::state::{RoomRow, Row, Shield};

    fn press(state: &mut State, code: KeyCode) -> Vec<Command> {
        state.event(&Event::Key(code.into()))
    }

    fn types(state: &mut State, line: &str) -> Vec<Command> {
        for character in line.chars() {
            assert!(press(state, KeyCode::Char(character)).is_empty());
        }
        press(state, KeyCode::Enter)
    }

    fn row(id: &str, is_own: bool) -> Row {
        Row {
            event_id: Some(EventId::parse(id).unwrap()),
            time: "12:00".to_owned(),
            sender: "somebody".to_owned(),
            is_own,
            shield: Shield::None,
            text: id.to_owned(),
            below: String::new(),
            kind: RowKind::Message,
        }
    }

    /// Two rooms, of which the second one is open, with four messages.
    fn state() -> State {
        let mut state = State::default();
        let room = |id, mark| RoomRow { id, name: "room".to_owned(), mark, unread: 0 };
        let rooms = vec![
            room(owned_room_id!("!a:x"), Mark::Invited),
            room(owned_room_id!("!b:x"), Mark::Megolm),
        ];
        let commands = state.take(Update::Rooms(rooms));
        assert!(matches!(&commands[..], [Command::Open(id)] if id == "!a:x"));
        state.take(Update::Opened(owned_room_id!("!b:x")));
        let rows = [("$1", true), ("$2", true), ("$3", false), ("$4", false)];
        let rows = rows.into_iter().map(|(id, is_own)| row(id, is_own)).collect();
        state.take(Update::Timeline(owned_room_id!("!b:x"), rows));
        state
    }

    #[test]
    fn what_is_typed_is_sent_to_the_room_that_is_open() {
        let mut state = state();
        let commands = types(&mut state, "hello");
        let [Command::InRoom(room, Action::Send(content))] = &commands[..] else {
            panic!("{commands:?}")
        };
        let AnyMessageLikeEventContent::RoomMessage(message) = &**content else { panic!() };
        assert_eq!(message.body(), "hello");
        assert_eq!(room, "!b:x");
        assert_eq!(state.input.parts(), ("", ""));
        assert!(types(&mut state, "  ").is_empty());
        assert!(types(&mut State::default(), "hello?").is_empty());
    }

    #[test]
    fn answers_and_edits_are_of_what_was_chosen_or_of_the_last_that_can_be() {
        let mut state = state();
        let id_of = |commands: Vec<Command>| match commands.into_iter().next() {
            Some(Command::InRoom(
                _,
                Action::Reply(id, _) | Action::Edit(id, _) | Action::Redact(id),
            )) => id,
            other => panic!("{other:?}"),
        };
        assert_eq!(id_of(types(&mut state, "/reply yes")), "$4");
        assert_eq!(id_of(types(&mut state, "/edit no")), "$2");
        for _ in 0..2 {
            press(&mut state, KeyCode::Up);
        }
        assert_eq!(id_of(types(&mut state, "/reply yes")), "$3");
        // Somebody else's.
        assert!(types(&mut state, "/edit no").is_empty());
        assert_eq!(state.input.take(), "/edit no");
        for _ in 0..5 {
            press(&mut state, KeyCode::Up);
        }
        assert_eq!(id_of(types(&mut state, "/delete")), "$1");
        press(&mut state, KeyCode::Down);
        assert_eq!(state.chosen.as_ref().unwrap(), "$2");
        press(&mut state, KeyCode::Esc);
        press(&mut state, KeyCode::Down);
        assert_eq!(state.chosen, None);
    }

    #[test]
    fn commands_are_understood_or_stay_to_be_mended() {
        let mut state = state();
        let new = types(&mut state, "/new evening @a:x @b:x");
        assert!(
            matches!(&new[..], [Command::New { name, users }] if name == "evening" && users.len() == 2)
        );
        let invite = types(&mut state, "/invite @a:x");
        assert!(
            matches!(&invite[..], [Command::InRoom(_, Action::Invite(user))] if user == "@a:x")
        );
        for wrong in ["/new", "/invite", "/invite nobody", "/join", "/nonsense", "/react"] {
            assert!(types(&mut state, wrong).is_empty(), "{wrong}");
            assert_eq!(state.input.take(), wrong);
            assert!(state.log.back().unwrap().starts_with('!'), "{wrong}");
        }
        state.take(Update::Opened(owned_room_id!("!a:x")));
        let join = types(&mut state, "/join");
        assert!(matches!(&join[..], [Command::Join(room)] if room.as_str() == "!a:x"));
        types(&mut state, "/quit");
        assert!(state.quits);
    }

    #[test]
    fn several_lines_are_one_message() {
        let mut state = state();
        state.event(&Event::Paste("one\r\ntwo\rthree".to_owned()));
        let newlines = [
            KeyEvent::new(KeyCode::Enter, KeyModifiers::ALT),
            KeyEvent::new(KeyCode::Char('j'), KeyModifiers::CONTROL),
        ];
        for (key, word) in newlines.into_iter().zip(["four", "five"]) {
            assert!(state.event(&Event::Key(key)).is_empty());
            state.event(&Event::Paste(word.to_owned()));
        }
        let commands = press(&mut state, KeyCode::Enter);
        let [Command::InRoom(_, Action::Send(content))] = &commands[..] else {
            panic!("{commands:?}")
        };
        let AnyMessageLikeEventContent::RoomMessage(message) = &**content else { panic!() };
        assert_eq!(message.body(), "one\ntwo\nthree\nfour\nfive");
    }

    #[test]
    fn verifications_and_files_are_asked_for() {
        let mut state = state();
        let asked = types(&mut state, "/verify @a:x PHONE");
        let [Command::Verify { user: Some(user), device: Some(device) }] = &asked[..] else {
            panic!("{asked:?}")
        };
        assert_eq!((user.as_str(), device.as_str()), ("@a:x", "PHONE"));
        let own = types(&mut state, "/verify");
        assert!(matches!(&own[..], [Command::Verify { user: None, device: None }]));
        assert!(matches!(&types(&mut state, "/yes")[..], [Command::Answer(true)]));
        assert!(matches!(&types(&mut state, "/no")[..], [Command::Answer(false)]));
        let file = types(&mut state, "/file a b.txt");
        assert!(
            matches!(&file[..], [Command::InRoom(_, Action::File(path))] if path.ends_with("a b.txt"))
        );
        let save = types(&mut state, "/save c.txt");
        assert!(matches!(&save[..], [Command::InRoom(_, Action::Save(id, _))] if id == "$4"));
    }

    #[test]
    fn rooms_go_round_and_what_is_late_is_dropped() {
        let mut state = state();
        for key in [KeyCode::Tab, KeyCode::BackTab] {
            let commands = press(&mut state, key);
            assert!(matches!(&commands[..], [Command::Open(id)] if id == "!a:x"));
        }
        assert!(press(&mut State::default(), KeyCode::Tab).is_empty());
        state.take(Update::Opened(owned_room_id!("!a:x")));
        assert!(state.timeline.is_empty());
        state.take(Update::Timeline(owned_room_id!("!b:x"), vec![row("$1", true)]));
        assert!(state.timeline.is_empty());
        let commands = press(&mut state, KeyCode::BackTab);
        assert!(matches!(&commands[..], [Command::Open(id)] if id == "!b:x"));
    }

    #[test]
    fn panels_open_and_close_by_the_same_key() {
        let mut state = state();
        press(&mut state, KeyCode::F(2));
        assert_eq!(state.side, Side::Members);
        press(&mut state, KeyCode::F(3));
        assert_eq!(state.side, Side::Epoch);
        press(&mut state, KeyCode::F(3));
        assert_eq!(state.side, Side::Nothing);
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        state.event(&Event::Key(key));
        assert!(state.quits);
    }
}
