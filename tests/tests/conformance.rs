//! RFC 9293 and its neighbours, one rule for each test, with segments made by hand.

mod conformance {
    mod close;
    mod desk;
    mod finish;
    mod handshake;
    mod header;
    mod listen;
    mod option;
    mod receive;
    mod resend;
    mod selective;
    mod sequence;
    mod timestamp;
    mod window;
}
