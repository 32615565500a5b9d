//! Where an axis has its ticks, and the label of each: pairs of the value and its text.

/// Ticks from 0 to `duration_s` in steps of 1, 2 or 5 times a power of ten, five to thirteen of them.
pub(crate) fn seconds(duration_s: f64) -> Vec<(f64, String)> {
    if !(duration_s > 0.0 && duration_s.is_finite()) {
        return Vec::new();
    }
    let rough = duration_s / 12.0;
    let exponent = libm::floor(libm::log10(rough)) as i32;
    let power = libm::pow(10.0, f64::from(exponent));
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = step.into_iter().find(|&step| step >= rough).unwrap_or(10.0 * power);
    let decimals = (-libm::floor(libm::log10(step * 1.0001))).max(0.0) as usize;
    let count = libm::floor(duration_s / step + 1e-6) as usize;
    let label = |at: f64| format!("{at:.decimals$}");
    (0..=count).map(|tick| tick as f64 * step).map(|at| (at, label(at))).collect()
}

/// Ticks between `low` and `high` in steps of 1, 2 or 5 times a power of ten, at most `most` steps.
pub(crate) fn round(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
    let rough = (high - low) / most.max(1) as f64;
    if !(rough > 0.0 && rough.is_finite()) {
        return Vec::new();
    }
    let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
    let step = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let decimals = (-libm::floor(libm::log10(step * 1.0001))).max(0.0) as usize;
    let first = libm::ceil(low / step);
    let count = libm::floor(high / step + 1e-9) - first;
    let ticks = (0..=most).map(|tick| tick as f64).take_while(|tick| *tick <= count);
    let at = ticks.map(|tick| (first + tick) * step);
    at.map(|at| (at, grouped(&format!("{:.decimals$}", at + 0.0)))).collect()
}

/// A whole number's digits in groups of three, parted by thin spaces; others as they are.
fn grouped(number: &str) -> String {
    if number.len() < 5 || !number.bytes().all(|digit| digit.is_ascii_digit()) {
        return number.to_owned();
    }
    let digit = |(place, digit): (usize, char)| {
        let parted = place > 0 && (number.len() - place).is_multiple_of(3);
        parted.then_some('\u{2009}').into_iter().chain([digit])
    };
    number.chars().enumerate().flat_map(digit).collect()
}

/// Ticks at 1, 2 and 5 times the powers of ten that lie within the axis.
pub(crate) fn hertz(low_hz: f64, high_hz: f64) -> Vec<(f64, String)> {
    let decades = (0..10).map(|decade| libm::pow(10.0, f64::from(decade)));
    let values = decades.flat_map(|power| [power, 2.0 * power, 5.0 * power]);
    let within = values.filter(|&value| (low_hz..=high_hz).contains(&value));
    within
        .map(|value| match value {
            1000.0.. => (value, format!("{} kHz", value / 1000.0)),
            _ => (value, format!("{value} Hz")),
        })
        .collect()
}

/// Every 20 dB from `low_db` to `high_db`.
pub(crate) fn decibels(low_db: f32, high_db: f32) -> Vec<(f32, String)> {
    let first = (low_db / 20.0).ceil() as i32;
    let last = (high_db / 20.0).floor() as i32;
    (first..=last).map(|step| 20.0 * step as f32).map(|db| (db, signed(db, 0))).collect()
}

/// A number with a true minus sign, as wide as a digit, and none before zero.
pub(crate) fn signed(number: f32, decimals: usize) -> String {
    let plain = format!("{number:.decimals$}");
    match plain.strip_prefix('-') {
        Some(digits) if digits.contains(|digit| ('1'..='9').contains(&digit)) => {
            format!("\u{2212}{digits}")
        }
        Some(digits) => digits.to_owned(),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels<T>(ticks: &[(T, String)]) -> Vec<&str> {
        ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn seconds_come_in_round_steps() {
        assert_eq!(labels(&seconds(0.05))[..3], ["0.000", "0.005", "0.010"]);
        assert_eq!(labels(&seconds(12.0))[..3], ["0", "1", "2"]);
        assert_eq!(labels(&seconds(600.0)).last(), Some(&"600"));
        assert_eq!(labels(&seconds(2.5))[..2], ["0.0", "0.5"]);
        for tenths in 1..5_000 {
            let ticks = seconds(f64::from(tenths) / 10.0);
            assert!((5..=13).contains(&ticks.len()), "{tenths}: {ticks:?}");
        }
        assert!(seconds(0.0).is_empty() && seconds(f64::INFINITY).is_empty());
    }

    #[test]
    fn round_steps_lie_within() {
        assert_eq!(labels(&round(2.31, 8.04, 6)), ["3", "4", "5", "6", "7", "8"]);
        assert_eq!(labels(&round(0.0, 12_345.0, 8))[5], "10\u{2009}000");
        assert_eq!(labels(&round(-0.1, 0.25, 6)), ["-0.1", "0.0", "0.1", "0.2"]);
        assert!(round(1.0, 1.0, 6).is_empty() && round(0.0, f64::INFINITY, 6).is_empty());
        for tenths in 1..3_000 {
            let ticks = round(0.0, f64::from(tenths) / 10.0, 8);
            assert!((4..=9).contains(&ticks.len()), "{tenths}: {ticks:?}");
        }
    }

    #[test]
    fn frequencies_read_as_people_write_them() {
        let ticks = hertz(30.0, 8_000.0);
        let expected = ["50 Hz", "100 Hz", "200 Hz", "500 Hz", "1 kHz", "2 kHz", "5 kHz"];
        assert_eq!(labels(&ticks), expected);
    }

    #[test]
    fn levels_stand_every_20_db() {
        assert_eq!(labels(&decibels(-85.0, -5.0)), ["−80", "−60", "−40", "−20"]);
        assert_eq!(labels(&decibels(-80.0, 0.0)).last(), Some(&"0"));
        assert_eq!((signed(-0.04, 1), signed(-0.06, 1)), ("0.0".into(), "−0.1".into()));
    }
}
