//! Compiles the XDP program with clang, or takes the committed object where there is no clang.
//!
//! `CLANG` names another compiler. After a change of the source the committed object is renewed:
//!
//! ```text
//! clang -g -O2 -target bpf -mcpu=v3 -I/usr/include/x86_64-linux-gnu \
//!     -ffile-prefix-map=$PWD=. -fdebug-compilation-dir=. \
//!     -c bpf/steer.bpf.c -o bpf/prebuilt/steer.bpf.o && llvm-strip -g bpf/prebuilt/steer.bpf.o
//! ```
//!
//! `tests/xdp_program.rs` runs both objects through the same table.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "bpf/steer.bpf.c";
const PREBUILT: &str = "bpf/prebuilt/steer.bpf.o";
/// Where distributions with several architectures keep `asm/types.h`.
const INCLUDES: [&str; 2] = ["/usr/include/x86_64-linux-gnu", "/usr/include/aarch64-linux-gnu"];

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    println!("cargo:rerun-if-changed={PREBUILT}");
    println!("cargo:rerun-if-env-changed=CLANG");
    let object = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo")).join("steer.bpf.o");
    let compilers = match env::var("CLANG") {
        Ok(compiler) => vec![compiler],
        Err(_) => ["clang", "clang-19", "clang-16", "clang-14"].map(String::from).to_vec(),
    };
    if !compilers.iter().any(|compiler| compile(compiler, &object)) {
        std::fs::copy(PREBUILT, &object)
            .expect("no clang, and no prebuilt object of the XDP program");
    }
}

/// Whether `compiler` is there and compiles the program to `object`.
fn compile(compiler: &str, object: &Path) -> bool {
    let mut command = Command::new(compiler);
    command.args(["-g", "-O2", "-Wall", "-Werror", "-target", "bpf", "-mcpu=v3"]);
    for include in INCLUDES.iter().filter(|path| Path::new(path).exists()).take(1) {
        command.arg(format!("-I{include}"));
    }
    match command.args(["-c", SOURCE, "-o"]).arg(object).status() {
        Err(_) => false,
        Ok(status) if status.success() => true,
        Ok(status) => {
            println!("cargo:warning={compiler} failed ({status}): using {PREBUILT}");
            false
        }
    }
}
