//! Who is there, and what have they agreed on? Liveness steers routing only; ownership changes by an
//! agreed layout and by nothing else.

pub mod lives;

pub mod membership;

pub mod notes;

pub mod formation;

pub mod view;
