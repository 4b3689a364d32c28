//! The product: configuration, HTTP and the command line around one node.
//!
//! The modules stand in reading order, which is import order: a module uses only modules above it.

#![forbid(unsafe_code)]

pub mod failure;

pub mod nearest;

pub mod settings;

pub mod clock;

pub mod fold;

pub mod log_lines;

pub mod http;

pub mod client;

pub mod start;

pub mod cli;
