//! Velocity layers that a key lacks, from its neighbours.
//!
//! Libraries have holes: a piano's B may have been recorded hard only. Between the layers of its
//! neighbours a key with one layer would sound as bright when it is hit softly as when it is hit hard.
//! So where a layer lacks a key, its levels there lie between those of the nearest keys that it has; pitch
//! and phases are the key's own.

use wavenet_engine::KeyTable;

/// Adds the tables of missing layers; the tables rise in class, key and velocity, and do so afterwards.
///
/// Layers are the velocities of a class where at least two thirds of its keys have them: velocities all
/// over the place are not layers.
pub(super) fn complete(tables: &mut Vec<KeyTable>) {
    let mut made = Vec::new();
    let mut own_class = tables.as_slice();
    while let Some(first) = own_class.first() {
        let (class, rest) =
            own_class.split_at(own_class.partition_point(|table| table.class <= first.class));
        made.extend(missing(class));
        own_class = rest;
    }
    tables.extend(made);
    tables.sort_by_key(|table| (table.class, table.key, table.velocity));
}

fn missing(class: &[KeyTable]) -> Vec<KeyTable> {
    let mut keys: Vec<u8> = class.iter().map(|table| table.key).collect();
    keys.dedup();
    let mut velocities: Vec<u8> = class.iter().map(|table| table.velocity).collect();
    velocities.sort_unstable();
    velocities.dedup();
    let find = |key: u8, velocity: u8| {
        class.iter().find(|table| (table.key, table.velocity) == (key, velocity))
    };
    let is_layer = |&velocity: &u8| {
        3 * keys.iter().filter(|&&key| find(key, velocity).is_some()).count() >= 2 * keys.len()
    };
    let layers: Vec<u8> = velocities.into_iter().filter(is_layer).collect();
    let mut made = Vec::new();
    for &key in &keys {
        for &layer in layers.iter().filter(|&&layer| find(key, layer).is_none()) {
            let nearest = class
                .iter()
                .filter(|table| table.key == key)
                .min_by_key(|table| table.velocity.abs_diff(layer));
            let has_layer = |near: &u8| find(*near, layer);
            let below = keys.iter().rev().filter(|&&near| near < key).find_map(has_layer);
            let above = keys.iter().filter(|&&near| near > key).find_map(has_layer);
            if let (Some(own), Some(a), Some(b)) = (nearest, below.or(above), above.or(below)) {
                made.push(between(own, layer, a, b));
            }
        }
    }
    made
}

/// A table with the levels between those of a key below and a key above.
fn between(own: &KeyTable, velocity: u8, below: &KeyTable, above: &KeyTable) -> KeyTable {
    let span = f32::from(above.key) - f32::from(below.key);
    let share = if span > 0.0 { f32::from(own.key - below.key) / span } else { 0.0 };
    let row = |below: &[f32], above: &[f32]| {
        let db = |(&below, &above): (&f32, &f32)| {
            libm::roundf((below + (above - below) * share) * 10.0) / 10.0
        };
        below.iter().zip(above).map(db).collect::<Vec<f32>>()
    };
    // The higher key has fewer partials below half the rate.
    let partials = (0..own.partial_db.len().min(below.partial_db.len())).map(|partial| {
        let below = &below.partial_db[partial];
        row(below, above.partial_db.get(partial).unwrap_or(below))
    });
    KeyTable {
        velocity,
        level_db: row(&below.level_db, &above.level_db),
        partial_db: partials.collect(),
        ..own.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(key: u8, velocity: u8, level_db: f32, partial_db: f32) -> KeyTable {
        KeyTable {
            key,
            velocity,
            level_db: vec![level_db; 2],
            partial_db: vec![vec![partial_db; 2]],
            ..KeyTable::default()
        }
    }

    #[test]
    fn a_missing_layer_lies_between_its_neighbours() {
        let mut tables = vec![
            table(60, 48, -10.0, -20.0),
            table(60, 104, -5.0, -10.0),
            table(62, 104, -6.0, -12.0),
            table(66, 48, -13.0, -26.0),
            table(66, 104, -6.0, -12.0),
        ];
        complete(&mut tables);
        assert_eq!(tables.len(), 6);
        assert_eq!(tables[2], table(62, 48, -11.0, -22.0));
        assert_eq!(tables[3], table(62, 104, -6.0, -12.0));
    }

    #[test]
    fn velocities_all_over_the_place_are_not_layers() {
        let mut tables: Vec<_> =
            (0..10).map(|note| table(40 + note, 20 + 7 * note, -10.0, -20.0)).collect();
        let before = tables.clone();
        complete(&mut tables);
        assert_eq!(tables, before);
    }
}
