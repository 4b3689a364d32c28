//! The binary as its users have it: real processes, ports and files.

mod harness;

mod alone;

mod refused;

mod wire_http;

mod crowds;

mod full_disk;

mod together;

mod copies;

mod anew;

mod equal;

mod deletes;

mod killed;

mod sloppy;

mod leaving;

mod growing;

mod real_data;

mod commands;

mod probes;

mod numbers;

mod readme;
