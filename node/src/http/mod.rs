//! HTTP: the native routes, three dialects, and pictures of the node.

pub mod answer;

pub mod address;

pub mod body;

pub mod front;

pub mod kv;

pub mod native;

pub mod dialects;

pub mod views;

pub mod router;

pub mod server;

#[cfg(test)]
mod tests;
