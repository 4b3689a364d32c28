//! The storage contract: what an engine promises (`contract`), what its opening is told and tells (`opened`), and the memory
//! engine that is its model (`memory`).

mod contract;

mod opened;

mod memory;

pub use self::contract::{
    Batch, Change, Compared, Engine, EngineStats, Erased, LogPlace, Logged, Lookup, Page, Progress,
    ReadTicket, Record, Replay,
};
pub use self::memory::MemoryEngine;
pub use self::opened::{Lost, Opened, Opening, Scale};
