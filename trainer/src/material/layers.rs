//! Velocity layers that a key lacks, from its neighbours.
//!
//! Libraries have holes: a piano's B may have been recorded hard only. Between the layers of its
//! neighbours a key with one layer would sound as bright when it is hit softly as when it is hit hard.
//! So what a layer lacks is its own other layer, changed as the neighbours' layers differ.

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
            let others = || layers.iter().filter_map(|&other| Some((find(key, other)?, other)));
            let nearest = others().min_by_key(|(_, other)| other.abs_diff(layer));
            let Some((own, other)) = nearest else { continue };
            let both = |near: u8| Some((find(near, other)?, find(near, layer)?));
            let below = keys.iter().rev().filter(|&&near| near < key).find_map(|&near| both(near));
            let above = keys.iter().filter(|&&near| near > key).find_map(|&near| both(near));
            let pairs: Vec<_> = below.into_iter().chain(above).collect();
            if !pairs.is_empty() {
                made.push(changed(own, layer, &pairs));
            }
        }
    }
    made
}

/// A table as it would be in another layer, by how that of its neighbours differs.
fn changed(own: &KeyTable, velocity: u8, pairs: &[(&KeyTable, &KeyTable)]) -> KeyTable {
    let moved = |own: &Vec<f32>, row: &dyn Fn(&KeyTable) -> Option<Vec<f32>>| {
        let changes: Vec<_> =
            pairs.iter().filter_map(|(from, to)| Some((row(from)?, row(to)?))).collect();
        let level = |(age, &db): (usize, &f32)| {
            let sum: f32 = changes.iter().map(|(from, to)| to[age] - from[age]).sum();
            let db = db + sum / changes.len().max(1) as f32;
            (libm::roundf(db * 10.0) / 10.0).clamp(-120.0, 20.0)
        };
        own.iter().enumerate().map(level).collect::<Vec<f32>>()
    };
    let partial_db = own.partial_db.iter().enumerate();
    KeyTable {
        velocity,
        level_db: moved(&own.level_db, &|table| Some(table.level_db.clone())),
        partial_db: partial_db
            .map(|(partial, db)| moved(db, &|table| table.partial_db.get(partial).cloned()))
            .collect(),
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
    fn a_missing_layer_differs_as_its_neighbours_layers_do() {
        let mut tables = vec![
            table(60, 48, -10.0, -20.0),
            table(60, 104, -5.0, -10.0),
            table(63, 104, -6.0, -12.0),
            table(66, 48, -12.0, -20.0),
            table(66, 104, -6.0, -12.0),
        ];
        complete(&mut tables);
        assert_eq!(tables.len(), 6);
        assert_eq!(tables[2], table(63, 48, -11.5, -21.0));
        assert_eq!(tables[3], table(63, 104, -6.0, -12.0));
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
