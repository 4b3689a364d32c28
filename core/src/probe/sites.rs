//! The table of all sites, those of the engines included.
//!
//! The order is free, and so are the numbers that follow from it: scenarios know sites by their names.

use super::Site;

/// Makes one enum of sites, so that a site that is not in the table does not compile.
macro_rules! sites {
    ($(#[$about:meta])* $kind:ident; $($site:ident, $name:literal, $percent:literal, $why:literal;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $kind {
            $(#[doc = $why] $site,)*
        }

        impl $kind {
            /// All of them, in the order of their numbers.
            pub const SITES: &[Site] =
                &[$(Site { name: $name, percent: $percent, why: $why },)*];
        }
    };
}

sites! {
    /// Places where the simulator may take a rare path.
    Buggify;

    InboxBatchOfOne, "inbox-batch-of-one", 25, "inputs are stepped one at a time, each with a tick of its own";
    AlarmEarly, "alarm-early", 25, "the alarm rings before anything is due";
    AlarmLate, "alarm-late", 25, "whatever is due is done late";
    TickSkipped, "tick-skipped", 25, "a batch ends without a tick";
    ClientLaneFull, "client-lane-full", 5, "a client is told that the node is overloaded";
    MessageDropped, "message-dropped", 5, "the queue of a link is full, and a message is dropped";
    ReplySentTwice, "reply-sent-twice", 25, "an answer arrives a second time";
    MessageMalformed, "message-malformed", 5, "a message of a peer cannot be decoded";
    GossipMalformed, "gossip-malformed", 10, "a datagram cannot be decoded";
    DatagramDropped, "datagram-dropped", 10, "a datagram is dropped on its way out";
    DatagramSentTwice, "datagram-sent-twice", 25, "a datagram arrives twice";
}

sites! {
    /// Rare states that the simulator must reach.
    Sometimes;

    BatchEndedFull, "batch-ended-full", 0, "as many inputs as a batch holds were waiting";
    AlarmRangWithNothingDue, "alarm-rang-with-nothing-due", 0, "the alarm rang and nothing was due";
}
