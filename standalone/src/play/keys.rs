//! The computer's keys as a piano, as trackers and DAWs have them: two rows, from C to the E beyond
//! the next C.
//!
//! ```text
//!  w e   t y u   o p      C# D#  F# G# A#  C# D#
//! a s d f g h j k l ;    C  D  E F  G  A  B C  D  E
//! ```
//!
//! Most terminals tell when a key goes down and repeat it while it is held, but never say that it went
//! up: there a note ends after a fixed time, and a held key goes on. Where releases are told (the kitty
//! protocol) they are honoured.

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use wavenet_engine::synth::EventKind;

/// The keys, in semitones from C.
pub const PIANO: &str = "awsedftgyhujkolp;";
/// A note lasts so long where releases are not told.
const NOTE: Duration = Duration::from_millis(600);
/// Presses that follow each other so fast come from a held key, not from a finger.
const REPEAT: Duration = Duration::from_millis(100);
const LOWEST_OCTAVE: i8 = -1;
const HIGHEST_OCTAVE: i8 = 8;
const VELOCITY_STEP: u8 = 9;
const TEMPERATURE_STEP: f32 = 0.05;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Play something.
    Play(EventKind),
    /// Change the temperature by so much.
    Temperature(f32),
    /// Change the seed by so much.
    Seed(i64),
    /// Go so many classes on.
    Class(i64),
    /// A sound without end.
    Drone,
    /// Leave.
    Quit,
}

/// A key that sounds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    letter: char,
    key: u8,
    /// When it was pressed last.
    pressed: Instant,
    /// When it ends by itself.
    ends: Option<Instant>,
}

/// The state of the keys.
#[derive(Debug, Clone)]
pub struct Keyboard {
    /// Octave of the leftmost key; C4 is middle C.
    pub octave: i8,
    /// How hard notes are struck, 1 to 127.
    pub velocity: u8,
    tells_releases: bool,
    held: Vec<Held>,
}

impl Keyboard {
    /// Nothing held, in the middle.
    pub fn new(tells_releases: bool) -> Self {
        Self { octave: 4, velocity: 100, tells_releases, held: Vec::new() }
    }

    /// The letters that sound.
    pub fn sounding(&self) -> impl Iterator<Item = char> + '_ {
        self.held.iter().map(|held| held.letter)
    }

    /// Takes a key event, and does what it asks for.
    pub fn press(&mut self, event: KeyEvent, now: Instant, act: &mut impl FnMut(Action)) {
        let KeyEvent { code, modifiers, kind, .. } = event;
        if modifiers.contains(KeyModifiers::CONTROL) {
            if code == KeyCode::Char('c') && kind == KeyEventKind::Press {
                act(Action::Quit);
            }
            return;
        }
        if let KeyCode::Char(letter) = code
            && let letter = letter.to_ascii_lowercase()
            && let Some(semitones) = PIANO.find(letter)
        {
            match kind {
                KeyEventKind::Release => self.release(letter, act),
                // It is held already, and its release will come.
                KeyEventKind::Repeat if self.tells_releases => {}
                _ => self.strike(letter, semitones as u8, now, act),
            }
            return;
        }
        if kind == KeyEventKind::Release {
            return;
        }
        match code {
            KeyCode::Char('z' | 'Z') => self.octave = (self.octave - 1).max(LOWEST_OCTAVE),
            KeyCode::Char('x' | 'X') => self.octave = (self.octave + 1).min(HIGHEST_OCTAVE),
            KeyCode::Char('c' | 'C') => {
                self.velocity = self.velocity.saturating_sub(VELOCITY_STEP).max(1);
            }
            KeyCode::Char('v' | 'V') => self.velocity = (self.velocity + VELOCITY_STEP).min(127),
            KeyCode::Up => act(Action::Temperature(TEMPERATURE_STEP)),
            KeyCode::Down => act(Action::Temperature(-TEMPERATURE_STEP)),
            KeyCode::Right => act(Action::Seed(1)),
            KeyCode::Left => act(Action::Seed(-1)),
            KeyCode::Tab => act(Action::Class(1)),
            KeyCode::BackTab => act(Action::Class(-1)),
            KeyCode::Enter => act(Action::Drone),
            KeyCode::Char(' ') => {
                self.held.clear();
                act(Action::Play(EventKind::AllNotesOff));
            }
            KeyCode::Esc => act(Action::Quit),
            _ => {}
        }
    }

    /// Ends the notes whose time is over.
    pub fn end_old_notes(&mut self, now: Instant, act: &mut impl FnMut(Action)) {
        self.held.retain(|held| {
            let over = held.ends.is_some_and(|ends| now >= ends);
            if over {
                act(Action::Play(EventKind::NoteOff { channel: 0, key: held.key }));
            }
            !over
        });
    }

    fn strike(&mut self, letter: char, semitones: u8, now: Instant, act: &mut impl FnMut(Action)) {
        if let Some(held) = self.held.iter_mut().find(|held| held.letter == letter) {
            let since = now.duration_since(held.pressed);
            held.pressed = now;
            if since < REPEAT
                && let Some(ends) = &mut held.ends
            {
                *ends = (*ends).max(now + NOTE / 4);
                return;
            }
        }
        self.release(letter, act);
        let key = (i16::from(self.octave) + 1) * 12 + i16::from(semitones);
        let Some(key) = u8::try_from(key).ok().filter(|&key| key < 128) else {
            return;
        };
        let ends = (!self.tells_releases).then(|| now + NOTE);
        self.held.push(Held { letter, key, pressed: now, ends });
        act(Action::Play(EventKind::NoteOn { channel: 0, key, velocity: self.velocity }));
    }

    fn release(&mut self, letter: char, act: &mut impl FnMut(Action)) {
        if let Some(place) = self.held.iter().position(|held| held.letter == letter) {
            let held = self.held.swap_remove(place);
            act(Action::Play(EventKind::NoteOff { channel: 0, key: held.key }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a list of keys does, each pressed `ms` after the beginning.
    fn played(keyboard: &mut Keyboard, presses: &[(u64, KeyEvent)]) -> Vec<Action> {
        let began = Instant::now();
        let mut actions = Vec::new();
        for &(ms, event) in presses {
            let now = began + Duration::from_millis(ms);
            keyboard.end_old_notes(now, &mut |action| actions.push(action));
            keyboard.press(event, now, &mut |action| actions.push(action));
        }
        actions
    }

    fn down(letter: char) -> KeyEvent {
        KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE)
    }

    fn up(letter: char) -> KeyEvent {
        KeyEvent { kind: KeyEventKind::Release, ..down(letter) }
    }

    fn on(key: u8) -> Action {
        Action::Play(EventKind::NoteOn { channel: 0, key, velocity: 100 })
    }

    fn off(key: u8) -> Action {
        Action::Play(EventKind::NoteOff { channel: 0, key })
    }

    #[test]
    fn the_rows_are_a_piano() {
        let mut keyboard = Keyboard::new(true);
        let presses: Vec<_> = PIANO.chars().map(|letter| (0, down(letter))).collect();
        let expected: Vec<_> = (60..77).map(on).collect();
        assert_eq!(played(&mut keyboard, &presses), expected);
        assert_eq!(keyboard.sounding().count(), 17);
    }

    #[test]
    fn octaves_stop_at_the_ends_of_midi() {
        let mut keyboard = Keyboard::new(true);
        let mut presses = vec![(0, down('z')); 20];
        presses.extend([(0, down('a')), (0, up('a'))]);
        assert_eq!(played(&mut keyboard, &presses), [on(0), off(0)]);
        let mut presses = vec![(0, down('x')); 20];
        // The highest octave is 8: its a is C8, its ; an E9.
        presses.extend([(0, down('a')), (0, down(';'))]);
        assert_eq!(played(&mut keyboard, &presses), [on(108), on(124)]);
    }

    #[test]
    fn without_releases_a_note_ends_by_itself_and_a_held_key_goes_on() {
        let mut keyboard = Keyboard::new(false);
        let tick = KeyEvent::new(KeyCode::Null, KeyModifiers::NONE);
        let actions = played(&mut keyboard, &[(0, down('a')), (590, tick), (601, tick)]);
        assert_eq!(actions, [on(60), off(60)]);
        // Held: the terminal repeats it after half a second, then every 30 ms.
        let mut presses = vec![(0, down('a'))];
        presses.extend((0..100).map(|repeat| (500 + 30 * repeat, down('a'))));
        presses.push((9_000, tick));
        assert_eq!(played(&mut keyboard, &presses), [on(60), off(60), on(60), off(60)]);
    }

    #[test]
    fn with_releases_a_note_lasts_as_long_as_its_key() {
        let mut keyboard = Keyboard::new(true);
        let repeat = KeyEvent { kind: KeyEventKind::Repeat, ..down('g') };
        let presses = [(0, down('g')), (500, repeat), (9_000, repeat), (9_001, up('g'))];
        assert_eq!(played(&mut keyboard, &presses), [on(67), off(67)]);
        // A release after the octave has changed ends the note that was struck.
        let presses = [(0, down('a')), (1, down('x')), (2, up('a'))];
        assert_eq!(played(&mut keyboard, &presses), [on(60), off(60)]);
    }

    #[test]
    fn other_keys_change_the_sound_or_leave() {
        let mut keyboard = Keyboard::new(false);
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for (event, expected) in [
            (key(KeyCode::Up), Action::Temperature(0.05)),
            (key(KeyCode::Left), Action::Seed(-1)),
            (key(KeyCode::Tab), Action::Class(1)),
            (key(KeyCode::Enter), Action::Drone),
            (down(' '), Action::Play(EventKind::AllNotesOff)),
            (key(KeyCode::Esc), Action::Quit),
            (control_c, Action::Quit),
        ] {
            assert_eq!(played(&mut keyboard, &[(0, event)]), [expected], "{event:?}");
        }
        assert_eq!(played(&mut keyboard, &[(0, down('v')), (0, down('v'))]), []);
        assert_eq!(keyboard.velocity, 118);
        assert_eq!(played(&mut keyboard, &vec![(0, down('v')); 9]), []);
        assert_eq!(keyboard.velocity, 127);
    }
}
