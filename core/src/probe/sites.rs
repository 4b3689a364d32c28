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
    HeartbeatSkipped, "heartbeat-skipped", 25, "a node is silent for one heartbeat";
    HeartbeatEarly, "heartbeat-early", 25, "the next heartbeat comes after a tenth of the time";
    HeartbeatLate, "heartbeat-late", 10, "the next heartbeat comes after ten times the time, so this node is taken for dead";
    GossipOfNobody, "gossip-of-nobody", 25, "a heartbeat speaks of no other node";
    IntroductionIgnored, "introduction-ignored", 25, "what another node is called and where it lives is learnt later";
    FormationPutOff, "formation-put-off", 25, "the first layout is formed later, perhaps with others";
    LayoutOfferRepeated, "layout-offer-repeated", 25, "a layout is offered again at once";
    LayoutOfferIgnored, "layout-offer-ignored", 25, "the offer of a layout is lost";
    LayoutLiveLate, "layout-live-late", 25, "a node learns late that its layout is live";
    MaintainBudgetOfOne, "maintain-budget-of-one", 25, "background work is done in the smallest steps";
    MaintainAtOnce, "maintain-at-once", 25, "background work is done in every millisecond";
    MaintainPutOff, "maintain-put-off", 25, "background work falls behind";
    ParkingFull, "parking-full", 10, "what waits for a cold read is dropped";
    QuestionRefused, "question-refused", 5, "a replica says that it cannot answer";
    StaleLayoutSaid, "stale-layout-said", 5, "a replica says that it has another layout";
    NotCountedSaid, "not-counted-said", 5, "a replica says that it does not have all of a key yet";
    PageOfOne, "page-of-one", 25, "a replica tells of one key at a time what it has of a unit";
    RepairPageOfOne, "repair-page-of-one", 25, "an owner tells of one key at a time what it has in some leaves";
    TreeReplayOfOne, "tree-replay-of-one", 25, "one write of the log is told at a time to bring stored trees up to date";
    TreesStoredEarly, "trees-stored-early", 25, "hash trees are stored a second after the last time";
    PurgeStopsMidway, "purge-stops-midway", 10, "a purge reaches only some owners before who does it stops";
    PurgeNotConfirmed, "purge-not-confirmed", 10, "an owner does not let a key be purged now";
    HintStoreFull, "hint-store-full", 5, "what a primary has not acknowledged leaves no hint";
    ForwardRefused, "forward-refused", 10, "a primary refuses what was passed on to it";
    StateInsteadOfDigest, "state-instead-of-digest", 25, "a replica tells its whole state where a digest was asked for";
    SyncPutOff, "sync-put-off", 25, "a sync starts a tick later, and covers more";
    HedgeWithheld, "hedge-withheld", 25, "a read may not hedge";
    HedgeAtOnce, "hedge-at-once", 25, "all replicas are asked at the first chance";
    ResendEarly, "resend-early", 25, "a question is asked again after a tenth of the time";
    ResendLate, "resend-late", 25, "a question is asked again after ten times the time";
    DeadlineClose, "deadline-close", 10, "a request has a tenth of its time";
    AdmissionRefused, "admission-refused", 5, "a coordinator is full";
    AttemptsFull, "attempts-full", 10, "too many named requests are remembered";
    FirstAttemptSearched, "first-attempt-searched", 5, "the first attempt is taken for a later one, and its dot is searched for";
    ForwardToTheLast, "forward-to-the-last", 25, "a write is coordinated by another than the first primary";
    RemoteAskedFirst, "remote-asked-first", 25, "a read asks other replicas before its own node";
    QuestionAskedTwice, "question-asked-twice", 25, "a replica is asked the same twice at once";
    MergesHeldBack, "merges-held-back", 25, "replicas hear of a dot only when its issuer has it on disk";
    IssueRefused, "issue-refused", 5, "a key is full: its coordinator issues no dot";
    ReservationRepeated, "reservation-repeated", 25, "the hybrid clock is reserved again although that is not needed yet";
    ActorReplaced, "actor-replaced", 25, "a dot is issued by a new actor";
    BufferWrittenEarly, "buffer-written-early", 25, "one write is handed to the operating system on its own";
    FileRotatedEarly, "file-rotated-early", 10, "a file is sealed long before it is full";
    CompactionForLittle, "compaction-for-little", 25, "a compaction starts when almost nothing is dead";
    CompactionOfOneFile, "compaction-of-one-file", 25, "a compaction takes one file only";
    CompactionCutShort, "compaction-cut-short", 10, "a compaction ends with the first table that it has written";
    CompactionOutputFull, "compaction-output-full", 25, "a compaction spreads what it copies over several files";
    AllocationSkipped, "allocation-skipped", 25, "the active file grows with each write";
    HintSkippedAtClose, "hint-skipped-at-close", 25, "a store is closed without hints";
    IndexDistrusted, "index-distrusted", 25, "the index of a table that is sound is not used";
    HintDistrusted, "hint-distrusted", 25, "a hint that is sound is not used";
    MarkRepeated, "mark-repeated", 25, "the log says again what is durable";
    RotationPutOff, "rotation-put-off", 10, "a file that is full is written on";
    ScanPageOfOne, "scan-page-of-one", 25, "a scan brings one record at a time";
    ReadForcedCold, "read-forced-cold", 10, "a record must be read from the device";
    CleanMarkIgnored, "clean-mark-ignored", 25, "a store that was closed is opened as if it had not been";
    BootEpochsSkipped, "boot-epochs-skipped", 25, "the boot epoch goes up by more than one";
}

sites! {
    /// Rare states that the simulator must reach.
    Sometimes;

    BatchEndedFull, "batch-ended-full", 0, "as many inputs as a batch holds were waiting";
    AlarmRangWithNothingDue, "alarm-rang-with-nothing-due", 0, "the alarm rang and nothing was due";
    OwedSettled, "owed-settled", 0, "a primary acknowledged a write after it had ended";
    FallbackWrote, "fallback-wrote", 0, "a node that is no primary took on a write because it reached none of the key's primaries";
    FallbackDeleted, "fallback-deleted", 0, "a fallback took on a delete";
    FallbackWroteAgain, "fallback-wrote-again", 0, "a fallback wrote a key that it owed already";
    FallbackAfterAll, "fallback-after-all", 0, "a write that was to be passed on reached nobody, and a fallback took it on";
    FallbackRead, "fallback-read", 0, "a fallback answered a read by what it keeps for primaries of which it reached none";
    FallbackRefused, "fallback-refused", 0, "a fallback had no room for the hints of a write, and took it not on";
    HandoverHadNoRoom, "handover-had-no-room", 0, "an owner had no room in a key for what a fallback took, and it stayed there";
    FallbackBlockedAPurge, "fallback-blocked-a-purge", 0, "who does not own a key had something of it, and did not let it be purged";
    FallbackConfirmed, "fallback-confirmed", 0, "a node that is no owner of a key had nothing of it, and let it be purged";
    HintStored, "hint-stored", 0, "a primary did not acknowledge a write, and a hint was stored for it";
    HintMerged, "hint-merged", 0, "a key was owed to a node already";
    HintRefused, "hint-refused", 0, "there was no room for a hint";
    HintRenewed, "hint-renewed", 0, "a key became owed to a node once more while it was handed over";
    HintLacked, "hint-lacked", 0, "the target of a hint lacked what it was asked for";
    HintDelivered, "hint-delivered", 0, "the target of a hint holds what it lacked";
    HintMoved, "hint-moved", 0, "a hint became one for the new owners of its key";
    HintGivenUp, "hint-given-up", 0, "nothing was owed any more";
    HintsFound, "hints-found", 0, "a start found hints of an earlier life";
    HintUnreadable, "hint-unreadable", 0, "a hint could not be read";
    ReadHedged, "read-hedged", 0, "a read asked another replica because those it had asked were slow";
    ReadNotHedged, "read-not-hedged", 0, "a read asked no other replica because too many have";
    ReadAskedAgain, "read-asked-again", 0, "a read asked again those who had not answered";
    CopyBrought, "copy-brought", 0, "an ended read brought what it had read to a replica that had told something else";
    CopyPutOff, "copy-put-off", 0, "an ended read brought nothing because too much was brought already";
    CopySentAlready, "copy-sent-already", 0, "another read had just sent the same state to the same replica";
    ReadRepaired, "read-repaired", 0, "a read found replicas different and made them equal";
    ReadSawSiblings, "read-saw-siblings", 0, "a read answered several values";
    ReadFoundNothing, "read-found-nothing", 0, "a read found no value";
    ReadTimedOut, "read-timed-out", 0, "a read was not answered by enough replicas in time";
    ReadNotDurableYet, "read-not-durable-yet", 0, "a replica's answer to a read waited for the disk";
    QuestionAskedAgain, "question-asked-again", 0, "a write asked again those who had not answered";
    PutTimedOutWithADot, "put-timed-out-with-a-dot", 0, "a write ended as indeterminate";
    PutTimedOutWithoutADot, "put-timed-out-without-a-dot", 0, "a write ended before anything happened";
    ForwardTimedOut, "forward-timed-out", 0, "a request that was passed on got no answer in time";
    ForwardAnsweredUnavailable, "forward-answered-unavailable", 0, "the primary that a write was passed on to refused it";
    ForwardFenced, "forward-fenced", 0, "the primary that a write was passed on to has another layout";
    ForwardRepeated, "forward-repeated", 0, "a request that was passed on arrived a second time";
    RepeatedMergeLacked, "repeated-merge-lacked", 0, "a replica was asked for a write that had never reached it";
    ForwardNotSent, "forward-not-sent", 0, "there was no link to the primary that a write was to be passed on to";
    ForwardLostItsPrimary, "forward-lost-its-primary", 0, "the primary that a write was passed on to was taken for dead";
    AttemptOfAnother, "attempt-of-another", 0, "a request came under the id of another";
    AskerLeftAnother, "asker-left-another", 0, "the time of one of several askers was up, and the others waited on";
    StaleReplyIgnored, "stale-reply-ignored", 0, "an answer came for a request that had ended";
    LayoutAskedForAtOnce, "layout-asked-for-at-once", 0, "somebody named a layout that was not there, and was asked for it";
    GetBegunAnew, "get-begun-anew", 0, "a get went on under layouts that came after it had begun";
    ForwardAskedFirst, "forward-asked-first", 0, "no primary had spoken just now, and all were asked who answers";
    PutPassedOn, "put-passed-on", 0, "a write was passed on to a primary";
    PutPassedOnByAnOwner, "put-passed-on-by-an-owner", 0, "a write was passed on by a primary that does not have all of its unit";
    UnitTaken, "unit-taken", 0, "a unit was taken from enough of those who have it";
    UnitListed, "unit-listed", 0, "a replica told another what it has of a unit";
    TransferSourceLeft, "transfer-source-left", 0, "a unit could not be taken from one replica, and another was asked";
    TransferNotYet, "transfer-not-yet", 0, "a replica did not tell yet what it has, because of its own operations";
    TransferMetDamage, "transfer-met-damage", 0, "a unit could not be taken from a replica that cannot read a record of it";
    LeavingStateBrought, "leaving-state-brought", 0, "a node had of a unit that it does not own any more what an owner lacked";
    LeavingKeyErased, "leaving-key-erased", 0, "a key of a unit that a node does not own any more was deleted there";
    TreeLoaded, "tree-loaded", 0, "a hash tree that an earlier life had stored was brought up to date";
    TreeReplayed, "tree-replayed", 0, "the log told changes that a stored hash tree did not have";
    TreeRefused, "tree-refused", 0, "a stored hash tree was of no use, and was grown";
    TreesStored, "trees-stored", 0, "a node that runs stored hash trees";
    TreeMetDamage, "tree-met-damage", 0, "a hash tree could not be made because a record cannot be read";
    RepairTook, "repair-took", 0, "comparing copies brought a node what it lacked";
    RepairBrought, "repair-brought", 0, "comparing copies brought another node what it lacked";
    RepairFailed, "repair-failed", 0, "copies were compared, and that did not come to an end";
    RepairMetAWrongTree, "repair-met-a-wrong-tree", 0, "copies were equal and their hash trees were not";
    PartialAsked, "partial-asked", 0, "a replica was asked for what it does not have all of, and said so";
    PutByALaterPrimary, "put-by-a-later-primary", 0, "a write is coordinated by another than the first primary of its key";
    AttemptJoined, "attempt-joined", 0, "an attempt met an earlier one in flight";
    AttemptKnownAsStored, "attempt-known-as-stored", 0, "an attempt was answered from memory";
    AttemptSearched, "attempt-searched", 0, "an attempt looked for the dot of an earlier one";
    AttemptBegunAnew, "attempt-begun-anew", 0, "an earlier attempt had issued no dot, so this one may";
    SearchedDotFound, "searched-dot-found", 0, "the dot of an earlier attempt was found and stored well";
    SearchedDotNotFound, "searched-dot-not-found", 0, "the dot of an earlier attempt was not found";
    RequestRefusedAtOnce, "request-refused-at-once", 0, "too few replicas seemed to be up for a request, or the clock was far off";
    MergeBroughtNothing, "merge-brought-nothing", 0, "a replica was sent what it knew already";
    MergeNotDurableYet, "merge-not-durable-yet", 0, "a replica knew what it was sent, but not yet durably";
    MergeRefusedForRoom, "merge-refused-for-room", 0, "a replica that is nearly full refused values of others";
    RottenRecordFound, "rotten-record-found", 0, "a record could not be read";
    RottenRecordReplaced, "rotten-record-replaced", 0, "a record that could not be read was replaced by what others hold";
    MergeMadeSiblings, "merge-made-siblings", 0, "a merge left several versions";
    MergeWasOutdated, "merge-was-outdated", 0, "a replica knew all of an older state that it was sent, and more";
    DriftNotAdopted, "drift-not-adopted", 0, "a remote time was too far ahead to be adopted";
    DotAboveTheClock, "dot-above-the-clock", 0, "a dot was stamped with a time that the clock did not adopt";
    ClockCounted, "clock-counted", 0, "two dots were issued in one millisecond";
    ClockBehindItsLastReading, "clock-behind-its-last-reading", 0, "the wall is behind the clock";
    ClockReserved, "clock-reserved", 0, "a dot waited for the reservation of the clock";
    ActorBorn, "actor-born", 0, "a partition got its first actor";
    ActorJumped, "actor-jumped", 0, "an actor went on above the numbers of a life that was not ended cleanly";
    DotAbovePurged, "dot-above-purged", 0, "a dot was issued above a number that was purged";
    KeyPurged, "key-purged", 0, "a key was purged here";
    ActorsPurged, "actors-purged", 0, "what was known of actors that issue no more was purged here";
    PurgeConfirmed, "purge-confirmed", 0, "an owner let a key be purged";
    PurgeOvertaken, "purge-overtaken", 0, "a key was written anew before it was purged";
    PurgeBlocked, "purge-blocked", 0, "something was in the way of a purge";
    LateStateRefused, "late-state-refused", 0, "a state was refused because it may be a part of what was purged";
    LateStateKept, "late-state-kept", 0, "who owns a key no more kept what its owners refused because of a purge";
    EpochHeard, "epoch-heard", 0, "an owner heard of a purge by what others asked or answered";
    GapsClosed, "gaps-closed", 0, "numbers that no replica knows were called gone";
    PutWaitedForAll, "put-waited-for-all", 0, "a put waited for all replicas to close gaps";
    MessageOfAnEarlierLife, "message-of-an-earlier-life", 0, "a question that waited for the disk was of a life that counts no more";
    KeyBroughtBack, "key-brought-back", 0, "a value was written over a tombstone";
    TombstoneOverNothing, "tombstone-over-nothing", 0, "a key was deleted that was never there";
    ColdQuestion, "cold-question", 0, "a replica had to read a record from the device to answer";
    ColdIssue, "cold-issue", 0, "a coordinator had to read a record from the device to issue a dot";
    ColdReadShared, "cold-read-shared", 0, "two inputs waited for one cold read";
    ColdReadOvertaken, "cold-read-overtaken", 0, "a key was written while it was being read";
    LayoutQuestionFenced, "layout-question-fenced", 0, "a question came before this node knew a live layout";
    LayoutFormed, "layout-formed", 0, "this node formed the first layout";
    LayoutTakenUp, "layout-taken-up", 0, "a node serves under a layout that it did not serve under before";
    OlderLayoutDropped, "older-layout-dropped", 0, "all nodes read under the new layout, and a node dropped the one before";
    EndorsedLayoutLost, "endorsed-layout-lost", 0, "a node endorsed a layout, and another one of its version became live";
    LayoutsMissed, "layouts-missed", 0, "a node was away while layouts changed, and took the one that is live now";
    OwnedNoMoreAtTheIssue, "owned-no-more-at-the-issue", 0, "a node gave a key away before it could issue a dot of it";
    NewerOfTwoToldFirst, "newer-of-two-told-first", 0, "a node was told the newer of two live layouts, and waits for the older";
    NodeJoinedByItself, "node-joined-by-itself", 0, "a node that asked for a role got one";
    LayoutSaidToBeLive, "layout-said-to-be-live", 0, "a node learnt from another that its layout is live";
    LayoutUnsyncedAtHeartbeat, "layout-unsynced-at-heartbeat", 0, "a layout was endorsed and not yet durable when a heartbeat was due";
    NoRoomToHold, "no-room-to-hold", 0, "an answer was refused because too many bytes wait for the disk";
    ReplacedPassedOver, "replaced-passed-over", 0, "nobody waits for a dead node any more whose successor is there while layouts change";
    ClusterChosen, "cluster-chosen", 0, "a node without a layout hears several clusters, and knows which is its own";
    ClusterFound, "cluster-found", 0, "a node that would have formed a cluster alone hears one that runs";
    PeerLeft, "peer-left", 0, "a peer said goodbye";
    PeerCameBack, "peer-came-back", 0, "a peer that was taken for dead was heard again";
    PeerSuspected, "peer-suspected", 0, "a peer did not answer a probe, or somebody said so";
    PeerConvicted, "peer-convicted", 0, "a suspect did not speak up and was taken for dead";
    SuspicionRefuted, "suspicion-refuted", 0, "a node heard that it was suspected, and said that it lives";
    LifeRefused, "life-refused", 0, "a life of a node was not counted, and told so";
    LifeDenied, "life-denied", 0, "a node heard that its own life does not count";
    MessageOfNoLife, "message-of-no-life", 0, "a message came from a life that does not count, or not yet";
    PeerRestarted, "peer-restarted", 0, "a peer came back with a higher boot epoch";
    StopWithRequestsInFlight, "stop-with-requests-in-flight", 0, "a node was asked to stop while it coordinated requests";
    SyncCoveredSeveral, "sync-covered-several", 0, "one sync released several at once";
    SyncLeftSomeWaiting, "sync-left-some-waiting", 0, "a sync ended while others waited for the next one";
    RequestAbandoned, "request-abandoned", 0, "requests were given up because the disk had failed";
    CrowdWaitedForASync, "crowd-waited-for-a-sync", 0, "so many waited that the next sync was put off";
    RecoveryFoundATornTail, "recovery-found-a-torn-tail", 0, "opening cut off what was never promised";
    RecoveryRebuiltAnIndex, "recovery-rebuilt-an-index", 0, "the index of a table was made anew of its blocks";
    BlockKnownByItsNames, "block-known-by-its-names", 0, "of a damaged block only the keys were left";
    FilterLetAKeyPass, "filter-let-a-key-pass", 0, "a table was asked for a key that it does not have";
    MemtableFlushed, "memtable-flushed", 0, "a memtable was written into a table";
    TableMoved, "table-moved", 0, "a table went down a level without being read";
    CompactionEndedEarly, "compaction-ended-early", 0, "a compaction ended before all of its tables were read";
    CompactionGivenUp, "compaction-given-up", 0, "a compaction of many tables was given up because there was little room";
    TablesCompacted, "tables-compacted", 0, "tables of two levels were merged";
    TombstoneDropped, "tombstone-dropped", 0, "a deletion was dropped, with nothing below it";
    LogRetired, "log-retired", 0, "a log was removed because tables have what it held";
    WriteWorkedAlong, "write-worked-along", 0, "a write did background work that had fallen behind";
    RecoveryUsedAHint, "recovery-used-a-hint", 0, "a file was opened by its hint";
    RecoveryFoundAnEmptyFile, "recovery-found-an-empty-file", 0, "opening removed a file in which nothing survived";
    RecoveryRemovedRemains, "recovery-removed-remains", 0, "opening removed what was being written when the process ended";
    RecoveryFoundADamagedHeader, "recovery-found-a-damaged-header", 0, "the header of a file had not reached the device";
    RecoveryFoundARottenRecord, "recovery-found-a-rotten-record", 0, "opening went on with a record that cannot be read";
    RecoveryTookAnUnsyncedTail, "recovery-took-an-unsynced-tail", 0, "opening took writes that nobody had been promised";
    OpenedClean, "opened-clean", 0, "a store was opened that had been closed";
    CompactionFoundADeadRecord, "compaction-found-a-dead-record", 0, "a record died before the compaction came to it";
    CompactionDroppedATombstone, "compaction-dropped-a-tombstone", 0, "a compaction left a tombstone behind";
    CompactionWaitedForASync, "compaction-waited-for-a-sync", 0, "background work waited for a sync";
    CompactionPassedDamage, "compaction-passed-damage", 0, "a compaction met damage that held nothing alive";
    CompactionEnded, "compaction-ended", 0, "a compaction did all it meant to do";
    HintBegunAgain, "hint-begun-again", 0, "a hint that was half written was begun again";
    HintWrittenInBackground, "hint-written-in-background", 0, "a hint was written step by step";
    FileSealed, "file-sealed", 0, "the active file was full";
    BufferRead, "buffer-read", 0, "a record was read before it was handed to the operating system";
    MarkWritten, "mark-written", 0, "the log said what is durable";
    RecordOverwritten, "record-overwritten", 0, "a record died because its key was written again";
    RecordDeleted, "record-deleted", 0, "a record died because its key was deleted";
    NothingToSync, "nothing-to-sync", 0, "a sync was asked for when everything was durable";
    SyncCoveredTwoFiles, "sync-covered-two-files", 0, "one sync covered two files";
    TablesFull, "tables-full", 0, "a write was refused because the hints of earlier files were not written yet";
    BootWrittenOverASpare, "boot-written-over-a-spare", 0, "a start counted itself without room for a new file";
    StockHadToWait, "stock-had-to-wait", 0, "an opening found no room to list its files";
    OpenedOnAFullDisk, "opened-on-a-full-disk", 0, "a store was opened that had no room for a new file";
    ClosedOnAFullDisk, "closed-on-a-full-disk", 0, "a store was closed that had no room for its last writes";
    RottenRecordWrittenOver, "rotten-record-written-over", 0, "a record that could not be read was looked up in its hint";
    DiskNearlyFull, "disk-nearly-full", 0, "so little room was left that it was kept for deletes";
    DiskFull, "disk-full", 0, "what was written found no room";
    RotationHadToWait, "rotation-had-to-wait", 0, "a full file was written on because no new one could be made";
    BackgroundHadToWait, "background-had-to-wait", 0, "background work found no room, or no descriptor";
    ScanPassedADeadEntry, "scan-passed-a-dead-entry", 0, "a scan passed over an entry that was overwritten";
}
