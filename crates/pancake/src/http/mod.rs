//! This module sends requests: the client, its connections, TLS, and how a request is addressed.

pub mod body;
pub mod client;
pub mod connection;
pub mod endpoint;
mod lane;
pub mod tls;
