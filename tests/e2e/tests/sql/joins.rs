//! The joins that people write between the tables of a page, and with their own.
