//! One request's way to the node: the front end that all share, and the memory that this request holds.

use std::sync::Arc;

use rondo_core::inbox::{Ask, ReplySink};
use rondo_core::wire::client::{Action, Reply, Request};
use tokio::sync::oneshot;

use crate::http::claims::Claim;
use crate::http::front::Front;

/// One request on its way.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// What all requests share.
    pub front: &'a Front,
    /// What this one holds.
    pub claim: &'a Arc<Claim>,
    /// Who asks.
    pub source: u64,
}

/// Where the outcome goes. It keeps the charge: what an abandoned request sent is held until the node drops it.
struct Sink {
    claim: Arc<Claim>,
    outcome: oneshot::Sender<Reply>,
}

impl ReplySink for Sink {
    fn reply(self: Box<Self>, reply: Reply) {
        let reply = match &reply {
            Reply::Found { siblings, .. } | Reply::NotFound { siblings, .. } => {
                let bytes = siblings.iter().map(|sibling| sibling.value.len()).sum();
                if self.claim.is_answered(bytes) { reply } else { no_room() }
            }
            _ => reply,
        };
        // The client may have gone; then nobody wants to know.
        let _ = self.outcome.send(reply);
    }
}

fn no_room() -> Reply {
    let reason = "bodies and answers of all clients fill the memory for them";
    Reply::overloaded(reason)
}

impl Visit<'_> {
    /// Asks the node to do a request. A read is asked when there is room for its answer.
    pub async fn request(&self, request: Request) -> Reply {
        let writes = !matches!(request.action, Action::Get);
        if !writes && !self.claim.expect_answer().await {
            return no_room();
        }
        let (outcome, reply) = oneshot::channel();
        let sink = Sink { claim: Arc::clone(self.claim), outcome };
        self.front.ask(Ask::Request(request, Box::new(sink)));
        match reply.await {
            Ok(reply) => reply,
            Err(_) if writes => Reply::Indeterminate { acks: 0, needed: 1 },
            Err(_) => Reply::unavailable("the node is stopping"),
        }
    }
}
