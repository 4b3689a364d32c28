//! What a machine has beside its processor: a clock that is wrong, and a disk that takes time, loses power and fails.

pub mod clock;

pub mod ending;

pub mod failing;

pub mod disk;
