//! What both planes agree on: pure, with no I/O and no clock.
