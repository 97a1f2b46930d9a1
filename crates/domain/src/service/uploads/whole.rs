//! Uploads that are there before they begin: no stream, no task of their own, and one call of the driver.

use super::{Refusal, UploadSpec, plan::Plan, worker::Worker};
use crate::{
    Error, Result,
    caller::Caller,
    content::{Codec, Piece, Pipeline, check_message},
    file::{File, Sha256Sum},
    id::UploadId,
    operation::OperationKind,
    service::{Coffer, Trail},
};
use bytes::Bytes;

/// Most bytes of a content that is stored at once. So many are hashed where they are, in less time than another thread takes to wake up.
pub const MAX_WHOLE_BYTES: usize = 64 * 1024;

/// A content that has arrived.
#[derive(Debug)]
pub struct Whole {
    /// Its messages, in order: at most [`MAX_WHOLE_BYTES`] in all.
    pub pieces: Vec<Piece>,
    /// What it must hash to, if its sender said so at the end.
    pub sha256: Option<Sha256Sum>,
}

impl Whole {
    fn encode(self, plan: &Plan, pipeline: &Pipeline) -> Result<Vec<Bytes>> {
        let Self { pieces, sha256 } = self;
        pieces.iter().try_for_each(|Piece { bytes, crc32c }| check_message(bytes, *crc32c))?;
        let size = pieces.iter().map(|piece| piece.bytes.len() as u64).sum::<u64>();
        if let Some(limit) = plan.volume.settings.max_file_bytes.filter(|limit| size > *limit) {
            return Err(Error::FileTooLarge { limit });
        }
        let encoded = pipeline.encode(pieces);
        pipeline.stored().check(plan.spec.size, [plan.spec.sha256, sha256])?;
        Ok(encoded)
    }
}

impl Coffer {
    /// Stores a content that is there already: [`Coffer::begin_upload`], [`Writing::write`](super::Writing::write) and
    /// [`Writing::finish`](super::Writing::finish) in one, for a spec without a request. To be called in a task that outlives its caller.
    ///
    /// Answers the upload too, if it came to have one.
    pub async fn upload_whole(
        &self,
        caller: Caller,
        spec: UploadSpec,
        whole: Whole,
    ) -> (Option<UploadId>, Result<File>) {
        let trail = Trail::new(caller.operation(OperationKind::Upload), self.0.start);
        let mut id = None;
        let outcome = match self.try_whole(&caller, spec, whole, &trail, &mut id).await {
            Ok(file) => Ok(file),
            Err(Refusal::Recorded(error)) => Err(error),
            Err(Refusal::Unrecorded(error)) => Err(self.failed(trail.operation(), error).await),
        };
        (id, outcome)
    }

    async fn try_whole(
        &self,
        caller: &Caller,
        spec: UploadSpec,
        whole: Whole,
        trail: &Trail,
        id: &mut Option<UploadId>,
    ) -> Result<File, Refusal> {
        self.must_be_open()?;
        caller.known()?;
        let plan = self.plan(caller, spec, trail).await?;
        let bytes = whole.pieces.iter().map(|piece| piece.bytes.len()).sum();
        trail.update(|operation| operation.bytes_transferred = bytes as u64);
        let _share = self.0.settings.budget.take(bytes, bytes);
        let pipeline = Pipeline::new(Codec::Identity);
        // What is wrong with the content comes after what is wrong with the upload, as it does in a stream.
        let encoded = whole.encode(&plan, &pipeline);
        let driver = self.driver(&plan.volume).await?;
        let content = Some(pipeline.stored().sha256);
        let intent = plan.intent(UploadId::new(), self.0.start, self.0.settings.open_uploads, content);
        let upload = self.store().open_upload(&intent, None).await?;
        *id = Some(upload.id);
        crash_point!("opened");
        let worker = Worker::new(self.clone(), trail.clone(), plan, upload, driver, pipeline, None);
        worker.store(encoded).await.map_err(Refusal::Recorded)
    }
}
