//! Stories of a cluster of two, each with a name.

mod scenario {
    mod behaviour;
    mod ending;
    mod fill;
    mod forward;
    mod gate;
    mod generation;
    mod hearing;
    mod look;
    mod opening;
    mod reload;
    mod replay;
    mod scarce;
    mod servers;
    mod takeover;
    mod word;
}
