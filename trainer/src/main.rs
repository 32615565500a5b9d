//! `wavenet-trainer`: see `cli.rs` for the words, the library for the work. What goes wrong is said
//! in one line.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use clap::error::ErrorKind;
use indicatif::{ProgressBar, ProgressStyle};
use wavenet_engine::{Config, Recipe, Weights};

use wavenet_trainer::bench::{BenchOptions, bench};
use wavenet_trainer::checkpoint::{
    check_name, check_out, check_unused, check_writable, is_begun, previous_path, state_path,
};
use wavenet_trainer::cli::{
    BenchArgs, Cli, Command, ConditioningArg, DataArgs, EvalArgs, PrepareArgs, SplitArg, SynthArgs,
    TrainArgs, causes, one_line, threads,
};
use wavenet_trainer::commands;
use wavenet_trainer::eval::{self, eval, material};
use wavenet_trainer::export::{DtypeArg, ExportArgs, export};
use wavenet_trainer::finetune::Finetune;
use wavenet_trainer::log::LogOptions;
use wavenet_trainer::material::{Material, Notes};
use wavenet_trainer::model::load_model;
use wavenet_trainer::network::Device;
use wavenet_trainer::prepare::{PrepareOptions, open_or_prepare, prepare, print_table};
use wavenet_trainer::prepared::{Prepared, Split};
use wavenet_trainer::report;
use wavenet_trainer::settings::{RunFile, Tuning, condition, default_model};
use wavenet_trainer::synth_recordings::write_recordings;
use wavenet_trainer::training::diagnosis::{of_missing_notes, of_other_notes};
use wavenet_trainer::training::{TrainOptions, check, train};
use wavenet_trainer::words::count;

/// Set by Ctrl-C (and by a polite kill).
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The exit code after Ctrl-C, as a shell would say: what was asked for is not done.
const EXIT_INTERRUPTED: u8 = 130;

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
        Ok(text) => match writeln!(std::io::stdout(), "{text}") {
            // A reader that has gone (`wavenet-trainer bench | head -1`) is no error.
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                fail(&format!("cannot write to standard output: {error}"))
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => fail(&causes(&error)),
    }
}

fn run(command: &Command) -> Result<String> {
    match command {
        Command::Synth(args) => synth(args),
        Command::Prepare(args) => prepare_command(args),
        Command::Train(args) => train_command(args),
        Command::Eval(args) => eval_command(args),
        Command::Export(args) => export_command(args),
        Command::Bench(args) => bench_command(args),
    }
}

/// One line on standard error; 2 for what can be put right.
fn fail(message: &str) -> ExitCode {
    let message = message.replace(char::is_control, " ");
    let _ = writeln!(std::io::stderr(), "wavenet-trainer: {message}");
    ExitCode::from(if INTERRUPTED.load(Ordering::Relaxed) { EXIT_INTERRUPTED } else { 2 })
}

/// From here on Ctrl-C asks to stop, and work ends where nothing is left half done. A second one
/// ends the program at once.
fn listen_for_ctrl_c() -> Result<()> {
    ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(EXIT_INTERRUPTED.into());
        }
    })
    .context("cannot listen for Ctrl-C")
}

/// What the user may want to know on the way; nobody listening is no error.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn synth(args: &SynthArgs) -> Result<String> {
    let paths = write_recordings(&args.out, &args.timbre, args.seed, args.seconds)?;
    Ok(format!("{} recordings in {}", paths.len(), args.out.display()))
}

fn prepare_command(args: &PrepareArgs) -> Result<String> {
    listen_for_ctrl_c()?;
    let options = prepare_options(&args.data, args.out.clone(), args.rate);
    let prepared = with_bar(KEPT, |progress| prepare(&options, progress))?;
    show_table(&prepared)?;
    Ok(format!("prepared in {}", args.out.display()))
}

fn train_command(args: &TrainArgs) -> Result<String> {
    listen_for_ctrl_c()?;
    check_place(args)?;
    let load = |path: &PathBuf| anyhow::Ok(Finetune::new(path, load_model(path)?));
    let finetune = args.finetune.as_ref().map(load).transpose()?;
    let base = finetune.as_ref().map_or_else(default_model, Finetune::base_model);
    let RunFile { model: mut config, training } = match &args.config {
        Some(path) => RunFile::load(path, &base)?,
        None => RunFile { model: base, ..RunFile::default() },
    };
    let mut options = TrainOptions {
        out: args.out.clone(),
        budget: args.budget(),
        seed: args.data.seed,
        device: args.device,
        precision: args.precision,
        threads: args.data.threads(),
        patience: args.patience,
        checkpoint_steps: args.checkpoint_steps,
        resume: args.resume,
        finetune,
        training,
        findings: Vec::new(),
        log: args.log.clone().map(|folder| LogOptions { folder, steps: args.log_steps }),
    };
    check(&config, &options)?;
    if args.resume && !is_begun(&args.out) {
        let state = state_path(&args.out);
        let shown = state.display();
        say(&format!("warning: there is no {shown} to resume from: starting afresh\n"));
    }
    // The samples stay beside the model: a second run finds them.
    let cache = args.out.with_extension("prepared");
    let mut sources = prepare_options(&args.data, cache, config.sample_rate_hz);
    // A model that is told no notes hears phrases as they are.
    let plays_notes = matches!(args.conditioning, ConditioningArg::Auto | ConditioningArg::Note);
    sources.cut_takes &= plays_notes;
    let prepared = with_bar(KEPT, |progress| open_or_prepare(&sources, progress))?;
    show_table(&prepared)?;

    condition(&mut config, &prepared, args.conditioning.into())?;
    // Who asks for something else knows what the names do not tell.
    let is_auto = args.conditioning == ConditioningArg::Auto;
    let missing = is_auto.then(|| of_missing_notes(prepared.index())).flatten();
    options.training = options.training.completed(config.conditioning.told());
    let notes = learn_notes(&mut config, &prepared, options.training.tuning)?;
    describe(&config);
    let others = notes.as_ref().map(Notes::other_notes).unwrap_or_default();
    let shifts = &options.training.shifts;
    let material = Material::new(prepared, &config, notes.as_ref(), shifts)?
        .augmented(options.training.augmentation.clone());
    options.findings = missing.into_iter().chain(of_other_notes(&others)).collect();
    let outcome = train(&material, &config, &options, &INTERRUPTED)?;

    let report = report::write(&material, &options, &outcome).with_context(|| {
        format!("{} is saved, but its report cannot be written", args.out.display())
    })?;

    let out = args.out.display();
    let measured = format!(
        "{:.3} bits a sample on validation data at length, {:.0} % of the unigram's {:.3}",
        outcome.valid_bits,
        100.0 * outcome.valid_bits / outcome.unigram_bits,
        outcome.unigram_bits
    );
    if outcome.interrupted {
        let instead = if args.overwrite { " in place of --overwrite" } else { "" };
        bail!(
            "interrupted after {} ({measured}); {out} is saved, the same command with \
             --resume{instead} goes on",
            count(outcome.steps, "step")
        );
    }
    let best = match outcome.best_step {
        step if step == outcome.steps => String::new(),
        step if outcome.is_out_of_patience => {
            format!("out of patience: the model is the best, of step {step}\n")
        }
        step => format!("the model is the best on validation data, of step {step}\n"),
    };
    Ok(format!(
        "{}: {measured}\n{best}\
         {out} is done, {} is its report. To hear it: {}",
        count(outcome.steps, "step"),
        report.display(),
        commands::render(&args.out, &config)
    ))
}

/// Checks where the model goes, before anything is loaded: it can be written, and nothing is lost.
fn check_place(args: &TrainArgs) -> Result<()> {
    let out = &args.out;
    check_out(out)?;
    report::check(out)?;
    let is_same =
        |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    let written = [out.to_owned(), state_path(out), previous_path(out)];
    if let Some(from) = &args.finetune {
        ensure!(
            !written.iter().any(|out| is_same(from, out)),
            "{} would be replaced by the model that it starts: name another --out",
            from.display()
        );
    }
    if args.overwrite { Ok(()) } else { check_unused(out, args.resume) }
}

/// Analyses the recordings of notes and puts what was found into the config.
fn learn_notes(config: &mut Config, prepared: &Prepared, tuning: Tuning) -> Result<Option<Notes>> {
    let Recipe::Note(recipe) = &mut config.conditioning else {
        return Ok(None);
    };
    let notes = Notes::analyse(prepared, recipe)
        .context("these notes cannot be learned; --conditioning none trains without them")?;
    say("notes\n");
    for line in notes.report() {
        say(&format!("  {line}\n"));
    }
    recipe.keys = notes.key_tables(&config.classes, tuning);
    // The middle of what was recorded: where an unnamed note is played.
    let mut keys: Vec<u8> = recipe.keys.iter().map(|table| table.key).collect();
    keys.sort_unstable();
    keys.dedup();
    if let Some(&middle) = keys.get(keys.len() / 2) {
        config.root_key = middle;
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
    say(&format!(
        "model: {} layers, receptive field {:.0} ms at {} Hz{notes}{classes}\n",
        config.layers(),
        1e3 * config.receptive_field() as f64 / f64::from(config.sample_rate_hz),
        config.sample_rate_hz,
    ));
}

fn eval_command(args: &EvalArgs) -> Result<String> {
    listen_for_ctrl_c()?;
    let weights = load_model(&args.model)?;
    let scratch = scratch_folder()?;
    let data = DataArgs {
        data: args.data.clone(),
        valid: None,
        labels: args.labels.clone(),
        valid_fraction: 0.1,
        no_trim: args.no_trim,
        no_midi: false,
        seed: args.seed,
        threads: args.threads,
    };
    let prepared = prepared_in(&scratch, &data, &weights)?;
    let split = match args.split {
        SplitArg::All => None,
        SplitArg::Train => Some(Split::Train),
        SplitArg::Valid => Some(Split::Valid),
    };
    show_table(&prepared)?;
    if let Some(remark) = eval::remark(weights.config(), &prepared) {
        say(&format!("note: {remark}\n"));
    }
    let report = eval(
        &weights,
        prepared,
        split,
        args.dtype.map(Into::into),
        threads(args.threads),
        &INTERRUPTED,
    )?;
    Ok(if args.json {
        serde_json::to_string(&report)?
    } else {
        format!(
            "{:.4} bits a sample ({:.1} % of the unigram's {:.4}), {:.1} % of {} samples guessed",
            report.bits_per_sample,
            100.0 * report.bits_per_sample / report.unigram_bits_per_sample,
            report.unigram_bits_per_sample,
            100.0 * report.accuracy,
            report.samples
        )
    })
}

fn export_command(args: &ExportArgs) -> Result<String> {
    let weights = load_model(&args.model)?;
    check_name(&args.out)?;
    check_writable(&args.out)?;
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    ensure!(
        canonical(&args.out).is_none_or(|out| Some(out) != canonical(&args.model)),
        "{} is the model itself, which is worth keeping: name another file",
        args.out.display()
    );
    ensure!(
        args.overwrite || !args.out.exists(),
        "{} exists; add --overwrite to replace it, or choose another --out",
        args.out.display()
    );
    let Some(data) = &args.data else { return export(weights, None, args) };
    ensure!(args.dtype == DtypeArg::Int8, "--data is for --dtype int8 only: leave it out");
    listen_for_ctrl_c()?;
    let scratch = scratch_folder()?;
    let data = DataArgs {
        data: data.clone(),
        valid: None,
        labels: args.labels.clone(),
        valid_fraction: 0.1,
        no_trim: false,
        no_midi: false,
        seed: 1,
        threads: None,
    };
    let prepared = prepared_in(&scratch, &data, &weights)?;
    let material = material(weights.config(), prepared)?;
    export(weights, Some(&material), args)
}

/// Recordings are prepared in a folder that goes with the command.
fn scratch_folder() -> Result<tempfile::TempDir> {
    tempfile::tempdir().context("no temporary folder can be made")
}

fn prepared_in(
    scratch: &tempfile::TempDir,
    data: &DataArgs,
    weights: &Weights,
) -> Result<Prepared> {
    let out = scratch.path().join("prepared");
    let mut options = prepare_options(data, out, weights.config().sample_rate_hz);
    options.cut_takes &= matches!(weights.config().conditioning, Recipe::Note(_));
    with_bar("interrupted", |progress| open_or_prepare(&options, progress))
}

fn bench_command(args: &BenchArgs) -> Result<String> {
    let report = bench(&BenchOptions {
        shape: args.shape,
        batch: args.batch as usize,
        window: args.window as usize,
        device: args.device,
        precision: args.precision,
        threads: threads(args.threads),
        steps: args.steps as usize,
    })?;
    Ok(if args.json {
        serde_json::to_string(&report)?
    } else {
        let roof = report.roof_ms.filter(|_| args.device == Device::Cpu).map(|roof_ms| {
            format!(
                "; the fastest took {:.1} ms, where the processor's peak rate of f32 multiply-adds \
                 would allow {roof_ms:.1} ms ({:.0} %)",
                report.fastest_step_ms,
                100.0 * roof_ms / report.fastest_step_ms
            )
        });
        format!(
            "{:.*} ms a step, {:.0} samples a second ({} parameters, {} threads){}",
            if report.step_ms < 10.0 { 2 } else { 1 },
            report.step_ms,
            report.samples_per_second,
            report.parameters,
            report.threads,
            roof.unwrap_or_default()
        )
    })
}

fn prepare_options(data: &DataArgs, out: PathBuf, rate_hz: u32) -> PrepareOptions {
    PrepareOptions {
        data: data.data.clone(),
        valid: data.valid.clone(),
        labels: data.labels.clone(),
        out,
        rate_hz,
        trim: !data.no_trim,
        cut_takes: !data.no_midi,
        valid_fraction: data.valid_fraction,
        seed: data.seed,
        threads: data.threads(),
    }
}

const KEPT: &str = "interrupted; the same command goes on with the recordings that are left";

/// Shows a bar while files are decoded; Ctrl-C ends it with these words.
fn with_bar(
    interrupted: &'static str,
    work: impl FnOnce(
        &mut dyn FnMut(wavenet_trainer::prepare::Progress<'_>) -> Result<()>,
    ) -> Result<Prepared>,
) -> Result<Prepared> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} files  {msg}") {
        bar.set_style(style.progress_chars("━━─"));
    }
    let prepared = work(&mut |progress| {
        ensure!(!INTERRUPTED.load(Ordering::Relaxed), "{interrupted}");
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
    say(&table);
    Ok(())
}
