//! Knows how to put one question to Postgres and read the answer as text, an error by its fields.
//! What the answer should be is left to the callers.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail, ensure};
use postgres::error::DbError;
use postgres::{CancelToken, Client, Config, NoTls, SimpleQueryMessage};

/// An error, or a notice, as the server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlError {
    pub severity: String,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// CONTEXT, e.g. the plpgsql function it came through.
    pub context: Option<String>,
}

/// One connection. All rows are text, as psql would show them; NULL is `None`.
pub struct Session {
    client: Client,
    notices: Arc<Mutex<Vec<SqlError>>>,
}

impl Session {
    pub fn connect(socket_dir: &Path, database: &str, role: &str) -> Result<Session> {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        let client = Config::new()
            .host_path(socket_dir)
            .dbname(database)
            .user(role)
            .application_name("e2e")
            .notice_callback(move |notice| {
                if let Ok(mut heard) = heard.lock() {
                    heard.push(SqlError::from(&notice));
                }
            })
            .connect(NoTls)
            .map_err(tell)
            .with_context(|| format!("cannot connect to {database} as {role}"))?;
        Ok(Session { client, notices })
    }

    /// All rows of all statements in `sql`.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let messages = self.client.simple_query(sql).map_err(tell).with_context(|| sql.to_owned())?;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect());
            }
        }
        Ok(rows)
    }

    /// The first column of all rows; NULL is shown as psql could, by `∅`.
    pub fn column(&mut self, sql: &str) -> Result<Vec<String>> {
        let rows = self.rows(sql)?;
        Ok(rows
            .into_iter()
            .map(|row| row.into_iter().next().flatten().unwrap_or_else(|| "∅".into()))
            .collect())
    }

    /// The one cell of the one row.
    pub fn one(&mut self, sql: &str) -> Result<String> {
        let mut column = self.column(sql)?;
        ensure!(column.len() == 1, "{} rows instead of one: {sql}", column.len());
        Ok(column.remove(0))
    }

    pub fn execute(&mut self, sql: &str) -> Result<()> {
        self.rows(sql).map(drop)
    }

    /// The error that `sql` must end in; that it succeeds is the failure.
    pub fn error(&mut self, sql: &str) -> Result<SqlError> {
        match self.client.simple_query(sql) {
            Ok(_) => bail!("succeeded instead of failing: {sql}"),
            Err(error) => match error.as_db_error() {
                Some(error) => Ok(SqlError::from(error)),
                None => Err(error).with_context(|| sql.to_owned()),
            },
        }
    }

    /// The plan without costs.
    pub fn explain(&mut self, sql: &str) -> Result<String> {
        self.explain_with("COSTS OFF", sql)
    }

    /// The plan and what happened, without the figures that differ from run to run.
    pub fn explain_analyze(&mut self, sql: &str) -> Result<String> {
        self.explain_with("ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF", sql)
    }

    pub fn explain_with(&mut self, options: &str, sql: &str) -> Result<String> {
        Ok(self.column(&format!("EXPLAIN ({options}) {sql}"))?.join("\n"))
    }

    /// The notices and warnings since the last call.
    pub fn notices(&mut self) -> Vec<SqlError> {
        self.notices.lock().map(|mut heard| std::mem::take(&mut *heard)).unwrap_or_default()
    }

    /// Cancels, from any thread, whatever this session then runs:
    /// `token.cancel_query(postgres::NoTls)`.
    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    pub fn pid(&mut self) -> Result<i32> {
        Ok(self.one("SELECT pg_backend_pid()")?.parse()?)
    }

    /// For the extended protocol: parameters, portals, COPY.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl SqlError {
    /// Of an error that came back through [`Session::rows`] and its like.
    pub fn of(error: &anyhow::Error) -> Option<&SqlError> {
        error.downcast_ref()
    }
}

impl From<&DbError> for SqlError {
    fn from(error: &DbError) -> Self {
        SqlError {
            severity: error.severity().to_owned(),
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            context: error.where_().map(str::to_owned),
        }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity, self.sqlstate, self.message)?;
        for (label, text) in [("DETAIL", &self.detail), ("HINT", &self.hint), ("CONTEXT", &self.context)] {
            if let Some(text) = text {
                write!(f, "\n{label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

/// The driver's own text is "db error" and nothing more.
fn tell(error: postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(error) => SqlError::from(error).into(),
        None => error.into(),
    }
}
