//! An instance's life: made, activated, deactivated and destroyed in any order, and nothing is left.

use std::time::{Duration, Instant};

use clack_host::factory::plugin::PluginFactory;
use wavenet_tests::host::{Happening, Host, linked_entry};

use crate::{alone, peak, piano, small_file, state_of, together};
use wavenet_tests::counting::{asked_bytes, live_bytes};

/// Threads of this program that make sound.
fn generators() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let name = |path: std::path::PathBuf| std::fs::read_to_string(path.join("comm"));
    tasks
        .flatten()
        .filter_map(|task| name(task.path()).ok())
        .filter(|name| name.starts_with("wavenet gen"))
        .count()
}

#[test]
fn a_scan_reads_no_model() {
    let _alone = alone();
    // Room for events, mostly. The piano's numbers take more.
    const LITTLE: usize = 600_000;
    assert!(size_of_val(piano().values()) > LITTLE);
    let bytes = asked_bytes(|| {
        let entry = linked_entry();
        let factory = entry.get_factory::<PluginFactory>().expect("a factory");
        assert_eq!(factory.plugin_count(), 1);
        let descriptor = factory.plugin_descriptor(0).expect("a descriptor");
        assert_eq!(descriptor.name(), Some(c"WaveNet"));
        let mut host = Host::new(&entry);
        assert_eq!(host.parameters().len(), 14);
        assert!(host.save().len() > 100);
        assert_eq!(host.latency(), 0);
        assert_eq!(generators(), 0);
    });
    assert!(bytes < LITTLE, "{bytes} bytes");
    // What is not counted here would be counted where it is needed.
    let bytes = asked_bytes(|| {
        Host::default().activate(48_000.0, 64);
    });
    assert!(bytes > LITTLE, "{bytes} bytes");
}

#[test]
fn in_any_order_and_any_number() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    host.deactivate();
    let rates = [44_100.0, 1_000.0, 768_000.0, 47_999.5, 22_050.0, 191_999.7, 65_521.0];
    for (rate, block) in rates.into_iter().zip([1, 16_384, 480, 7, 4_096, 333, 64]) {
        host.activate(rate, block);
        host.deactivate();
        host.deactivate();
        host.set_offline(true);
        host.activate(rate, block);
        // Without anything; in blocks of nothing; stopped and started.
        assert_eq!(peak(&host.audio().play(&[], block, block)), 0.0);
        host.audio().process(&[], 0);
        host.audio().stop();
        host.audio().start();
        host.audio().reset();
        let latency = host.latency();
        let frames = latency + (rate / 20.0) as usize;
        let out = host.audio().play(&[(0, Happening::on(60, 127))], frames, block);
        assert_eq!(peak(&out[..latency.min(out.len())]), 0.0, "{rate} Hz");
        assert!(peak(&out) > 0.001, "nothing is heard at {rate} Hz");
        assert!(peak(&out) <= 1.0);
        // Activated anew with the note still down.
    }
    // Destroyed while it is active.
    drop(host);
}

#[test]
fn rates_beyond_all_measure_are_silence() {
    let _together = together();
    let mut host = Host::default();
    for rate in [1.0, 999.0, 800_000.0, 3e9] {
        host.set_offline(true);
        host.activate(rate, 64);
        assert_eq!(peak(&host.audio().play(&[(0, Happening::on(60, 127))], 640, 64)), 0.0);
    }
}

#[test]
fn instances_do_not_hear_each_other() {
    let _together = together();
    let files: Vec<_> = (5..8).map(small_file).collect();
    let play = |hosts: &mut [Host]| -> Vec<Vec<f32>> {
        let mut sounds = vec![Vec::new(); hosts.len()];
        for block in 0..40_u16 {
            for (host, sound) in hosts.iter_mut().zip(&mut sounds) {
                let note = [(3, Happening::on(48 + block, 99))];
                sound.extend_from_slice(host.audio().process(&note, 128));
            }
        }
        sounds
    };
    let ready = |path: &std::path::Path| {
        let mut host = Host::default();
        assert!(host.load(&state_of(Some(path), serde_json::json!({}))));
        host.set_offline(true);
        host.activate(48_000.0, 128);
        host
    };
    let mut all: Vec<Host> = files.iter().map(|(_, path)| ready(path)).collect();
    let beside = play(&mut all);
    drop(all);
    for ((_, path), beside) in files.iter().zip(beside) {
        assert!(peak(&beside) > 0.0);
        assert!(play(&mut [ready(path)])[0] == beside);
    }
}

#[test]
fn nothing_is_left() {
    let _alone = alone();
    assert_eq!(generators(), 0);
    let (_folder, path) = small_file(5);
    let state = state_of(Some(&path), serde_json::json!({}));
    let life = || {
        let mut host = Host::default();
        assert!(host.load(&state));
        for block in [64, 256] {
            host.activate(48_000.0, block);
            // It takes its name when it runs.
            let began = Instant::now();
            while cfg!(target_os = "linux") && generators() != 1 {
                assert!(began.elapsed() < Duration::from_secs(10), "no generator");
                std::thread::yield_now();
            }
            host.audio().play(&[(0, Happening::on(60, 99))], 4 * block, block);
            assert!(host.load(&state_of(None, serde_json::json!({}))));
            assert!(host.load(&state));
        }
        drop(host);
        assert_eq!(generators(), 0);
    };
    life();
    let before = live_bytes();
    (0..5).for_each(|_| life());
    let more = live_bytes().saturating_sub(before);
    assert!(more < 20_000, "{more} bytes are left behind");
}

#[test]
fn the_host_is_told_to_go_on_while_there_is_sound() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    host.set_offline(true);
    host.activate(48_000.0, 256);
    assert!(!host.audio().play_and_ask(&[], 256), "nothing sounds yet");
    let note = [(0, Happening::on(60, 99))];
    assert!(host.audio().play_and_ask(&note, 256));
    for _ in 0..100 {
        assert!(host.audio().play_and_ask(&[], 256), "the note is held");
    }
    assert!(host.audio().play_and_ask(&[(0, Happening::off(60))], 256));
    let mut asleep = Vec::new();
    for _ in 0..200 {
        let go_on = host.audio().play_and_ask(&[], 256);
        let heard = peak(host.audio().heard(256)) > 0.0;
        assert!(go_on || !heard, "told to sleep while something is heard");
        asleep.push(!go_on);
    }
    assert_eq!(asleep.last(), Some(&true), "it never sleeps");
}
