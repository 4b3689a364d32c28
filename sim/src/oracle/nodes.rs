//! No node panics or ends by itself, and the healed cluster does what it has to in time.

use crate::history::{Stamp, Trouble};
use crate::oracle::Violation;
use crate::oracle::index::Index;
use crate::oracle::verdict::Verdict;

const NAME: &str = "nodes";

pub(super) fn check(index: &Index<'_>) -> Vec<Violation> {
    let violation = |trouble: &Trouble| {
        let (verdict, what) = match trouble {
            Trouble::Panic { node, text } => (Verdict::Crash, format!("n{node} panicked: {text}")),
            Trouble::Failed { node, cause } => (Verdict::Crash, format!("n{node}: {cause}")),
            Trouble::Stuck(stuck) => (Verdict::Liveness, format!("after the heal: {stuck}")),
        };
        Violation { oracle: NAME, verdict, at: Stamp::NEVER, what }
    };
    index.history.troubles.iter().map(violation).collect()
}

#[cfg(test)]
mod tests {
    use rondo_core::error::Error;

    use crate::device::ending::Ending;
    use crate::history::{Cause, History, Stuck};

    use super::*;

    #[test]
    fn every_trouble_is_told_with_its_class() {
        let troubles = vec![
            Trouble::Panic { node: 2, text: "index out of bounds".to_owned() },
            Trouble::failed(0, Cause::Ended(Ending::Ran(Error::Poisoned))),
            Trouble::Stuck(Stuck::NotReady(vec![(1, None), (2, Some(vec!["votes".to_owned()]))])),
        ];
        let history = History { troubles, ..History::default() };
        let told = check(&Index::of(&history));
        let verdicts: Vec<Verdict> = told.iter().map(|violation| violation.verdict).collect();
        let class = [Verdict::Crash, Verdict::Crash, Verdict::Liveness];
        assert_eq!(verdicts, class);
        assert_eq!(told[0].what, "n2 panicked: index out of bounds");
        assert!(told[1].what.starts_with("n0: ended: "), "{}", told[1].what);
        let waits = "after the heal: not every node became ready: n1 says nothing, n2 waits for [\"votes\"]";
        assert_eq!(told[2].what, waits);
        assert_eq!(check(&Index::of(&History::default())), []);
    }
}
