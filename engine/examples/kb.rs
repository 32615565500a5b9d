use std::time::Instant;
use wavenet_engine::*;
fn cpu() -> f64 {
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse::<f64>()
        .unwrap()
        * 1e-9
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let shapes: &[&str] = if a.len() > 1 && a[1] != "-" {
        &[""]
    } else {
        &["64,256,256,10", "32,64,256,10", "64,256,256,30", "piano"]
    };
    let voices: Vec<usize> = a
        .get(2)
        .filter(|v| *v != "-")
        .map_or(vec![1, 4, 8], |v| v.split(',').map(|v| v.parse().unwrap()).collect());
    let dts: Vec<Dtype> =
        a.get(3).filter(|v| *v != "-").map_or(vec![Dtype::F32, Dtype::Bf16, Dtype::Int8], |v| {
            v.split(',')
                .map(|v| match v {
                    "f32" => Dtype::F32,
                    "bf16" => Dtype::Bf16,
                    _ => Dtype::Int8,
                })
                .collect()
        });
    let isas: Vec<Isa> = a.get(4).map_or(vec![Isa::Avx512, Isa::Avx2, Isa::Scalar], |v| {
        v.split(',')
            .map(|v| match v {
                "avx512" => Isa::Avx512,
                "avx2" => Isa::Avx2,
                _ => Isa::Scalar,
            })
            .collect()
    });
    let secs: f64 = std::env::var("SECS").ok().map_or(0.4, |s| s.parse().unwrap());
    for shape in shapes {
        let shape = if shape.is_empty() { &a[1] } else { *shape };
        let w = if shape == "piano" {
            Weights::load(std::path::Path::new("models/piano.safetensors")).unwrap()
        } else {
            let v: Vec<usize> = shape.split(',').map(|v| v.parse().unwrap()).collect();
            let c = Config {
                residual_channels: v[0],
                gate_channels: v[0],
                skip_channels: v[1],
                end_channels: v[2],
                dilations: Config::cycled_dilations(v[3]),
                ..Config::default()
            };
            Weights::random(c, 1).unwrap()
        };
        for &dt in &dts {
            for &isa in &isas {
                for &n in &voices {
                    let p = Packed::new(&w, dt, isa).unwrap();
                    let c = p.config().clone();
                    let mut st = State::new(&p, n);
                    let lanes: Vec<usize> = (0..n).collect();
                    let mut codes = vec![128u8; n];
                    let h = vec![0.3f32; n * c.conditioning_channels()];
                    let mut lg = vec![0f32; n * c.levels];
                    let dr: Vec<Philox> = (0..n as u64).map(|v| Philox::new(1, v)).collect();
                    let mut t = 0u64;
                    let (mut best, mut bp) = (f64::MAX, 0.0);
                    let rounds = 4;
                    let steps: u64 = std::env::var("STEPS").ok().map_or(0, |s| s.parse().unwrap());
                    if steps > 0 {
                        for _ in 0..steps {
                            p.step(&mut st, &lanes, &codes, &h, &mut lg);
                            for i in 0..n {
                                codes[i] = p.pick(
                                    &lg[i * c.levels..(i + 1) * c.levels],
                                    Sampling::default(),
                                    dr[i].draw(t),
                                );
                            }
                            t += 1;
                        }
                        return;
                    }
                    for _ in 0..rounds {
                        let s = cpu();
                        let w0 = Instant::now();
                        let t0 = t;
                        while w0.elapsed().as_secs_f64() < secs / rounds as f64 {
                            for _ in 0..64 {
                                p.step(&mut st, &lanes, &codes, &h, &mut lg);
                                for i in 0..n {
                                    codes[i] = p.pick(
                                        &lg[i * c.levels..(i + 1) * c.levels],
                                        Sampling::default(),
                                        dr[i].draw(t),
                                    );
                                }
                                t += 1;
                            }
                        }
                        let e = (cpu() - s) / (t - t0) as f64;
                        if e < best {
                            best = e
                        }
                    }
                    let s = cpu();
                    let mut x = 0u32;
                    for i in 0..20000 {
                        x += u32::from(p.pick(&lg[..c.levels], Sampling::default(), dr[0].draw(i)));
                    }
                    bp = bp + (cpu() - s) / 20000.0;
                    std::hint::black_box(x);
                    println!(
                        "{shape:16} {dt:?} {isa:?} voices {n}: {:8.1} k/s all, {:8.0} ns/voice-step, pick {:.0} ns",
                        n as f64 / best / 1e3,
                        best / n as f64 * 1e9,
                        bp * 1e9
                    );
                }
            }
        }
    }
}
