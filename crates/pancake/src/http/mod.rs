//! This module sends requests: connections, TLS, retries, URLs.

pub mod body;
pub mod client;
pub mod connection;
pub mod endpoint;
pub mod request;
pub mod retry;
pub mod tls;
pub mod url;
