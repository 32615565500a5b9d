//! What was found in recordings of notes, in lines for the user to check before an instrument is trained on it.

use crate::corpus::notes::key_name;

/// So many recordings have a line each; of more, those to look at have one, and the rest share one.
const MOST_LINES: usize = 12;

/// What was found in one recording.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// First partial above equal temperament.
    pub cents: f64,
    /// B of f_k = k f1 sqrt(1 + B k^2).
    pub inharmonicity: f64,
    /// Partials within 50 dB of the loudest.
    pub partials: usize,
    /// The key that it sounds like, where that is surely not its name's.
    pub other_key: Option<u8>,
}

/// The lines of recordings, by name; `Err` tells why one is left out.
pub(super) fn lines<'a>(
    recordings: impl Iterator<Item = (&'a str, Result<Found, &'a str>)>,
) -> Vec<String> {
    let (mut lines, mut plain) = (Vec::new(), Vec::new());
    for (name, found) in recordings {
        match found {
            Ok(found) if found.other_key.is_none() => plain.push((name, found)),
            Ok(found) => lines.push(line(name, &found)),
            Err(reason) => lines.push(format!("{name:24} left out: {reason}")),
        }
    }
    if plain.len() <= MOST_LINES {
        lines.extend(plain.iter().map(|(name, found)| line(name, found)));
    } else {
        lines.push(all(&plain));
    }
    lines
}

fn line(name: &str, found: &Found) -> String {
    let Found { cents, inharmonicity, partials, other_key } = found;
    let other = sounds_like(*other_key);
    let cents = tenth(*cents);
    format!("{name:24} {cents:>+6.1} cents  B {inharmonicity:.5}  {partials} partials{other}")
}

/// What many have in common; the two that are out of tune the most by name.
fn all(plain: &[(&str, Found)]) -> String {
    let by_cents = |a: &&(&str, Found), b: &&(&str, Found)| a.1.cents.total_cmp(&b.1.cents);
    let ends = plain.iter().min_by(by_cents).zip(plain.iter().max_by(by_cents));
    let ((flat, flattest), (sharp, sharpest)) = ends.expect("there are many");
    let stiffness = plain.iter().map(|(_, found)| found.inharmonicity);
    let (least, most) =
        stiffness.fold((f64::MAX, 0.0_f64), |(least, most), b| (least.min(b), most.max(b)));
    let partials = plain.iter().map(|(_, found)| found.partials);
    let (fewest, many) =
        partials.fold((usize::MAX, 0), |(fewest, many), n| (fewest.min(n), many.max(n)));
    format!(
        "{} recordings: {:+.1} ({flat}) to {:+.1} cents ({sharp}), B {least:.5} to {most:.5}, \
         {fewest} to {many} partials",
        plain.len(),
        tenth(flattest.cents),
        tenth(sharpest.cents),
    )
}

/// What to say of a note that sounds like another.
pub(super) fn sounds_like(other: Option<u8>) -> String {
    other.map_or_else(String::new, |key| format!(" (it sounds like {})", key_name(key)))
}

/// To a tenth; adding 0 makes -0.0 a plain one.
fn tenth(cents: f64) -> f64 {
    (cents * 10.0).round() / 10.0 + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(cents: f64) -> Found {
        Found { cents, inharmonicity: 2e-4, partials: 18, other_key: None }
    }

    #[test]
    fn a_few_have_a_line_each() {
        let recordings = [("C4.wav", Ok(found(-0.01))), ("D4.wav", Err("it is silent"))];
        let expected = [
            "D4.wav                   left out: it is silent",
            "C4.wav                     +0.0 cents  B 0.00020  18 partials",
        ];
        assert_eq!(lines(recordings.into_iter()), expected);
    }

    #[test]
    fn of_many_those_to_look_at_stand_out() {
        let names: Vec<String> = (0..40).map(|n| format!("{n}.wav")).collect();
        let of = |(n, name): (usize, &String)| (name.clone(), found(n as f64 - 10.0));
        let mut recordings: Vec<(String, Found)> = names.iter().enumerate().map(of).collect();
        recordings[7].1.other_key = Some(57);
        recordings[8].1.partials = 2;
        let recordings = recordings.iter().map(|(name, found)| (&name[..], Ok(found.clone())));
        let expected = [
            "7.wav                      -3.0 cents  B 0.00020  18 partials (it sounds like A3)",
            "39 recordings: -10.0 (0.wav) to +29.0 cents (39.wav), B 0.00020 to 0.00020, 2 to 18 partials",
        ];
        assert_eq!(lines(recordings), expected);
    }
}
