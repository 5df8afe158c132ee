//! This module holds the tables of the API, each in a file of its own: columns, path, pagination,
//! orders and what the server can filter by.

pub mod catalogue;
pub mod column;
pub mod conversation;
pub mod conversations;
pub mod customers;
pub mod html;
pub mod keyset;
pub mod messages;
pub mod pages;
pub mod posts;
pub mod table;
pub mod tags;
pub mod users;
