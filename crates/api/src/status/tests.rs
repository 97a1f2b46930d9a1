use super::*;
use coffer_domain::{
    error::{Limited, Resource, Unauthenticated, Unavailable},
    id::FileId,
    quota::QuotaKey,
};
use coffer_proto::v1::ErrorReason;
use std::collections::BTreeSet;

fn exhausted() -> Exhausted {
    Exhausted {
        key: QuotaKey::Organisation("clinic".into()),
        dimension: Dimension::Bytes,
        limit: 10,
        used: 8,
        reserved: 1,
        requested: 5,
    }
}

/// An error for each reason, with the code that the contract's manual names for it.
fn every_error() -> Vec<(Error, Code)> {
    vec![
        (Error::invalid("spec.path", "must not be empty"), Code::InvalidArgument),
        (
            Error::ChecksumMismatch { algorithm: "SHA-256", expected: "aa".into(), actual: "bb".into() },
            Code::InvalidArgument,
        ),
        (Error::MessageTooLarge { bytes: 3, limit: 2 }, Code::InvalidArgument),
        (Error::RequestIdReused, Code::InvalidArgument),
        (Error::SizeMismatch { declared: 10, received: 9 }, Code::OutOfRange),
        (Error::OffsetGap { expected: 5, offset: 7 }, Code::OutOfRange),
        (Error::RangePastEnd { offset: 8, size: 7 }, Code::OutOfRange),
        (Error::Unauthenticated(Unauthenticated::Missing), Code::Unauthenticated),
        (Error::Unauthenticated(Unauthenticated::Invalid), Code::Unauthenticated),
        (Error::Unauthenticated(Unauthenticated::Expired), Code::Unauthenticated),
        (Error::Unauthenticated(Unauthenticated::Certificate), Code::Unauthenticated),
        (Error::NotFound(Resource::Volume("main".into())), Code::NotFound),
        (Error::PermissionDenied("manage volumes"), Code::PermissionDenied),
        (Error::AlreadyExists(Taken::Path), Code::AlreadyExists),
        (Error::AlreadyExists(Taken::Place), Code::AlreadyExists),
        (Error::AlreadyExists(Taken::FileName), Code::AlreadyExists),
        (Error::AlreadyExists(Taken::VolumeName), Code::AlreadyExists),
        (Error::AlreadyExists(Taken::LocalPath), Code::AlreadyExists),
        (Error::AlreadyExists(Taken::Endpoint), Code::AlreadyExists),
        (Error::AlreadyExists(Taken::Credential), Code::AlreadyExists),
        (Error::Conflict(Conflict::Etag), Code::Aborted),
        (Error::Conflict(Conflict::TaskRunning), Code::Aborted),
        (Error::Conflict(Conflict::InFlight), Code::Aborted),
        (Error::Conflict(Conflict::Fenced), Code::Aborted),
        (Error::Conflict(Conflict::TakenOver), Code::Aborted),
        (Error::State(State::VolumeInactive), Code::FailedPrecondition),
        (Error::State(State::VolumeNotEmpty), Code::FailedPrecondition),
        (Error::State(State::VolumeConflict("overlaps another volume")), Code::FailedPrecondition),
        (Error::State(State::AddressForbidden(None)), Code::FailedPrecondition),
        (Error::State(State::LocalPath("is not a directory")), Code::FailedPrecondition),
        (Error::State(State::FileStatus("archived")), Code::FailedPrecondition),
        (Error::State(State::InUse("a volume stands on it")), Code::FailedPrecondition),
        (Error::State(State::UploadEnded("expired")), Code::FailedPrecondition),
        (Error::State(State::NoKeys), Code::FailedPrecondition),
        (Error::QuotaExceeded(vec![exhausted()]), Code::ResourceExhausted),
        (Error::FileTooLarge { limit: 10 }, Code::ResourceExhausted),
        (Error::VolumeFull, Code::ResourceExhausted),
        (Error::Overloaded, Code::ResourceExhausted),
        (Error::LimitReached { of: Limited::Uploads, limit: 5 }, Code::ResourceExhausted),
        (Error::Stalled { seconds: 30 }, Code::DeadlineExceeded),
        (Error::DeadlineExceeded, Code::DeadlineExceeded),
        (Error::ClientLeft, Code::Cancelled),
        (Error::Unavailable(Unavailable::Metadata), Code::Unavailable),
        (Error::Unavailable(Unavailable::Backend), Code::Unavailable),
        (Error::Unavailable(Unavailable::NotOnThisNode), Code::Unavailable),
        (Error::Unavailable(Unavailable::ShuttingDown), Code::Unavailable),
        (Error::Unavailable(Unavailable::IssuerKeys), Code::Unavailable),
        (Error::Corrupted(FileId::new()), Code::DataLoss),
        (Error::SecretUnreadable { key: "k".into(), why: "it is malformed" }, Code::DataLoss),
        (Error::Unsupported("copy"), Code::Unimplemented),
        (Error::internal("read a file", std::io::Error::other("secret host")), Code::Internal),
    ]
}

#[test]
fn each_error_has_its_code_and_says_its_reason() {
    for (error, expected) in every_error() {
        let status = status(&error);
        assert_eq!(status.code(), expected, "{error:?}");
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (error.reason(), "coffer.v1"));
    }
}

#[test]
fn reasons_are_those_of_the_contract() {
    let given: BTreeSet<String> =
        every_error().iter().map(|(error, _)| format!("ERROR_REASON_{}", error.reason())).collect();
    let contract: BTreeSet<String> = (1..1_000)
        .filter_map(|number| ErrorReason::try_from(number).ok())
        .map(|reason| reason.as_str_name().to_owned())
        .collect();
    assert!(contract.len() > 30, "the contract's reasons were not found");
    assert_eq!(given, contract);
}

#[test]
fn the_contract_names_the_code_of_each_reason() {
    let proto = include_str!("../../../../proto/coffer/v1/error.proto");
    for (error, code) in every_error() {
        let name = format!("  ERROR_REASON_{} =", error.reason());
        let at = proto
            .lines()
            .position(|line| line.starts_with(&name))
            .unwrap_or_else(|| panic!("{name} is missing"));
        let comment = proto.lines().collect::<Vec<_>>()[..at]
            .iter()
            .rev()
            .take_while(|line| line.trim_start().starts_with("//"))
            .last()
            .copied()
            .unwrap_or_default();
        let stated = comment.trim_start_matches([' ', '/']).split('.').next().unwrap_or_default();
        assert_eq!(stated, code_name(code as i32), "{name}");
    }
}

#[test]
fn a_fault_is_answered_without_its_source() {
    let answer = status(&Error::internal("read a file", std::io::Error::other("secret host")));
    assert_eq!(answer.message(), "internal error while trying to read a file");
    assert!(!String::from_utf8_lossy(answer.details()).contains("secret"));
}

#[test]
fn what_may_go_through_later_says_when() {
    for (error, _) in every_error() {
        let delay = status(&error).get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        let is_later = matches!(
            error,
            Error::Unavailable(_)
                | Error::Overloaded
                | Error::LimitReached { .. }
                | Error::Conflict(Conflict::InFlight)
        );
        assert_eq!(delay.is_some(), is_later, "{error:?}");
    }
}

#[test]
fn exhausted_quotas_are_told_with_their_numbers() {
    let dimension = |dimension| Exhausted { dimension, ..exhausted() };
    let error = [Dimension::Bytes, Dimension::Files, Dimension::FileSize].map(dimension);
    let details = status(&Error::QuotaExceeded(error.into())).get_error_details();
    let violations = &details.quota_failure().expect("a QuotaFailure").violations;
    for (violation, metric) in violations.iter().zip(["bytes", "files", "bytes of a single file"]) {
        assert_eq!(violation.subject, "organisation:clinic");
        let numbers = "limit 10, used 8, reserved 1, requested 5";
        assert_eq!(violation.description, format!("{metric}: {numbers}"));
        assert_eq!(violation.quota_value, 10);
    }
    assert_eq!(violations.len(), 3);
}

#[test]
fn an_upload_that_is_over_is_told_as_a_failed_precondition() {
    let id = UploadId::new();
    let details =
        status_of_upload(&Error::State(State::UploadEnded("expired")), Some(id)).get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["upload_id"], id.to_string());
    let violation = &details.precondition_failure().expect("a PreconditionFailure").violations[0];
    assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), ("UPLOAD_ENDED", "upload"));
    assert_eq!(violation.description, "the upload is expired");
}

#[test]
fn a_status_fits_into_headers_whatever_callers_sent() {
    let huge = "ü".repeat(1_000_000);
    let violation =
        |n| FieldViolation { field: format!("{n}").repeat(100), problem: huge[..2_000].to_owned() };
    let violations = (0..10_000).map(violation).collect();
    for error in [Error::Invalid(violations), Error::NotFound(Resource::File(huge.clone()))] {
        let mut headers = http::HeaderMap::new();
        status(&error).add_header(&mut headers).unwrap();
        let bytes: usize = headers.values().map(|value| value.len()).sum();
        assert!(bytes < 16 * 1024, "{bytes}");
    }
}
