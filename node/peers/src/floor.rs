//! The floor: an HTTP server that does nothing, on the same framework as the product.

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use bytes::Bytes;
use tokio::net::TcpListener;

use crate::Outcome;

/// Serves 100 constant bytes at `/kv/{key}`.
pub(crate) async fn serve(port: u16) -> Outcome<()> {
    let read = |Path(_): Path<String>| async { "x".repeat(100) };
    let write = |Path(_): Path<String>, body: Bytes| async move {
        let _ = body.len();
        "ok"
    };
    let app = Router::new().route("/kv/{key}", get(read).put(write));
    axum::serve(TcpListener::bind(("127.0.0.1", port)).await?, app).await?;
    Ok(())
}
