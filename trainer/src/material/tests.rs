//! Segments begin and end where they should, and are what the recordings hold.

use wavenet_engine::conditioning::SINE_AMPLITUDE;
use wavenet_engine::{Config, NoteRecipe, Recipe};

use super::*;
use crate::prepare::{PrepareOptions, prepare};
use crate::settings::Tuning;
use crate::synth_recordings::{Timbre, write_recordings};

/// A corpus of a plucked string, prepared in a folder.
fn plucks(folder: &std::path::Path) -> Prepared {
    let recordings = folder.join("recordings");
    write_recordings(&recordings, &[Timbre::String], 1, Some(0.5)).unwrap();
    let options = PrepareOptions {
        data: recordings,
        valid: None,
        labels: None,
        out: folder.join("prepared"),
        rate_hz: 16_000,
        trim: true,
        cut_takes: true,
        valid_fraction: 0.1,
        seed: 1,
        threads: 2,
    };
    prepare(&options, &mut |_| Ok(())).unwrap()
}

fn small(recipe: Recipe) -> Config {
    Config { dilations: vec![1, 2, 4, 8], conditioning: recipe, ..Config::default() }
}

#[test]
fn segments_hold_the_recording_after_silence_or_its_own_past() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = plucks(folder.path());
    let mut samples = vec![0.0; 500];
    prepared.read(0, 0, &mut samples).unwrap();
    let config = small(Recipe::None);
    let material = Material::new(prepared, &config, None, &[0]).unwrap();
    let codes: Vec<u8> = samples.iter().map(|&sample| material.mulaw.encode(sample)).collect();
    let field = config.receptive_field();
    assert_eq!(field, 16);

    let mut segment = Segment::default();
    for (start, lead) in [(0, 16), (5, 11), (16, 0), (100, 0)] {
        material
            .fill(Stretch { clip: 0, start, frames: 50, change: Change::NONE }, &mut segment)
            .unwrap();
        let start = start as usize;
        assert_eq!(segment.counted_from, field);
        assert_eq!(segment.sound_from, lead);
        assert_eq!(segment.counted(), 50);
        assert!(segment.targets[..lead].iter().all(|&code| code == 128));
        assert_eq!(segment.targets[field..], codes[start..start + 50]);
        assert_eq!(segment.inputs[1..], segment.targets[..field + 49]);
        let before = if start > field { codes[start - field - 1] } else { 128 };
        assert_eq!(segment.inputs[0], before);
    }
}

#[test]
fn drawn_stretches_lie_inside_training_clips_and_reach_both_ends() {
    let folder = tempfile::tempdir().unwrap();
    let material = Material::new(plucks(folder.path()), &small(Recipe::None), None, &[0]).unwrap();
    let (mut at_start, mut at_end) = (0, 0);
    for index in 0..2_000 {
        let stretch = material.train_stretch(3, index, 2_000).unwrap();
        let clip = &material.clips[stretch.clip];
        assert_eq!(clip.split, Split::Train);
        assert!(stretch.start + stretch.frames as u64 <= clip.frames);
        at_start += usize::from(stretch.start == 0);
        at_end += usize::from(stretch.start + stretch.frames as u64 == clip.frames);
        assert_eq!(stretch, material.train_stretch(3, index, 2_000).unwrap());
    }
    assert!(at_start > 50 && at_end > 50, "{at_start} {at_end}");
}

#[test]
fn covering_takes_every_frame_once_and_thins_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let material = Material::new(plucks(folder.path()), &small(Recipe::None), None, &[0]).unwrap();
    let frames = |stretches: &[Stretch]| stretches.iter().map(|s| s.frames as u64).sum::<u64>();
    let all = material.cover(None, 777, u64::MAX);
    assert_eq!(frames(&all), material.clips.iter().map(|clip| clip.frames).sum::<u64>());
    let few = material.cover(Some(Split::Train), 777, 20_000);
    // Stretches at clips' ends are shorter, so the count is right only to about one.
    assert!(!few.is_empty() && frames(&few) <= 20_000 + 777);
    assert!(few.iter().all(|s| material.clips[s.clip].split == Split::Train));
}

/// A model of such notes, and their analysis.
fn learned(prepared: &Prepared, recipe: NoteRecipe) -> (Config, Notes) {
    let notes = Notes::analyse(prepared, &recipe).unwrap();
    let keys = notes.key_tables(&[], Tuning::Recorded);
    (small(Recipe::Note(NoteRecipe { keys, ..recipe })), notes)
}

#[test]
fn a_remainder_and_its_partials_are_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = plucks(folder.path());
    let recipe = NoteRecipe::with_levels();
    let (config, notes) = learned(&prepared, recipe.clone());
    let whole_recipe = NoteRecipe { remainder: false, ..recipe };
    let (whole_config, _) = learned(&prepared, whole_recipe);
    let again = Prepared::open(prepared.folder()).unwrap();
    let material = Material::new(prepared, &config, Some(&notes), &[-2, 0, 2]).unwrap();
    let whole = Material::new(again, &whole_config, Some(&notes), &[-2, 0, 2]).unwrap();
    // What was measured is told once a recording, not of its copies.
    let mut told: Vec<u8> = material.notes().map(|note| note.table.key).collect();
    let mut recorded: Vec<u8> =
        material.prepared().entries().iter().filter_map(|e| e.key).collect();
    told.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(told, recorded);
    let changed = Change { gain: 0.7, is_flipped: true, ..Change::NONE };
    let (mut power, mut remaining) = (0.0, 0.0);
    for (clip, change) in (0..6).zip([Change::NONE, changed].into_iter().cycle()) {
        // Once with the silence before it, once from its middle.
        for start in [0, 2_000] {
            let stretch = Stretch { clip, start, frames: 1_000, change };
            let (mut segment, mut of_whole) = (Segment::default(), Segment::default());
            material.fill(stretch, &mut segment).unwrap();
            whole.fill(stretch, &mut of_whole).unwrap();
            assert_eq!(segment.local, of_whole.local);
            let channels = config.local_channels();
            for (row, local) in segment.local.chunks_exact(channels).enumerate() {
                let partials = 2.0 * SINE_AMPLITUDE * local[5] * change.gain;
                let decode = |codes: &[u8]| material.mulaw.decode(codes[row]);
                let (rest, sample) = (decode(&segment.targets), decode(&of_whole.targets));
                // Half a step of the codes, of either.
                let rounding = 0.022 * (rest.abs() + sample.abs()) + 4e-4;
                assert!(
                    (rest + partials - sample).abs() < rounding,
                    "{clip} {row}: {rest} {sample}"
                );
                let (heard, before) = (segment.inputs.get(row + 1), segment.targets[row]);
                assert!(heard.is_none_or(|&heard| heard == before));
                if row > segment.counted_from + 500 {
                    power += f64::from(sample * sample);
                    remaining += f64::from(rest * rest);
                }
            }
        }
    }
    // A synthetic string is all but told.
    assert!(remaining < 0.01 * power, "{remaining} {power}");
}

#[test]
fn a_shifted_note_sounds_at_the_pitch_and_phase_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = plucks(folder.path());
    let recipe = NoteRecipe { remainder: false, ..NoteRecipe::with_levels() };
    let (config, notes) = learned(&prepared, recipe);
    let material = Material::new(prepared, &config, Some(&notes), &[-2, 0, 2]).unwrap();
    let flipped = Change { gain: 1.0, is_flipped: true, speed: 1.0, ..Change::NONE };
    let changes = [Change::NONE, flipped].into_iter().cycle();
    for (clip, change) in material.clips.iter().take(6).zip(changes) {
        // Demodulated by the told phase of the first partial, the sound keeps one angle.
        let frames = 4_000.min(clip.frames as usize - 1);
        let stretch = Stretch { clip: 0, start: 0, frames, change };
        let index = material.clips.iter().position(|other| std::ptr::eq(other, clip)).unwrap();
        let mut segment = Segment::default();
        material.fill(Stretch { clip: index, ..stretch }, &mut segment).unwrap();
        let channels = config.local_channels();
        let (mut along, mut across, mut told) = (0.0, 0.0, 0.0);
        for row in segment.counted_from + 400..segment.targets.len() {
            let local = &segment.local[row * channels..(row + 1) * channels];
            let (cosine, sine) = (local[7], local[7 + 16]);
            let sample = material.mulaw.decode(segment.targets[row]);
            along += f64::from(sample * cosine);
            across += f64::from(sample * sine);
            told += f64::from(cosine * cosine);
        }
        // The sum against the cosine of the tracked phase is what the told amplitude promises, and that
        // against the sine vanishes beside it.
        let promised = f64::from(SINE_AMPLITUDE) * told;
        assert!(along > 0.5 * promised && along < 2.0 * promised, "{along} {promised}");
        assert!(across.abs() < 0.2 * along, "{along} {across}");
    }
}

/// One recording, which is divided: its end is for validation.
fn divided(folder: &std::path::Path, name: &str) -> Prepared {
    write_recordings(&folder.join("all"), &[Timbre::String], 1, Some(2.0)).unwrap();
    std::fs::create_dir(folder.join("one")).unwrap();
    std::fs::copy(folder.join("all/string/C4_104.wav"), folder.join("one").join(name)).unwrap();
    let options = PrepareOptions {
        data: folder.join("one"),
        valid: None,
        labels: None,
        out: folder.join("prepared"),
        rate_hz: 16_000,
        trim: true,
        cut_takes: true,
        valid_fraction: 0.1,
        seed: 1,
        threads: 1,
    };
    prepare(&options, &mut |_| Ok(())).unwrap()
}

#[test]
fn the_end_of_a_divided_recording_has_its_beginning_as_past() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = divided(folder.path(), "take.wav");
    let [begin, end] = [0, 1].map(|index: usize| prepared.entries()[index].frames as usize);
    let mut samples = vec![0.0; begin + end];
    let (first, second) = samples.split_at_mut(begin);
    prepared.read(0, 0, first).unwrap();
    prepared.read(1, 0, second).unwrap();
    let config = small(Recipe::None);
    let material = Material::new(prepared, &config, None, &[0]).unwrap();
    let codes: Vec<u8> = samples.iter().map(|&sample| material.mulaw.encode(sample)).collect();
    let field = config.receptive_field();
    let mut segment = Segment::default();
    for start in [0, 3, 40] {
        let change = Change::NONE;
        let stretch = Stretch { clip: 1, start: start as u64, frames: 50, change };
        material.fill(stretch, &mut segment).unwrap();
        let place = begin + start;
        assert_eq!(segment.sound_from, 0);
        assert_eq!(segment.targets, codes[place - field..place + 50]);
        assert_eq!(segment.inputs[0], codes[place - field - 1]);
    }
    // No frame counts twice.
    let stretches = material.cover(Some(Split::Valid), 777, u64::MAX);
    assert_eq!(stretches.iter().map(|stretch| stretch.frames).sum::<usize>(), end);
}

#[test]
fn the_end_of_a_divided_note_goes_on_in_sound_and_phase() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = divided(folder.path(), "C4.wav");
    let mut config = small(Recipe::Note(NoteRecipe::with_levels()));
    let notes = Notes::analyse(&prepared, &NoteRecipe::with_levels()).unwrap();
    if let Recipe::Note(recipe) = &mut config.conditioning {
        recipe.keys = notes.key_tables(&[], Tuning::Recorded);
    }
    let material = Material::new(prepared, &config, Some(&notes), &[0]).unwrap();
    assert_eq!(material.notes().count(), 1);
    let (mut before, mut after) = (Segment::default(), Segment::default());
    let change = Change::NONE;
    let frames = material.clips[0].frames;
    material
        .fill(Stretch { clip: 0, start: frames - 30, frames: 30, change }, &mut before)
        .unwrap();
    material.fill(Stretch { clip: 1, start: 0, frames: 30, change }, &mut after).unwrap();
    // The warm-up of the end is the end of the beginning, and is told the same.
    let field = config.receptive_field();
    let channels = config.local_channels();
    assert_eq!(after.sound_from, 0);
    assert_eq!(after.targets[..field], before.targets[30..]);
    assert_eq!(after.local[..field * channels], before.local[30 * channels..]);
}

#[test]
fn augmented_segments_hold_the_recording_louder_turned_and_higher() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = plucks(folder.path());
    let mut samples = vec![0.0; 2_000];
    prepared.read(0, 0, &mut samples).unwrap();
    let config = small(Recipe::None);
    let augmentation = Augmentation {
        gain_db: [-9.0, 0.0],
        flip_polarity: true,
        pitch_cents: 50.0,
        ..Augmentation::default()
    };
    let material = Material::new(prepared, &config, None, &[0]).unwrap();
    let plain: Vec<Stretch> = (0..50).map(|n| material.train_stretch(1, n, 64).unwrap()).collect();
    let material = material.augmented(augmentation);
    let mut segment = Segment::default();
    for (index, plain) in plain.into_iter().enumerate() {
        let stretch = material.train_stretch(1, index as u64, 64).unwrap();
        assert_eq!(stretch, material.train_stretch(1, index as u64, 64).unwrap());
        // The same place of the same clip.
        assert_eq!(stretch.clip, plain.clip);
        let moved = stretch.start as f64 * stretch.change.speed - plain.start as f64;
        assert!(moved.abs() < 4.0, "{moved}");
        material.fill(stretch, &mut segment).unwrap();
        assert_eq!((segment.counted(), segment.counted_from), (64, config.receptive_field()));
    }
    for change in [
        Change { gain: 0.5, is_flipped: true, speed: 1.0, ..Change::NONE },
        Change { gain: 0.5, is_flipped: true, speed: 1.02, ..Change::NONE },
    ] {
        material.fill(Stretch { clip: 0, start: 500, frames: 800, change }, &mut segment).unwrap();
        let (mut error, mut energy) = (0.0, 0.0);
        for (index, &code) in segment.targets[segment.counted_from..].iter().enumerate() {
            let place = (500.0 + index as f64) * change.speed;
            let (below, share) = (place as usize, place.fract() as f32);
            let between = samples[below] + (samples[below + 1] - samples[below]) * share;
            let expected = -0.5 * between;
            let difference = material.mulaw.decode(code) - expected;
            error += difference * difference;
            energy += expected * expected;
        }
        // A straight line between neighbours is near enough to tell.
        assert!(error < 0.05 * energy, "{change:?}: {error} of {energy}");
    }
}
