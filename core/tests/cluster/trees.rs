//! Scripts about hash trees: what their commands do with the stage.

use rondo_core::admin::{AdminRequest, Done};
use rondo_core::engine::{Batch, Change, Engine};
use rondo_core::id::Unit;
use rondo_core::replica::tree_row::row_key;

use crate::script::Call;
use crate::stage::Stage;

/// Runs a command, if it is one about trees.
pub(crate) fn run(stage: &mut Stage, call: &Call<'_>) -> Result<bool, String> {
    match call.name {
        // A clean end: what is to be stored is, and the process ends.
        "close" => stage.close(call.node(0)?),
        // Compaction has taken the log so far.
        "forget-log" => stage.engine(call.node(0)?).forget_log(),
        // Something else is where the tree of the one partition is stored.
        "spoil-tree" => {
            let put = Change::put(row_key(Unit::default()), "?".into(), Default::default());
            let batch = Batch { changes: [put].into_iter().collect() };
            stage.engine(call.node(0)?).write(&batch).map_err(|error| error.to_string())?;
        }
        // Where the trees of the one partition come from at these nodes, and whether they are equal.
        "trees" => tell(stage, &call.nodes()?)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn tell(stage: &mut Stage, nodes: &[usize]) -> Result<(), String> {
    let mut roots = Vec::new();
    for &node in nodes {
        let repairs = stage.status(node).repairs;
        let (loaded, grown) = (repairs.trees.loaded, repairs.trees.grown);
        stage.tell(&format!("n{node} has loaded {loaded} and grown {grown}"));
        let Ok(Done::Merkle(merkle)) = stage.admin(node, AdminRequest::Merkle { partition: 0 })
        else {
            return Err("it always tells its trees".to_owned());
        };
        roots.extend(merkle.trees.into_iter().map(|tree| (tree.complete, tree.root)));
    }
    let are_equal = roots.windows(2).all(|two| two[0] == two[1]);
    let are_complete = roots.iter().all(|(is_complete, _)| *is_complete);
    stage.tell(match (are_complete, are_equal) {
        (false, _) => "not complete",
        (true, true) => "equal",
        (true, false) => "unequal",
    });
    Ok(())
}
