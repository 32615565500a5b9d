//! `wavenet play`: live, through a sound device.
//!
//! A generator thread makes the sound ahead of the device ([`wavenet_engine::stream`]); the device's
//! callback takes it from a lock-free ring ([`callback`]). Notes come from MIDI keyboards
//! ([`midi_input`]), the computer's keys ([`keys`]), or a MIDI file, whose samples are those of
//! `wavenet render`. The main thread does the rest, a few times a second: keys, the display
//! ([`status`]), and the [`device`], which is waited for when it is gone.

pub mod callback;
pub mod device;
pub mod keys;
pub mod midi_input;
mod priority;
mod session;
pub mod status;
mod terminal;

use std::io::{Write, stderr, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use wavenet_engine::Recipe;

use crate::cli::PlayArgs;
use keys::{Action, Keyboard};
use midi_input::{MidiInputs, Wanted};
use session::Session;
use terminal::Terminal;

/// Between two looks at the world.
const TICK: Duration = Duration::from_millis(40);
/// Between two searches for MIDI inputs.
const LOOK_FOR_MIDI: Duration = Duration::from_secs(2);

/// Plays what `args` ask until its end, or until `interrupted`, and returns a line of totals.
///
/// # Errors
/// If an input is missing or damaged, an option does not fit the model, or no device can be opened.
pub fn play(args: &PlayArgs, interrupted: &AtomicBool) -> Result<String> {
    device::quieten();
    let mut session = Session::start(args)?;
    let mut inputs = MidiInputs::new(wanted_inputs(args), session.live.clone())?;
    let mut terminal = Terminal::open();
    let mut keyboard = Keyboard::new(terminal.as_ref().is_some_and(Terminal::tells_releases));
    if terminal.is_none() {
        let _ = writeln!(stdout(), "{}", session.announcement());
    }
    let mut looked = Instant::now();
    let outcome = loop {
        if interrupted.load(Ordering::Relaxed) || session.is_over() {
            break Ok(());
        }
        match session.look_after_devices() {
            Ok(Some(news)) => match &mut terminal {
                Some(terminal) => terminal.say(&news),
                None => drop(writeln!(stderr(), "wavenet: {news}")),
            },
            Ok(None) => {}
            Err(error) => break Err(error),
        }
        if looked.elapsed() > LOOK_FOR_MIDI {
            inputs.look();
            looked = Instant::now();
        }
        let mut quit = false;
        let mut act = |action| match action {
            Action::Quit => quit = true,
            Action::Play(kind) => session.live.send(kind),
            Action::Temperature(by) => session.change_temperature(by),
            Action::Seed(by) => session.change_seed(by),
            Action::Class(by) => session.change_class(by),
            Action::Drone => session.drone(),
        };
        match &mut terminal {
            Some(terminal) => {
                terminal.wait_for_keys(TICK, |key| keyboard.press(key, Instant::now(), &mut act));
                keyboard.end_old_notes(Instant::now(), &mut act);
                terminal.draw(&session.view(&inputs, &keyboard));
            }
            None => std::thread::sleep(TICK),
        }
        if quit {
            break Ok(());
        }
    };
    drop(terminal);
    outcome.map(|()| session.end())
}

fn wanted_inputs(args: &PlayArgs) -> Wanted {
    match args.midi_in.as_deref() {
        Some("all") => Wanted::All,
        Some("none") => Wanted::None,
        Some(name) => Wanted::Named(name.into()),
        None if args.midi.is_some() || args.drone => Wanted::None,
        None => Wanted::All,
    }
}

/// Whether a sound without end is played from the start.
fn drones(args: &PlayArgs, conditioning: &Recipe) -> bool {
    let by_itself = args.midi.is_none() && args.midi_in.is_none();
    args.drone || (by_itself && matches!(conditioning, Recipe::None))
}
