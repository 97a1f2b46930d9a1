//! Clients with a token, and what a refusal says.

mod uploads;

pub use uploads::{BidiWriting, Writing, bidi, data, finish, first, of_upload, pieces};

use crate::{Cofferd, Token};
use coffer_proto::v1::{
    self, audit_service_client::AuditServiceClient, file_service_client::FileServiceClient,
    maintenance_service_client::MaintenanceServiceClient, quota_service_client::QuotaServiceClient,
    transfer_service_client::TransferServiceClient, volume_service_client::VolumeServiceClient,
};
use std::net::IpAddr;
use tonic::{
    Code, Request, Status,
    codegen::tokio_stream::iter as stream,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_types::{BadRequest, ErrorInfo, QuotaFailure, StatusExt as _};

/// Puts the token on every request.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A channel that puts the token on every request.
pub type Authorised = InterceptedService<Channel, Bearer>;

/// A client of every service, in the name of one caller.
#[derive(Clone)]
pub struct Clients {
    /// Files.
    pub files: FileServiceClient<Authorised>,
    /// Transfers.
    pub transfers: TransferServiceClient<Authorised>,
    /// Volumes.
    pub volumes: VolumeServiceClient<Authorised>,
    /// Quotas.
    pub quotas: QuotaServiceClient<Authorised>,
    /// Tasks.
    pub maintenance: MaintenanceServiceClient<Authorised>,
    /// Audit trail.
    pub audit: AuditServiceClient<Authorised>,
}

impl Cofferd {
    /// Clients for a caller.
    pub async fn clients(&self, token: &Token) -> Clients {
        let token = self.token(token);
        self.clients_with(Some(&token)).await
    }

    /// Clients without a token.
    pub async fn anonymous(&self) -> Clients {
        self.clients_with(None).await
    }

    /// Clients with this text as their token.
    pub async fn clients_with(&self, token: Option<&str>) -> Clients {
        Clients::over(self.channel().await, token)
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        endpoint(self.grpc_addr()).connect().await.expect("cofferd listens")
    }
}

impl Clients {
    /// Clients of the service at a `host:port`, which is connected to when it is first called, and again after a connection was lost.
    pub fn at(addr: &str, token: Option<&str>) -> Self {
        Self::over(endpoint(addr).connect_lazy(), token)
    }

    /// The same from an address of this machine, such as another one of loopback.
    pub fn from(addr: &str, source: IpAddr, token: Option<&str>) -> Self {
        Self::over(endpoint(addr).local_address(Some(source)).connect_lazy(), token)
    }

    /// Clients on a connection.
    pub fn over(channel: Channel, token: Option<&str>) -> Self {
        let bearer =
            Bearer(token.map(|token| format!("Bearer {token}").parse().expect("a token is visible ASCII")));
        Self {
            files: FileServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            transfers: TransferServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            volumes: VolumeServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            quotas: QuotaServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            maintenance: MaintenanceServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            audit: AuditServiceClient::with_interceptor(channel, bearer),
        }
    }

    /// Uploads `content` in messages of 64 KiB.
    ///
    /// # Errors
    /// The service's refusal.
    pub async fn upload(&self, spec: v1::UploadSpec, content: &[u8]) -> Result<v1::File, Status> {
        let messages = messages(spec, content);
        let answer = self.transfers.clone().write_file(stream(messages)).await?;
        Ok(answer.into_inner().file.expect("an upload answers its file"))
    }

    /// Reads a content or a range; answers its metadata and bytes.
    ///
    /// # Errors
    /// The service's refusal, also in mid-stream.
    pub async fn read(&self, request: v1::ReadFileRequest) -> Result<(v1::ReadMetadata, Vec<u8>), Status> {
        let mut stream = self.transfers.clone().read_file(request).await?.into_inner();
        let first = stream.message().await?.expect("a read begins with its metadata");
        let metadata = first.metadata.expect("the first message has metadata");
        let mut content = Vec::new();
        while let Some(message) = stream.message().await? {
            assert_eq!(message.read_offset, metadata.offset + content.len() as i64, "pieces come in order");
            content.extend_from_slice(&message.data.expect("a later message has data").content);
        }
        Ok((metadata, content))
    }
}

fn endpoint(addr: &str) -> Endpoint {
    Endpoint::from_shared(format!("http://{addr}")).expect("an address")
}

/// Bytes of data in the messages that are made here.
pub const MESSAGE_BYTES: usize = 64 * 1024;

/// The messages of a one-shot upload.
pub fn messages(spec: v1::UploadSpec, content: &[u8]) -> Vec<v1::WriteFileRequest> {
    let mut messages = vec![first(spec)];
    messages.extend(pieces(content, 0..content.len()));
    messages.push(finish(content.len() as i64));
    messages
}

/// A file by its id.
pub fn by_id(id: &str) -> Option<v1::FileReference> {
    Some(v1::FileReference { by: Some(v1::file_reference::By::Id(id.to_owned())) })
}

/// A file of the default volume by its path.
pub fn by_path(path: &str) -> Option<v1::FileReference> {
    let path = v1::PathReference { volume: String::new(), path: path.to_owned() };
    Some(v1::FileReference { by: Some(v1::file_reference::By::Path(path)) })
}

/// What is to be stored at a path.
pub fn at(path: &str) -> v1::UploadSpec {
    v1::UploadSpec { path: path.to_owned(), ..Default::default() }
}

/// Code and reason of a refusal.
pub fn refusal(status: &Status) -> (Code, String) {
    let info: Option<ErrorInfo> = status.get_details_error_info();
    (
        status.code(),
        info.map(|info| {
            assert_eq!(info.domain, "coffer.v1");
            info.reason
        })
        .unwrap_or_default(),
    )
}

/// Names of the bad fields of a refusal.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let details: Option<BadRequest> = status.get_details_bad_request();
    details.map(|d| d.field_violations.into_iter().map(|v| v.field).collect()).unwrap_or_default()
}

/// Subjects of the exhausted quotas of a refusal.
pub fn exhausted(status: &Status) -> Vec<String> {
    let details: Option<QuotaFailure> = status.get_details_quota_failure();
    details.map(|d| d.violations.into_iter().map(|v| v.subject).collect()).unwrap_or_default()
}

/// Bytes that differ everywhere, the same for the same length.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}
