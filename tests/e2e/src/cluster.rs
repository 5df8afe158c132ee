//! Knows how to make, start, stop and watch one throw-away cluster. Its databases are left to
//! `database`, where its programs come from to `tree`, as whom they run to `account`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::account::{SUPERUSER, give_to_server, run, server_command, with_memory};
use crate::database::Database;
use crate::folder::Folder;
use crate::once::{self, Once};
use crate::sql::Session;
use crate::tree::Tree;

/// Quick rather than durable, and deaf to the network.
const SETTINGS: &str = "
listen_addresses = ''
fsync = off
synchronous_commit = off
full_page_writes = off
jit = off
autovacuum_naptime = 1h
max_connections = 100
log_line_prefix = '%m [%p] %d '
";

/// How a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Smart,
    Fast,
    Immediate,
}

pub struct Cluster {
    tree: &'static Tree,
    home: PathBuf,
    names: AtomicU32,
}

static SHARED: Once<Cluster> = Once::new();
static CLUSTERS: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// The cluster of all tests that need nothing special. Databases in it are cheap, its settings
    /// are shared.
    pub fn shared() -> Result<&'static Cluster> {
        once::get(&SHARED, Cluster::start)
    }

    /// A cluster of one's own, with the extension ready for CREATE EXTENSION.
    pub fn start() -> Result<Cluster> {
        Cluster::start_with(&[])
    }

    /// The same with lines of postgresql.conf, e.g. `("log_min_messages", "debug5")`.
    pub fn start_with(settings: &[(&str, &str)]) -> Result<Cluster> {
        Cluster::in_tree(Tree::with_extension()?, settings)
    }

    /// A cluster of a given Postgres.
    pub fn in_tree(tree: &'static Tree, settings: &[(&str, &str)]) -> Result<Cluster> {
        let cluster = Cluster::at(tree)?;
        let mut initdb = cluster.program("initdb");
        initdb.args(["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
        initdb.args(["-U", SUPERUSER, "-D"]).arg(cluster.data_dir());
        run(&mut initdb)?;
        cluster.configure(settings)?;
        cluster.launch()?;
        Ok(cluster)
    }

    /// A hot standby that follows `self`.
    pub fn standby(&self, settings: &[(&str, &str)]) -> Result<Cluster> {
        let standby = Cluster::at(self.tree)?;
        let mut copy = standby.program("pg_basebackup");
        copy.args(["-U", SUPERUSER, "-X", "stream", "-c", "fast", "--no-sync", "-R", "-h"])
            .arg(self.socket_dir())
            .arg("-D")
            .arg(standby.data_dir());
        run(&mut copy)?;
        standby.configure(settings)?;
        standby.launch()?;
        Ok(standby)
    }

    /// A fresh database with the extension in it. The name is completed by a number, so it need not
    /// be unique.
    pub fn database(&self, name: &str) -> Result<Database<'_>> {
        let database = self.empty_database(name)?;
        database.connect()?.execute("CREATE EXTENSION pancake_fdw")?;
        Ok(database)
    }

    /// A fresh database without the extension.
    pub fn empty_database(&self, name: &str) -> Result<Database<'_>> {
        let name = format!("{name}_{}", self.names.fetch_add(1, Ordering::Relaxed));
        self.connect("postgres")?.execute(&format!("CREATE DATABASE \"{name}\" TEMPLATE template0"))?;
        Ok(Database::new(self, name))
    }

    pub fn connect(&self, database: &str) -> Result<Session> {
        Session::connect(self.socket_dir(), database, SUPERUSER)
    }

    /// Starts what was stopped.
    pub fn launch(&self) -> Result<()> {
        self.launch_by(&mut self.start_command())
    }

    /// Starts what was stopped, with so much memory for each of its processes (`ulimit -v`).
    pub fn launch_with_memory(&self, kilobytes: u64) -> Result<()> {
        self.launch_by(&mut with_memory(&self.start_command(), kilobytes))
    }

    fn start_command(&self) -> std::process::Command {
        let mut start = self.pg_ctl("start");
        start.arg("-w").arg("-l").arg(self.log_file());
        start
    }

    fn launch_by(&self, start: &mut std::process::Command) -> Result<()> {
        run(start)
            .map(drop)
            .with_context(|| format!("the server does not start:\n{}", self.log().unwrap_or_default()))
    }

    pub fn stop(&self, mode: Mode) -> Result<()> {
        let mode = match mode {
            Mode::Smart => "smart",
            Mode::Fast => "fast",
            Mode::Immediate => "immediate",
        };
        run(self.pg_ctl("stop").args(["-w", "-m", mode])).map(drop)
    }

    pub fn restart(&self) -> Result<()> {
        self.stop(Mode::Fast)?;
        self.launch()
    }

    /// All that the server has logged so far.
    pub fn log(&self) -> Result<String> {
        let file = self.log_file();
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What `-h` takes.
    pub fn socket_dir(&self) -> &Path {
        &self.home
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home.join("data")
    }

    pub fn tree(&self) -> &'static Tree {
        self.tree
    }

    fn at(tree: &'static Tree) -> Result<Cluster> {
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let home = Folder::shared()?.path().join(format!("c{number}"));
        fs::create_dir(&home).with_context(|| format!("cannot create {}", home.display()))?;
        crate::folder::open_to_all(&home)?;
        give_to_server(&home)?;
        Ok(Cluster { tree, home, names: AtomicU32::new(0) })
    }

    /// The last line of a name wins, so the caller's lines come last.
    fn configure(&self, settings: &[(&str, &str)]) -> Result<()> {
        let file = self.data_dir().join("postgresql.conf");
        let mut text = fs::read_to_string(&file)?;
        text.push_str(SETTINGS);
        text.push_str(&setting("unix_socket_directories", &self.home.to_string_lossy()));
        for (name, value) in settings {
            text.push_str(&setting(name, value));
        }
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("log")
    }

    fn program(&self, name: &str) -> std::process::Command {
        server_command(self.tree.bin(), name)
    }

    fn pg_ctl(&self, verb: &str) -> std::process::Command {
        let mut command = self.program("pg_ctl");
        command.arg(verb).arg("-s").arg("-D").arg(self.data_dir());
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // One that does not run any more is what we want.
        let _ = self.stop(Mode::Immediate);
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}
