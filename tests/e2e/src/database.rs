//! Knows one database of a cluster: how to talk to it through a session or through psql.
//! What is asked is left to the callers, the server to `cluster`.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::account::{SUPERUSER, client_command};
use crate::cluster::Cluster;
use crate::sql::Session;

pub struct Database<'a> {
    cluster: &'a Cluster,
    name: String,
}

/// What psql wrote, and how it ended (3: a statement failed).
#[derive(Debug)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub status: i32,
}

impl<'a> Database<'a> {
    pub(crate) fn new(cluster: &'a Cluster, name: String) -> Self {
        Database { cluster, name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    pub fn connect(&self) -> Result<Session> {
        self.cluster.connect(&self.name)
    }

    /// As another role, which must be allowed to log in.
    pub fn connect_as(&self, role: &str) -> Result<Session> {
        Session::connect(self.cluster.socket_dir(), &self.name, role)
    }

    /// Runs a script through psql (its errors verbose) and stops at the first failing statement.
    pub fn psql(&self, script: &str) -> Result<Output> {
        let mut psql = self.psql_command();
        psql.args(["-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = psql.spawn().context("cannot run psql")?;
        let mut input = child.stdin.take().context("psql has no input")?;
        let script = script.to_owned();
        // On a thread of its own: psql may answer more than a pipe holds before it has read
        // everything. That it stops reading at the first error is no failure of ours.
        let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
        let output = child.wait_with_output()?;
        let _ = writer.join();
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            status: output.status.code().unwrap_or(-1),
        })
    }

    /// psql, connected to here, without a psqlrc; what it does is left to its further
    /// arguments.
    pub fn psql_command(&self) -> Command {
        let mut psql = client_command(self.cluster.tree().bin(), "psql");
        psql.args(["-X", "-U", SUPERUSER, "-d", &self.name, "-h"]);
        psql.arg(self.cluster.socket_dir());
        psql
    }
}
