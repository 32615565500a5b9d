//! Sets files aside for validation.
//!
//! Every file has a place in line: the SHA-256 of the seed and its name. Of each label with at
//! least two files the first `fraction` in line, and at least one, are for validation. So the
//! choice does not depend on the order of the files, and a file that is added later moves hardly
//! any other.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Which of the files are for validation: true, or false for training.
///
/// `files` are (name, label). Labels with a single file are trained on; if all labels are such,
/// the files are drawn from as one. A single file is never for validation: its last part is, as it is of
/// each of few (see `prepare`).
pub fn choose_valid(files: &[(&str, Option<&str>)], fraction: f32, seed: u64) -> Vec<bool> {
    let mut by_label: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    for (index, (_, label)) in files.iter().enumerate() {
        by_label.entry(*label).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> =
        by_label.into_values().filter(|group| group.len() >= 2).collect();
    if groups.is_empty() && files.len() >= 2 {
        groups.push((0..files.len()).collect());
    }
    let mut valid = vec![false; files.len()];
    for mut group in groups {
        group.sort_by_cached_key(|&index| {
            let (name, _) = files[index];
            let mut hash = Sha256::new();
            hash.update(seed.to_le_bytes());
            hash.update(name);
            hash.finalize()
        });
        let wanted = libm::roundf(group.len() as f32 * fraction) as usize;
        for &index in &group[..wanted.clamp(1, group.len() - 1)] {
            valid[index] = true;
        }
    }
    valid
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("{n}.wav")).collect()
    }

    fn chosen(names: &[String], seed: u64) -> Vec<&str> {
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
        let valid = choose_valid(&files, 0.1, seed);
        files.iter().zip(valid).filter(|(_, valid)| *valid).map(|((name, _), _)| *name).collect()
    }

    #[test]
    fn a_tenth_and_at_least_one_but_never_all() {
        for (files, want) in [(0, 0), (1, 0), (2, 1), (5, 1), (10, 1), (36, 4), (100, 10)] {
            assert_eq!(chosen(&names(files), 1).len(), want, "{files} files");
        }
        let two = [("a", None), ("b", None)];
        assert_eq!(choose_valid(&two, 1.0, 1).iter().filter(|valid| **valid).count(), 1);
    }

    #[test]
    fn the_seed_decides_and_the_order_does_not() {
        let names = names(50);
        assert_eq!(chosen(&names, 1), chosen(&names, 1));
        assert_ne!(chosen(&names, 1), chosen(&names, 2));
        let backwards: Vec<String> = names.iter().rev().cloned().collect();
        let mut again = chosen(&backwards, 1);
        again.reverse();
        assert_eq!(chosen(&names, 1), again);
    }

    #[test]
    fn every_label_of_two_or_more_is_in_both_parts() {
        let names = names(23);
        // Labels of 20, 2 and 1 files.
        let label = |n: usize| match n {
            0..20 => "many",
            20..22 => "two",
            _ => "one",
        };
        let files: Vec<_> =
            names.iter().enumerate().map(|(n, name)| (name.as_str(), Some(label(n)))).collect();
        let valid = choose_valid(&files, 0.1, 3);
        let count = |range: std::ops::Range<usize>| valid[range].iter().filter(|v| **v).count();
        assert_eq!((count(0..20), count(20..22), count(22..23)), (2, 1, 0));
    }
}
