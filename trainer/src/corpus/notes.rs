//! Notes and velocities from file names.
//!
//! A name is taken apart at everything that is neither letter, digit nor `#`. Its note is the
//! first of these that some part spells:
//!
//! 1. a note name: letter, `#` or `b`, one digit (`A4`, `C#3`, `Bb2`; C4 = 60, A4 = 69 = 440 Hz),
//! 2. a MIDI key with a prefix: `n60`, `note60`, `midi60`, `key60`,
//! 3. a MIDI key of exactly three digits: `060`. Shorter numbers are takes, spoken digits, dates.
//!
//! Its velocity is glued to the note or is the next part: `vH`, `vM`, `vL` (104, 76, 48), `vel100`,
//! three digits (`C#3_100`), or a layer (`v2`).
//!
//! Two questions only the whole corpus answers. Layers are spread evenly over 1 to 127; if any
//! exceeds 32, all are velocities. And bare three-digit numbers are a running count, not keys (or
//! velocities), if any of them is 000, 001, or more than 127.

/// The note that a recording holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteName {
    /// MIDI key, 0 to 127; 60 is middle C, 69 is A at 440 Hz.
    pub key: u8,
    /// MIDI velocity, 1 to 127, if the name tells.
    pub velocity: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strength {
    Velocity(u8),
    /// `v2`: a layer, or a velocity.
    Layer(u16),
    /// Three digits: a velocity, or a running count.
    Number(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spelled {
    key: u16,
    /// The key is a bare number, which may be a running count.
    bare: bool,
    strength: Option<Strength>,
}

/// The note of each of a corpus's file names (without extension), in their order.
pub(crate) fn read_notes(stems: &[String]) -> Vec<Option<NoteName>> {
    let mut spelled: Vec<_> = stems.iter().map(|stem| spell(stem)).collect();

    let bare_keys = spelled.iter().flatten().filter(|note| note.bare).map(|note| note.key);
    if is_running_count(bare_keys) {
        for note in &mut spelled {
            *note = note.filter(|note| !note.bare);
        }
    }
    let strengths = || spelled.iter().flatten().filter_map(|note| note.strength);
    let velocities_are_a_count =
        is_running_count(strengths().filter_map(|strength| match strength {
            Strength::Number(number) => Some(number),
            _ => None,
        }));
    let layers = || {
        strengths().filter_map(|strength| match strength {
            Strength::Layer(layer) => Some(layer),
            _ => None,
        })
    };
    // There are as many layers as the highest number says, counted from 1, or from 0 if v0 exists.
    let loudest = layers().max().unwrap_or(1);
    let softest = layers().min().unwrap_or(1).min(1);

    let velocity = |strength| match strength {
        Strength::Velocity(velocity) => Some(velocity),
        Strength::Number(_) if velocities_are_a_count => None,
        Strength::Number(number) => u8::try_from(number).ok(),
        Strength::Layer(layer) if loudest > 32 => {
            u8::try_from(layer).ok().filter(|velocity| (1..=127).contains(velocity))
        }
        Strength::Layer(layer) => {
            let share = (f64::from(layer - softest) + 0.5) / f64::from(loudest - softest + 1);
            Some(libm::round(127.0 * share) as u8)
        }
    };
    spelled
        .into_iter()
        .map(|note| {
            let note = note?;
            let key = u8::try_from(note.key).ok()?;
            Some(NoteName { key, velocity: note.strength.and_then(velocity) })
        })
        .collect()
}

fn is_running_count(mut numbers: impl Iterator<Item = u16>) -> bool {
    numbers.any(|number| !(2..=127).contains(&number))
}

fn spell(stem: &str) -> Option<Spelled> {
    let parts: Vec<&str> = stem
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '#' | '♯' | '♭')))
        .filter(|part| !part.is_empty())
        .collect();
    let with = |place: usize, key: u16, bare: bool, rest: &str| {
        let next = parts.get(place + 1).copied().unwrap_or_default();
        let strength = strength(if rest.is_empty() { next } else { rest });
        // Letters that spell nothing: it was no note (`A4x`, `B2B`).
        (rest.is_empty() || strength.is_some()).then_some(Spelled { key, bare, strength })
    };
    let first = |read: &dyn Fn(&str) -> Option<(u16, &str)>, bare: bool| {
        parts.iter().enumerate().find_map(|(place, part)| {
            let (key, rest) = read(part)?;
            with(place, key, bare, rest)
        })
    };
    first(&|part| note_name(part), false)
        .or_else(|| first(&|part| prefixed_key(part), false))
        .or_else(|| first(&|part| three_digits(part).map(|number| (number, "")), true))
}

/// `C#3vH` -> (49, `vH`).
fn note_name(part: &str) -> Option<(u16, &str)> {
    let mut chars = part.chars();
    let semitone = match chars.next()?.to_ascii_uppercase() {
        'C' => 0,
        'D' => 2,
        'E' => 4,
        'F' => 5,
        'G' => 7,
        'A' => 9,
        'B' => 11,
        _ => return None,
    };
    let mut rest = chars.as_str();
    let mut shift = 0;
    for (mark, by) in [("#", 1), ("♯", 1), ("b", -1), ("♭", -1)] {
        if let Some(after) = rest.strip_prefix(mark) {
            (rest, shift) = (after, by);
            break;
        }
    }
    let octave = rest.chars().next()?.to_digit(10)? as i32;
    let key = 12 * (octave + 1) + semitone + shift;
    Some((u16::try_from(key).ok().filter(|key| *key <= 127)?, &rest[1..]))
}

/// The key of a note name and nothing else: `Bb2` is 46.
pub(super) fn spelled_key(text: &str) -> Option<u8> {
    let (key, rest) = note_name(text)?;
    u8::try_from(key).ok().filter(|_| rest.is_empty())
}

/// `midi60` -> (60, ``).
fn prefixed_key(part: &str) -> Option<(u16, &str)> {
    let digits = part.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let prefix = part.strip_suffix(digits)?.to_ascii_lowercase();
    let known = ["n", "note", "midi", "key"].contains(&prefix.as_str());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (number, rest) = digits.split_at(end);
    let key = number.parse().ok().filter(|key| known && number.len() >= 2 && *key <= 127)?;
    Some((key, rest))
}

fn three_digits(part: &str) -> Option<u16> {
    let all_digits = part.len() == 3 && part.bytes().all(|b| b.is_ascii_digit());
    part.parse().ok().filter(|_| all_digits)
}

fn strength(part: &str) -> Option<Strength> {
    if let Some(number) = three_digits(part) {
        return Some(Strength::Number(number));
    }
    let part = part.to_lowercase();
    if let Some(velocity) = part.strip_prefix("vel") {
        let velocity = velocity.parse().ok().filter(|velocity| (1..=127).contains(velocity))?;
        return Some(Strength::Velocity(velocity));
    }
    match part.strip_prefix('v')? {
        "h" => Some(Strength::Velocity(104)),
        "m" => Some(Strength::Velocity(76)),
        "l" => Some(Strength::Velocity(48)),
        layer => layer.parse().ok().filter(|layer| *layer <= 127).map(Strength::Layer),
    }
}

/// A MIDI key as it is spelled in file names: 61 is `C#4`.
pub fn key_name(key: u8) -> String {
    const NAMES: [&str; 12] = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"];
    format!("{}{}", NAMES[usize::from(key % 12)], i32::from(key / 12) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(names: &[&str]) -> Vec<Option<(u8, Option<u8>)>> {
        let stems: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        read_notes(&stems).into_iter().map(|n| n.map(|n| (n.key, n.velocity))).collect()
    }

    fn one(name: &str) -> Option<(u8, Option<u8>)> {
        read(&[name])[0]
    }

    #[test]
    fn note_names() {
        for (name, key, velocity) in [
            ("A4", 69, None),
            ("C4", 60, None),
            ("A4vH", 69, Some(104)),
            ("D#4vL", 63, Some(48)),
            ("C#3_100", 49, Some(100)),
            ("C#3_060", 49, Some(60)),
            ("Bb2", 46, None),
            ("violin-bb2-legato", 46, None),
            ("Piano.mf.Db3", 49, None),
            ("B♭2", 46, None),
            ("C0", 12, None),
            ("G9", 127, None),
            ("take 001 A4 vel90", 69, Some(90)),
            ("note60", 60, None),
            ("pad_n48_vL", 48, Some(48)),
            ("MIDI_midi072v100", 72, Some(100)),
            ("piano_060_v2", 60, Some(95)),
            ("piano_060_v100", 60, Some(100)),
            ("060_100", 60, Some(100)),
        ] {
            assert_eq!(one(name), Some((key, velocity)), "{name}");
        }
    }

    #[test]
    fn numbers_and_words_that_are_no_notes() {
        for name in [
            "7_jackson_32",
            "0_theo_1",
            "60",
            "take_60",
            "3436-172162-0000",
            "A440",
            "A10",
            "A9",
            "B2B",
            "a4x",
            "H3",
            "E",
            "C#",
            "n5",
            "cb0x",
            "Abend",
            "2024-05-06",
            "",
            "note",
            "midi128",
            "note600",
        ] {
            assert_eq!(one(name), None, "{name}");
        }
        assert_eq!(read(&["198-209-0000", "103-1240-0001"]), [None, None]);
    }

    #[test]
    fn layers_are_spread_over_the_velocities() {
        let names: Vec<String> = (1..=16).map(|layer| format!("A0v{layer}")).collect();
        let notes = read_notes(&names);
        let velocities: Vec<_> = notes.iter().map(|n| n.unwrap().velocity.unwrap()).collect();
        assert_eq!((velocities[0], velocities[15]), (4, 123));
        assert!(velocities.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(read(&["C4v0", "C4v1"]), [Some((60, Some(32))), Some((60, Some(95)))]);
        assert_eq!(read(&["C4v7", "C4v90"]), [Some((60, Some(7))), Some((60, Some(90)))]);
    }

    #[test]
    fn running_counts_are_no_keys_and_no_velocities() {
        assert_eq!(read(&["loop_001", "loop_002", "loop_060"]), [None; 3]);
        assert_eq!(read(&["loop_060", "loop_128"]), [None; 2]);
        assert_eq!(read(&["s_048", "s_060"]), [Some((48, None)), Some((60, None))]);
        assert_eq!(read(&["A4_000", "A4_100"]), [Some((69, None)); 2]);
    }

    #[test]
    fn keys_are_spelled_as_they_are_read() {
        for key in 12..=127 {
            assert_eq!(one(&key_name(key)), Some((key, None)));
        }
        assert_eq!((key_name(69), key_name(0)), ("A4".to_owned(), "C-1".to_owned()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_names_give_notes_in_range(
            names in prop::collection::vec("([A-Hn][#b♭♯]?[0-9]{0,3}v?[0-9HL]{0,6}|\\PC{0,12})", 1..4)
        ) {
            for note in read_notes(&names).into_iter().flatten() {
                prop_assert!(note.key <= 127 && note.velocity.is_none_or(|v| (1..=127).contains(&v)));
            }
        }
    }
}
