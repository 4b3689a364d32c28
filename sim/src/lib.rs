//! The simulated world: whole nodes on simulated clocks, networks and disks, with faults and oracles.
//!
//! One seed becomes one scenario, one scenario one run, one run one verdict and one hash; the same scenario always
//! gives the same hash. The modules stand in reading order, which is import order: a module uses only modules above it.

#[cfg(not(madsim))]
compile_error!(
    "rondo-sim needs `--cfg madsim`, which .cargo/config.toml sets. RUSTFLAGS in the environment \
     overrides that file: unset it, or add `--cfg madsim` to it."
);

pub mod check;

pub mod rt;

pub mod draw;

pub mod rng;

pub mod fault;

pub mod scenario;

pub mod generator;

pub mod carry;

pub mod device;

pub mod history;

pub mod watch;

pub mod world;

pub mod node;

pub mod oracle;

pub mod run;

pub mod shrink;

pub mod report;

pub mod mutants;
