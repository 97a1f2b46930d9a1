//! Streams of bytes: whole ones, those that are cut, and those that another takes over.

use super::{Answer, Tenant, bytes};
use crate::model::{
    books::{Spec, State},
    operations::{Cut, How, Operation},
    service::Service,
};
use coffer_proto::v1::{self, UploadState};
use coffer_tests::grpc::{BidiWriting, data, finish, first, of_upload, refusal};
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// How long an upload that a crashed service was finishing may take to be free again.
const PATIENCE: Duration = Duration::from_secs(30);

type Outcome = Result<Result<Answer, Status>, String>;

/// A first message that brings bytes as well.
fn with_data(message: v1::WriteFileRequest, offset: usize, content: &[u8]) -> v1::WriteFileRequest {
    v1::WriteFileRequest { first_message: message.first_message, ..data(offset as i64, content) }
}

impl Tenant {
    pub(super) async fn stream(
        &mut self,
        service: &mut Service,
        before: &State,
        after: &State,
        operation: &Operation,
        request_id: &str,
    ) -> Outcome {
        match operation {
            Operation::Write(n, to, cut) => self.write(service, before, *n, *to, *cut).await,
            Operation::TakeOver(n, first, second) => {
                let grows = before.uploads[*n].hold != after.uploads[*n].hold;
                self.take_over(before, *n, *first, *second, grows).await
            }
            Operation::Finish(n, How::Killed(moment)) => {
                let upload = &before.uploads[*n];
                let content = bytes(upload.spec.content);
                let begin = of_upload(&self.uploads[*n].id);
                let messages = whole(begin, upload.persisted, &content, How::Right);
                self.send_and_crash(service, messages, *moment).await;
                self.finish_after_all(&self.uploads[*n].id, &content, upload.persisted).await
            }
            Operation::Finish(n, how) => {
                let upload = &before.uploads[*n];
                let content = bytes(upload.spec.content);
                let messages = match how {
                    How::BySpec => {
                        let spec = self.spec(upload.spec, &self.uploads[*n].request_id);
                        whole(first(spec), 0, &content, *how)
                    }
                    _ => whole(of_upload(&self.uploads[*n].id), upload.persisted, &content, *how),
                };
                Ok(self.send(messages).await)
            }
            Operation::OneShot(spec, how, has_request) => {
                let message = self.spec(*spec, if *has_request { request_id } else { "" });
                let content = bytes(spec.content);
                let messages = whole(first(message.clone()), 0, &content, *how);
                if let How::Killed(moment) = how {
                    self.send_and_crash(service, messages, *moment).await;
                    let begun = self.ann.start_upload(message).await;
                    let begun = begun.map_err(|status| format!("after the crash: {status:?}"))?;
                    return self.finish_after_all(&begun.id, &content, 0).await;
                }
                Ok(self.send(messages).await)
            }
            Operation::OneShotCut(spec, cut) => {
                self.one_shot_cut(service, *spec, *cut).await;
                Ok(Ok(Answer::Nothing))
            }
            other => Err(format!("{other:?} is no stream")),
        }
    }

    /// One stream to its end.
    async fn send(&self, messages: Vec<v1::WriteFileRequest>) -> Result<Answer, Status> {
        self.ann.write(messages).await.map(|answer| Answer::File(Box::new(answer.file.unwrap())))
    }

    pub(super) async fn finish_again(&self, state: &State, n: usize) -> Result<v1::File, Status> {
        let size = state.uploads[n].spec.content.size as i64;
        let message = v1::WriteFileRequest {
            first_message: of_upload(&self.uploads[n].id).first_message,
            ..finish(size)
        };
        Ok(self.ann.write([message]).await?.file.unwrap())
    }

    async fn write(
        &mut self,
        service: &mut Service,
        before: &State,
        n: usize,
        to: usize,
        cut: Cut,
    ) -> Outcome {
        let upload = &before.uploads[n];
        let content = bytes(upload.spec.content);
        let begin = of_upload(&self.uploads[n].id);
        let from = upload.persisted.min(to);
        let piece = with_data(begin.clone(), from, content.get(from..to).unwrap_or_default());
        if cut == Cut::Ended {
            return Ok(self.send(vec![piece]).await);
        }
        let writing = self.ann.writing();
        writing.send(piece).await;
        if let Cut::Killed(moment) = cut {
            self.crash_after(service, moment).await;
        }
        writing.leave().await;
        // What arrived of it is kept, whatever that is; the rest is sent again. What the client has left may still begin after what
        // follows it, and take over.
        let since = Instant::now();
        loop {
            let (stream, persisted) = self.go_on(&self.uploads[n].id).await?;
            if !(from..=to).contains(&persisted) {
                return Err(format!("{persisted} bytes persisted of a stream from {from} to {to}"));
            }
            stream.send(data(persisted as i64, &content[persisted..to])).await;
            match stream.end().await {
                Err(status) if is_taken_over(&status) && since.elapsed() < PATIENCE => {}
                outcome => return Ok(outcome.map(|_| Answer::Nothing)),
            }
        }
    }

    /// A stream that goes on with an upload, and where.
    async fn go_on(&self, id: &str) -> Result<(BidiWriting, usize), String> {
        let since = Instant::now();
        loop {
            match self.answered(of_upload(id)).await {
                Ok((stream, answer)) if answer.upload_id == id => {
                    return Ok((stream, answer.persisted_size as usize));
                }
                Ok((_, answer)) => return Err(format!("{answer:?} for {id}")),
                Err(status) if is_in_flight(&status) && since.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(status) => return Err(format!("{id} cannot be gone on with: {status:?}")),
            }
        }
    }

    /// A stream and its first answer.
    async fn answered(
        &self,
        message: v1::WriteFileRequest,
    ) -> Result<(BidiWriting, v1::BidiWriteFileResponse), Status> {
        let mut stream = self.ann.bidi_writing(message).await?;
        let answer =
            stream.next().await?.ok_or_else(|| Status::internal("the stream ended without an answer"))?;
        Ok((stream, answer))
    }

    async fn take_over(&self, before: &State, n: usize, first: usize, second: usize, grows: bool) -> Outcome {
        let (id, upload) = (&self.uploads[n].id, &before.uploads[n]);
        let content = bytes(upload.spec.content);
        let from = upload.persisted;
        let begin = with_data(of_upload(id), from, &content[from..first]);
        let begun = self.answered(begin).await;
        let (mut earlier, answer) = begun.map_err(|status| format!("the first stream: {status:?}"))?;
        let mut told = answer.persisted_size as usize;
        // How much is held depends on how much has arrived: then it has to have.
        while grows && told < first {
            match earlier.next().await {
                Ok(Some(answer)) => told = answer.persisted_size as usize,
                other => return Err(format!("{told} of {first} bytes are persisted, then {other:?}")),
            }
        }
        let (later, persisted) = self.go_on(id).await?;
        if !(told..=first).contains(&persisted) {
            return Err(format!("{persisted} bytes persisted, {told} were told, {first} sent"));
        }
        match earlier.end().await {
            Err(status) if is_taken_over(&status) => {}
            other => return Err(format!("the first stream was not taken over: {other:?}")),
        }
        later.send(data(persisted as i64, &content[persisted..second])).await;
        Ok(later.end().await.map(|_| Answer::Nothing))
    }

    async fn one_shot_cut(&mut self, service: &mut Service, spec: Spec, cut: Cut) {
        let content = bytes(spec.content);
        let writing = self.ann.writing();
        writing.send(with_data(first(self.spec(spec, "")), 0, &content)).await;
        if let Cut::Killed(moment) = cut {
            self.crash_after(service, moment).await;
        }
        writing.leave().await;
    }

    /// The service goes away at some moment of what is under way.
    pub(super) async fn crash_after(&mut self, service: &mut Service, moment_ms: u64) {
        tokio::time::sleep(Duration::from_millis(moment_ms)).await;
        self.crash(service).await;
    }

    async fn send_and_crash(
        &mut self,
        service: &mut Service,
        messages: Vec<v1::WriteFileRequest>,
        moment_ms: u64,
    ) {
        let ann = self.ann.clone();
        let lost = tokio::spawn(async move { ann.write(messages).await });
        self.crash_after(service, moment_ms).await;
        let _ = lost.await;
    }

    /// Finishes an upload of which all was sent, and nobody knows what became.
    async fn finish_after_all(&self, id: &str, content: &[u8], from: usize) -> Outcome {
        let since = Instant::now();
        loop {
            let upload = self.ann.get_upload(id).await.map_err(|status| format!("{status:?}"))?;
            let persisted = upload.persisted_size as usize;
            if !(from..=content.len()).contains(&persisted) {
                return Err(format!(
                    "{persisted} bytes persisted of a stream from {from} to {}",
                    content.len()
                ));
            }
            let is_there = upload.state() == UploadState::Committed;
            let persisted = if is_there { content.len() } else { persisted };
            let messages = whole(of_upload(id), persisted, content, How::Right);
            match self.send(messages).await {
                Err(status) if is_in_flight(&status) && since.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => return Ok(outcome),
            }
        }
    }
}

fn is_taken_over(status: &Status) -> bool {
    refusal(status) == (Code::Aborted, "UPLOAD_TAKEN_OVER".to_owned())
}

fn is_in_flight(status: &Status) -> bool {
    refusal(status) == (Code::Aborted, "REQUEST_IN_FLIGHT".to_owned())
}

/// The messages that bring the rest of a content and finish it, rightly or not.
fn whole(begin: v1::WriteFileRequest, from: usize, content: &[u8], how: How) -> Vec<v1::WriteFileRequest> {
    let mut rest = content[from..].to_vec();
    match how {
        How::Short => rest.truncate(rest.len() - 1),
        How::Long => rest.push(0),
        _ => {}
    }
    let sha256 = match how {
        How::Verified => crate::crash::sha256(content),
        How::WrongSum => "0".repeat(64),
        _ => String::new(),
    };
    let end = from + rest.len();
    let last = v1::WriteFileRequest { sha256, ..finish(end as i64) };
    vec![with_data(begin, from, &rest), last]
}
