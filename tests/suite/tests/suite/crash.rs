//! SIGKILL at random moments: what was acknowledged is intact, and volume and rows agree.

use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    cofferd::files_below,
    dice::{Dice, number_of_run},
    grpc::{Clients, at, by_id, noise, refusal},
};
use sha2::Digest as _;
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Kills in the run of the suite; `COFFER_KILLS` asks for more.
const KILLS: u64 = 30;
/// Clients that upload, replace, delete and purge at once.
const CLIENTS: u64 = 8;

/// What the service acknowledged: content of each live file by id. `None`: a deletion was asked for and its outcome is not known.
type Acknowledged = Arc<Mutex<HashMap<String, Option<String>>>>;

/// Resumable uploads whose answer was lost, with their size: they are sent again to the next service.
type Unanswered = Arc<Mutex<Vec<(v1::UploadSpec, usize)>>>;

pub(crate) fn sha256(content: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(content))
}

/// Works until the service goes away.
async fn work(
    clients: Clients,
    acknowledged: Acknowledged,
    unanswered: Unanswered,
    mut dice: Dice,
    worker: String,
) {
    for n in 0.. {
        let known = acknowledged
            .lock()
            .unwrap()
            .iter()
            .filter_map(|(id, sum)| sum.as_ref().map(|_| id.clone()))
            .nth(dice.below(8) as usize);
        let size = [0, 10, 5_000, 300_000, 2_500_000][dice.below(5) as usize];
        let content = noise(size + dice.below(100) as usize);
        let outcome = match (dice.below(8), known) {
            (0, Some(id)) => {
                acknowledged.lock().unwrap().insert(id.clone(), None);
                let file = by_id(&id);
                let deleted = clients
                    .files
                    .clone()
                    .delete_file(v1::DeleteFileRequest { file: file.clone(), ..Default::default() })
                    .await;
                match deleted {
                    Ok(_) => clients
                        .files
                        .clone()
                        .purge_file(v1::PurgeFileRequest { file, ..Default::default() })
                        .await
                        .map(drop),
                    Err(status) => Err(status),
                }
            }
            _ => {
                let declared = (dice.below(2) == 0).then_some(content.len() as i64);
                let is_resumable = dice.below(3) == 0;
                let request_id = if is_resumable { uuid::Uuid::now_v7().to_string() } else { String::new() };
                let spec =
                    v1::UploadSpec { size_bytes: declared, request_id, ..at(&format!("{worker}/{n}")) };
                match clients.upload(spec.clone(), &content).await {
                    Ok(file) => {
                        assert_eq!(file.sha256, sha256(&content));
                        acknowledged.lock().unwrap().insert(file.id, Some(file.sha256));
                        Ok(())
                    }
                    Err(status) => {
                        if is_resumable {
                            unanswered.lock().unwrap().push((spec, content.len()));
                        }
                        Err(status)
                    }
                }
            }
        };
        if outcome.is_err() {
            return;
        }
    }
}

/// Sends again whose answer was lost. What the dead service was finishing is busy until it is found.
async fn send_again(clients: &Clients, acknowledged: &Acknowledged, unanswered: &Unanswered) -> usize {
    let all = std::mem::take(&mut *unanswered.lock().unwrap());
    for (spec, size) in &all {
        let content = noise(*size);
        let since = Instant::now();
        let file = loop {
            match clients.upload(spec.clone(), &content).await {
                Ok(file) => break file,
                Err(status) => {
                    assert_eq!(refusal(&status).1, "REQUEST_IN_FLIGHT", "{status:?}");
                    assert!(since.elapsed() < Duration::from_secs(20), "it is found: {status:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        assert_eq!((file.version, file.sha256.as_str()), (1, sha256(&content).as_str()), "stored once");
        acknowledged.lock().unwrap().insert(file.id, Some(file.sha256));
    }
    all.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_left_over() {
    let kills = number_of_run("COFFER_KILLS", KILLS);
    let seed = number_of_run("COFFER_SEED", 0x5EED);
    println!("seed {seed}, {kills} kills");
    let mut dice = Dice::new(seed);
    // With the default grace of a day the comparison of volumes deletes nothing here: what is swept is swept by its intent.
    let mut cofferd = Cofferd::start().await;
    let ann = cofferd.token(&Token::user("ann", "clinic"));
    let (acknowledged, unanswered) = (Acknowledged::default(), Unanswered::default());
    let mut sent_again = 0;
    for round in 0..kills {
        let clients = cofferd.clients_with(Some(&ann)).await;
        let workers: Vec<_> = (0..CLIENTS)
            .map(|n| {
                tokio::spawn(work(
                    clients.clone(),
                    Arc::clone(&acknowledged),
                    Arc::clone(&unanswered),
                    Dice::new(seed ^ (round << 32) ^ (n + 1)),
                    format!("{round}/{n}"),
                ))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50 + dice.below(900))).await;
        cofferd.kill();
        for worker in workers {
            worker.await.unwrap();
        }
        cofferd.launch().await;
        let clients = cofferd.clients_with(Some(&ann)).await;
        sent_again += send_again(&clients, &acknowledged, &unanswered).await;
    }

    settle(&cofferd).await;
    let clients = cofferd.clients_with(Some(&ann)).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    let mut intact = 0;
    for (id, sum) in &acknowledged {
        let read = clients.read(v1::ReadFileRequest { file: by_id(id), ..Default::default() }).await;
        match (sum, read) {
            (Some(sum), Ok((_, content))) => {
                assert_eq!(*sum, sha256(&content), "{id}");
                intact += 1;
            }
            (Some(_), Err(status)) => panic!("{id} was acknowledged and is lost: {status:?}"),
            (None, _) => {}
        }
    }
    println!("{intact} acknowledged files intact, {sent_again} of them sent again");
    assert!(intact > 50 && sent_again > 5, "the run did something: {intact}, {sent_again}");
    assert_eq!(
        cofferd.database.number("SELECT count(*) FROM storage_files WHERE status = 'corrupted'").await,
        0
    );
    super::quotas::nothing_drifts(&cofferd).await;
    assert_eq!(
        cofferd
            .database
            .number("SELECT count(*) FROM storage_uploads WHERE state IN ('OPEN', 'FINISHING')")
            .await,
        0
    );
}

/// Waits for the reconciler, then shows that keys and rows are the same set.
pub(crate) async fn settle(cofferd: &Cofferd) {
    settle_at(cofferd, &cofferd.main_volume()).await;
}

/// The same where all objects are in the volume at `place`.
pub(crate) async fn settle_at(cofferd: &Cofferd, place: &Path) {
    let since = Instant::now();
    let sql = cofferd.database.connect().await;
    loop {
        let rows = sql
            .query("SELECT key FROM storage_objects WHERE state = 'live' ORDER BY key", &[])
            .await
            .unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        // What is found at paths is a name of an object, and not another one.
        let linked = "SELECT path FROM storage_links WHERE object_id IS NOT NULL AND next_object_id IS NULL";
        let linked: Vec<String> =
            sql.query(linked, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let mut objects = files_below(place);
        objects.retain(|key| {
            key.starts_with(".coffer/versions/") || !key.starts_with(".coffer/") && !linked.contains(key)
        });
        let staged = files_below(&place.join(".coffer/staging"));
        let unswept: i64 = sql
            .query_one(
                "SELECT (SELECT count(*) FROM storage_uploads WHERE state <> 'COMMITTED' AND swept_at IS NULL)
                    + (SELECT count(*) FROM storage_links WHERE due_at IS NOT NULL)",
                &[],
            )
            .await
            .unwrap()
            .get(0);
        if rows == objects && staged.is_empty() && unswept == 0 {
            println!("{} objects, as many rows", objects.len());
            return;
        }
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{} rows, {} objects, staged {staged:?}, {unswept} unswept or to be linked; only in rows {:?}; only in the volume {:?}",
            rows.len(),
            objects.len(),
            rows.iter().filter(|key| !objects.contains(key)).take(5).collect::<Vec<_>>(),
            objects.iter().filter(|key| !rows.contains(key)).take(5).collect::<Vec<_>>(),
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_finds_strangers_and_losses_and_spares_what_is_young_or_not_ours() {
    let mut cofferd = Cofferd::start_with(&[("reconcile.orphan_grace", "1h")]).await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("a.bin"), &noise(1_000)).await.unwrap();
    let lost = ann.upload(at("lost.bin"), &noise(1_000)).await.unwrap();
    let volume = cofferd.main_volume();
    let plant = |key: &str, age: Duration| {
        let path = volume.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"stranger").unwrap();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(std::time::SystemTime::now() - age)
            .unwrap();
    };
    let key_of = |id: &str| format!("{}/{}/{id}", &id[32..34], &id[34..]);
    let (young, foreign) = (key_of(&uuid::Uuid::now_v7().to_string()), "backup/of/somebody.tar");
    plant(&young, Duration::ZERO);
    plant(foreign, Duration::from_secs(10 * 24 * 3_600));
    let key: String = cofferd
        .database
        .connect()
        .await
        .query_one("SELECT provider_path FROM storage_files WHERE filename = 'lost.bin'", &[])
        .await
        .unwrap()
        .get(0);
    std::fs::remove_file(volume.join(&key)).unwrap();

    assert!(cofferd.terminate().await.success());
    cofferd.launch().await;
    let since = Instant::now();
    while cofferd.database.number("SELECT count(*) FROM storage_files WHERE status = 'corrupted'").await == 0
    {
        assert!(since.elapsed() < Duration::from_secs(20), "the loss is found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let seen = |id: &str| v1::GetFileRequest { file: by_id(id) };
    assert_eq!(
        ann.files.clone().get_file(seen(&lost.id)).await.unwrap().into_inner().file.unwrap().status(),
        v1::FileStatus::Corrupted
    );
    assert_eq!(
        ann.files.clone().get_file(seen(&file.id)).await.unwrap().into_inner().file.unwrap().status(),
        v1::FileStatus::Active
    );
    let objects = cofferd.objects();
    assert!(objects.contains(&young) && objects.iter().any(|key| key == foreign), "{objects:?}");
    assert_eq!(
        cofferd
            .database
            .number("SELECT count(*) FROM storage_operations WHERE operation = 'reconcile'")
            .await,
        1
    );
}
