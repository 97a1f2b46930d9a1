//! Uploads in pieces: messages, streams that are held open, and the calls about uploads.

use super::Clients;
use coffer_proto::v1::{self, write_file_request::FirstMessage};
use tokio::{sync::mpsc, task::JoinHandle};
use tonic::{
    Status, Streaming,
    codegen::tokio_stream::{self, Stream},
};

impl Clients {
    /// Starts an upload.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn start_upload(&self, spec: v1::UploadSpec) -> Result<v1::Upload, Status> {
        let answer = self.transfers.clone().start_upload(v1::StartUploadRequest { spec: Some(spec) }).await?;
        Ok(answer.into_inner().upload.expect("an upload is answered"))
    }

    /// An upload as it is now.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn get_upload(&self, id: &str) -> Result<v1::Upload, Status> {
        let request = v1::GetUploadRequest { upload_id: id.to_owned() };
        let answer = self.transfers.clone().get_upload(request).await?;
        Ok(answer.into_inner().upload.expect("an upload is answered"))
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn cancel_upload(&self, id: &str) -> Result<v1::Upload, Status> {
        let request = v1::CancelUploadRequest { upload_id: id.to_owned(), request_id: String::new() };
        let answer = self.transfers.clone().cancel_upload(request).await?;
        Ok(answer.into_inner().upload.expect("an upload is answered"))
    }

    /// Sends these messages and ends the stream.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn write(
        &self,
        messages: impl IntoIterator<Item = v1::WriteFileRequest, IntoIter: Send + 'static>,
    ) -> Result<v1::WriteFileResponse, Status> {
        let messages = tokio_stream::iter(messages);
        Ok(self.transfers.clone().write_file(messages).await?.into_inner())
    }

    /// Opens a stream that stays open.
    pub fn writing(&self) -> Writing {
        let (sender, receiver) = mpsc::channel(1);
        let mut transfers = self.transfers.clone();
        let answer =
            tokio::spawn(async move { Ok(transfers.write_file(received(receiver)).await?.into_inner()) });
        Writing { sender: Some(sender), answer }
    }

    /// The same with answers on the way. `first` is sent at once.
    ///
    /// # Errors
    /// The service's refusal of the first message.
    pub async fn bidi_writing(&self, first: v1::WriteFileRequest) -> Result<BidiWriting, Status> {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(bidi(first)).expect("the channel is empty");
        let answers = self.transfers.clone().bidi_write_file(received(receiver)).await?.into_inner();
        Ok(BidiWriting { sender, answers })
    }
}

/// A WriteFile under way. Dropping it ends the stream.
#[derive(Debug)]
pub struct Writing {
    sender: Option<mpsc::Sender<v1::WriteFileRequest>>,
    answer: JoinHandle<Result<v1::WriteFileResponse, Status>>,
}

impl Writing {
    /// Sends a message once the one before has left. `false`: the service has answered already.
    ///
    /// # Panics
    /// After [`Writing::close`].
    pub async fn send(&self, message: v1::WriteFileRequest) -> bool {
        self.sender.as_ref().expect("the stream is open").send(message).await.is_ok()
    }

    /// Ends the stream without waiting for the answer.
    pub fn close(&mut self) {
        self.sender = None;
    }

    /// Ends the stream and waits for the answer.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn end(mut self) -> Result<v1::WriteFileResponse, Status> {
        self.close();
        self.answer().await
    }

    /// Waits for the answer with the stream as it is.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn answer(mut self) -> Result<v1::WriteFileResponse, Status> {
        (&mut self.answer).await.expect("no panic")
    }

    /// Leaves: the call is cancelled.
    pub async fn leave(self) {
        self.answer.abort();
        let _ = self.answer.await;
    }
}

/// A BidiWriteFile under way.
#[derive(Debug)]
pub struct BidiWriting {
    sender: mpsc::Sender<v1::BidiWriteFileRequest>,
    answers: Streaming<v1::BidiWriteFileResponse>,
}

impl BidiWriting {
    /// Sends a message once the one before has left. `false`: the service has answered already.
    pub async fn send(&self, message: v1::WriteFileRequest) -> bool {
        self.sender.send(bidi(message)).await.is_ok()
    }

    /// The next answer; `None` at the end of the stream.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn next(&mut self) -> Result<Option<v1::BidiWriteFileResponse>, Status> {
        self.answers.message().await
    }

    /// Ends the stream and answers all that is still to come.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn end(self) -> Result<Vec<v1::BidiWriteFileResponse>, Status> {
        let Self { sender, mut answers } = self;
        drop(sender);
        let mut rest = Vec::new();
        while let Some(answer) = answers.message().await? {
            rest.push(answer);
        }
        Ok(rest)
    }
}

fn received<T: Send + 'static>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + 'static {
    futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))
}

/// The first message of an upload of its own.
pub fn first(spec: v1::UploadSpec) -> v1::WriteFileRequest {
    v1::WriteFileRequest { first_message: Some(FirstMessage::Spec(spec)), ..Default::default() }
}

/// The first message for an upload that was started.
pub fn of_upload(id: &str) -> v1::WriteFileRequest {
    v1::WriteFileRequest { first_message: Some(FirstMessage::UploadId(id.to_owned())), ..Default::default() }
}

/// A later message with data.
pub fn data(offset: i64, content: &[u8]) -> v1::WriteFileRequest {
    let data = v1::ChecksummedData { content: content.to_vec().into(), crc32c: None };
    v1::WriteFileRequest { write_offset: offset, data: Some(data), ..Default::default() }
}

/// Later messages with the part of `content` between two offsets, in messages of 64 KiB.
pub fn pieces(content: &[u8], part: std::ops::Range<usize>) -> Vec<v1::WriteFileRequest> {
    let from = part.start;
    let chunks = content[part].chunks(super::MESSAGE_BYTES).enumerate();
    chunks.map(|(n, chunk)| data((from + n * super::MESSAGE_BYTES) as i64, chunk)).collect()
}

/// The last message.
pub fn finish(offset: i64) -> v1::WriteFileRequest {
    v1::WriteFileRequest { write_offset: offset, finish: true, ..Default::default() }
}

/// The same message for BidiWriteFile.
pub fn bidi(message: v1::WriteFileRequest) -> v1::BidiWriteFileRequest {
    use v1::bidi_write_file_request::FirstMessage as Bidi;
    let v1::WriteFileRequest { first_message, write_offset, data, finish, sha256 } = message;
    let first_message = first_message.map(|first| match first {
        FirstMessage::Spec(spec) => Bidi::Spec(spec),
        FirstMessage::UploadId(id) => Bidi::UploadId(id),
    });
    v1::BidiWriteFileRequest { first_message, write_offset, data, finish, sha256 }
}
