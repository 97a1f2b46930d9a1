//! Who sees which uploads, a page at a time.

use super::{ended_early, part, rest, resumable};
use coffer_proto::v1::{self, UploadState};
use coffer_tests::{
    Cofferd, Token,
    grpc::{Clients, at, bad_fields, first, refusal},
};
use tonic::{Code, Status};

async fn list(clients: &Clients, request: v1::ListUploadsRequest) -> Result<v1::ListUploadsResponse, Status> {
    Ok(clients.transfers.clone().list_uploads(request).await?.into_inner())
}

async fn paths(clients: &Clients, request: v1::ListUploadsRequest) -> Vec<String> {
    list(clients, request).await.unwrap().uploads.into_iter().map(|upload| upload.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_listed_to_whom_they_concern() {
    let cofferd = Cofferd::start().await;
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let bob = cofferd.clients(&Token::user("bob", "clinic")).await;
    let strangers = cofferd.clients(&Token::user("ann", "lab")).await;
    let mut ids = Vec::new();
    for path in ["a", "b", "c", "d", "e"] {
        ids.push(ann.start_upload(resumable(path)).await.unwrap().id);
    }
    bob.start_upload(resumable("bob's")).await.unwrap();
    strangers.start_upload(resumable("strange")).await.unwrap();
    // One without a request id is its stream's affair.
    let writing = ann.bidi_writing(first(at("unlisted"))).await.unwrap();
    ann.cancel_upload(&ids[0]).await.unwrap();
    ann.write(rest(&ids[1], b"abc", 0)).await.unwrap();
    ended_early(&ann.write(part(&ids[2], b"abc", 0..3)).await.unwrap_err());

    let all = v1::ListUploadsRequest::default;
    let in_state = |state: UploadState| v1::ListUploadsRequest { state: state.into(), ..all() };
    let own = v1::ListUploadsRequest { own_only: true, ..all() };
    let to = |path: &str| v1::ListUploadsRequest { path: path.into(), ..all() };
    assert_eq!(paths(&ann, all()).await, ["e", "d", "c", "b", "a"], "newest first");
    assert_eq!(paths(&ann, own.clone()).await, ["e", "d", "c", "b", "a"]);
    assert_eq!(paths(&ann, in_state(UploadState::Open)).await, ["e", "d", "c"]);
    assert_eq!(paths(&ann, in_state(UploadState::Aborted)).await, ["a"]);
    assert_eq!(paths(&ann, in_state(UploadState::Committed)).await, ["b"]);
    assert_eq!(paths(&ann, in_state(UploadState::Expired)).await, [""; 0]);
    assert_eq!(paths(&ann, to("c")).await, ["c"]);
    assert_eq!(
        paths(&ann, v1::ListUploadsRequest { state: UploadState::Aborted.into(), ..to("c") }).await,
        [""; 0]
    );
    assert_eq!(paths(&bob, all()).await, ["bob's"]);
    assert_eq!(paths(&strangers, all()).await, ["strange"]);
    for role in ["admin", "operator"] {
        let role = cofferd.clients(&Token::user("ada", "clinic").role(role)).await;
        assert_eq!(paths(&role, all()).await, ["bob's", "e", "d", "c", "b", "a"]);
        assert_eq!(paths(&role, own.clone()).await, [""; 0]);
        assert_eq!(role.get_upload(&ids[2]).await.unwrap(), ann.get_upload(&ids[2]).await.unwrap());
    }
    drop(writing);

    // In pages, and each page of one list only.
    let (mut seen, mut pages, mut page_token) = (Vec::new(), 0, String::new());
    loop {
        let page = list(&ann, v1::ListUploadsRequest { page_size: 2, page_token, ..all() }).await.unwrap();
        seen.extend(page.uploads.into_iter().map(|upload| upload.path));
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((seen.concat().as_str(), pages), ("edcba", 3));
    let page_token =
        list(&ann, v1::ListUploadsRequest { page_size: 2, ..all() }).await.unwrap().next_page_token;
    let with_token = |request| v1::ListUploadsRequest { page_token: page_token.clone(), ..request };
    for (who, field, request) in [
        (&ann, "page_token", with_token(to("c"))),
        (&ann, "page_token", with_token(own.clone())),
        (&bob, "page_token", with_token(all())),
        (&strangers, "page_token", with_token(all())),
        (&ann, "page_token", v1::ListUploadsRequest { page_token: "x".into(), ..all() }),
        (&ann, "page_size", v1::ListUploadsRequest { page_size: -1, ..all() }),
        (&ann, "state", v1::ListUploadsRequest { state: 99, ..all() }),
    ] {
        let status = list(who, request.clone()).await.unwrap_err();
        assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned()), "{request:?}");
        assert_eq!(bad_fields(&status), [field], "{request:?}");
    }
    assert_eq!(
        list(&ann, v1::ListUploadsRequest { page_size: 1_000_000, ..all() }).await.unwrap().uploads.len(),
        5
    );
}
