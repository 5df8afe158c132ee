//! This module sends requests: the pool, connections, TLS, and how a request is addressed.

pub mod body;
pub mod client;
pub mod connection;
pub mod endpoint;
pub mod tls;
