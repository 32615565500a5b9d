//! The terminal while we play: raw, so that keys come at once, with a display that stays in place.
//!
//! However the program ends, the terminal is as it was: [`Terminal`] restores it when it is dropped,
//! and a panic anywhere does so before its message.

use std::io::{IsTerminal, Write, stderr, stdin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveToColumn, MoveUp, Show};
use crossterm::event::{
    Event, KeyEvent, KeyboardEnhancementFlags, PopKeyboardEnhancementFlags,
    PushKeyboardEnhancementFlags, read,
};
use crossterm::style::{Attribute, Color, Print, ResetColor, SetAttribute, SetForegroundColor};
use crossterm::terminal::{
    Clear, ClearType, disable_raw_mode, enable_raw_mode, size, supports_keyboard_enhancement,
};
use crossterm::{execute, queue};

use super::status::{Look, View, level_db};

/// Between two pictures of the display.
const FRAME: Duration = Duration::from_millis(100);
/// How fast the level meter falls, in dB a picture.
const FALL_DB: f32 = 2.0;

/// Whether the terminal is changed, and whether its keyboard is.
static RAW: AtomicBool = AtomicBool::new(false);
static TELLS_RELEASES: AtomicBool = AtomicBool::new(false);

/// A terminal with somebody before it.
pub(super) struct Terminal {
    events: Receiver<Event>,
    /// Lines of the last picture.
    lines: u16,
    drawn: Option<Instant>,
    level_db: f32,
}

impl Terminal {
    /// The terminal, if standard input and error are one.
    pub(super) fn open() -> Option<Self> {
        if !stdin().is_terminal() || !stderr().is_terminal() {
            return None;
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            hook(panic);
        }));
        enable_raw_mode().ok()?;
        RAW.store(true, Ordering::SeqCst);
        if supports_keyboard_enhancement().unwrap_or(false) {
            let flags = KeyboardEnhancementFlags::DISAMBIGUATE_ESCAPE_CODES
                | KeyboardEnhancementFlags::REPORT_EVENT_TYPES
                | KeyboardEnhancementFlags::REPORT_ALL_KEYS_AS_ESCAPE_CODES;
            let pushed = execute!(stderr(), PushKeyboardEnhancementFlags(flags)).is_ok();
            TELLS_RELEASES.store(pushed, Ordering::SeqCst);
        }
        let _ = execute!(stderr(), Hide);
        Some(Self { events: read_events(), lines: 0, drawn: None, level_db: level_db(0.0) })
    }

    /// Whether it tells when a key goes up.
    pub(super) fn tells_releases(&self) -> bool {
        TELLS_RELEASES.load(Ordering::SeqCst)
    }

    /// Gives keys to `press` as they come, for so long.
    pub(super) fn wait_for_keys(&mut self, long: Duration, mut press: impl FnMut(KeyEvent)) {
        let until = Instant::now() + long;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(Event::Key(key)) => press(key),
                // What was drawn may have been folded: begin below it.
                Ok(Event::Resize(..)) => self.lines = 0,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return,
                // The terminal has gone; its hang-up will end us.
                Err(RecvTimeoutError::Disconnected) => return std::thread::sleep(left),
            }
        }
    }

    /// Shows a view, if it is time for the next picture.
    pub(super) fn draw(&mut self, view: &View) {
        self.level_db = level_db(view.peak).max(self.level_db - FALL_DB * 0.4);
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < FRAME) {
            return;
        }
        self.drawn = Some(Instant::now());
        // The last column is left free: some terminals fold there.
        let columns = size().map_or(0, |(columns, _)| columns);
        // Where it does not know its size it is taken to be of the usual one.
        let columns = if columns == 0 { 79 } else { columns - 1 };
        let lines = view.lines(self.level_db, usize::from(columns));
        let mut out = Vec::new();
        self.go_to_top(&mut out);
        for line in &lines {
            for (look, text) in &line.0 {
                let _ = put(&mut out, *look, text);
            }
            let _ = queue!(out, Clear(ClearType::UntilNewLine), Print("\r\n"));
        }
        self.lines = lines.len() as u16;
        let _ = stderr().write_all(&out);
    }

    /// Prints a line that stays, above the display.
    pub(super) fn say(&mut self, text: &str) {
        let mut out = Vec::new();
        self.go_to_top(&mut out);
        let _ = queue!(out, Clear(ClearType::FromCursorDown), Print(text), Print("\r\n"));
        self.lines = 0;
        let _ = stderr().write_all(&out);
    }

    fn go_to_top(&self, out: &mut Vec<u8>) {
        let _ = queue!(out, MoveToColumn(0));
        if self.lines > 0 {
            let _ = queue!(out, MoveUp(self.lines));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// What happens at the terminal, read by a thread of its own: where a terminal goes away the library
/// reads its end for ever, and whoever waits for it hears no hang-up.
fn read_events() -> Receiver<Event> {
    let (events, receiver) = channel();
    std::thread::spawn(move || {
        while let Ok(event) = read() {
            if events.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

fn put(out: &mut Vec<u8>, look: Look, text: &str) -> std::io::Result<()> {
    match look {
        Look::Plain => {}
        Look::Bold => queue!(out, SetAttribute(Attribute::Bold))?,
        Look::Dim => queue!(out, SetAttribute(Attribute::Dim))?,
        Look::Good => queue!(out, SetForegroundColor(Color::Green))?,
        Look::Warning => queue!(out, SetForegroundColor(Color::Red))?,
        Look::Down => queue!(out, SetAttribute(Attribute::Reverse))?,
    }
    queue!(out, Print(text), SetAttribute(Attribute::Reset), ResetColor)
}

/// As it was before, however often this is called.
fn restore() {
    if TELLS_RELEASES.swap(false, Ordering::SeqCst) {
        let _ = execute!(stderr(), PopKeyboardEnhancementFlags);
    }
    if RAW.swap(false, Ordering::SeqCst) {
        let _ = execute!(stderr(), Show);
        let _ = disable_raw_mode();
    }
}
