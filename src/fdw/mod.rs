//! This module implements what Postgres asks of a foreign data wrapper. Callbacks are thin:
//! arguments in, one safe call, result out.

mod ahead;
mod analyze;
mod append;
mod column_expr;
mod cost;
mod doctor;
mod explain;
mod fetch;
mod functions;
mod handler;
mod import;
mod merge_append;
mod outcome;
mod params;
mod paths;
mod private;
mod quals;
mod relation;
mod scan;
mod session;
mod slot;
mod sync;
mod validator;
mod webhook;
