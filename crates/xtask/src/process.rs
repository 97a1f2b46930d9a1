//! Running programs, with the command shown, and stopping when asked.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// Shows the command, runs it, and fails if it does.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(status.success(), "{}: {status}", shown(command));
    Ok(())
}

/// As [`run`], and says how long it took.
pub(crate) fn timed(command: &mut Command) -> anyhow::Result<Duration> {
    let start = Instant::now();
    run(command)?;
    Ok(start.elapsed())
}

/// Runs it silently and returns what it printed; its error output is in the error.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !output.status.success() {
        bail!("{}: {}\n{}", shown(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} printed something else than text", shown(command)))
}

/// Whether it can be run and succeeds, silently.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Takes over Ctrl-C and SIGTERM. They still end the programs run here, whose failure then ends the task in order.
///
/// # Errors
/// If called twice.
pub(crate) fn interrupts() -> anyhow::Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel();
    let forward = move || {
        // A closed channel means that nobody waits for it any more.
        let _ = sender.send(());
    };
    ctrlc::set_handler(forward).context("cannot take over Ctrl-C")?;
    Ok(receiver)
}

/// Waits a moment before something is looked at again.
pub(crate) fn pause() {
    pause_for(Duration::from_millis(20));
}

/// Waits so long.
pub(crate) fn pause_for(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "no async runtime here whose thread it could block")]
    std::thread::sleep(time);
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| {
            let word = word.to_string_lossy();
            if word.contains([' ', '"', '\\', '$']) { format!("'{word}'") } else { word.into_owned() }
        })
        .collect::<Vec<_>>()
        .join(" ")
}
