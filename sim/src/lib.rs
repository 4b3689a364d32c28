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

pub mod driver;

pub mod executor;

pub mod alarms;

pub mod draw;

pub mod mutants;

pub mod rng;

pub mod fault;

pub mod scenario;

pub mod catalogue;

pub mod generator;

pub mod clock;

pub mod net;

pub mod ending;

pub mod failing;

pub mod streams;

pub mod ledger;

pub mod disk;

pub mod probes;

pub mod marks;

pub mod shadow;

pub mod tap;

pub mod agenda;

pub mod history;

pub mod describe;

pub mod trace;

pub mod client;

pub mod stand_in;

pub mod world;

pub mod witness;

pub mod fullness;

pub mod calls;

pub mod kill;

pub mod copies;

pub mod wire;

pub mod port;

pub mod store;

pub mod live_copies;

pub mod node;

pub mod heal;

pub mod strike;

pub mod drive;

pub mod inquiry;

pub mod survivors;

pub mod rest;

pub mod finale;

pub mod verdict;

pub mod oracle;

pub mod staleness;

pub mod run;

pub mod campaign;

pub mod shrink;

pub mod report;

pub mod html;
