//! RFC 9293 and its neighbours, one rule for each test, with segments made by hand.
//!
//! `stack/RFC.md` says for each requirement which of these tests holds it; the last test here holds
//! that table.

#[path = "../../tools/src/xtask/rfc.rs"]
mod rfc;

mod conformance {
    mod address;
    mod close;
    mod desk;
    mod duplicate;
    mod finish;
    mod handshake;
    mod header;
    mod icmp;
    mod keep_alive;
    mod listen;
    mod open;
    mod option;
    mod receive;
    mod resend;
    mod run;
    mod selective;
    mod sequence;
    mod states;
    mod superframe;
    mod timestamp;
    mod window;
}

#[test]
fn the_table_names_tests_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let report = rfc::check(&root).expect("stack/RFC.md and the sources can be read");
    assert!(report.mistakes.is_empty(), "stack/RFC.md:\n{}", report.mistakes.join("\n"));
}
