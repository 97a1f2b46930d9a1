//! The contract of `coffer_domain::driver::Driver`, kept by every driver: each behaviour is a function of a driver, run here against
//! every backend.

/// Ends a behaviour that needs what the driver does not offer, and says so.
macro_rules! requires {
    ($driver:expr, $capability:ident) => {
        if !$driver.capabilities().$capability {
            return super::report::lacks(stringify!($capability));
        }
    };
}

mod behaviour;
mod copy;
mod report;
mod resume;
mod versions;

use crate::servers;
use coffer_domain::{
    budget::Budget,
    driver::{Driver, Open as _},
    id::{ClusterId, VolumeId},
    volume::{OpenBackend, Place},
};
use coffer_drivers::{
    Opener,
    local::{Config, Local, Staging},
};
use coffer_test_servers::Kind;
use std::{any::Any, sync::Arc};
use tempfile::TempDir;

/// A driver on a place of its own, which ends with the test.
struct Backend {
    driver: Arc<dyn Driver>,
    _place: Box<dyn Any + Send>,
}

/// `None` where what it needs is missing.
type Opened = Option<Backend>;

async fn local(prefix: &str, staging: Staging) -> Opened {
    let place = TempDir::new().unwrap();
    let config = Config { root: place.path().to_owned(), prefix: prefix.to_owned(), staging };
    Some(Backend { driver: Arc::new(Local::open(config).await.unwrap()), _place: Box::new(place) })
}

async fn opened(prefix: &str) -> Opened {
    let place = TempDir::new().unwrap();
    let backend = OpenBackend {
        volume: VolumeId::new(),
        cluster: ClusterId::new(),
        prefix: prefix.to_owned(),
        place: Place::Local(place.path().to_owned()),
    };
    let driver = Opener::default().open(&backend).await.unwrap();
    Some(Backend { driver, _place: Box::new(place) })
}

async fn s3(kind: Kind, prefix: &str, is_wrapped: bool) -> Opened {
    s3_with(kind, Budget::default(), prefix, is_wrapped).await
}

async fn s3_with(kind: Kind, budget: Budget, prefix: &str, is_wrapped: bool) -> Opened {
    let (driver, server) = servers::s3(kind, prefix, budget).await?;
    Some(Backend { driver: servers::wrapped_if(is_wrapped, driver), _place: Box::new(server) })
}

async fn virtual_host(prefix: &str) -> Opened {
    let (driver, server) = servers::virtual_host(prefix).await?;
    Some(Backend { driver, _place: Box::new(server) })
}

async fn versioned(prefix: &str, is_wrapped: bool) -> Opened {
    let (driver, server) = servers::versioned(prefix).await?;
    Some(Backend { driver: servers::wrapped_if(is_wrapped, driver), _place: Box::new(server) })
}

async fn http(kind: Kind, prefix: &str, is_wrapped: bool) -> Opened {
    http_with(Budget::default(), kind, prefix, is_wrapped).await
}

async fn http_with(budget: Budget, kind: Kind, prefix: &str, is_wrapped: bool) -> Opened {
    let (driver, server) = servers::http(kind, prefix, budget).await?;
    Some(Backend { driver: servers::wrapped_if(is_wrapped, driver), _place: Box::new(server) })
}

async fn sftp(kind: Kind, prefix: &str, is_wrapped: bool) -> Opened {
    sftp_with(16, kind, prefix, is_wrapped).await
}

async fn sftp_with(sessions: usize, kind: Kind, prefix: &str, is_wrapped: bool) -> Opened {
    let (driver, server) = servers::sftp(kind, prefix, sessions).await?;
    Some(Backend { driver: servers::wrapped_if(is_wrapped, driver), _place: Box::new(server) })
}

async fn ftp(kind: Kind, prefix: &str, is_wrapped: bool) -> Opened {
    ftp_with(Budget::default(), kind, prefix, is_wrapped).await
}

async fn ftp_with(budget: Budget, kind: Kind, prefix: &str, is_wrapped: bool) -> Opened {
    let (driver, server) = servers::ftp(kind, prefix, budget).await?;
    Some(Backend { driver: servers::wrapped_if(is_wrapped, driver), _place: Box::new(server) })
}

/// No memory but the least that each writer has in any case: parts are made of small pieces.
fn short() -> Budget {
    Budget::new(0)
}

/// A module per backend with a test per behaviour.
macro_rules! conformance {
    ($($backend:ident: $open:expr;)+) => {
        behaviours!(all [$($backend: $open;)+]);
    };
}

macro_rules! behaviours {
    (all [$($backend:ident: $open:expr;)+]) => {
        $(mod $backend {
            use super::*;
            behaviours!(tests $backend, $open, behaviour, [
                nothing_is_visible_before_finish,
                finish_answers_the_size_and_the_content_reads_back,
                sixty_four_mebibytes_come_back_as_they_were,
                many_small_pieces_are_one_object,
                an_empty_object_is_an_object,
                a_declared_size_is_only_a_hint,
                finish_never_replaces,
                the_key_may_be_chosen_at_the_end,
                what_is_stored_at_once_is_an_object_like_any_other,
                of_many_that_are_stored_at_once_each_is_there,
                of_many_writers_to_one_key_one_wins,
                ranges_are_exact,
                a_range_is_cut_at_the_end_of_the_object,
                reading_what_is_absent_fails_before_the_first_piece,
                pieces_are_bounded,
                pieces_are_as_large_as_their_taker_wants,
                stat_tells_size_and_age,
                delete_removes_and_may_be_repeated,
                a_list_is_in_byte_order_and_paged,
                a_list_hides_the_reserved_folder_unless_asked,
                a_list_tells_what_stat_tells,
                put_replaces,
                a_link_is_the_same_object_at_a_path,
                a_link_takes_the_place_of_what_it_may_and_of_nothing_else,
                while_a_link_is_replaced_one_of_the_two_is_there,
                abort_leaves_nothing,
                a_dropped_writer_leaves_nothing_that_is_not_swept,
                sweep_is_idempotent_and_spares_others,
                a_batch_is_encoded_once,
                a_dropped_finish_has_either_happened_or_not,
                keys_of_every_kind_are_kept_apart,
            ]);
            behaviours!(tests $backend, $open, copy, [
                a_copy_is_an_object_of_its_own,
                a_copy_never_replaces_what_was_there,
                a_copy_of_what_is_absent_leaves_nothing,
            ]);
            behaviours!(tests $backend, $open, resume, [
                what_a_checkpoint_made_durable_is_gone_on_with,
                what_was_written_after_the_checkpoint_is_cut_off,
                an_object_is_resumed_as_often_as_its_writer_is_lost,
                writes_go_on_beside_a_checkpoint,
                checkpoints_may_overlap_and_be_given_up,
                a_published_object_is_taken_back,
                what_was_published_at_another_key_is_taken_back_from_there,
                less_than_was_asked_for_is_not_found_and_stays,
                without_bytes_it_begins_anew,
                a_begin_is_repeated_over_what_it_left,
                while_one_writes_another_is_refused,
                of_many_who_resume_one_wins,
                a_declared_size_is_not_what_is_there,
                what_is_swept_is_gone,
                abort_leaves_nothing_to_resume,
                a_refused_finish_keeps_what_is_staged,
                a_given_up_resume_has_either_happened_or_not,
                only_a_resumable_object_has_checkpoints,
            ]);
            behaviours!(tests $backend, $open, versions, [
                each_version_is_read_by_its_id,
                what_was_deleted_is_there_as_a_version,
                one_version_is_removed_and_the_other_stays,
                a_version_that_is_none_is_not_found,
                without_the_capability_there_are_no_versions,
            ]);
        })+
    };
    (tests $backend:ident, $open:expr, $module:ident, [$($name:ident,)+]) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let case = report::Case::begin(stringify!($backend), stringify!($name));
            let opened: Opened = $open.await;
            match opened {
                Some(backend) => {
                    super::$module::$name(&*backend.driver).await;
                    case.kept();
                }
                None => case.ignored(),
            }
        })+
    };
}

conformance! {
    local_unnamed: local("", Staging::Unnamed);
    local_named: local("", Staging::Named);
    local_with_prefix: local("tenant/one/", Staging::Unnamed);
    local_wrapped: opened("");
    local_wrapped_with_prefix: opened("tenant/");
    s3_rclone: s3(Kind::RcloneS3, "", false);
    s3_rclone_wrapped_with_prefix: s3(Kind::RcloneS3, "tenant/one/", true);
    s3_rclone_short_of_memory: s3_with(Kind::RcloneS3, short(), "", false);
    s3_minio: s3(Kind::Minio, "", false);
    s3_minio_virtual_host: virtual_host("tenant/");
    s3_minio_versioned: versioned("", false);
    s3_minio_versioned_wrapped_with_prefix: versioned("tenant/one/", true);
    webdav_rclone: http(Kind::RcloneWebdav, "", false);
    webdav_apache: http(Kind::ApacheDav, "", false);
    webdav_apache_wrapped_with_prefix: http(Kind::ApacheDav, "tenant/one/", true);
    webdav_apache_short_of_memory: http_with(short(), Kind::ApacheDav, "", false);
    http_nginx: http(Kind::Nginx, "", false);
    sftp_openssh: sftp(Kind::OpenSsh, "", false);
    sftp_openssh_wrapped_with_prefix: sftp(Kind::OpenSsh, "tenant/one/", true);
    sftp_openssh_short_of_sessions: sftp_with(2, Kind::OpenSsh, "", false);
    sftp_rclone: sftp(Kind::RcloneSftp, "", false);
    ftp_vsftpd: ftp(Kind::Vsftpd, "", false);
    ftp_vsftpd_wrapped_with_prefix: ftp(Kind::Vsftpd, "tenant/one/", true);
    ftp_vsftpd_short_of_memory: ftp_with(short(), Kind::Vsftpd, "", false);
    ftp_vsftpd_explicit_tls: ftp(Kind::VsftpdExplicit, "", false);
    ftp_vsftpd_implicit_tls: ftp(Kind::VsftpdImplicit, "", false);
    ftp_proftpd: ftp(Kind::Proftpd, "", false);
    ftp_proftpd_short_of_memory: ftp_with(short(), Kind::Proftpd, "tenant/", false);
}

/// What each server lets the driver promise. Printed, so that a new version of a server shows what changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_server_lets_the_driver_promise() {
    let rows = [
        ("rclone serve s3", s3(Kind::RcloneS3, "", false).await, "atomic durable resume range list copy"),
        ("minio", s3(Kind::Minio, "", false).await, "atomic durable resume range list copy"),
        ("minio, versioned", versioned("", false).await, "atomic durable resume range list copy versions"),
        (
            "rclone serve webdav",
            http(Kind::RcloneWebdav, "", false).await,
            "atomic resume range list copy rename",
        ),
        ("apache mod_dav", http(Kind::ApacheDav, "", false).await, "atomic resume range list copy rename"),
        ("nginx PUT", http(Kind::Nginx, "", false).await, "range"),
        (
            "openssh",
            sftp(Kind::OpenSsh, "", false).await,
            "atomic durable create-only resume range list rename",
        ),
        ("rclone serve sftp", sftp(Kind::RcloneSftp, "", false).await, "atomic resume range list rename"),
        ("vsftpd", ftp(Kind::Vsftpd, "", false).await, "atomic resume range list rename"),
        ("vsftpd, TLS", ftp(Kind::VsftpdExplicit, "", false).await, "atomic resume range list rename"),
        ("proftpd", ftp(Kind::Proftpd, "", false).await, "atomic resume range list rename"),
    ];
    for (server, opened, expected) in rows {
        let Some(backend) = opened else { continue };
        let can = backend.driver.capabilities();
        let promises = [
            ("atomic", can.atomic_publish),
            ("durable", can.durable_ack),
            ("create-only", can.create_only),
            ("resume", can.resume),
            ("range", can.range_read),
            ("list", can.list),
            ("copy", can.copy),
            ("link", can.link),
            ("rename", can.rename),
            ("versions", can.versions),
        ];
        let kept: Vec<_> =
            promises.into_iter().filter_map(|(name, is_kept)| is_kept.then_some(name)).collect();
        println!("{server:20} {}", kept.join(" "));
        assert_eq!(kept.join(" "), expected, "{server}");
    }
}
