//! Knows how to make a private copy of an installed Postgres, and how to install the extension into
//! it. Servers and their data are left to `cluster`, the installing itself to the Makefile.
//!
//! Postgres finds its libraries and its share directory relative to its own executable, so a copy
//! under another root with the same relative layout is complete: a true `make install` and CREATE
//! EXTENSION, but neither root nor a change to the system, and two runs at once do not meet.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::account::{client_command, run};
use crate::folder::{self, Folder};
use crate::once::{self, Once};

/// A list, because a bindir may be /usr/bin.
const NEEDED: [&str; 5] = ["postgres", "initdb", "pg_ctl", "psql", "pg_config"];
const WELCOME: [&str; 7] =
    ["pg_dump", "pg_dumpall", "pg_restore", "pg_basebackup", "pg_controldata", "pg_isready", "pgbench"];
/// Two thirds of a Debian pkglibdir, and nothing that a running server opens (jit is off).
const LEFT_OUT: [&str; 2] = ["bitcode", "pgxs"];

pub struct Tree {
    bin: PathBuf,
}

static PLAIN: Once<Tree> = Once::new();
static INSTALLED: Once<()> = Once::new();

impl Tree {
    /// The private copy of the Postgres that `pg_config` names, one per process, without the
    /// extension.
    pub fn plain() -> Result<&'static Tree> {
        once::get(&PLAIN, Tree::copy)
    }

    /// The same copy with the extension in it.
    pub fn with_extension() -> Result<&'static Tree> {
        let tree = Tree::plain()?;
        once::get(&INSTALLED, || tree.install())?;
        Ok(tree)
    }

    pub fn bin(&self) -> &Path {
        &self.bin
    }

    pub fn pg_config(&self) -> PathBuf {
        self.bin.join("pg_config")
    }

    /// One answer of the copy's own pg_config, e.g. `--sharedir`.
    pub fn ask(&self, option: &str) -> Result<PathBuf> {
        let answer = run(client_command(&self.bin, "pg_config").arg(option))?;
        Ok(PathBuf::from(answer.trim()))
    }

    fn copy() -> Result<Tree> {
        let [bin, library, share] = source()?;
        let root = Folder::shared()?.path().join("tree");
        let within = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
        let tree = Tree { bin: within(&bin) };

        make_folder(&tree.bin)?;
        for name in NEEDED.iter().chain(&WELCOME) {
            let from = bin.join(name);
            if from.exists() {
                fs::copy(&from, tree.bin.join(name))
                    .with_context(|| format!("cannot copy {}", from.display()))?;
            } else {
                ensure!(
                    !NEEDED.contains(name),
                    "{} is missing: `make deps` installs the server",
                    from.display()
                );
            }
        }
        copy_folder(&library, &within(&library))?;
        copy_folder(&share, &within(&share))?;

        for (option, expected) in [("--pkglibdir", &library), ("--sharedir", &share)] {
            let answer = tree.ask(option)?;
            ensure!(
                answer == within(expected),
                "this Postgres does not look for its files relative to itself: the copy's pg_config {option} says {}",
                answer.display()
            );
        }
        Ok(tree)
    }

    /// `PROFILE` (dev unless the environment has release) chooses the build, as in the Makefile.
    fn install(&self) -> Result<()> {
        let profile = env::var("PROFILE").unwrap_or_else(|_| "dev".into());
        let mut make = Command::new("make");
        make.arg("-C")
            .arg(repository())
            .args(["--no-print-directory", "install"])
            .arg(format!("PG_CONFIG={}", self.pg_config().display()))
            // The copy has no headers, and a build for another path would be another build.
            .arg(format!("BUILD_PG_CONFIG={}", pg_config()))
            .arg(format!("PROFILE={profile}"))
            // Of the `make test` that may have started us: its jobserver and its variables.
            .env_remove("MAKEFLAGS")
            .env_remove("MFLAGS")
            .env_remove("MAKELEVEL")
            .env_remove("DESTDIR")
            .stdin(Stdio::null());
        run(&mut make).context("the extension cannot be installed into the private Postgres")?;
        Ok(())
    }
}

/// Where the Makefile is.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

fn pg_config() -> String {
    env::var("PG_CONFIG").unwrap_or_else(|_| "pg_config".into())
}

fn source() -> Result<[PathBuf; 3]> {
    let mut ask = Command::new(pg_config());
    let answer = run(ask.args(["--bindir", "--pkglibdir", "--sharedir"]))
        .context("there is no usable Postgres (`make deps` installs one, PG_CONFIG names another)")?;
    let paths: Vec<PathBuf> = answer.lines().map(PathBuf::from).collect();
    let Ok(paths) = <[PathBuf; 3]>::try_from(paths) else {
        bail!("{} answers with something else than three paths: {answer}", pg_config());
    };
    Ok(paths)
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    // All the way down to the process's folder: the umask may have closed any of them.
    let top = Folder::shared()?.path();
    for folder in path.ancestors().take_while(|folder| *folder != top) {
        folder::open_to_all(folder)?;
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    make_folder(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // A dangling link stays behind.
        let Ok(what) = fs::metadata(entry.path()) else {
            continue;
        };
        if is_left_out(&name) {
            continue;
        } else if what.is_dir() {
            copy_folder(&entry.path(), &to.join(&name))?;
        } else {
            fs::copy(entry.path(), to.join(&name))
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Also a pancake_fdw that the system has: only the one from this repository shall be found.
fn is_left_out(name: &OsStr) -> bool {
    let text = name.to_string_lossy();
    LEFT_OUT.contains(&text.as_ref()) || text.ends_with(".a") || text.starts_with("pancake_fdw")
}
