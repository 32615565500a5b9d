//! The audio thread in real time: `process` allocates and frees nothing. (That it makes no system call
//! is in `no_system_calls.rs`.)

use std::time::{Duration, Instant};

use wavenet_tests::host::{Happening, Host};

use crate::{peak, small_file, state_of, together};
use wavenet_tests::counting::calls;

#[test]
fn a_block_allocates_nothing() {
    let _together = together();
    let (_folder, path) = small_file(5);
    let mut host = Host::default();
    assert!(host.load(&state_of(Some(&path), serde_json::json!({}))));
    host.activate(48_000.0, 256);
    let (hot, cold) = (host.set("Temperature", "1.2"), host.set("Temperature", "0.2"));
    let blocks = [
        vec![(0, Happening::on(60, 100)), (7, hot), (9, Happening::on(64, 100))],
        vec![],
        vec![(100, cold), (100, Happening::off(60)), (255, Happening::Midi([0xe0, 0, 0x50]))],
        vec![(3, Happening::Choke { channel: None, key: None, id: None }), (5, Happening::off(64))],
    ];
    let mut audio = host.take_audio();
    let audio = std::thread::spawn(move || {
        let mut loudest = 0.0_f32;
        for round in 0..60 {
            let began = Instant::now();
            let block = &blocks[round % blocks.len()];
            let count = calls(|| loudest = loudest.max(peak(audio.process(block, 256))));
            // The first round warms up: thread-locals and the host's own list of events.
            assert!(round < blocks.len() || count == 0, "{count} calls in round {round}");
            if round % 16 == 15 {
                assert_eq!(calls(|| audio.reset()), 0);
                assert_eq!(calls(|| audio.stop()), 0);
                assert_eq!(calls(|| audio.start()), 0);
            }
            while began.elapsed() < Duration::from_micros(5_333) {
                std::hint::spin_loop();
            }
        }
        assert!(loudest > 0.0, "it was silent");
        audio
    });
    host.give_audio(audio.join().expect("the audio thread ends well"));
}
