//! `wavenet`: parses, dispatches, and says in one line what went wrong.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use clap::error::ErrorKind;
use wavenet_standalone::cli::{Cli, Command, one_line};
use wavenet_standalone::{bench, devices, inspect, play, render, stream};

/// Set by Ctrl-C (and by a polite kill): a render then stops and leaves no file.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // What was asked for, or the help for somebody who gave no argument at all.
        Err(error)
            if !error.use_stderr()
                || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand =>
        {
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
        Err(error) => return fail(&one_line(&error)),
    };
    match run(&cli.command) {
        Ok(text) if text.is_empty() => ExitCode::SUCCESS,
        Ok(text) => match writeln!(std::io::stdout(), "{text}") {
            // A reader that has gone (`wavenet inspect | head -1`) is no error.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                fail(&format!("cannot write to standard output: {error}"))
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => fail(&format!("{error:#}")),
    }
}

fn run(command: &Command) -> Result<String> {
    match command {
        Command::Render(args) => {
            ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
                .context("cannot listen for Ctrl-C")?;
            render::render(args, &INTERRUPTED)
        }
        Command::Stream(args) => {
            ensure!(
                !std::io::stdout().is_terminal(),
                "a terminal cannot play a stream; add | aplay, or > sound.wav to keep it"
            );
            ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
                .context("cannot listen for Ctrl-C")?;
            stream::stream(args, &mut std::io::stdout().lock(), &INTERRUPTED)?;
            // Its end is what was asked for, and standard output was the sound.
            INTERRUPTED.store(false, Ordering::Relaxed);
            Ok(String::new())
        }
        Command::Play(args) => {
            ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
                .context("cannot listen for Ctrl-C")?;
            let totals = play::play(args, &INTERRUPTED);
            // Its end is what was asked for.
            INTERRUPTED.store(false, Ordering::Relaxed);
            totals
        }
        Command::Devices(args) => devices::devices(args),
        Command::Inspect(args) => inspect::inspect(args),
        Command::Bench(args) => bench::bench(args),
    }
}

/// One line on standard error; 2 for what can be put right, 130 after Ctrl-C as a shell would say.
fn fail(message: &str) -> ExitCode {
    let message: Vec<&str> = message.lines().map(str::trim).collect();
    let _ = writeln!(std::io::stderr(), "wavenet: {}", message.join(" "));
    ExitCode::from(if INTERRUPTED.load(Ordering::Relaxed) { 130 } else { 2 })
}
