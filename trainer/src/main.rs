//! `wavenet-trainer`: see `cli.rs` for the words, the library for the work.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use wavenet_engine::{Config, Recipe, Weights};

use wavenet_trainer::bench::{BenchOptions, bench};
use wavenet_trainer::cli::{
    BenchArgs, Cli, Command, DataArgs, EvalArgs, PrepareArgs, SplitArg, SynthArgs, TrainArgs,
    threads,
};
use wavenet_trainer::eval::eval;
use wavenet_trainer::material::{Material, Notes};
use wavenet_trainer::prepare::{PrepareOptions, open_or_prepare, prepare, print_table};
use wavenet_trainer::prepared::{Prepared, Split};
use wavenet_trainer::settings::{RunFile, condition};
use wavenet_trainer::synth_recordings::write_recordings;
use wavenet_trainer::training::{TrainOptions, train};

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Synth(args) => synth(&args),
        Command::Prepare(args) => prepare_command(&args),
        Command::Train(args) => train_command(&args),
        Command::Eval(args) => eval_command(&args),
        Command::Bench(args) => bench_command(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = format!("{error:#}").replace('\n', " ");
            eprintln!("wavenet-trainer: {line}");
            ExitCode::from(2)
        }
    }
}

fn synth(args: &SynthArgs) -> Result<()> {
    let paths = write_recordings(&args.out, args.seed, args.seconds)?;
    println!("{} recordings in {}", paths.len(), args.out.display());
    Ok(())
}

fn prepare_command(args: &PrepareArgs) -> Result<()> {
    let options = prepare_options(&args.data, args.out.clone(), args.rate);
    let prepared = with_bar(|progress| prepare(&options, progress))?;
    show_table(&prepared)?;
    println!("prepared in {}", args.out.display());
    Ok(())
}

fn train_command(args: &TrainArgs) -> Result<()> {
    let budget = args.budget()?;
    let file = args.config.as_deref().map_or_else(|| Ok(RunFile::default()), RunFile::load)?;
    let RunFile { model: mut config, training } = file;
    // The samples stay beside the model: a second run finds them.
    let cache = args.out.with_extension("prepared");
    let options = prepare_options(&args.data, cache, config.sample_rate_hz);
    drop(wavenet_engine::files::beside(&args.out)?);
    let prepared = with_bar(|progress| open_or_prepare(&options, progress))?;
    show_table(&prepared)?;

    condition(&mut config, &prepared, args.conditioning.into())?;
    let notes = learn_notes(&mut config, &prepared)?;
    describe(&config);
    let material = Material::new(prepared, &config, notes.as_ref(), &training.shifts)?;
    let options = TrainOptions {
        out: args.out.clone(),
        budget,
        seed: args.data.seed,
        threads: args.data.threads(),
        checkpoint_steps: args.checkpoint_steps,
        resume: args.resume,
        training,
    };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed))
        .context("Ctrl-C cannot be caught on this system")?;
    let outcome = train(&material, &config, &options, &stop)?;

    let out = args.out.display();
    println!(
        "{} steps: {:.3} bits a sample on validation data, {:.0} % of the unigram's {:.3}",
        outcome.steps,
        outcome.valid_bits,
        100.0 * outcome.valid_bits / outcome.unigram_bits,
        outcome.unigram_bits
    );
    if outcome.interrupted {
        println!("stopped; {out} is saved. To go on: the same command with --resume");
    } else {
        println!(
            "{out} is done. To hear it: wavenet render --model {out} --out sound.wav --png sound.png"
        );
    }
    Ok(())
}

/// Analyses the recordings of notes and puts what was found into the config.
fn learn_notes(config: &mut Config, prepared: &Prepared) -> Result<Option<Notes>> {
    let Recipe::Note(recipe) = &mut config.conditioning else {
        return Ok(None);
    };
    let notes = Notes::analyse(prepared, recipe)?;
    eprintln!("notes");
    for line in notes.report() {
        eprintln!("  {line}");
    }
    recipe.keys = notes.key_tables();
    // The middle of what was recorded: where an unnamed note is played.
    if let Some(middle) = recipe.keys.get(recipe.keys.len() / 2) {
        config.root_key = middle.key;
    }
    Ok(Some(notes))
}

fn describe(config: &Config) {
    let notes = match &config.conditioning {
        Recipe::Note(recipe) => format!(", notes by {} partials", recipe.partials),
        Recipe::None => String::new(),
    };
    let classes = match config.classes.len() {
        0 => String::new(),
        count => format!(", {count} classes"),
    };
    eprintln!(
        "model: {} layers, receptive field {:.0} ms at {} Hz{notes}{classes}",
        config.layers(),
        1e3 * config.receptive_field() as f64 / f64::from(config.sample_rate_hz),
        config.sample_rate_hz,
    );
}

fn eval_command(args: &EvalArgs) -> Result<()> {
    let weights = Weights::load(&args.model)?;
    // Recordings are prepared in a folder that goes with the command.
    let scratch = tempfile::tempdir().context("no temporary folder can be made")?;
    let data = DataArgs {
        data: args.data.clone(),
        valid: None,
        valid_fraction: 0.1,
        no_trim: args.no_trim,
        seed: args.seed,
        threads: args.threads,
    };
    let out = scratch.path().join("prepared");
    let options = prepare_options(&data, out, weights.config().sample_rate_hz);
    let prepared = with_bar(|progress| open_or_prepare(&options, progress))?;
    let split = match args.split {
        SplitArg::All => None,
        SplitArg::Train => Some(Split::Train),
        SplitArg::Valid => Some(Split::Valid),
    };
    let report = eval(&weights, prepared, split, threads(args.threads))?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{:.4} bits a sample ({:.1} % of the unigram's {:.4}), {:.1} % of {} samples guessed",
            report.bits_per_sample,
            100.0 * report.bits_per_sample / report.unigram_bits_per_sample,
            report.unigram_bits_per_sample,
            100.0 * report.accuracy,
            report.samples
        );
    }
    Ok(())
}

fn bench_command(args: &BenchArgs) -> Result<()> {
    ensure!(args.steps <= 10_000, "--steps {}: at most 10,000", args.steps);
    let report = bench(&BenchOptions {
        shape: args.shape,
        batch: args.batch,
        window: args.window,
        threads: threads(args.threads),
        steps: args.steps,
    })?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "{:.1} ms a step, {:.0} samples a second ({} parameters, {} threads)",
            report.step_ms, report.samples_per_second, report.parameters, report.threads
        );
    }
    Ok(())
}

fn prepare_options(data: &DataArgs, out: PathBuf, rate_hz: u32) -> PrepareOptions {
    PrepareOptions {
        data: data.data.clone(),
        valid: data.valid.clone(),
        out,
        rate_hz,
        trim: !data.no_trim,
        valid_fraction: data.valid_fraction,
        seed: data.seed,
        threads: data.threads(),
    }
}

/// Shows a bar while files are decoded.
fn with_bar(
    work: impl FnOnce(
        &mut dyn FnMut(wavenet_trainer::prepare::Progress<'_>) -> Result<()>,
    ) -> Result<Prepared>,
) -> Result<Prepared> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} files  {msg}") {
        bar.set_style(style.progress_chars("━━─"));
    }
    let prepared = work(&mut |progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(short(progress.name));
        Ok(())
    });
    bar.finish_and_clear();
    prepared
}

fn short(name: &str) -> String {
    Path::new(name).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn show_table(prepared: &Prepared) -> Result<()> {
    let mut table = String::new();
    print_table(prepared, &mut table).context("the table cannot be made")?;
    eprint!("{table}");
    Ok(())
}
