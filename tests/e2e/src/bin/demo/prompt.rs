//! This module passes the terminal to psql and takes it back, as a shell does.
//! What psql is connected to is left to the caller.
//!
//! Ctrl-C goes to the terminal's foreground process group. Left in ours, psql would cancel its
//! statement while make, cargo and this program died of it; so psql gets a group of its own, and
//! the terminal.

use std::env;
use std::io::{IsTerminal, stdin};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::unistd::{Pid, getpgrp, tcsetpgrp};

/// What an interactive psql and its pager or editor look at.
const KEPT: [&str; 9] = ["TERM", "COLORTERM", "HOME", "LANG", "LC_ALL", "PAGER", "LESS", "EDITOR", "VISUAL"];

/// Returns when the user leaves; how psql ended is the user's business.
pub fn run(mut psql: Command, folder: &Path) -> Result<()> {
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            psql.env(name, value);
        }
    }
    psql.args(["-v", "PROMPT1=shop%R%x%# ", "-v", "PROMPT2=shop%R%x%# ", "-v"]);
    psql.arg(format!("HISTFILE={}", folder.join("history").display()));

    let lend = stdin().is_terminal();
    if lend {
        // Else taking the terminal back, from the background, would stop us. A new process starts
        // with nothing blocked.
        SigSet::from(Signal::SIGTTOU).thread_block()?;
        psql.process_group(0);
    }
    let mut child = psql.spawn().context("cannot run psql")?;
    if lend {
        let group = Pid::from_raw(i32::try_from(child.id())?);
        // Fails where psql has already left; that is not worth a word.
        let _ = tcsetpgrp(stdin(), group);
        // It may have asked for the terminal before it had it, and been stopped.
        let _ = killpg(group, Signal::SIGCONT);
    }
    let ended = child.wait();
    if lend {
        tcsetpgrp(stdin(), getpgrp())?;
    }
    ended.map(drop).context("psql is lost")
}
