//! The terminal: what is drawn on it, and what is typed.

use std::{
    io::{self, Write as _},
    thread,
};

use anyhow::{Context as _, Result, bail};
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::{
        event::{
            self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEventKind,
            KeyModifiers,
        },
        execute,
        terminal::{disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::mpsc;

/// The whole screen, given back when this is dropped.
pub(crate) struct Terminal {
    screen: DefaultTerminal,
    events: mpsc::UnboundedReceiver<io::Result<Event>>,
}

impl Terminal {
    pub(crate) fn open() -> Result<Self> {
        let screen = ratatui::try_init().context("this needs a terminal")?;
        // So that a line break in what is pasted is none that was typed. Old terminals ignore it.
        execute!(io::stdout(), EnableBracketedPaste)?;
        let (typed, events) = mpsc::unbounded_channel();
        // Nobody can wake a thread that waits for a key: it ends with the process, or with the next key.
        thread::spawn(move || while typed.send(event::read()).is_ok() {});
        Ok(Self { screen, events })
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.screen.draw(draw)?;
        Ok(())
    }

    /// The next key, or another size. Loses nothing when it is cancelled.
    pub(crate) async fn event(&mut self) -> Result<Event> {
        Ok(self.events.recv().await.context("nothing can be typed any more")??)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        execute!(io::stdout(), DisableBracketedPaste).ok();
        ratatui::restore();
    }
}

/// Asks for a line.
pub(crate) fn ask(question: &str) -> Result<String> {
    print!("{question}");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let line = line.trim().to_owned();
    if line.is_empty() {
        bail!("nothing was given");
    }
    Ok(line)
}

/// Asks for a line that is not shown.
pub(crate) fn ask_secretly(question: &str) -> Result<String> {
    // Before it is asked for, so that no answer is so fast that it is shown.
    enable_raw_mode().context("a password is asked for in a terminal only")?;
    print!("{question}");
    let line = io::stdout().flush().map_err(Into::into).and_then(|()| read_secretly());
    disable_raw_mode()?;
    println!();
    line
}

fn read_secretly() -> Result<String> {
    let mut line = String::new();
    loop {
        let Event::Key(key) = event::read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(line),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                bail!("no password was given");
            }
            KeyCode::Char(character) => line.push(character),
            KeyCode::Backspace => drop(line.pop()),
            _ => {}
        }
    }
}
