//! What any message of an upload becomes: one of the domain's, saying the same, or a refusal that names fields of the message.

use super::*;
use coffer_domain::volume::VolumeRef;
use coffer_proto::v1::file_reference::By;
use proptest::{collection::vec, option, prelude::*};
use prost::Message as _;

/// Texts that mean something, and any. Boxed, as what is made of it: strategies lie on the stack, and so many of them would not fit there.
fn text() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,6}(/[a-z.]{1,6}){0,3}",
        ".{0,20}",
        Just("ab".repeat(32)),
        Just("01890a5d-ac96-774b-bcce-b302099a8057".to_owned()),
        Just("main".to_owned()),
        Just("../x".to_owned()),
    ]
    .boxed()
}

fn number() -> impl Strategy<Value = i64> {
    prop_oneof![0..1_000_000_i64, any::<i64>(), Just(i64::MAX), Just(-1)]
}

fn reference() -> BoxedStrategy<v1::FileReference> {
    let by = prop_oneof![
        text().prop_map(By::Id),
        text().prop_map(By::FileId),
        (text(), text()).prop_map(|(volume, path)| By::Path(v1::PathReference { volume, path })),
    ];
    option::of(by).prop_map(|by| v1::FileReference { by }).boxed()
}

fn spec() -> BoxedStrategy<v1::UploadSpec> {
    let names = (text(), text(), text(), text(), text(), text(), text());
    let rest =
        (option::of(reference()), -2..9_i32, vec(text(), 0..4), option::of(number()), any::<bool>(), text());
    (names, rest)
        .prop_map(|(names, rest)| {
            let (volume, path, filename, file_id, project_id, sha256, if_etag) = names;
            let (file, classification, tags, size_bytes, create_only, request_id) = rest;
            v1::UploadSpec {
                volume,
                path,
                file,
                filename,
                file_id,
                project_id,
                sha256,
                if_etag,
                classification,
                tags,
                size_bytes,
                create_only,
                request_id,
                ..v1::UploadSpec::default()
            }
        })
        .boxed()
}

fn data() -> impl Strategy<Value = Option<ChecksummedData>> {
    option::of((vec(any::<u8>(), 0..40), option::of(any::<u32>())))
        .prop_map(|data| data.map(|(content, crc32c)| ChecksummedData { content: content.into(), crc32c }))
}

fn any_message() -> impl Strategy<Value = WriteFileRequest> {
    use coffer_proto::v1::write_file_request::FirstMessage;
    let first = option::of(prop_oneof![
        3 => spec().prop_map(FirstMessage::Spec),
        1 => text().prop_map(FirstMessage::UploadId),
    ]);
    (first, number(), data(), any::<bool>(), text()).prop_map(
        |(first_message, write_offset, data, finish, sha256)| WriteFileRequest {
            first_message,
            write_offset,
            data,
            finish,
            sha256,
        },
    )
}

/// The refusal names at least one field, and only those of this message.
fn names_fields(error: Error) {
    let fields = bad_fields(error);
    assert!(!fields.is_empty());
    let known = ["upload_id", "write_offset", "sha256", "data", "finish", "spec"];
    for field in fields {
        let top = field.split('.').next().unwrap_or_default();
        assert!(known.contains(&top), "{field:?} is no field of a message");
    }
}

/// What was accepted says what the message says.
fn says_the_same(part: &Part, message: &WriteFileRequest) {
    assert_eq!(part.finish.is_some(), message.finish);
    let sha256 = part.finish.and_then(|sha256| sha256).map(|sha256| sha256.to_string());
    assert_eq!(sha256.unwrap_or_default(), message.sha256);
    let data = part.data.as_ref();
    assert_eq!(data.map(|(_, data)| data), message.data.as_ref());
    if let Some((offset, data)) = data {
        assert_eq!(i64::try_from(*offset), Ok(message.write_offset));
        assert!(offset.checked_add(data.content.len() as u64).is_some_and(|end| i64::try_from(end).is_ok()));
    }
}

proptest! {
    #[test]
    fn a_first_message_becomes_what_it_says_or_names_its_bad_fields(message in any_message()) {
        match first(message.clone().into()) {
            Err(error) => names_fields(error),
            Ok((Target::Started(id), part)) => {
                says_the_same(&part, &message);
                prop_assert_eq!(message.first_message, Some(v1::write_file_request::FirstMessage::UploadId(id.to_string())));
            }
            Ok((Target::New(accepted), part)) => {
                says_the_same(&part, &message);
                let Some(v1::write_file_request::FirstMessage::Spec(spec)) = message.first_message else {
                    panic!("a spec was made of nothing")
                };
                prop_assert_eq!(accepted.path.unwrap_or_default(), spec.path);
                prop_assert_eq!(accepted.file_id.unwrap_or_default(), spec.file_id);
                prop_assert_eq!(accepted.project.unwrap_or_default(), spec.project_id);
                prop_assert_eq!(accepted.size.map(|size| size as i64), spec.size_bytes);
                prop_assert_eq!(accepted.sha256.map(|sum| sum.to_string()).unwrap_or_default(), spec.sha256);
                prop_assert_eq!(accepted.volume, VolumeRef::parse(&spec.volume));
                prop_assert_eq!(accepted.file.is_some(), spec.file.is_some());
                prop_assert_eq!(accepted.create_only, spec.create_only);
                prop_assert_eq!(accepted.request.is_some(), !spec.request_id.is_empty());
            }
        }
    }

    #[test]
    fn a_later_message_never_begins_anything(message in any_message()) {
        let has_first = message.first_message.is_some();
        match later_message(message.clone().into()) {
            Err(error) => names_fields(error),
            Ok(part) => {
                prop_assert!(!has_first);
                says_the_same(&part, &message);
            }
        }
    }

    #[test]
    fn both_rpcs_read_the_same(message in any_message()) {
        // The two are the same on the wire.
        let bidi = BidiWriteFileRequest::decode(message.encode_to_vec().as_slice()).unwrap();
        prop_assert_eq!(Message::from(bidi), Message::from(message));
    }

    #[test]
    fn bytes_that_are_a_message_are_never_too_much(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = WriteFileRequest::decode(bytes.as_slice()) {
            let again = WriteFileRequest::decode(message.encode_to_vec().as_slice()).unwrap();
            prop_assert_eq!(&again, &message);
            if let Err(error) = first(message.into()) {
                names_fields(error);
            }
        }
    }
}
