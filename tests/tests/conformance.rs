//! RFC 9293 and its neighbours, one rule for each test, with segments made by hand.

mod conformance {
    mod close;
    mod handshake;
    mod receive;
}
