//! Making a data directory: whole or not at all.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

use crate::binaries::Binaries;
use crate::run_as::RunAs;
use crate::{Error, leftovers, log, spawn};

/// Makes `pg` in `dir` with the superuser and the database `coffer`, unless it is there.
pub(crate) fn ensure(dir: &Path, binaries: &Binaries, run_as: RunAs, durable: bool) -> Result<(), Error> {
    let data = dir.join("pg");
    if data.try_exists().map_err(Error::io("read", &data))? {
        return Ok(());
    }
    let new = dir.join("pg.new");
    remove_unfinished(&new)?;
    // Made here and not by initdb, which may not be allowed to write into `dir`.
    DirBuilder::new().mode(0o700).create(&new).map_err(Error::io("make", &new))?;
    run_as.give(&new)?;

    let tool = Tool { new: &new, run_as };
    let mut initdb = Command::new(binaries.initdb());
    initdb.arg("--pgdata").arg(&new).args([
        "--username=coffer",
        "--encoding=UTF8",
        "--locale=C",
        "--lc-messages=C",
        "--auth-local=peer",
        "--auth-host=reject",
    ]);
    if !durable {
        initdb.arg("--no-sync");
    }
    tool.run("initdb", initdb, "")?;

    let mut single = Command::new(binaries.postgres());
    // Without exit_on_error it would end with success whatever happened.
    single.arg("--single").arg("-D").arg(&new).args(["-c", "exit_on_error=on"]);
    single.args(["-c", if durable { "fsync=on" } else { "fsync=off" }, "postgres"]);
    tool.run("postgres", single, "CREATE DATABASE coffer\n")?;

    fs::rename(&new, &data).map_err(Error::io("rename", &new))?;
    if durable {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))?;
    }
    Ok(())
}

/// An earlier start was killed while it made one.
fn remove_unfinished(new: &Path) -> Result<(), Error> {
    leftovers::end_processes(new)?;
    match fs::remove_dir_all(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", new)(error)),
        _ => Ok(()),
    }
}

struct Tool<'a> {
    new: &'a Path,
    run_as: RunAs,
}

impl Tool<'_> {
    /// Runs a tool to its end. It stands in the new directory, by which the next start finds it if we die.
    fn run(&self, program: &'static str, mut command: Command, input: &str) -> Result<(), Error> {
        command
            .env_clear()
            // Else initdb compares the machine's clock with every time zone there is.
            .envs([("LC_ALL", "C"), ("TZ", "UTC")])
            .current_dir(self.new)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        spawn::prepare(&mut command, self.run_as, Signal::INT);
        let output = feed(command, input).map_err(Error::io("run", program))?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(Error::Tool { program, status: output.status, output: log::last_lines(&text) })
    }
}

fn feed(mut command: Command, input: &str) -> io::Result<Output> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // It ended before it read: its status and its output say more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    child.wait_with_output()
}
