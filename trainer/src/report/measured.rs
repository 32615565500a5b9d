//! What the analysis found in recorded notes, for the user to check before playing them: how they are tuned, how
//! stiff their strings are, and whether their partials were followed.

use std::f64::consts::TAU;

use anyhow::Result;
use maud::{Markup, PreEscaped, html};
use wavenet_picture::curves::{self, Curve};

use crate::material::{Analysed, Material};

/// How much of a note's beginning the drift shows.
const DRIFT_S: f64 = 1.5;
/// Colours that a page has names for in a legend.
const COLOURS: usize = 2;

/// One recording's findings.
pub(super) struct Measured {
    class: usize,
    key: u8,
    /// First partial above equal temperament.
    cents: f64,
    /// B of f_k = k f1 sqrt(1 + B k^2).
    inharmonicity: f64,
    /// Seconds after the onset, and turns by which the loudest partial is ahead of its steady frequency.
    drift: Vec<(f64, f64)>,
}

impl Measured {
    fn new(note: &Analysed<'_>) -> Self {
        let Analysed { class, table, tracks } = note;
        let loudest = (0..tracks.level_db.len())
            .max_by(|&a, &b| tracks.level_db[a].total_cmp(&tracks.level_db[b]));
        let hop_s = tracks.hop_frames as f64 / tracks.rate_hz;
        let onset = tracks.onset_frame / tracks.hop_frames.max(1);
        let heard = loudest.and_then(|partial| tracks.deviation[partial].get(onset..));
        let heard = heard.unwrap_or_default();
        let point = |(hop, &radians): (usize, &f32)| {
            (hop as f64 * hop_s, f64::from(radians - heard[0]) / TAU)
        };
        Self {
            class: *class,
            key: table.key,
            cents: table.cents,
            inharmonicity: table.inharmonicity,
            drift: heard.iter().enumerate().map(point).take_while(|(s, _)| *s <= DRIFT_S).collect(),
        }
    }
}

/// The findings of every recording of a note, rising in class and key.
pub(super) fn measured(material: &Material) -> Vec<Measured> {
    let mut found: Vec<Measured> = material.notes().map(|note| Measured::new(&note)).collect();
    found.sort_by_key(|note| (note.class, note.key));
    found
}

/// The section of the page; nothing where there are no notes.
pub(super) fn section(notes: &[Measured], classes: &[String]) -> Result<Markup> {
    if notes.is_empty() {
        return Ok(html! {});
    }
    let over_keys = |of: &dyn Fn(&Measured) -> f64| {
        let of_class = |class: usize| {
            let own = notes.iter().filter(|note| note.class == class);
            let points = own.map(|note| (f64::from(note.key), of(note))).collect();
            Curve { points, colour: class % COLOURS }
        };
        let curves: Vec<Curve> = (0..classes.len().max(1)).map(of_class).collect();
        curves::svg(&curves, "MIDI key")
    };
    let tuning = over_keys(&|note| note.cents)?;
    let stiffness = over_keys(&|note| 1e4 * note.inharmonicity)?;
    // Of all keys the lowest and the highest.
    let ends = [notes.iter().min_by_key(|note| note.key), notes.iter().max_by_key(|note| note.key)];
    let drift = ends.into_iter().flatten().zip(0..);
    let drift = drift.map(|(note, colour)| Curve { points: note.drift.clone(), colour });
    let drift = curves::svg(&drift.collect::<Vec<_>>(), "seconds")?;
    Ok(html! {
        section {
            h2 { "Notes" }
            p.quiet {
                "What was measured on the recordings. A key that lies far from its neighbours is a wrong name, or \
                 a note that was not recognised."
            }
            p.legend {
                @if classes.len() > 1 {
                    @for (class, name) in classes.iter().enumerate() {
                        span class=(format!("curve-{}", class % COLOURS + 1)) { (name) }
                    }
                }
            }
            div.curves.pair {
                figure {
                    (PreEscaped(tuning))
                    figcaption { "cents above equal temperament" }
                }
                figure {
                    (PreEscaped(stiffness))
                    figcaption { "stiffness B of the strings, ten-thousandths" }
                }
            }
            p.legend {
                span.curve-1 { "lowest key" } span.curve-2 { "highest key" }
                span.quiet { "the loudest partial" }
            }
            div.curves.pair {
                figure {
                    (PreEscaped(drift))
                    figcaption { "turns ahead of a steady tone: a slope is detuned, jumps were not followed" }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_curve_and_its_name_stays_text() {
        let note = |class, key, cents| Measured {
            class,
            key,
            cents,
            inharmonicity: 2e-4,
            drift: vec![(0.0, 0.0), (0.5, 0.1), (1.0, 0.3)],
        };
        let notes = [note(0, 40, -3.0), note(0, 50, 1.0), note(1, 45, 2.0), note(1, 60, 4.0)];
        let classes = ["a<b>".to_owned(), "c".to_owned()];
        let page = section(&notes, &classes).unwrap().into_string();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("a&lt;b&gt;") && page.contains("MIDI key"));
        assert_eq!(section(&[], &classes).unwrap().into_string(), "");
    }
}
