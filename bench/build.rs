//! Tells the bench which compiler it was compiled by: instructions are compared with those of the same one alone.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").expect("cargo says which compiler it uses");
    let output = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    let version = String::from_utf8_lossy(&output.stdout);
    println!("cargo:rustc-env=COMPILER={}", version.trim());
    println!("cargo:rerun-if-changed=build.rs");
}
