//! Purge: what is left of deleted and expired keys, and of actors that issue no more, is taken away in two phases. See
//! `docs/internals/deletes.md`; what stays behind of a purge is in `replica::purged`.

pub mod run;

pub mod purger;
