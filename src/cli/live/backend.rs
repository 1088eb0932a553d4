//! Draws cells on the terminal of standard error with ANSI escape sequences. A frame is written at once.

use std::io::{self, Write};

use ratatui::backend::{Backend, ClearType, WindowSize};
use ratatui::buffer::Cell;
use ratatui::layout::{Position, Size};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr;

/// The bytes of a frame until it is flushed.
#[derive(Debug, Default)]
pub(super) struct Stderr {
    pending: Vec<u8>,
}

impl Stderr {
    fn push(&mut self, text: &str) {
        self.pending.extend_from_slice(text.as_bytes());
    }
}

impl Backend for Stderr {
    type Error = io::Error;

    fn draw<'a, I: Iterator<Item = (u16, u16, &'a Cell)>>(&mut self, content: I) -> io::Result<()> {
        // Where the cursor is, and how the last cell was drawn.
        let (mut cursor, mut style) = (None, None);
        for (x, y, cell) in content {
            if cursor != Some((x, y)) {
                self.push(&format!("\x1b[{};{}H", y + 1, x + 1));
            }
            if style != Some((cell.fg, cell.modifier)) {
                style = Some((cell.fg, cell.modifier));
                self.push(&sgr(cell.fg, cell.modifier));
            }
            self.push(cell.symbol());
            cursor = Some((x + cell.symbol().width() as u16, y));
        }
        self.push("\x1b[0m");
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.push("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.push("\x1b[?25h");
        Ok(())
    }

    /// Never used: the view has the whole screen.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.push(&format!("\x1b[{};{}H", y + 1, x + 1));
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.push("\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        self.clear()
    }

    fn size(&self) -> io::Result<Size> {
        let size = rustix::termios::tcgetwinsize(io::stderr())?;
        Ok(Size::new(size.ws_col, size.ws_row))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::default() })
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stderr = io::stderr().lock();
        stderr.write_all(&std::mem::take(&mut self.pending))?;
        stderr.flush()
    }
}

/// The sequence that selects a colour and a weight. The view uses no others.
fn sgr(colour: Color, modifier: Modifier) -> String {
    let colour = match colour {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        Color::Blue => ";34",
        Color::Magenta => ";35",
        Color::Cyan => ";36",
        _ => "",
    };
    let bold = if modifier.contains(Modifier::BOLD) { ";1" } else { "" };
    let dim = if modifier.contains(Modifier::DIM) { ";2" } else { "" };
    format!("\x1b[0{bold}{dim}{colour}m")
}
