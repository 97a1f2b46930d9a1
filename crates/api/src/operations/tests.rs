use super::*;
use coffer_domain::{Error, caller::Caller};
use prost_types::Timestamp;

fn bad_fields(message: ListOperationsRequest) -> Vec<String> {
    let mut fields = Fields::default();
    let filter = filter(message, &mut fields);
    match fields.finish(filter) {
        Err(Error::Invalid(violations)) => violations.into_iter().map(|violation| violation.field).collect(),
        other => panic!("{other:?}"),
    }
}

fn time(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

#[test]
fn kinds_go_both_ways() {
    let numbers: Vec<i32> = (1..).take_while(|number| v1::OperationKind::try_from(*number).is_ok()).collect();
    assert!(numbers.len() >= 35);
    for number in numbers {
        let wire = v1::OperationKind::try_from(number).unwrap();
        let kind = to_domain_kind(wire).unwrap();
        assert_eq!(to_kind(kind), wire);
        assert_eq!(wire.as_str_name(), format!("OPERATION_KIND_{}", kind.as_str().to_uppercase()));
    }
}

#[test]
fn a_filter_is_read() {
    let message = ListOperationsRequest {
        kinds: vec![v1::OperationKind::Upload.into(), v1::OperationKind::Purge.into()],
        status: v1::OperationStatus::Failed.into(),
        start_time: time(5),
        end_time: time(5),
        ..ListOperationsRequest::default()
    };
    let mut fields = Fields::default();
    let filter = filter(message, &mut fields);
    let filter = fields.finish(filter).unwrap();
    assert_eq!(filter.kinds, [OperationKind::Upload, OperationKind::Purge]);
    assert_eq!(filter.status, Some(OperationStatus::Failed));
    assert_eq!(filter.from, filter.until);
}

#[test]
fn every_bad_field_is_told() {
    let bad = ListOperationsRequest {
        file_id: "x".into(),
        user_id: "y".into(),
        kinds: vec![99, v1::OperationKind::Upload.into(), 0],
        status: 99,
        start_time: time(6),
        end_time: time(5),
        ..ListOperationsRequest::default()
    };
    assert_eq!(bad_fields(bad), ["file_id", "user_id", "kinds[0]", "kinds[2]", "status", "end_time"]);
    let many = ListOperationsRequest { kinds: vec![1; MAX_KINDS + 1], ..ListOperationsRequest::default() };
    assert_eq!(bad_fields(many), ["kinds"]);
}

#[test]
fn an_operation_is_shown_with_its_record() {
    let operation = Caller::service().operation(OperationKind::Reconcile).failed(&Error::invalid("a", "b"));
    let record = operation.record();
    let shown = to_operation(Recorded { operation: operation.clone(), record: record.clone() });
    assert_eq!((shown.id, shown.error_code.as_str()), (operation.id.to_string(), "FIELD_INVALID"));
    assert_eq!(shown.record, record);
    assert!(shown.error_details.unwrap().fields.contains_key("fields"));
    assert_eq!((shown.provider.as_str(), shown.file_id.as_str()), ("", ""));
}
