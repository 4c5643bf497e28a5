//! The in-memory kit and the tests above unit level.
