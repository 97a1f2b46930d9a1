//! What an acknowledged upload stands on: seen from the kernel, every step of its way to the disk has ended before the next begins.

use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, noise},
    missing,
    strace::{Call, Trace},
};
use futures_util::future::join_all;

/// What puts bytes and names on the disk, and what is said to PostgreSQL and to clients.
const CALLS: &str = "fsync,linkat,renameat2,write,writev,sendto,sendmsg,read,readv,recvfrom,recvmsg";
const SENDS: &[&str] = &["write", "writev", "sendto", "sendmsg"];
const RECEIVES: &[&str] = &["read", "readv", "recvfrom", "recvmsg"];
/// Uploads one after the other, then so many clients with so many each.
const ALONE: usize = 20;
const CLIENTS: usize = 16;
const EACH: usize = 5;

/// An upload: its content fits one message, or does not, or it can be resumed.
async fn upload(clients: &Clients, path: &str, number: usize) {
    let bytes = if number % 3 == 1 { 300_000 } else { 4_096 };
    let request_id = if number % 3 == 2 { uuid::Uuid::now_v7().to_string() } else { String::new() };
    let mut spec = at(path);
    spec.request_id = request_id;
    clients.upload(spec, &noise(bytes)).await.unwrap();
}

/// The path and the key of every file.
async fn stored(cofferd: &Cofferd) -> Vec<(String, String)> {
    let sql = cofferd.database.connect().await;
    let rows = sql.query(
        "SELECT f.storage_path, o.key FROM storage_files f JOIN storage_file_versions v ON v.id = f.current_version_id \
         JOIN storage_objects o ON o.id = v.object_id",
        &[],
    );
    rows.await.unwrap().into_iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// The calls of these names whose arguments have all the parts.
fn calls<'a>(trace: &'a [Call], names: &[&str], parts: &[&str]) -> impl DoubleEndedIterator<Item = &'a Call> {
    trace.iter().filter(move |call| {
        names.contains(&call.name.as_str()) && parts.iter().all(|part| call.arguments.contains(part))
    })
}

/// `12` of `12</some/path>, …`.
fn descriptor(call: &Call) -> &str {
    call.arguments.split('<').next().unwrap()
}

/// What a call has received, as the trace writes it.
fn received(call: &Call) -> &str {
    let text = call.arguments.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    text.map_or("", |(text, _)| text)
}

/// The chain of one upload; panics where a link is missing. Answers the sync of its folder.
fn chain<'a>(trace: &'a [Call], path: &str, key: &str) -> &'a Call {
    let (folder, name) = key.rsplit_once('/').unwrap();
    let quoted = format!("\"{name}\"");
    let found: Vec<_> = calls(trace, &["linkat", "renameat2"], &[&quoted]).collect();
    let [named] = found[..] else { panic!("{path} got its name once: {found:#?}") };
    // A file without a name is linked through its descriptor, one with a name is renamed.
    let file = match named.name.as_str() {
        "linkat" => {
            let (_, rest) = named.arguments.split_once("/proc/self/fd/").unwrap();
            format!("{}<", rest.split('"').next().unwrap())
        }
        _ => format!("/.coffer/staging/{}>", named.arguments.split('"').nth(1).unwrap()),
    };
    let durable = calls(trace, &["fsync"], &[&file])
        .rfind(|sync| sync.thread == named.thread && sync.began < named.began)
        .unwrap_or_else(|| panic!("the bytes of {path} are synced before {named:#?}"));
    assert!(durable.result == "0" && durable.is_before(named), "{durable:#?} before {named:#?}");
    let folder = format!("/{folder}>");
    let reachable = calls(trace, &["fsync"], &[&folder])
        .find(|sync| sync.result == "0" && named.is_before(sync))
        .unwrap_or_else(|| panic!("{folder} is synced after {named:#?}"));

    // What PostgreSQL is told of the key: the intent before it is used, the rows when it is durable. And its answer to those.
    let told: Vec<_> = calls(trace, SENDS, &["socket:", key]).collect();
    let early = told.iter().find(|told| told.began > named.began && told.began < reachable.ended);
    assert!(early.is_none(), "the rows of {path} wait for {reachable:#?}: {early:#?}");
    let told = told.iter().find(|told| reachable.is_before(told));
    let told = told.unwrap_or_else(|| panic!("the rows of {path} come after {reachable:#?}"));
    let connection = format!("{}<", descriptor(told));
    // The answer may arrive in pieces that end anywhere.
    let mut answered = String::new();
    let committed = calls(trace, RECEIVES, &["socket:"])
        .filter(|answer| answer.arguments.starts_with(&connection) && answer.ended > told.began)
        .find(|answer| {
            answered.push_str(received(answer));
            answered.contains("COMMIT\\0")
        })
        .unwrap_or_else(|| panic!("the rows of {path} are committed"));
    let sent: Vec<_> =
        calls(trace, SENDS, &["socket:", path]).filter(|sent| descriptor(sent) != descriptor(told)).collect();
    let replied = sent.iter().find(|sent| sent.began > told.began);
    let replied = replied.unwrap_or_else(|| panic!("{path} is answered: {sent:#?}"));
    assert!(
        committed.ended < replied.began,
        "{path} is answered after its commit: {committed:#?} {replied:#?} {told:#?}"
    );
    reachable
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_was_synced_named_synced_and_committed_in_this_order() {
    let cofferd = Cofferd::start().await;
    let clients = cofferd.clients(&Token::user("ann", "clinic")).await;
    let Some(trace) = Trace::attach(cofferd.pid(), CALLS) else {
        return missing::ignore("strace that may attach");
    };
    for number in 0..ALONE {
        upload(&clients, &format!("chain/alone-{number}!"), number).await;
    }
    join_all((0..CLIENTS).map(|client| {
        let clients = &clients;
        async move {
            for number in 0..EACH {
                upload(clients, &format!("chain/{client}-{number}!"), client + number).await;
            }
        }
    }))
    .await;
    let trace = trace.end();
    let files = stored(&cofferd).await;
    assert_eq!(files.len(), ALONE + CLIENTS * EACH);
    let mut syncs: Vec<_> = files.iter().map(|(path, key)| chain(&trace, path, key).began).collect();
    syncs.sort_unstable();
    syncs.dedup();
    println!("{} folder syncs for {} uploads", syncs.len(), files.len());
}
