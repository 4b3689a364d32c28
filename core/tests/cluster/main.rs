//! Stories of small clusters, told as transcripts: what clients ask, what nodes say to each other, what
//! the disks do. The nodes are stepped by hand; nothing here has a clock, a socket or a thread.

mod stage;

mod stories;

mod attempts;

mod clocks;

mod repetitions;

mod lives;
