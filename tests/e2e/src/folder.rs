//! Decides where the things of one process lie (`/tmp/pancake-<pid>-<hex>`) and that they go when
//! the process goes. What lies in it is left to `tree` and `cluster`.
//!
//! Statics are never dropped and a killed process runs no code, so another process removes them: a
//! *keeper*, a small shell that waits for the end of a pipe which this process holds open as long
//! as it lives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::once::{self, Once};

/// Not `$TMPDIR`: it must be reachable by the account the server runs as, and short enough for a
/// socket's path.
const PARENT: &str = "/tmp";
const PREFIX: &str = "pancake-";

const KEEPER: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
for file in "$1"/*/data/postmaster.pid; do
    [ -f "$file" ] || continue
    pid=$(head -n 1 "$file")
    kill -QUIT "$pid"
    tries=0
    while [ -f "$file" ] && kill -0 "$pid" && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
done
rm -rf "$1"
"#;

pub struct Folder {
    path: PathBuf,
    keeper: Mutex<Option<Child>>,
}

static SHARED: Once<Folder> = Once::new();

impl Folder {
    /// The one folder of this process.
    pub fn shared() -> Result<&'static Folder> {
        once::get(&SHARED, Folder::create)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn create() -> Result<Folder> {
        remove_orphans();
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
        let path = Path::new(PARENT).join(format!("{PREFIX}{}-{nanos:08x}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        open_to_all(&path)?;
        let keeper = keeper(&path)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .context("cannot start the shell that cleans up")?;
        Ok(Folder { path, keeper: Mutex::new(Some(keeper)) })
    }
}

/// Removes this process's folder, with any server in it, and waits until that is done. For programs
/// that promise to leave nothing behind when they return; others may simply end.
pub fn close() {
    let Some(Ok(folder)) = SHARED.get() else {
        return;
    };
    if let Ok(mut keeper) = folder.keeper.lock()
        && let Some(mut keeper) = keeper.take()
    {
        // `wait` closes the pipe first.
        let _ = keeper.wait();
    }
}

/// Whatever the umask is: the server's account must be able to walk through.
pub fn open_to_all(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot open {} to other accounts", path.display()))
}

fn keeper(path: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", KEEPER, "keeper"])
        .arg(path)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell
}

/// What a process left whose keeper was killed too (for example in a container that stopped).
fn remove_orphans() {
    let Ok(entries) = fs::read_dir(PARENT) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX))
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse().ok());
        if let Some(pid) = pid
            && kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
        {
            let _ = keeper(&entry.path()).status();
        }
    }
}
