//! Who is there, and which life of each counts? Liveness steers routing only; ownership changes by a
//! layout that is live, and by nothing else.

pub mod lives;

pub mod seeds;

pub mod membership;

mod walls;

pub mod choice;

pub mod notes;

pub mod view;
