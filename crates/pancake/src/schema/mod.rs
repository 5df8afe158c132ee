//! This module holds the tables of the API: their columns, and how their lists are paged and
//! ordered.

pub mod catalogue;
pub mod column;
pub mod conversations;
pub mod html;
pub mod keyset;
pub mod lists;
pub mod messages;
