//! Drawing.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Span},
    widgets::{Block, Borders, List, ListItem, ListState, Paragraph},
};

use crate::state::{Mark, Row, RowKind, Shield, Side, State};

const HELP: &str = "\
Tab, Shift-Tab  next room
Up, Down        choose a message
Esc             choose none
PgUp, PgDn      scroll
Alt-Enter       new line (or Ctrl-J)
F2              members, devices
F3              epoch of the group
F4              log
Ctrl-C          quit

/new NAME [USER]…
/join [ROOM]
/invite USER
/leave
/reply TEXT
/edit TEXT
/react EMOJI
/delete
/retry, /cancel what is not sent
/file PATH      send a file
/save PATH      save its file
/verify [USER [DEVICE]]
/yes, /no       to its question
/quit

Rooms: MLS, MLS? (not in its
group), E2EE (Megolm), open,
new (you are invited)";

/// Draws everything. The state learns how far it can be scrolled.
pub(crate) fn draw(state: &mut State, frame: &mut Frame<'_>) {
    let [top, middle, input, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let side = match state.side {
        Side::Nothing if state.verification.is_empty() => 0,
        Side::Epoch => 80,
        Side::Nothing | Side::Help | Side::Members | Side::Log => 48,
    };
    let [rooms, timeline, side] = Layout::horizontal([
        Constraint::Length(26),
        Constraint::Min(30),
        Constraint::Length(side.min(middle.width / 2)),
    ])
    .areas(middle);
    draw_head(state, frame, top);
    draw_rooms(state, frame, rooms);
    draw_timeline(state, frame, timeline);
    draw_side(state, frame, side);
    draw_input(state, frame, input);
    let last = state.log.back().map_or("", String::as_str);
    frame.render_widget(Line::from(clean(last)).dark_gray(), bottom);
}

fn draw_head(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let online = if state.is_online { "online" } else { "offline" };
    let line = Line::from(vec![
        Span::from(clean(&state.me)).bold(),
        Span::from(format!("  {}  ", state.trust)),
        Span::from(online).fg(if state.is_online { Color::Green } else { Color::Red }),
    ]);
    frame.render_widget(line, area);
}

fn draw_rooms(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let items = state.rooms.iter().map(|room| {
        let (mark, colour) = match room.mark {
            Mark::Invited => ("new ", Color::Yellow),
            Mark::Unencrypted => ("open", Color::Red),
            Mark::Megolm => ("E2EE", Color::Blue),
            Mark::Mls { is_in: true } => ("MLS ", Color::Green),
            Mark::Mls { is_in: false } => ("MLS?", Color::Yellow),
        };
        let name = Span::from(format!(" {}", clean(&room.name)));
        let mut line = Line::from(vec![Span::from(mark).fg(colour), name]);
        if room.unread > 0 && Some(&room.id) != state.open.as_ref() {
            line.push_span(Span::from(format!(" ({})", room.unread)).bold());
        }
        ListItem::new(line)
    });
    let list = List::new(items)
        .block(Block::bordered().title("Rooms"))
        .highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let at = state.rooms.iter().position(|room| Some(&room.id) == state.open.as_ref());
    let mut list_state = ListState::default().with_selected(at);
    frame.render_stateful_widget(list, area, &mut list_state);
}

fn draw_timeline(state: &mut State, frame: &mut Frame<'_>, area: Rect) {
    let title = state.open_room().map_or_else(|| "No room".to_owned(), |room| clean(&room.name));
    let block = Block::bordered().title(title);
    let inside = block.inner(area);
    let width = usize::from(inside.width);
    let mut lines: Vec<Line<'_>> = Vec::new();
    // Where each message ends.
    let mut ends = Vec::new();
    let mut chosen = None;
    for row in &state.timeline {
        let is_chosen = row.event_id.is_some() && row.event_id == state.chosen;
        let begin = lines.len();
        lines.extend(row_lines(row, width, is_chosen));
        if is_chosen {
            chosen = Some(begin..lines.len());
        }
        ends.extend(row.event_id.clone().map(|id| (id, lines.len())));
    }
    if state.waiting > 0 {
        let waiting = format!("{} waiting to be sent… (/retry, /cancel)", state.waiting);
        lines.push(Line::from(waiting).yellow());
    }
    let height = usize::from(inside.height);
    let over = lines.len().saturating_sub(height);
    if let Some((id, above)) = &state.at_bottom
        && let Some((_, end)) = ends.iter().find(|(other, _)| other == id)
    {
        state.scroll = lines.len().saturating_sub(end.saturating_sub(*above));
    }
    if let Some(chosen) = chosen.filter(|_| std::mem::take(&mut state.seeks_chosen)) {
        let highest = lines.len().saturating_sub(chosen.end);
        let lowest = (lines.len().saturating_sub(chosen.start)).saturating_sub(height);
        state.scroll = state.scroll.clamp(lowest.min(highest), highest);
    }
    state.scroll = state.scroll.min(over);
    let bottom = lines.len() - state.scroll;
    let at_bottom = ends.into_iter().find(|(_, end)| *end >= bottom);
    state.at_bottom = at_bottom.filter(|_| state.scroll > 0).map(|(id, end)| (id, end - bottom));
    let skipped = over.saturating_sub(state.scroll);
    let shown: Vec<_> = lines.into_iter().skip(skipped).collect();
    frame.render_widget(Paragraph::new(shown).block(block), area);
}

fn row_lines(row: &Row, width: usize, is_chosen: bool) -> Vec<Line<'static>> {
    let mut style = match row.kind {
        RowKind::Message => Style::new(),
        RowKind::Happening => Style::new().fg(Color::DarkGray),
        RowKind::Unreadable => Style::new().fg(Color::Yellow),
    };
    if is_chosen {
        style = style.add_modifier(Modifier::REVERSED);
    }
    let (shield, colour) = match row.shield {
        Shield::None => (String::new(), Color::Reset),
        Shield::Grey(why) => (format!(" [{why}]"), Color::DarkGray),
        Shield::Red(why) => (format!(" [! {why}]"), Color::Red),
    };
    let text = if row.kind == RowKind::Happening {
        format!("{} {}", row.time, clean(&row.text))
    } else {
        format!("{} <{}> {}", row.time, clean(&row.sender), clean(&row.text))
    };
    let mut lines: Vec<Line<'static>> =
        wrap(&text, width).into_iter().map(|line| Line::styled(line, style)).collect();
    if !shield.is_empty() {
        let fits = lines.last().is_some_and(|line| line.width() + shield.chars().count() <= width);
        let shield = Span::from(shield).fg(colour);
        match lines.last_mut() {
            Some(line) if fits => line.push_span(shield),
            _ => lines.push(Line::from(shield)),
        }
    }
    if !row.below.is_empty() {
        lines.extend(
            wrap(&format!("      {}", clean(&row.below)), width).into_iter().map(Line::from),
        );
    }
    lines
}

fn draw_side(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let (title, lines): (_, Vec<Line<'_>>) = match state.side {
        // It waits for an answer.
        _ if !state.verification.is_empty() => {
            let lines = state.verification.iter().map(|line| Line::from(clean(line)));
            ("Verification", lines.collect())
        }
        Side::Nothing => return,
        Side::Help => ("Help", HELP.lines().map(Line::from).collect()),
        Side::Members => {
            let rows = state.panels.members.iter().map(|row| {
                let line = Line::from(clean(&row.text));
                match (row.is_heading, row.is_good) {
                    (true, _) => line.bold(),
                    (false, true) => line.green(),
                    (false, false) => line.yellow(),
                }
            });
            ("Members", rows.collect())
        }
        Side::Epoch => {
            let lines = state.panels.epoch.iter().map(|line| Line::from(clean(line)));
            ("Epoch", lines.collect())
        }
        Side::Log => {
            let width = usize::from(area.width.saturating_sub(2));
            let lines = state.log.iter().flat_map(|line| wrap(&clean(line), width));
            let lines: Vec<_> = lines.map(Line::from).collect();
            let over = lines.len().saturating_sub(usize::from(area.height.saturating_sub(2)));
            ("Log", lines.into_iter().skip(over).collect())
        }
    };
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), area);
}

fn draw_input(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let (before, after) = state.input.parts();
    // In one line, however many they are.
    let clean = |text: &str| clean(text).replace('\n', "⏎");
    let before = Span::from(clean(before));
    let width = area.width.saturating_sub(2);
    let at = u16::try_from(before.width()).unwrap_or(u16::MAX);
    // The cursor stays in sight.
    let scroll = at.saturating_sub(width.saturating_sub(1));
    let line = Line::from(vec![before, Span::from(clean(after))]);
    let block = Block::new().borders(Borders::ALL).title("Message or /command");
    frame.render_widget(Paragraph::new(line).block(block).scroll((0, scroll)), area);
    frame.set_cursor_position(Position::new(area.x + 1 + at - scroll, area.y + 1));
}

/// Breaks a text into lines of a width, between words where that is possible.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split_inclusive(' ') {
            if Span::from(line.as_str()).width() + Span::from(word.trim_end()).width() > width
                && !line.is_empty()
            {
                lines.push(std::mem::take(&mut line));
            }
            for character in word.chars() {
                let of_it = Span::from(character.to_string()).width();
                if Span::from(line.as_str()).width() + of_it > width && !line.is_empty() {
                    lines.push(std::mem::take(&mut line));
                    if character == ' ' {
                        continue;
                    }
                }
                line.push(character);
            }
        }
        lines.push(line);
    }
    lines
}

/// What others have written, without what would disturb a terminal or turn its writing round.
fn clean(text: &str) -> String {
    let disturbs = |character: char| {
        (character.is_control() && character != '\n')
            || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|character| !disturbs(*character)).collect()
}

#[cfg(test)]
mod tests;
