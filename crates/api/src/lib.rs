#![doc = include_str!("../README.md")]

pub mod auth;
pub mod edge;
mod fields;
mod files;
mod gate;
pub mod metadata;
mod operations;
pub mod page;
mod quotas;
pub mod status;
mod tasks;
pub mod transfers;
mod volumes;

use auth::Authenticator;
use coffer_domain::{
    Error,
    caller::{Caller, Principal},
    error::Unauthenticated,
    id::RequestId,
    operation::OperationKind,
    request,
    service::Coffer,
};
use coffer_proto::v1::{
    audit_service_server::AuditServiceServer, file_service_server::FileServiceServer,
    maintenance_service_server::MaintenanceServiceServer, quota_service_server::QuotaServiceServer,
    transfer_service_server::TransferServiceServer, volume_service_server::VolumeServiceServer,
};
use fields::Fields;
use gate::{Gate, Known};
use metadata::ClientIp;
use prost::Message;
use ring::digest;
use status::status;
use std::sync::Arc;
use tonic::{Request, Status, service::Routes};

/// Most bytes of a message in either direction. A message of data has at most half of it.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The contract's services over `coffer`, for callers that `authenticator` knows. The server adds health and reflection, puts
/// [`edge::EdgeLayer`] around them all, and a [`metadata::Peer`] on each request.
pub fn routes(coffer: Coffer, authenticator: Arc<Authenticator>) -> Routes {
    let api = Arc::new(Api { tokens: page::Tokens::new(coffer.cluster()), coffer, authenticator });
    macro_rules! limited {
        ($server:ident, $service:expr) => {
            Gate::new(
                api.clone(),
                $server::new($service)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .max_encoding_message_size(MAX_MESSAGE_BYTES),
            )
        };
    }
    Routes::new(limited!(FileServiceServer, files::Files(api.clone())))
        .add_service(limited!(TransferServiceServer, transfers::Transfers(api.clone())))
        .add_service(limited!(VolumeServiceServer, volumes::Volumes(api.clone())))
        .add_service(limited!(QuotaServiceServer, quotas::Quotas(api.clone())))
        .add_service(limited!(MaintenanceServiceServer, tasks::Tasks(api.clone())))
        .add_service(limited!(AuditServiceServer, operations::Operations(api)))
}

/// What the handlers share.
struct Api {
    coffer: Coffer,
    authenticator: Arc<Authenticator>,
    tokens: page::Tokens,
}

/// A request whose caller is established.
struct Received<T> {
    caller: Caller,
    /// What is wrong so far: the metadata's part.
    fields: Fields,
    message: T,
}

impl Api {
    /// Who calls, if anybody says so.
    fn receive<T>(&self, request: Request<T>) -> Result<Received<T>, Status> {
        let principal = request.extensions().get().and_then(|Known(principal)| principal.clone());
        Ok(Self::received(request, principal))
    }

    /// Who calls; somebody must. The principal comes apart, for what needs one.
    fn receive_known<T>(&self, request: Request<T>) -> Result<(Principal, Received<T>), Status> {
        match request.extensions().get() {
            Some(Known(Some(principal))) => {
                let principal = principal.clone();
                Ok((principal.clone(), Self::received(request, Some(principal))))
            }
            _ => {
                let source = request.extensions().get().map(|ClientIp(address)| *address);
                self.coffer.unauthenticated(source, Unauthenticated::Missing);
                Err(status(&Error::Unauthenticated(Unauthenticated::Missing)))
            }
        }
    }

    fn received<T>(request: Request<T>, principal: Option<Principal>) -> Received<T> {
        let mut fields = Fields::default();
        let caller = metadata::caller(&request, principal, &mut fields);
        Received { caller, fields, message: request.into_inner() }
    }

    /// What was converted, or a refusal that names every bad field and stands in the audit trail as `kind`.
    async fn checked<T>(
        &self,
        caller: &Caller,
        kind: OperationKind,
        fields: Fields,
        converted: Option<T>,
    ) -> Result<T, Status> {
        match fields.finish(converted) {
            Ok(converted) => Ok(converted),
            Err(error) => Err(status(&self.coffer.refused(caller, kind, error).await)),
        }
    }
}

/// For `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
fn refuse(error: Error) -> Status {
    status(&error)
}

/// Protection against being sent twice: `None` inside if the caller named no id. The fingerprint is that of the whole message, whose
/// encoding is the same for the same content.
fn request_id(
    fields: &mut Fields,
    principal: &Principal,
    method: &'static str,
    id: &str,
    message: &impl Message,
) -> Option<Option<request::Request>> {
    let field = if method == request::UPLOAD_METHOD { "spec.request_id" } else { "request_id" };
    let Some(id) = fields.optional_id::<RequestId>(field, id)? else { return Some(None) };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(method.as_bytes());
    context.update(&[0]);
    context.update(&message.encode_to_vec());
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(context.finish().as_ref());
    Some(Some(request::Request { scope: principal.scope(), id, method, fingerprint }))
}
