//! One function per promise of the port.

use crate::support::{all_keys, begin, fresh_key, key, kind, noise, read, write};
use bytes::Bytes;
use coffer_domain::{
    driver::{Batch, Driver, ErrorKind, MAX_PIECE_BYTES, PieceSize, WriteOptions},
    id::UploadId,
    path::Key,
    time::now,
};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::join_all};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

pub(super) async fn nothing_is_visible_before_finish(driver: &dyn Driver) {
    let (key, content) = (fresh_key(), noise(3_000_000, 1));
    let mut writer = begin(driver, &key).await.unwrap();
    writer.write(vec![content.clone()].into()).await.unwrap();
    assert_eq!(driver.stat(&key).await.unwrap(), None);
    assert_eq!(kind(driver.read(&key, 0..1, PieceSize::default()).await), Some(ErrorKind::NotFound));
    if driver.capabilities().list {
        assert_eq!(driver.list("", None, 10).await.unwrap(), []);
    }
    assert_eq!(writer.finish().await.unwrap().size, 3_000_000);
    assert_eq!(read(driver, &key).await.unwrap(), content);
}

pub(super) async fn finish_answers_the_size_and_the_content_reads_back(driver: &dyn Driver) {
    for length in [1, 255, 4096, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 1024 * 1024, 5_000_001] {
        let (key, content) = (fresh_key(), noise(length, length as u64));
        assert_eq!(write(driver, &key, &content).await.unwrap(), length as u64);
        assert_eq!(read(driver, &key).await.unwrap(), content, "{length}");
    }
}

pub(super) async fn sixty_four_mebibytes_come_back_as_they_were(driver: &dyn Driver) {
    let (key, content) = (fresh_key(), noise(64 * 1024 * 1024, 7));
    let options = WriteOptions { declared_size: Some(content.len() as u64), ..WriteOptions::default() };
    let mut writer = driver.begin(UploadId::new(), &key, options).await.unwrap();
    for at in (0..content.len()).step_by(1024 * 1024) {
        writer.write(vec![content.slice(at..at + 1024 * 1024)].into()).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().size, content.len() as u64);
    assert!(read(driver, &key).await.unwrap() == content);
}

/// More pieces than a kernel takes in one call, and empty ones among them.
pub(super) async fn many_small_pieces_are_one_object(driver: &dyn Driver) {
    let (key, content) = (fresh_key(), noise(40_000, 3));
    let mut writer = begin(driver, &key).await.unwrap();
    let pieces =
        (0..4_000).flat_map(|n| [content.slice(n * 10..n * 10 + 10), Bytes::new()]).collect::<Vec<_>>();
    writer.write(pieces.into()).await.unwrap();
    writer.write(Vec::new().into()).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().size, 40_000);
    assert_eq!(read(driver, &key).await.unwrap(), content);
}

pub(super) async fn an_empty_object_is_an_object(driver: &dyn Driver) {
    let key = fresh_key();
    assert_eq!(begin(driver, &key).await.unwrap().finish().await.unwrap().size, 0);
    assert_eq!(driver.stat(&key).await.unwrap().unwrap().size, 0);
    assert_eq!(driver.read(&key, 0..100, PieceSize::default()).await.unwrap().count().await, 0);
}

pub(super) async fn a_declared_size_is_only_a_hint(driver: &dyn Driver) {
    let content = noise(100_000, 4);
    for declared in [0, 1, 99_999, 100_000, 100_001, 20_000_000] {
        let key = fresh_key();
        let options = WriteOptions { declared_size: Some(declared), ..WriteOptions::default() };
        let mut writer = driver.begin(UploadId::new(), &key, options).await.unwrap();
        writer.write(vec![content.clone()].into()).await.unwrap();
        assert_eq!(writer.finish().await.unwrap().size, 100_000, "{declared}");
        assert_eq!(read(driver, &key).await.unwrap(), content, "{declared}");
    }
}

pub(super) async fn finish_never_replaces(driver: &dyn Driver) {
    requires!(driver, create_only);
    let (key, first) = (fresh_key(), noise(1000, 1));
    write(driver, &key, &first).await.unwrap();
    assert_eq!(kind(write(driver, &key, &noise(2000, 2)).await), Some(ErrorKind::AlreadyExists));
    assert_eq!(read(driver, &key).await.unwrap(), first);
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0], "the refused one leaves nothing");
}

pub(super) async fn the_key_may_be_chosen_at_the_end(driver: &dyn Driver) {
    requires!(driver, rename);
    let content = noise(3_000_000, 6);
    for is_resumable in [false, true] {
        let (undecided, key) = (fresh_key(), fresh_key());
        let options = WriteOptions { is_resumable, ..WriteOptions::default() };
        let mut writer = driver.begin(UploadId::new(), &undecided, options).await.unwrap();
        writer.write(vec![content.clone()].into()).await.unwrap();
        assert_eq!(writer.finish_at(&key).await.unwrap().size, 3_000_000);
        assert_eq!(read(driver, &key).await.unwrap(), content);
        assert_eq!(driver.stat(&undecided).await.unwrap(), None);
        if driver.capabilities().create_only {
            let mut writer = begin(driver, &fresh_key()).await.unwrap();
            writer.write(vec![noise(10, 1)].into()).await.unwrap();
            assert_eq!(kind(writer.finish_at(&key).await), Some(ErrorKind::AlreadyExists));
            assert_eq!(read(driver, &key).await.unwrap(), content);
        }
    }
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
}

pub(super) async fn what_is_stored_at_once_is_an_object_like_any_other(driver: &dyn Driver) {
    for length in [0, 1, 4096, 64 * 1024, 2_000_000] {
        let (key, content) = (fresh_key(), noise(length, 5));
        let pieces = vec![content.slice(..length / 2), Bytes::new(), content.slice(length / 2..)];
        assert_eq!(driver.store(UploadId::new(), &key, pieces).await.unwrap().size, length as u64);
        assert_eq!(read(driver, &key).await.unwrap(), content);
        if driver.capabilities().create_only {
            let again = driver.store(UploadId::new(), &key, vec![noise(10, 1)]).await;
            assert_eq!(kind(again), Some(ErrorKind::AlreadyExists));
            assert_eq!(read(driver, &key).await.unwrap(), content);
        }
    }
    if driver.capabilities().list {
        assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
    }
}

pub(super) async fn of_many_that_are_stored_at_once_each_is_there(driver: &dyn Driver) {
    let stored = join_all((0..100).map(|n| async move {
        let (key, content) = (fresh_key(), noise(1000 + n, n as u64));
        assert_eq!(
            driver.store(UploadId::new(), &key, vec![content.clone()]).await.unwrap().size,
            1000 + n as u64
        );
        (key, content)
    }));
    for (key, content) in stored.await {
        assert_eq!(read(driver, &key).await.unwrap(), content);
    }
}

pub(super) async fn of_many_writers_to_one_key_one_wins(driver: &dyn Driver) {
    requires!(driver, create_only);
    let key = fresh_key();
    let contents: Vec<_> = (1..=16).map(|n| noise(n * 1000, n as u64)).collect();
    let results = join_all(contents.iter().map(|content| write(driver, &key, content))).await;
    let winners: Vec<_> = results.iter().zip(&contents).filter(|(result, _)| result.is_ok()).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(read(driver, &key).await.unwrap(), *winners[0].1);
    assert!(results.into_iter().all(|result| matches!(kind(result), None | Some(ErrorKind::AlreadyExists))));
}

pub(super) async fn ranges_are_exact(driver: &dyn Driver) {
    let (key, content) = (fresh_key(), noise(1_500_000, 9));
    write(driver, &key, &content).await.unwrap();
    let edges =
        [0, 1, 4095, 4096, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 1_000_000, 1_499_999, 1_500_000];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end >= start) {
            if start > 0 && !driver.capabilities().range_read {
                continue;
            }
            let pieces: Vec<_> = driver
                .read(&key, start..end, PieceSize::default())
                .await
                .unwrap()
                .try_collect()
                .await
                .unwrap();
            assert!(pieces.concat() == content[start as usize..end as usize], "{start}..{end}");
        }
    }
}

pub(super) async fn a_range_is_cut_at_the_end_of_the_object(driver: &dyn Driver) {
    let (key, content) = (fresh_key(), noise(1000, 5));
    write(driver, &key, &content).await.unwrap();
    for (range, expected) in
        [(0..u64::MAX, 0..1000), (999..2000, 999..1000), (1000..2000, 0..0), (5_000..6_000, 0..0)]
    {
        let pieces: Vec<_> = driver
            .read(&key, range.clone(), PieceSize::default())
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(pieces.concat(), content[expected], "{range:?}");
    }
}

pub(super) async fn reading_what_is_absent_fails_before_the_first_piece(driver: &dyn Driver) {
    let key = fresh_key();
    let failure = driver.read(&key, 0..1, PieceSize::default()).await.err().unwrap();
    assert_eq!((failure.kind, failure.operation), (ErrorKind::NotFound, "read"));
    assert_eq!(failure.key.as_deref(), Some(key.as_str()));
    write(driver, &key, &noise(10, 1)).await.unwrap();
    let below = Key::parse(format!("{key}/below")).unwrap();
    assert_eq!(kind(driver.read(&below, 0..1, PieceSize::default()).await), Some(ErrorKind::NotFound));
    let above = Key::parse(key.as_str().split('/').next().unwrap()).unwrap();
    assert_eq!(kind(driver.read(&above, 0..1, PieceSize::default()).await), Some(ErrorKind::NotFound));
}

pub(super) async fn pieces_are_bounded(driver: &dyn Driver) {
    let (key, content) = (fresh_key(), noise(5_000_000, 1));
    write(driver, &key, &content).await.unwrap();
    let pieces = driver.read(&key, 0..5_000_000, PieceSize::new(usize::MAX)).await.unwrap();
    let pieces: Vec<Bytes> = pieces.try_collect().await.unwrap();
    assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= MAX_PIECE_BYTES));
    assert!(pieces.concat() == content);
}

pub(super) async fn pieces_are_as_large_as_their_taker_wants(driver: &dyn Driver) {
    let (key, content) = (fresh_key(), noise(5_000_000, 1));
    write(driver, &key, &content).await.unwrap();
    let size = PieceSize::new(64 * 1024);
    let mut pieces = driver.read(&key, 0..5_000_000, size.clone()).await.unwrap();
    let mut found = Vec::new();
    for wanted in [64 * 1024, 512 * 1024, 1000] {
        size.set(wanted);
        // What was asked for before may still come.
        found.extend(pieces.next().await.unwrap().unwrap());
        found.extend(pieces.next().await.unwrap().unwrap());
        let piece = pieces.next().await.unwrap().unwrap();
        assert!(piece.len() <= wanted, "{} for {wanted}", piece.len());
        found.extend(piece);
    }
    size.set(MAX_PIECE_BYTES);
    let rest: Vec<Bytes> = pieces.try_collect().await.unwrap();
    assert!(content.starts_with(&found) && rest.concat() == content[found.len()..]);
}

pub(super) async fn stat_tells_size_and_age(driver: &dyn Driver) {
    let key = fresh_key();
    assert_eq!(driver.stat(&key).await.unwrap(), None);
    let before = now();
    write(driver, &key, &noise(12_345, 1)).await.unwrap();
    let stat = driver.stat(&key).await.unwrap().unwrap();
    assert_eq!(stat.size, 12_345);
    let age = stat.changed_at - before;
    // Clocks of file systems tick coarsely, clocks of servers differ.
    assert!(age.num_seconds().abs() <= 5, "{age}");
    let above = Key::parse(key.as_str().split('/').next().unwrap()).unwrap();
    assert_eq!(driver.stat(&above).await.unwrap(), None, "a folder is no object");
    assert_eq!(driver.stat(&Key::parse(format!("{key}/below")).unwrap()).await.unwrap(), None);
}

pub(super) async fn delete_removes_and_may_be_repeated(driver: &dyn Driver) {
    let (gone, stays) = (key("aa/bb/gone"), key("aa/bb/stays"));
    for key in [&gone, &stays] {
        write(driver, key, &noise(10, 1)).await.unwrap();
    }
    for _ in 0..2 {
        driver.delete(&gone).await.unwrap();
        assert_eq!(driver.stat(&gone).await.unwrap(), None);
    }
    driver.delete(&key("never/was/here")).await.unwrap();
    driver.delete(&key("aa/bb/stays/below")).await.unwrap();
    driver.delete(&key("aa/bb")).await.unwrap();
    assert_eq!(driver.stat(&stays).await.unwrap().unwrap().size, 10);
    if driver.capabilities().list {
        assert_eq!(all_keys(driver, "", 10).await, ["aa/bb/stays"]);
    }
    write(driver, &gone, &noise(20, 1)).await.unwrap();
    assert_eq!(driver.stat(&gone).await.unwrap().unwrap().size, 20);
}

pub(super) async fn a_list_is_in_byte_order_and_paged(driver: &dyn Driver) {
    requires!(driver, list);
    // A folder sorts as its name and a slash: after the minus and the dot, before the digits.
    let mut keys = ["a-b", "a.txt", "a/x/1", "a/x/2", "a/x!", "a/x0", "a0", "aé/1", "b/1", "z", "ä", "日/本"]
        .map(key)
        .to_vec();
    for key in &keys {
        write(driver, key, &noise(1, 1)).await.unwrap();
    }
    keys.sort();
    let expected: Vec<_> = keys.iter().map(|key| key.as_str().to_owned()).collect();
    for limit in 1..=expected.len() + 1 {
        assert_eq!(all_keys(driver, "", limit).await, expected, "pages of {limit}");
    }
    for prefix in ["a", "a/", "a/x", "a/x/", "a/x/1", "b", "é", "a/x/12", "a//", "../", "a/../b/", "/"] {
        let expected: Vec<_> = expected.iter().filter(|key| key.starts_with(prefix)).cloned().collect();
        for limit in [1, 2, 100] {
            assert_eq!(
                all_keys(driver, prefix, limit).await,
                expected,
                "below {prefix:?} in pages of {limit}"
            );
        }
    }
    // From between two keys, and from a key that is gone.
    for after in
        ["a", "a/x/10", "a/", "a.u", "zz", "日/本"].into_iter().filter_map(|after| Key::parse(after).ok())
    {
        let expected: Vec<_> = keys.iter().filter(|key| **key > after).cloned().collect();
        let found: Vec<_> =
            driver.list("", Some(&after), 100).await.unwrap().into_iter().map(|listed| listed.key).collect();
        assert_eq!(found, expected, "after {after}");
    }
}

pub(super) async fn a_list_hides_the_reserved_folder_unless_asked(driver: &dyn Driver) {
    requires!(driver, list);
    driver.put(&Key::marker(), Bytes::from_static(b"{}")).await.unwrap();
    for text in [".coffer/zz/1", ".cofferdam", "-", "a"] {
        write(driver, &key(text), &noise(1, 1)).await.unwrap();
    }
    assert_eq!(all_keys(driver, "", 2).await, ["-", ".cofferdam", "a"]);
    assert_eq!(all_keys(driver, ".coffer/", 1).await, [".coffer/volume.json", ".coffer/zz/1"]);
    assert_eq!(all_keys(driver, ".coffer/zz/", 1).await, [".coffer/zz/1"]);
    let after = driver.list("", Some(&Key::marker()), 10).await.unwrap();
    let after: Vec<_> = after.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!(after, [".coffer/zz/1", ".cofferdam", "a"]);
}

pub(super) async fn a_list_tells_what_stat_tells(driver: &dyn Driver) {
    requires!(driver, list);
    for length in [0, 1, 70_000] {
        write(driver, &fresh_key(), &noise(length, 1)).await.unwrap();
    }
    let found = driver.list("", None, 10).await.unwrap();
    assert_eq!(found.len(), 3);
    for listed in found {
        assert_eq!(driver.stat(&listed.key).await.unwrap(), Some(listed.stat));
    }
}

pub(super) async fn put_replaces(driver: &dyn Driver) {
    let key = Key::marker();
    for length in [65_536, 0, 17] {
        let content = noise(length, length as u64);
        driver.put(&key, content.clone()).await.unwrap();
        assert_eq!(read(driver, &key).await.unwrap(), content);
    }
    if driver.capabilities().list {
        assert_eq!(
            all_keys(driver, ".coffer/", 10).await,
            [".coffer/volume.json"],
            "nothing is left beside it"
        );
    }
}

pub(super) async fn a_link_is_the_same_object_at_a_path(driver: &dyn Driver) {
    requires!(driver, link);
    let (object, path, content) = (fresh_key(), key("reports/2026/June.txt"), noise(100_000, 1));
    assert_eq!(kind(driver.link(&object, &path, &[]).await), Some(ErrorKind::NotFound));
    write(driver, &object, &content).await.unwrap();
    for _ in 0..2 {
        driver.link(&object, &path, &[]).await.unwrap();
        assert_eq!(read(driver, &path).await.unwrap(), content);
    }
    // Each stays when the other goes.
    driver.unlink(&path, std::slice::from_ref(&object)).await.unwrap();
    assert_eq!(driver.stat(&path).await.unwrap(), None);
    driver.unlink(&path, std::slice::from_ref(&object)).await.unwrap();
    assert_eq!(read(driver, &object).await.unwrap(), content);
    driver.link(&object, &path, &[]).await.unwrap();
    driver.delete(&object).await.unwrap();
    assert_eq!(read(driver, &path).await.unwrap(), content);
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
}

pub(super) async fn a_link_takes_the_place_of_what_it_may_and_of_nothing_else(driver: &dyn Driver) {
    requires!(driver, link);
    let (old, new, path) = (fresh_key(), fresh_key(), key("a/b"));
    write(driver, &old, &noise(100, 1)).await.unwrap();
    write(driver, &new, &noise(200, 2)).await.unwrap();
    let taken = Some(ErrorKind::AlreadyExists);
    // Somebody else's, also of the same content.
    driver.put(&path, noise(100, 1)).await.unwrap();
    assert_eq!(kind(driver.link(&new, &path, std::slice::from_ref(&old)).await), taken);
    driver.unlink(&path, &[old.clone(), new.clone()]).await.unwrap();
    assert_eq!(read(driver, &path).await.unwrap(), noise(100, 1));
    driver.delete(&path).await.unwrap();
    // A file where a folder would be, and a folder where the file would be.
    driver.link(&old, &path, &[]).await.unwrap();
    assert_eq!(kind(driver.link(&new, &key("a/b/c"), &[]).await), taken);
    assert_eq!(kind(driver.link(&new, &key("a"), &[]).await), taken);
    // One that may not be replaced, and one that may.
    assert_eq!(kind(driver.link(&new, &path, &[]).await), taken);
    assert_eq!(read(driver, &path).await.unwrap(), noise(100, 1));
    driver.link(&new, &path, &[fresh_key(), old.clone()]).await.unwrap();
    assert_eq!(read(driver, &path).await.unwrap(), noise(200, 2));
    driver.unlink(&path, std::slice::from_ref(&old)).await.unwrap();
    assert_eq!(read(driver, &path).await.unwrap(), noise(200, 2), "it is not the old one any more");
    // What was left of a folder is in nobody's way.
    driver.unlink(&path, std::slice::from_ref(&new)).await.unwrap();
    driver.link(&new, &key("a"), &[]).await.unwrap();
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
}

pub(super) async fn while_a_link_is_replaced_one_of_the_two_is_there(driver: &dyn Driver) {
    requires!(driver, link);
    let (objects, path) = ([fresh_key(), fresh_key()], key("always/there"));
    let contents = [noise(50_000, 1), noise(60_000, 2)];
    for (object, content) in objects.iter().zip(&contents) {
        write(driver, object, content).await.unwrap();
    }
    driver.link(&objects[0], &path, &[]).await.unwrap();
    let replaces = async {
        for n in 1..200 {
            driver.link(&objects[n % 2], &path, &objects).await.unwrap();
        }
    };
    let reads = async {
        for _ in 0..200 {
            let found = read(driver, &path).await.unwrap();
            assert!(contents.iter().any(|content| *content == found), "whole, and one of the two");
        }
    };
    futures_util::join!(replaces, reads);
    assert_eq!(all_keys(driver, ".coffer/", 100).await, [""; 0]);
}

pub(super) async fn abort_leaves_nothing(driver: &dyn Driver) {
    for batches in [0, 1, 9] {
        let (key, upload) = (fresh_key(), UploadId::new());
        let options = WriteOptions { declared_size: Some(20_000_000), ..WriteOptions::default() };
        let mut writer = driver.begin(upload, &key, options).await.unwrap();
        for _ in 0..batches {
            writer.write(vec![noise(1024 * 1024, 1)].into()).await.unwrap();
        }
        writer.abort().await.unwrap();
        assert_eq!(driver.stat(&key).await.unwrap(), None);
        if driver.capabilities().list {
            assert_eq!(all_keys(driver, "", 10).await, [""; 0]);
            assert_eq!(all_keys(driver, ".coffer/", 10).await, [""; 0]);
        }
        driver.sweep(upload).await.unwrap();
    }
}

pub(super) async fn a_dropped_writer_leaves_nothing_that_is_not_swept(driver: &dyn Driver) {
    let (key, upload) = (fresh_key(), UploadId::new());
    let mut writer = driver.begin(upload, &key, WriteOptions::default()).await.unwrap();
    writer.write(vec![noise(1024 * 1024, 1)].into()).await.unwrap();
    // A write that is given up, then the writer.
    let given_up = writer.write(vec![noise(1024 * 1024, 2)].into()).now_or_never();
    assert!(given_up.is_none_or(|result| result.is_ok()));
    drop(writer);
    driver.sweep(upload).await.unwrap();
    assert_eq!(driver.stat(&key).await.unwrap(), None);
    if driver.capabilities().list {
        assert_eq!(all_keys(driver, ".coffer/", 10).await, [""; 0]);
    }
    // The key is free.
    write(driver, &key, &noise(10, 3)).await.unwrap();
    assert_eq!(read(driver, &key).await.unwrap(), noise(10, 3));
}

pub(super) async fn sweep_is_idempotent_and_spares_others(driver: &dyn Driver) {
    let (key, upload) = (fresh_key(), UploadId::new());
    driver.sweep(upload).await.unwrap();
    let mut other = driver.begin(UploadId::new(), &key, WriteOptions::default()).await.unwrap();
    other.write(vec![noise(1000, 1)].into()).await.unwrap();
    drop(driver.begin(upload, &fresh_key(), WriteOptions::default()).await.unwrap());
    for _ in 0..3 {
        driver.sweep(upload).await.unwrap();
    }
    assert_eq!(other.finish().await.unwrap().size, 1000);
    assert_eq!(read(driver, &key).await.unwrap(), noise(1000, 1));
}

pub(super) async fn a_batch_is_encoded_once(driver: &dyn Driver) {
    let (key, calls) = (fresh_key(), Arc::new(AtomicUsize::new(0)));
    let mut writer = begin(driver, &key).await.unwrap();
    for n in 0..20 {
        let calls = Arc::clone(&calls);
        let encode = move || {
            calls.fetch_add(1, Ordering::SeqCst);
            vec![noise(1000, n)]
        };
        writer.write(Batch::new(encode)).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().size, 20_000);
    assert_eq!(calls.load(Ordering::SeqCst), 20);
    assert_eq!(read(driver, &key).await.unwrap(), (0..20).flat_map(|n| noise(1000, n)).collect::<Vec<_>>());
}

pub(super) async fn a_dropped_finish_has_either_happened_or_not(driver: &dyn Driver) {
    for n in 0..20 {
        let (key, upload, content) = (fresh_key(), UploadId::new(), noise(50_000, n));
        let mut writer = driver.begin(upload, &key, WriteOptions::default()).await.unwrap();
        writer.write(vec![content.clone()].into()).await.unwrap();
        let deadline = std::time::Duration::from_micros(20 * n);
        let finished = tokio::time::timeout(deadline, writer.finish()).await.is_ok();
        match read(driver, &key).await {
            Ok(found) => assert_eq!(found, content),
            Err(failure) => assert!(!finished && failure.kind == ErrorKind::NotFound, "{failure}"),
        }
    }
}

pub(super) async fn keys_of_every_kind_are_kept_apart(driver: &dyn Driver) {
    let long_segment = "s".repeat(255);
    let long_key = vec!["k".repeat(100); 10].join("/");
    let deep = vec!["d"; 200].join("/");
    let texts = [
        "a",
        "A",
        "a b",
        " a",
        "a%2fb",
        "caf\u{e9}",
        "cafe\u{301}",
        "%00",
        "...",
        "....",
        "..a",
        "~",
        "-rf",
        "*",
        "?",
        "#",
        ":",
        "日本語/ファイル",
        "\u{1F600}",
        "'\"",
        "$(x)",
        &long_segment,
        &long_key,
        &deep,
    ];
    for (n, text) in texts.iter().enumerate() {
        write(driver, &key(text), &noise(100, n as u64))
            .await
            .unwrap_or_else(|failure| panic!("{text}: {failure:?}"));
    }
    for (n, text) in texts.iter().enumerate() {
        assert_eq!(read(driver, &key(text)).await.unwrap(), noise(100, n as u64), "{text}");
    }
    if driver.capabilities().list {
        let mut expected = texts.map(str::to_owned);
        expected.sort();
        assert_eq!(all_keys(driver, "", 7).await, expected);
    }
}
