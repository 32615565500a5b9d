//! The page itself.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use wavenet_engine::Recipe;
use wavenet_picture::curves::{self, Curve};

use super::sounds::{Pair, Sound};
use super::{Facts, REVISION, measured};
use crate::commands::{self, program, quoted_path};
use crate::prepare::{Row, Table};
use crate::training::{Budget, Outcome};
use crate::words::{count, shown};

const STYLE: &str = include_str!("style.css");

/// The report as HTML.
pub(super) fn page(facts: &Facts<'_>) -> Result<String> {
    let Facts { name, outcome, .. } = facts;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Whatever a file is called, nothing here runs or loads anything.
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'";
                meta name="color-scheme" content="light dark";
                title { (name) " \u{b7} training report" }
                style { (PreEscaped(STYLE)) (PreEscaped(curves::STYLE)) }
            }
            body {
                main {
                    (heading(facts))
                    (look_at(outcome, &facts.table))
                    (listen(&facts.pairs))
                    (learning(outcome)?)
                    (recordings(&facts.table))
                    (measured::section(&facts.measured, &facts.weights.config().classes)?)
                    (play(facts))
                    (settings(facts)?)
                    footer {
                        "wavenet-trainer " (env!("CARGO_PKG_VERSION"))
                        @if !REVISION.is_empty() { ", revision " code { (REVISION) } }
                    }
                }
            }
        }
    };
    Ok(markup.into_string())
}

fn heading(facts: &Facts<'_>) -> Markup {
    let Facts { name, weights, outcome, .. } = facts;
    let config = weights.config();
    let share = 100.0 * outcome.valid_bits / outcome.unigram_bits.max(1e-9);
    let seconds = outcome.history.trained.last().map_or(0.0, |last| last.elapsed_s);
    let field_ms = 1e3 * config.receptive_field() as f64 / f64::from(config.sample_rate_hz);
    let kind = match (&config.conditioning, config.classes.len()) {
        (Recipe::Note(recipe), 0) => format!("plays notes, by {} partials", recipe.partials),
        (Recipe::Note(_), classes) => format!("plays notes of {classes} classes"),
        (Recipe::None, 0) => "improvises".into(),
        (Recipe::None, classes) => format!("improvises in {classes} classes"),
    };
    html! {
        header {
            p.eyebrow { "WaveNet \u{b7} training report" }
            h1 { (name) }
            p.lead {
                "Each next sample of recordings that it was not trained on costs the model "
                strong { (format!("{:.2} bits", outcome.valid_bits)) }
                ". Knowing only how often each value occurs would cost "
                (format!("{:.2}", outcome.unigram_bits)) "."
                @if outcome.best_step < outcome.steps {
                    " It is the best of the run, of step " (thousands(outcome.best_step)) "."
                }
                @if outcome.interrupted { " The run was interrupted; " code { "--resume" } " goes on." }
            }
            dl.tiles {
                (tile("of the unigram", &format!("{share:.0} %")))
                (tile("steps", &thousands(outcome.steps)))
                (tile("of training", &duration(seconds)))
                (tile("parameters", &thousands(weights.values().len() as u64)))
                (tile("looked back on", &format!("{field_ms:.0} ms")))
            }
            p.quiet { "The model " (kind) ", at " (config.sample_rate_hz) " Hz." }
        }
    }
}

fn tile(what: &str, number: &str) -> Markup {
    html! { div { dt { (what) } dd { (number) } } }
}

/// Warnings about the data, and what was seen while training.
fn look_at(outcome: &Outcome, table: &Table) -> Markup {
    let findings = outcome.findings.iter().map(|finding| &finding.text);
    let lines: Vec<&String> = table.warnings.iter().chain(findings).collect();
    html! {
        @if lines.is_empty() {
            p.healthy { "Nothing unusual was seen." }
        } @else {
            section.look {
                h2 { "To look at" }
                ul { @for line in lines { li { (sentence(line)) } } }
            }
        }
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().collect::<String>());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

fn listen(pairs: &[Pair]) -> Markup {
    html! {
        @if !pairs.is_empty() {
            section {
                h2 { "Listen" }
                p.quiet {
                    "A recording, as the model hears it, and what the model plays. Time runs to the \
                     right, pitch upwards."
                }
                @for pair in pairs {
                    h3 { (pair.title) }
                    div.pair {
                        (figure("recording", Some(&pair.name), &pair.real))
                        (figure("model", None, &pair.generated))
                    }
                }
            }
        }
    }
}

fn figure(who: &str, name: Option<&str>, sound: &Sound) -> Markup {
    html! {
        figure {
            img src=(sound.png) alt=(format!("spectrogram of the {who}"));
            audio controls preload="metadata" src=(sound.wav) {}
            figcaption {
                strong { (who) } " " (name.unwrap_or_default())
                span.figures { (format!("{:.1} s, {:.0} dB", sound.seconds, sound.level_db)) }
            }
        }
    }
}

fn learning(outcome: &Outcome) -> Result<Markup> {
    let history = &outcome.history;
    if history.trained.is_empty() {
        return Ok(html! {});
    }
    let last = history.trained.last().map_or(0.0, |point| point.elapsed_s);
    let (unit, unit_s) = match last {
        0.0..120.0 => ("seconds", 1.0),
        120.0..7200.0 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    };
    let both = |x: &dyn Fn(u64, f64) -> f64, name| {
        let trained: Vec<(f64, f64)> =
            history.trained.iter().map(|at| (x(at.step, at.elapsed_s), at.bits)).collect();
        let validated = history.validated.iter();
        let validated = validated.map(|at| (x(at.step, at.elapsed_s), at.bits)).collect();
        let curves = [
            Curve { colour: 2, points: trained.clone() },
            Curve { colour: 0, points: smoothed(&trained) },
            Curve { colour: 1, points: validated },
        ];
        curves::svg(&curves, name)
    };
    let over_steps = both(&|step, _| step as f64, "steps")?;
    let over_time = both(&|_, elapsed_s| elapsed_s / unit_s, unit)?;
    Ok(html! {
        section {
            h2 { "Learning" }
            p.legend {
                span.curve-1 { "training" } span.curve-2 { "validation" }
                @if let [only] = &history.validated[..] {
                    // One point is no curve.
                    span.quiet { (format!("(once: {:.2} after step {})", only.bits, thousands(only.step))) }
                }
                span.quiet { "bits a sample; less is better" }
            }
            div.curves.pair {
                figure { (PreEscaped(over_steps)) }
                figure { (PreEscaped(over_time)) }
            }
        }
    })
}

/// Each point the mean of those around it, a fiftieth of the curve to either side.
fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let reach = points.len() / 50;
    let mean = |at: usize| {
        let around = &points[at.saturating_sub(reach)..points.len().min(at + reach + 1)];
        around.iter().map(|(_, y)| y).sum::<f64>() / around.len() as f64
    };
    points.iter().enumerate().map(|(at, (x, _))| (*x, mean(at))).collect()
}

fn recordings(table: &Table) -> Markup {
    html! {
        section {
            h2 { "Recordings" }
            table {
                @for Row { title, text, details } in &table.rows {
                    tr {
                        th scope="row" { (title) }
                        td {
                            (text)
                            @if !details.is_empty() {
                                details open[details.len() <= 5] {
                                    summary { "which, and why" }
                                    ul { @for line in details { li { (line) } } }
                                }
                            }
                        }
                    }
                }
            }
            @for note in &table.notes { p.quiet { (sentence(note)) } }
        }
    }
}

fn play(facts: &Facts<'_>) -> Markup {
    let model = quoted_path(&facts.options.out);
    let (wavenet, trainer) = (program("wavenet"), program("wavenet-trainer"));
    let commands = [
        (
            "by the computer's keys and every MIDI keyboard",
            format!("{wavenet} play --model {model}"),
        ),
        (
            "into a file, with its picture",
            commands::render(&facts.options.out, facts.weights.config()),
        ),
        ("a piece", format!("{wavenet} render --model {model} --midi song.mid --out song.wav")),
        (
            "smaller and faster",
            format!("{trainer} export --model {model} --out small.safetensors --dtype int8"),
        ),
    ];
    html! {
        section {
            h2 { "Play it" }
            dl.commands {
                @for (what, command) in &commands { dt { (what) } dd { code { (command) } } }
            }
        }
    }
}

fn settings(facts: &Facts<'_>) -> Result<Markup> {
    let mut config = serde_json::to_value(facts.weights.config())?;
    // Tables of phases are long, and nobody's setting.
    if let Some(keys) = config.pointer_mut("/conditioning/keys") {
        *keys = serde_json::Value::from(keys.as_array().map_or(0, Vec::len));
    }
    let training = serde_json::to_value(&facts.options.training)?;
    let run = serde_json::json!({
        "budget": match facts.options.budget {
            Budget::Steps(steps) => count(steps, "step"),
            Budget::Epochs(epochs) => count(epochs, "epoch"),
            Budget::Minutes(minutes) => count(minutes, "minute"),
        },
        "seed": facts.options.seed,
        "threads": facts.options.threads,
        "checkpoint_steps": facts.options.checkpoint_steps,
    });
    Ok(html! {
        section {
            h2 { "Settings" }
            div.settings {
                (table_of("model", &config)) (table_of("training", &training)) (table_of("run", &run))
            }
        }
    })
}

fn table_of(title: &str, settings: &serde_json::Value) -> Markup {
    html! {
        div {
            h3 { (title) }
            table {
                @for (name, value) in settings.as_object().into_iter().flatten() {
                    tr { th scope="row" { (name.replace('_', " ")) } td { (shown(value)) } }
                }
            }
        }
    }
}

/// Digits in groups of three.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let parted = |place: usize| place > 0 && (digits.len() - place).is_multiple_of(3);
    let digit = |(place, digit)| parted(place).then_some('\u{202f}').into_iter().chain([digit]);
    digits.chars().enumerate().flat_map(digit).collect()
}

fn duration(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0} s"),
        120.0..7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3600.0),
    }
}
