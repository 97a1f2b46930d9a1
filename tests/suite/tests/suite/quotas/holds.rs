//! What an upload holds while it is under way, and that it is given back however it ends.

use super::{bytes, cancel, eventually, last, next, quota, request_id, send, set, start, upload};
use coffer_proto::v1::{self, UploadState, quota_key::Of};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, first, noise, refusal},
};
use tonic::Code;

const SIZE: i64 = 5_000;
/// More than is stored without a reservation when one stream brings it all.
const LARGE: i64 = 3 * 1024 * 1024;

/// Used bytes and files, then reserved bytes and files.
type Counts = (i64, i64, i64, i64);

struct Rig {
    cofferd: Cofferd,
    ann: Clients,
    operator: Clients,
}

impl Rig {
    async fn start() -> Self {
        let cofferd = Cofferd::start().await;
        let ann = cofferd.clients(&Token::user("ann", "clinic").through("viewer").project("trial")).await;
        let operator = cofferd.clients(&Token::user("olga", "clinic").role("operator")).await;
        Self { cofferd, ann, operator }
    }

    /// What the user's quota says; all six say the same, and those of a volume count no files.
    async fn counts(&self) -> Counts {
        let user = quota(&self.ann, Of::UserId(String::new())).await;
        let counts = (user.used_bytes, user.used_files, user.reserved_bytes, user.reserved_files);
        for (who, of, counts_files) in [
            (&self.operator, Of::Volume("main".into()), false),
            (&self.ann, Of::UserOnVolume(Default::default()), false),
            (&self.ann, Of::AppOnVolume(Default::default()), false),
            (&self.ann, Of::OrganisationId(String::new()), true),
            (&self.ann, Of::ProjectId("trial".into()), true),
        ] {
            let found = quota(who, of.clone()).await;
            let files = if counts_files { (counts.1, counts.3) } else { (0, 0) };
            assert_eq!(
                (found.used_bytes, found.used_files, found.reserved_bytes, found.reserved_files),
                (counts.0, files.0, counts.2, files.1),
                "{of:?}"
            );
        }
        let request = v1::GetVolumeRequest { volume: "main".into() };
        let answer = self.operator.volumes.clone().get_volume(request).await.unwrap();
        let volume = answer.into_inner().volume.unwrap();
        assert_eq!((volume.quota_used_bytes, volume.quota_reserved_bytes), (counts.0, counts.2));
        counts
    }

    /// Reserved bytes: one look, for waiting; all six are several looks, between which something may change.
    async fn reserved(&self) -> i64 {
        quota(&self.ann, Of::UserId(String::new())).await.reserved_bytes
    }

    async fn started(&self, path: &str, size_bytes: Option<i64>) -> v1::Upload {
        start(&self.ann, spec(path, size_bytes)).await.unwrap()
    }

    async fn state(&self, id: &str) -> (UploadState, i64) {
        let found = upload(&self.ann, id).await;
        (found.state(), found.reserved_bytes)
    }
}

fn spec(path: &str, size_bytes: Option<i64>) -> v1::UploadSpec {
    v1::UploadSpec { project_id: "trial".into(), size_bytes, request_id: request_id(), ..at(path) }
}

/// Without a `request_id`: it ends with its stream.
fn one_shot(path: &str) -> v1::UploadSpec {
    v1::UploadSpec { request_id: String::new(), ..spec(path, None) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_declared_is_held_in_every_dimension_until_it_is_a_file() {
    let rig = Rig::start().await;
    let begun = rig.started("a", Some(SIZE)).await;
    assert_eq!((begun.state(), begun.reserved_bytes, begun.persisted_size), (UploadState::Open, SIZE, 0));
    assert_eq!(rig.counts().await, (0, 0, SIZE, 1));
    // Another one beside it, and one without a declared size, which holds a file only.
    let other = rig.started("b", Some(7)).await;
    let open = rig.started("c", None).await;
    assert_eq!(rig.counts().await, (0, 0, SIZE + 7, 3));
    assert_eq!(rig.state(&open.id).await, (UploadState::Open, 0));

    let content = noise(SIZE as usize);
    let status = send(&rig.ann, next(&begun.id, 0, content[..2_000].to_vec())).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "a stream that ends without `finish` only ends: {status:?}"
    );
    assert_eq!(rig.counts().await, (0, 0, SIZE + 7, 3), "progress changes nothing");
    send(&rig.ann, last(&begun.id, 2_000, content[2_000..].to_vec())).await.unwrap();
    assert_eq!(rig.counts().await, (SIZE, 1, 7, 2));
    assert_eq!(rig.state(&begun.id).await, (UploadState::Committed, 0));
    for left in [other, open] {
        cancel(&rig.ann, &left.id).await.unwrap();
    }
    assert_eq!(rig.counts().await, (SIZE, 1, 0, 0));
    super::nothing_drifts(&rig.cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_declared_is_held_as_it_arrives() {
    let rig = Rig::start().await;
    let begun = rig.started("a", None).await;
    let content = noise(300_000);
    send(&rig.ann, next(&begun.id, 0, content[..100_000].to_vec())).await.unwrap_err();
    let seen = upload(&rig.ann, &begun.id).await;
    assert_eq!((seen.state(), seen.persisted_size), (UploadState::Open, 100_000));
    assert!(seen.reserved_bytes >= 100_000, "{seen:?}");
    assert_eq!(rig.counts().await, (0, 0, seen.reserved_bytes, 1));
    let file = send(&rig.ann, last(&begun.id, 100_000, content[100_000..].to_vec())).await.unwrap();
    assert_eq!(file.size_bytes, 300_000);
    assert_eq!(rig.counts().await, (300_000, 1, 0, 0), "what was held beyond the content is given back");
    super::nothing_drifts(&rig.cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_held_is_given_back_when_its_content_is_refused() {
    let rig = Rig::start().await;
    let content = noise(SIZE as usize);
    for (path, message, refused) in [
        ("short", last("", 0, content[1..].to_vec()), (Code::OutOfRange, "SIZE_MISMATCH")),
        ("long", last("", 0, noise(SIZE as usize + 1)), (Code::OutOfRange, "SIZE_MISMATCH")),
        (
            "other",
            v1::WriteFileRequest { sha256: "0".repeat(64), ..last("", 0, content.clone()) },
            (Code::InvalidArgument, "CHECKSUM_MISMATCH"),
        ),
    ] {
        let begun = rig.started(path, Some(SIZE)).await;
        assert_eq!(rig.counts().await, (0, 0, SIZE, 1), "{path}");
        let first_message = next(&begun.id, 0, "").first_message;
        let status = send(&rig.ann, v1::WriteFileRequest { first_message, ..message }).await.unwrap_err();
        assert_eq!(refusal(&status), (refused.0, refused.1.to_owned()), "{path}");
        assert_eq!(rig.state(&begun.id).await, (UploadState::Aborted, 0), "{path}");
        assert_eq!(rig.counts().await, (0, 0, 0, 0), "{path}: at once");
    }
    // Refused because the path was taken meanwhile.
    let begun = v1::UploadSpec { create_only: true, ..spec("taken", Some(SIZE)) };
    let begun = start(&rig.ann, begun).await.unwrap();
    rig.ann.upload(one_shot("taken"), b"first").await.unwrap();
    assert_eq!(rig.counts().await, (5, 1, SIZE, 1));
    let status = send(&rig.ann, last(&begun.id, 0, content)).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::AlreadyExists, "PATH_TAKEN".to_owned()));
    assert_eq!(rig.state(&begun.id).await, (UploadState::Aborted, 0));
    assert_eq!(rig.counts().await, (5, 1, 0, 0));
    super::nothing_drifts(&rig.cofferd).await;
    eventually("the refused bytes are swept", async || rig.cofferd.objects().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_held_is_given_back_when_it_is_cancelled_or_left() {
    let rig = Rig::start().await;
    let cancelled = rig.started("cancelled", Some(SIZE)).await;
    send(&rig.ann, next(&cancelled.id, 0, noise(1_000))).await.unwrap_err();
    let answer = cancel(&rig.ann, &cancelled.id).await.unwrap();
    assert_eq!((answer.state(), answer.reserved_bytes), (UploadState::Aborted, 0));
    assert_eq!(rig.counts().await, (0, 0, 0, 0));

    // Without a request_id it ends with its stream; what is large is held all the same.
    let large = v1::UploadSpec { size_bytes: Some(LARGE), ..one_shot("left") };
    let writing = rig.ann.writing();
    writing.send(first(large)).await;
    eventually("the stream is under way", async || rig.reserved().await == LARGE).await;
    assert_eq!(rig.counts().await, (0, 0, LARGE, 1));
    writing.leave().await;
    eventually("what it held is given back", async || rig.reserved().await == 0).await;
    assert_eq!(rig.counts().await, (0, 0, 0, 0));
    super::nothing_drifts(&rig.cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_held_is_given_back_when_it_expires() {
    let rig = Rig::start().await;
    let expired = rig.started("expired", Some(SIZE)).await;
    assert_eq!(rig.counts().await, (0, 0, SIZE, 1));
    let over = "UPDATE storage_uploads SET expire_time = now() - interval '1 second' WHERE state = 'OPEN'";
    assert_eq!(rig.cofferd.database.connect().await.execute(over, &[]).await.unwrap(), 1);
    eventually("the upload expires", async || rig.state(&expired.id).await == (UploadState::Expired, 0))
        .await;
    assert_eq!(rig.counts().await, (0, 0, 0, 0));
    let status = send(&rig.ann, last(&expired.id, 0, noise(SIZE as usize))).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::FailedPrecondition, "UPLOAD_ENDED".to_owned()));
    let recorded = "SELECT count(*) FROM storage_operations WHERE operation = 'expire_upload'";
    assert_eq!(rig.cofferd.database.number(recorded).await, 1);
    super::nothing_drifts(&rig.cofferd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_content_holds_what_it_adds_to_the_one_it_replaces() {
    let rig = Rig::start().await;
    rig.ann.upload(one_shot("a"), &noise(3_000)).await.unwrap();
    let larger = rig.started("a", Some(SIZE)).await;
    let smaller = rig.started("a", Some(1_000)).await;
    assert_eq!((larger.reserved_bytes, smaller.reserved_bytes), (SIZE - 3_000, 0));
    assert_eq!(rig.counts().await, (3_000, 1, SIZE - 3_000, 0), "and no file");
    send(&rig.ann, last(&smaller.id, 0, noise(1_000))).await.unwrap();
    assert_eq!(rig.counts().await, (1_000, 1, SIZE - 3_000, 0));
    // Now it adds more than it holds: the commit charges the rest.
    send(&rig.ann, last(&larger.id, 0, noise(SIZE as usize))).await.unwrap();
    assert_eq!(rig.counts().await, (SIZE, 1, 0, 0));
    // Where the rest does not fit, it is refused, and nothing has changed.
    let larger = rig.started("a", Some(2 * SIZE)).await;
    rig.ann.upload(one_shot("a"), b"").await.unwrap();
    set(&rig.operator, bytes(Of::OrganisationId(String::new()), 2 * SIZE - 1)).await.unwrap();
    let status = send(&rig.ann, last(&larger.id, 0, noise(2 * SIZE as usize))).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned()));
    assert_eq!(rig.state(&larger.id).await, (UploadState::Aborted, 0));
    assert_eq!(rig.counts().await, (0, 1, 0, 0));
    super::nothing_drifts(&rig.cofferd).await;
}
