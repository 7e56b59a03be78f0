//! The live view: a terminal, its keys, and what is drawn on it.

mod page;
mod trace;

use std::io;
use std::thread;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use tokio::sync::mpsc;

pub use page::Shown;
use trace::Trace;

use super::words::Style;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// To leave.
    Quit,
    /// To be drawn anew: another key, or the window's size has changed.
    Other,
}

/// A terminal that belongs to the view; given back when dropped.
pub struct Screen {
    terminal: DefaultTerminal,
    keys: mpsc::UnboundedReceiver<Key>,
    trace: Trace,
    style: Style,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back too.
    pub fn open(style: Style) -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let (tell, keys) = mpsc::unbounded_channel();
        // Reading keys blocks. The thread ends with the program.
        let reader = thread::Builder::new().name("keys".into()).spawn(move || {
            while let Ok(event) = read() {
                if let Some(key) = meaning(&event)
                    && tell.send(key).is_err()
                {
                    return;
                }
            }
        });
        if let Err(error) = reader {
            ratatui::restore();
            return Err(error);
        }
        Ok(Self { terminal, keys, trace: Trace::default(), style })
    }

    /// The next key; never, when the keyboard is gone.
    pub async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// Draws.
    pub fn draw(&mut self, shown: &Shown) -> io::Result<()> {
        self.trace.push(&shown.status, shown.true_error);
        let (trace, style) = (&self.trace, self.style);
        self.terminal.draw(|frame| page::draw(frame, shown, trace, style)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn meaning(event: &Event) -> Option<Key> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => Some(match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
            KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
            _ => Key::Other,
        }),
        Event::Resize(..) => Some(Key::Other),
        _ => None,
    }
}
