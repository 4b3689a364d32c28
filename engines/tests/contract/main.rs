//! What every engine promises, checked against the memory engine as the model: on a clean disk, on one
//! that loses power at each of its operations, and on one whose bits flip.

mod workload;

mod subject;

mod pair;

mod model;

mod power_loss;

mod damage;

mod rot;

mod compaction;
