//! What stays of an upload that failed.

use super::*;
use tonic::Code;
use tonic_types::{ErrorDetails, StatusExt as _};

fn refused(code: Code, reason: &str) -> Error {
    let details = ErrorDetails::with_error_info(reason, coffer_proto::ERROR_DOMAIN, []);
    Status::with_error_details(code, "no", details).into()
}

#[test]
fn only_refused_contents_end_an_upload() {
    let open = [
        Error::Lost(String::new()),
        Error::TimedOut { what: "", after: Duration::ZERO },
        refused(Code::Unavailable, "SHUTTING_DOWN"),
        refused(Code::Unauthenticated, "TOKEN_EXPIRED"),
        refused(Code::DeadlineExceeded, "STREAM_STALLED"),
        refused(Code::Aborted, "UPLOAD_TAKEN_OVER"),
        refused(Code::OutOfRange, "OFFSET_GAP"),
        refused(Code::Internal, "INTERNAL"),
        Status::unavailable("a proxy's own words").into(),
    ];
    let mismatch = |algorithm: &str| -> Error {
        let facts = [("algorithm".to_owned(), algorithm.to_owned())];
        let details = ErrorDetails::with_error_info("CHECKSUM_MISMATCH", coffer_proto::ERROR_DOMAIN, facts);
        Status::with_error_details(Code::InvalidArgument, "no", details).into()
    };
    for error in open.into_iter().chain([mismatch("CRC-32C")]) {
        assert!(!is_final(&error), "{error:?}");
    }
    let ended = [
        refused(Code::InvalidArgument, "CHECKSUM_MISMATCH"),
        mismatch("SHA-256"),
        refused(Code::OutOfRange, "SIZE_MISMATCH"),
        refused(Code::ResourceExhausted, "QUOTA_EXCEEDED"),
        refused(Code::FailedPrecondition, "UPLOAD_ENDED"),
        refused(Code::Aborted, "ETAG_MISMATCH"),
        Error::Protocol(String::new()),
    ];
    for error in ended {
        assert!(is_final(&error), "{error:?}");
    }
}

#[test]
fn what_was_sent_twice_is_what_is_left_over() {
    let file = v1::File { size_bytes: 100, ..Default::default() };
    let uploaded = Uploaded { file, resumed_from_bytes: 7, sent_bytes: 95, attempts: 2 };
    assert_eq!(uploaded.resent_bytes(), 2);
}

#[test]
fn transfers_can_be_spawned() {
    fn spawnable<T: Send>(_: impl Fn(Client) -> T) {}
    spawnable(
        |client| async move { client.upload(tokio::io::empty(), v1::UploadSpec::default(), |_| {}).await },
    );
    spawnable(
        |client| async move { client.upload_file("a".as_ref(), v1::UploadSpec::default(), |_| {}).await },
    );
    spawnable(|client| async move { client.read(v1::ReadFileRequest::default()).await });
}
