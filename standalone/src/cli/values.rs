//! Values of options: from text to numbers that make sense, or a sentence that says what would.

/// The longest sound of one render.
const MAX_SECONDS: f64 = 24.0 * 3600.0;

/// The value of `--shape`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// R, and G beside it.
    pub residual_channels: usize,
    /// S
    pub skip_channels: usize,
    /// A
    pub end_channels: usize,
    /// Residual blocks, with dilations 1, 2, 4 ... 512, 1, 2 ...
    pub layers: usize,
}

pub(super) fn shape(text: &str) -> Result<Shape, String> {
    let wrong = || "four whole numbers are needed, such as 64,256,256,10".to_owned();
    let parts: Result<Vec<usize>, _> = text.split(',').map(|part| part.trim().parse()).collect();
    match parts.map_err(|_| wrong())?[..] {
        // The engine checks the rest; this keeps the list of dilations short until then.
        [.., layers] if layers > 128 => Err("at most 128 layers".into()),
        [residual_channels, skip_channels, end_channels, layers] => {
            Ok(Shape { residual_channels, skip_channels, end_channels, layers })
        }
        _ => Err(wrong()),
    }
}

pub(super) fn rate_hz(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rate_hz) if (1_000..=768_000).contains(&rate_hz) => Ok(rate_hz),
        _ => Err("a whole number from 1000 to 768000 Hz is needed, such as 44100".into()),
    }
}

/// `-`, which is all that a stream can be written to.
pub(super) fn standard_output(text: &str) -> Result<String, String> {
    if text == "-" {
        Ok(text.into())
    } else {
        Err(format!("a stream goes to standard output: leave --out away and add > {text}"))
    }
}

pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= MAX_SECONDS => Ok(seconds),
        _ => Err("a number of seconds above 0 and up to 86400 (24 hours) is needed".into()),
    }
}

/// A MIDI number, or a name such as `A4`, `C#3`, `Bb2`.
pub(super) fn key(text: &str) -> Result<u8, String> {
    let wrong = || "write a key by name, C-1 to G9 (A4 = 440 Hz), or by number, 0..=127".to_owned();
    if let Ok(number) = text.parse::<u8>() {
        return if number <= 127 { Ok(number) } else { Err(wrong()) };
    }
    let mut letters = text.chars();
    let step = match letters.next().map(|letter| letter.to_ascii_uppercase()) {
        Some('C') => 0,
        Some('D') => 2,
        Some('E') => 4,
        Some('F') => 5,
        Some('G') => 7,
        Some('A') => 9,
        Some('B') => 11,
        _ => return Err(wrong()),
    };
    let rest = letters.as_str();
    let (shift, octave) = match rest.strip_prefix('#') {
        Some(octave) => (1, octave),
        None => rest.strip_prefix('b').map_or((0, rest), |octave| (-1, octave)),
    };
    let octave: i32 = octave.parse().map_err(|_| wrong())?;
    let number = octave.clamp(-9, 99) * 12 + 12 + step + shift;
    u8::try_from(number).ok().filter(|&key| key <= 127).ok_or_else(wrong)
}

pub(super) fn temperature(text: &str) -> Result<f32, String> {
    within(text, 0.0, 10.0)
}

pub(super) fn top_p(text: &str) -> Result<f32, String> {
    within(text, 0.0, 1.0)
}

pub(super) fn release_ms(text: &str) -> Result<f32, String> {
    within(text, 0.0, 60_000.0)
}

pub(super) fn buffer_ms(text: &str) -> Result<f32, String> {
    within(text, 0.0, 1_000.0)
}

fn within(text: &str, low: f32, high: f32) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("a number from {low} to {high} is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names_and_numbers() {
        for (text, expected) in
            [("A4", 69), ("c4", 60), ("C#3", 49), ("Bb2", 46), ("C-1", 0), ("G9", 127), ("60", 60)]
        {
            assert_eq!(key(text), Ok(expected), "{text}");
        }
        for text in ["H4", "A", "", "128", "G#9", "Cb-1", "A99999999999", "é4"] {
            assert!(key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_shape_is_read_in_its_order() {
        let expected = Shape { residual_channels: 1, skip_channels: 2, end_channels: 3, layers: 4 };
        assert_eq!(shape("1,2, 3,4"), Ok(expected));
    }
}
