//! Who is there, and which life of each counts? Liveness steers routing only; ownership changes by an
//! agreed layout and by nothing else.

pub mod lives;

pub mod membership;

pub mod notes;

pub mod view;
