//! Tells the program which revision of its sources it is built from, where git knows; compiles the kernels of
//! the feature `cuda`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest cards with 16-bit floats, unless CUDA_COMPUTE_CAP says other ones, as for candle's kernels.
const OLDEST: &str = "80";

fn main() {
    // Every commit and every checkout adds a line to it.
    let log = Path::new("../.git/logs/HEAD");
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    } else {
        println!("cargo::rerun-if-changed=build.rs");
    }
    let git = Command::new("git").args(["rev-parse", "--short=10", "HEAD"]).output();
    let revision = git.ok().filter(|output| output.status.success());
    let revision = revision.map_or_else(String::new, |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    println!("cargo::rustc-env=WAVENET_REVISION={revision}");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        compile_kernels();
    }
}

/// To PTX, which the driver compiles for the card that it finds.
fn compile_kernels() {
    let source = "src/card/cuda/kernels.cu";
    println!("cargo::rerun-if-changed={source}");
    let variable = |name: &str| {
        println!("cargo::rerun-if-env-changed={name}");
        std::env::var_os(name)
    };
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].map(|name| variable(name).map(PathBuf::from));
    let toolkits = toolkits.into_iter().flatten().chain(["/usr/local/cuda".into()]);
    let nvcc = variable("NVCC").map(PathBuf::from).unwrap_or_else(|| {
        let mut found = toolkits.map(|folder| folder.join("bin/nvcc"));
        found.find(|path| path.exists()).unwrap_or_else(|| "nvcc".into())
    });
    let oldest = variable("CUDA_COMPUTE_CAP").unwrap_or_else(|| OLDEST.into());
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).expect("cargo names a folder");
    let status = Command::new(&nvcc)
        .args(["-ptx", "-O3", "-std=c++17", "-arch"])
        .arg(format!("compute_{}", oldest.to_string_lossy().replace('.', "")))
        .arg("-o")
        .args([out.join("kernels.ptx"), source.into()])
        .status();
    match status {
        Ok(status) if status.success() => (),
        Ok(status) => panic!("{} could not compile {source} ({status})", nvcc.display()),
        Err(error) => panic!("the feature cuda needs CUDA's compiler: {}: {error}", nvcc.display()),
    }
}
