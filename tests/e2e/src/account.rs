//! Decides as whom, where and with which environment the programs of Postgres run.
//! Which programs, with which arguments, is left to the callers.

use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::unistd::{User, geteuid};

/// Postgres refuses to run as root; every package of it creates this account.
const SERVER_ACCOUNT: &str = "postgres";
/// The superuser of every cluster here, whichever user runs it.
pub const SUPERUSER: &str = "postgres";

/// A program of the tree at `bin`, run as the server's account.
///
/// The environment holds a PATH and a LANG and nothing else: a `RUST_BACKTRACE=1` inherited by the
/// server would add 100 ms and a backtrace to every error, a `PGOPTIONS` or `PGDATA` would be
/// obeyed.
pub fn server_command(bin: &Path, program: &str) -> Command {
    let mut command;
    if geteuid().is_root() {
        command = Command::new("runuser");
        command.args(["-u", SERVER_ACCOUNT, "--", "env", "-i"]);
        command.arg(path_variable(bin)).arg("LANG=C.UTF-8");
        command.arg(bin.join(program));
    } else {
        command = client_command(bin, program);
    }
    // Nothing under root's home can be entered by the server's account.
    command.current_dir("/tmp").stdin(Stdio::null());
    command
}

/// The same command under a limit of its address space, which all processes that it starts inherit.
pub fn with_memory(command: &Command, kilobytes: u64) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v \"$0\" && exec \"$@\""]).arg(kilobytes.to_string());
    limited.arg(command.get_program()).args(command.get_args());
    limited.current_dir("/tmp").stdin(Stdio::null());
    limited
}

/// A program of the tree at `bin`, run as ourselves, with a clean environment.
pub fn client_command(bin: &Path, program: &str) -> Command {
    let mut command = Command::new(bin.join(program));
    command.env_clear().env("LANG", "C.UTF-8");
    if let Some((name, value)) = path_variable(bin).split_once('=') {
        command.env(name, value);
    }
    command
}

fn path_variable(bin: &Path) -> String {
    format!("PATH={}:/usr/bin:/bin", bin.display())
}

/// Makes `path` the server account's own.
pub fn give_to_server(path: &Path) -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let user = User::from_name(SERVER_ACCOUNT)?.with_context(|| {
        format!("there is no account \"{SERVER_ACCOUNT}\": `make deps` installs Postgres")
    })?;
    chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .with_context(|| format!("cannot give {} to {SERVER_ACCOUNT}", path.display()))
}

/// Runs to the end; an error holds all that the program wrote.
pub fn run(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{} {}: {}\n{stdout}{}",
        command.get_program().display(),
        command.get_args().collect::<Vec<_>>().join(OsStr::new(" ")).display(),
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(stdout)
}
