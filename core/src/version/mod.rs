//! Which write is newer? Hybrid time orders concurrent writes alike everywhere, dotted version vector
//! sets say which writes are concurrent at all, and the context token carries that knowledge to
//! clients and back.

pub mod hlc;

pub mod runs;

pub mod dvv;

pub mod context;

pub mod outline;
