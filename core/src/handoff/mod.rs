//! Hinted handoff: what a primary has not acknowledged is noted durably, and handed over when it is there again.
//!
//! A hint says that a key is owed to a node, and nothing else: what is handed over is the state that this node holds then, which has
//! everything that was owed. So a value is stored once however many lack it, several writes of one key are one hint, and what has been
//! purged here is handed to nobody. Hints never count towards a W.

pub mod hints;

pub mod handing;
