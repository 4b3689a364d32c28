//! How one layout takes the place of another, without anybody who decides for all.
//!
//! A node *endorses* one layout of each version, durably; one that more than half of the nodes of the layout before it have
//! endorsed is *live*. While two are live, writes need their quorums in both; the nodes tell each other how far they are
//! (`trackers`), move their reads when all have the keys that they own under the new one, and drop the old one when all read so.

pub mod records;

pub mod rows;

mod requests;

pub mod trackers;

pub mod staging;
