//! Segments begin and end where they should, and are what the recordings hold.

use wavenet_engine::{Config, NoteRecipe, Recipe};

use super::*;
use crate::prepare::{PrepareOptions, prepare};

/// A corpus of synthetic plucks, prepared in a folder.
fn plucks(folder: &std::path::Path) -> Prepared {
    let recordings = folder.join("recordings");
    crate::synth_recordings::write_recordings(&recordings, 1, 0.5).unwrap();
    let options = PrepareOptions {
        data: recordings.join("pluck"),
        valid: None,
        out: folder.join("prepared"),
        rate_hz: 16_000,
        trim: true,
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
        material.fill(Stretch { clip: 0, start, frames: 50 }, &mut segment).unwrap();
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
    assert!(!few.is_empty() && frames(&few) <= 20_000);
    assert!(few.iter().all(|s| material.clips[s.clip].split == Split::Train));
}

#[test]
fn a_shifted_note_sounds_at_the_pitch_and_phase_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let prepared = plucks(folder.path());
    let mut config = small(Recipe::Note(NoteRecipe::default()));
    let notes = Notes::analyse(&prepared, &NoteRecipe::default()).unwrap();
    if let Recipe::Note(recipe) = &mut config.conditioning {
        recipe.keys = notes.key_tables();
    }
    let material = Material::new(prepared, &config, Some(&notes), &[-2, 0, 2]).unwrap();
    for clip in material.clips.iter().take(6) {
        // Demodulated by the told phase of the first partial, the sound keeps one angle.
        let frames = 4_000.min(clip.frames as usize - 1);
        let stretch = Stretch { clip: 0, start: 0, frames };
        let index = material.clips.iter().position(|other| std::ptr::eq(other, clip)).unwrap();
        let mut segment = Segment::default();
        material.fill(Stretch { clip: index, ..stretch }, &mut segment).unwrap();
        let channels = config.local_channels();
        let (mut along, mut across, mut energy) = (0.0, 0.0, 0.0);
        for row in segment.counted_from + 400..segment.targets.len() {
            let local = &segment.local[row * channels..(row + 1) * channels];
            let (cosine, sine) = (local[5], local[5 + 32]);
            let sample = material.mulaw.decode(segment.targets[row]);
            along += f64::from(sample * cosine);
            across += f64::from(sample * sine);
            energy += f64::from(sample * sample);
        }
        // The sum against the cosine of the tracked phase is as large as the first partial's
        // share of the energy allows, and that against the sine vanishes beside it.
        assert!(along > 0.1 * energy, "{along} {energy}");
        assert!(across.abs() < 0.2 * along, "{along} {across}");
    }
}
