use super::*;
use tokio_util::sync::CancellationToken;

struct Upload {
    report: oneshot::Sender<Begun>,
    progress: watch::Sender<u64>,
    persisted: watch::Receiver<u64>,
    end: oneshot::Sender<Result<WriteFileResponse, Status>>,
    left: CancellationToken,
    answers: Answers,
}

fn upload() -> Upload {
    let (report, begun) = oneshot::channel();
    let (progress, persisted) = watch::channel(0);
    let (end, ended) = oneshot::channel();
    let left = CancellationToken::new();
    let work = tokio::spawn(async { ended.await.unwrap() });
    let answers = answers(begun, work, left.clone().drop_guard());
    Upload { report, progress, persisted, end, left, answers }
}

#[tokio::test]
async fn the_first_answer_names_the_upload_and_the_last_has_the_file() {
    let Upload { report, progress, persisted, end, left, mut answers } = upload();
    let id = UploadId::new();
    progress.send_replace(5);
    report.send(Begun { id: Some(id), persisted }).unwrap();
    let first = answers.next().await.unwrap().unwrap();
    assert_eq!((first.upload_id, first.persisted_size, first.file), (id.to_string(), 5, None));

    for size in [7, 7, 9, 12] {
        progress.send_replace(size);
    }
    let latest = answers.next().await.unwrap().unwrap();
    assert_eq!(
        (latest.upload_id, latest.persisted_size),
        (String::new(), 12),
        "what nobody took is not kept"
    );

    progress.send_replace(12);
    let file = coffer_proto::v1::File { id: "f".into(), ..coffer_proto::v1::File::default() };
    end.send(Ok(WriteFileResponse { file: Some(file.clone()), persisted_size: 20 })).unwrap();
    let last = answers.next().await.unwrap().unwrap();
    assert_eq!((last.upload_id, last.persisted_size, last.file), (String::new(), 20, Some(file)));
    assert!(answers.next().await.is_none());
    drop(answers);
    assert!(left.is_cancelled());
}

#[tokio::test]
async fn progress_is_told_before_the_end() {
    let Upload { report, progress, persisted, end, left: _left, mut answers } = upload();
    report.send(Begun { id: None, persisted }).unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), BidiWriteFileResponse::default());
    progress.send_replace(3);
    drop(progress);
    end.send(Err(Status::aborted("taken over"))).unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().persisted_size, 3);
    assert_eq!(answers.next().await.unwrap().unwrap_err().message(), "taken over");
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn what_is_refused_before_it_begins_is_answered_so() {
    let Upload { report, end, mut answers, .. } = upload();
    drop(report);
    end.send(Err(Status::not_found("no such upload"))).unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap_err().message(), "no such upload");
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_task_that_is_lost_is_a_fault() {
    let Upload { report, end, mut answers, .. } = upload();
    drop((report, end));
    let status = answers.next().await.unwrap().unwrap_err();
    assert_eq!(status.message(), "internal error while trying to receive an upload");
}

#[tokio::test]
async fn dropping_the_answers_tells_that_the_client_left() {
    let Upload { left, answers, .. } = upload();
    assert!(!left.is_cancelled());
    drop(answers);
    assert!(left.is_cancelled());
}
