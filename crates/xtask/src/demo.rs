//! `cargo xtask demo`: the service on its embedded default, a real file in and out, and what it keeps about that.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::cofferd::{Cofferd, Listen};
use crate::content::{self, MIB, ScratchDir};
use crate::process::{interrupts, run as run_command, timed};
use crate::setup;
use crate::workspace::Workspace;

/// A quarter of a GiB, and not a multiple of any chunk or page.
const SIZE_BYTES: u64 = 256 * MIB + 12_345;
const PATH: &str = "demo/content.bin";
const USER: [&str; 8] = ["--user", "ada", "--org", "acme", "--app", "demo", "--ttl", "12h"];
const AUDITOR: [&str; 8] = ["--user", "grace", "--org", "acme", "--role", "auditor", "--ttl", "12h"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// End after the tour; the data goes with it.
    #[arg(long)]
    once: bool,
}

/// Shows a service at work and stays up with it until Ctrl-C, or ends after the tour.
///
/// # Errors
/// At the first thing that does not work as it should; the service is stopped all the same.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    setup::ensure(workspace, &setup::SERVER)?;
    run_command(workspace.cargo().args([
        "build",
        "--release",
        "-p",
        "coffer-server",
        "-p",
        "coffer-client",
    ]))?;
    let interrupts = interrupts()?;

    let scratch = ScratchDir::new(workspace, "demo")?;
    let (data_dir, listen) = if options.once {
        (scratch.path().join("data"), Listen::anywhere())
    } else {
        (
            workspace.path(".coffer"),
            Listen { grpc: free_or_any("127.0.0.1:50051"), http: free_or_any("127.0.0.1:9464") },
        )
    };
    let log = scratch.path().join("cofferd.log");

    heading("The service");
    let cofferd = Cofferd::start(workspace, &data_dir, &log, &listen)?;
    println!(
        "cofferd serves on {}, data in {}, log in {}",
        cofferd.grpc_addr(),
        data_dir.display(),
        log.display()
    );
    tour(workspace, &cofferd, scratch.path())?;

    if options.once {
        cofferd.stop()?;
        println!("\ncofferd ended in order.");
        return Ok(());
    }
    println!("\nCtrl-C stops the service; its data stays in {}.", data_dir.display());
    // Ends with an error only if nobody can send any more: then there is nothing to wait for.
    let _ = interrupts.recv();
    cofferd.stop()
}

fn tour(workspace: &Workspace, cofferd: &Cofferd<'_>, scratch: &Path) -> anyhow::Result<()> {
    let user = cofferd.token(&USER)?;
    let auditor = cofferd.token(&AUDITOR)?;
    let (sent, received) = (scratch.join("sent.bin"), scratch.join("received.bin"));
    content::write(&sent, SIZE_BYTES)?;

    heading("Quota before");
    run_command(cofferd.client(&user).arg("quota"))?;

    heading("Upload");
    let up = timed(cofferd.client(&user).arg("upload").arg(&sent).arg(PATH))?;
    println!("{}", rate(SIZE_BYTES, up));

    heading("Download");
    let down = timed(cofferd.client(&user).args(["download", PATH]).arg(&received))?;
    println!("{}", rate(SIZE_BYTES, down));
    compare(workspace, &sent, &received)?;

    heading("Metadata");
    run_command(cofferd.client(&user).args(["stat", PATH]))?;

    heading("Quota after");
    run_command(cofferd.client(&user).arg("quota"))?;

    heading("Audit records");
    run_command(cofferd.client(&auditor).arg("audit"))?;

    heading("With grpcurl");
    println!("{}", grpcurl_lines(cofferd.grpc_addr(), &user, &auditor));
    Ok(())
}

fn compare(workspace: &Workspace, sent: &Path, received: &Path) -> anyhow::Result<()> {
    let (before, after) = (content::sha256(workspace, sent)?, content::sha256(workspace, received)?);
    println!("SHA-256 sent     {before}\nSHA-256 received {after}");
    ensure!(before == after, "what came back is not what was sent");
    let size = fs::metadata(received).context("cannot look at the download")?.len();
    ensure!(size == SIZE_BYTES, "{size} bytes came back of {SIZE_BYTES}");
    println!("equal");
    Ok(())
}

/// Lines to paste into a shell.
fn grpcurl_lines(addr: &str, user: &str, auditor: &str) -> String {
    let call = |token: &str, data: &str, method: &str| {
        format!(
            "grpcurl -plaintext -H \"authorization: Bearer ${token}\" -d '{data}' {addr} coffer.v1.{method}"
        )
    };
    let write = r#"{"spec":{"path":"demo/hello.txt"},"data":{"content":"aGVsbG8K"},"finish":true}"#;
    [
        format!("export TOKEN={user}"),
        format!("export AUDITOR={auditor}"),
        call("TOKEN", write, "TransferService/WriteFile"),
        call("TOKEN", r#"{"path_prefix":"demo/"}"#, "FileService/ListFiles"),
        call("AUDITOR", r#"{"page_size":5}"#, "AuditService/ListOperations"),
    ]
    .join("\n")
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// Such as "256.0 MiB in 0.31 s: 826 MiB/s".
pub(crate) fn rate(bytes: u64, time: Duration) -> String {
    let mib = bytes as f64 / MIB as f64;
    let seconds = time.as_secs_f64();
    format!("{mib:.1} MiB in {seconds:.2} s: {:.0} MiB/s", mib / seconds)
}

/// The address, or any port where something else listens there.
fn free_or_any(addr: &str) -> String {
    match TcpListener::bind(addr) {
        Ok(_) => addr.to_owned(),
        Err(_) => "127.0.0.1:0".to_owned(),
    }
}
