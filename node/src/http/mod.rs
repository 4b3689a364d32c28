//! HTTP: the native routes, three dialects, and pictures of the node.

pub mod limits;

pub mod seats;

pub mod claims;

pub mod pieces;

pub mod answer;

pub mod address;

pub mod keyspaces;

pub mod front;

pub mod visit;

pub mod head;

pub mod chunks;

pub mod wire;

pub mod written;

pub mod reply;

pub mod body;

pub mod media;

pub mod kv;

pub mod native;

pub mod json_body;

pub mod dialects;

pub mod ring;

pub mod views;

pub mod admin;

pub mod inside;

pub mod router;

pub mod connection;

pub mod server;

#[cfg(test)]
mod tests;
