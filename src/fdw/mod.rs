//! What Postgres asks of a foreign data wrapper. Callbacks are thin: arguments in, one safe call, result out.

mod analyze;
mod append;
mod bound;
mod derived;
mod doctor;
mod envelope;
mod explain;
mod fetch;
mod functions;
mod handler;
mod import;
mod paths;
mod quals;
mod relation;
mod scan;
mod slot;
mod validator;
