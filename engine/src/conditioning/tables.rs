//! What was measured on the recorded notes, between them: every key at every velocity.
//!
//! A played note lies between two recorded keys, and at each of them between two velocities. All that
//! is measured is blended from these four by bilinear interpolation; beyond what was recorded it is
//! constant.

use crate::config::KeyTable;

/// Up to four tables (by their index) and their weights, which add up to 1. Weights may be 0.
pub(super) type Blend = [(usize, f64); 4];

/// The blend for a pitch and a velocity; `None` where the class has no tables. Real-time safe.
pub(super) fn blend(
    tables: &[KeyTable],
    class: usize,
    semitones: f64,
    velocity: u8,
) -> Option<Blend> {
    let first = tables.partition_point(|table| table.class < class);
    let own = &tables[first..tables.partition_point(|table| table.class <= class)];
    let (lowest, highest) = (own.first()?.key, own.last()?.key);
    let above = own.partition_point(|table| f64::from(table.key) < semitones);
    let high = own.get(above).map_or(highest, |table| table.key);
    let low = match own.get(above) {
        // A recorded key needs no other.
        Some(table) if f64::from(table.key) == semitones => table.key,
        _ => above.checked_sub(1).map_or(lowest, |below| own[below].key),
    };
    let share = if high > low {
        ((semitones - f64::from(low)) / f64::from(high - low)).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let at = |key: u8, weight: f64| {
        let begin = own.partition_point(|table| table.key < key);
        let end = own.partition_point(|table| table.key <= key);
        let above = own[begin..end].partition_point(|table| table.velocity < velocity) + begin;
        let (low, high) = (above.max(begin + 1) - 1, above.min(end - 1));
        let span = f64::from(own[high].velocity) - f64::from(own[low].velocity);
        let share = if span > 0.0 {
            (f64::from(velocity) - f64::from(own[low].velocity)) / span
        } else {
            0.0
        };
        let share = share.clamp(0.0, 1.0);
        [(first + low, weight * (1.0 - share)), (first + high, weight * share)]
    };
    let ([a, b], [c, d]) = (at(low, 1.0 - share), at(high, share));
    Some([a, b, c, d])
}

/// The table nearest to a key and, among those of the nearest key, to a velocity; the lower of two
/// equally near. Real-time safe.
pub(super) fn nearest(
    tables: &[KeyTable],
    class: usize,
    key: u8,
    velocity: u8,
) -> Option<&KeyTable> {
    let distance =
        |table: &&KeyTable| (table.key.abs_diff(key), table.key, table.velocity.abs_diff(velocity));
    tables.iter().filter(|table| table.class == class).min_by_key(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(class: usize, key: u8, velocity: u8) -> KeyTable {
        KeyTable { class, key, velocity, ..KeyTable::default() }
    }

    #[test]
    fn a_note_lies_between_keys_and_velocities() {
        let tables = [
            table(0, 10, 64),
            table(1, 60, 48),
            table(1, 60, 104),
            table(1, 63, 104),
            table(1, 66, 48),
            table(1, 66, 104),
            table(2, 70, 64),
        ];
        let weights = |semitones: f64, velocity: u8| {
            let mut weights = [0.0; 7];
            for (index, weight) in blend(&tables, 1, semitones, velocity).unwrap() {
                weights[index] += weight;
            }
            weights
        };
        assert_eq!(weights(60.0, 48), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights(60.0, 76), [0.0, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights(63.0, 1), [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights(64.5, 48), [0.0, 0.0, 0.0, 0.5, 0.5, 0.0, 0.0]);
        assert_eq!(weights(20.0, 127), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(weights(99.0, 1), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
        assert!(blend(&tables, 3, 60.0, 64).is_none());
        assert_eq!(nearest(&tables, 1, 62, 90).unwrap(), &tables[3]);
        assert_eq!(nearest(&tables, 1, 61, 90).unwrap(), &tables[2]);
    }
}
