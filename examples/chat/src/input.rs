//! The line that is being typed.

use ratatui::crossterm::event::KeyCode;

/// A line with a cursor in it.
#[derive(Debug, Default)]
pub(crate) struct Input {
    before: String,
    after: String,
}

impl Input {
    /// What is before the cursor, and after it.
    pub(crate) fn parts(&self) -> (&str, &str) {
        (&self.before, &self.after)
    }

    pub(crate) fn set(&mut self, text: &str) {
        *self = Self { before: text.to_owned(), after: String::new() };
    }

    /// Writes at the cursor.
    pub(crate) fn insert(&mut self, text: &str) {
        self.before.push_str(text);
    }

    /// Takes the line, and leaves an empty one.
    pub(crate) fn take(&mut self) -> String {
        let line = std::mem::take(self);
        line.before + line.after.as_str()
    }

    /// Does what a key does in a line.
    pub(crate) fn key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char(character) => self.before.push(character),
            KeyCode::Backspace => drop(self.before.pop()),
            KeyCode::Delete if !self.after.is_empty() => drop(self.after.remove(0)),
            KeyCode::Left => {
                if let Some(character) = self.before.pop() {
                    self.after.insert(0, character);
                }
            }
            KeyCode::Right if !self.after.is_empty() => self.before.push(self.after.remove(0)),
            KeyCode::Home => self.after = std::mem::take(&mut self.before) + self.after.as_str(),
            KeyCode::End => self.before += std::mem::take(&mut self.after).as_str(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_they_do_in_a_line() {
        let mut input = Input::default();
        for character in "grün".chars() {
            input.key(KeyCode::Char(character));
        }
        for key in [KeyCode::Left, KeyCode::Left, KeyCode::Backspace, KeyCode::Char('o')] {
            input.key(key);
        }
        assert_eq!(input.parts(), ("go", "ün"));
        input.key(KeyCode::Delete);
        input.key(KeyCode::Home);
        input.key(KeyCode::Char('<'));
        input.key(KeyCode::Right);
        input.key(KeyCode::End);
        input.key(KeyCode::Char('>'));
        assert_eq!(input.take(), "<gon>");
        for key in [KeyCode::Left, KeyCode::Right, KeyCode::Delete, KeyCode::Backspace] {
            input.key(key);
        }
        assert_eq!(input.take(), "");
    }
}
