//! `ValidateVolumeCapabilities`.

use std::sync::Arc;
use std::time::Instant;

use gitrepo_core::error::Kind;

use super::ControllerService;
use super::create::memory;
use super::volume_id::VolumeId;
use crate::capability::Capability;
use crate::context;
use crate::deadline;
use crate::failure::CallFailure;
use crate::proto::csi::v1::ValidateVolumeCapabilitiesRequest;
use crate::proto::csi::v1::ValidateVolumeCapabilitiesResponse;
use crate::proto::csi::v1::validate_volume_capabilities_response::Confirmed;
use crate::storage::Storage;
use crate::target;

impl ControllerService {
    /// Answers whether a volume of this controller supports these capabilities.
    pub(super) async fn validate(
        &self,
        request: ValidateVolumeCapabilitiesRequest,
        deadline: Instant,
    ) -> Result<ValidateVolumeCapabilitiesResponse, CallFailure> {
        target::check_id(&request.volume_id)?;
        if request.volume_capabilities.is_empty() {
            return Err(CallFailure::invalid("volume_capabilities is missing"));
        }
        let storage = Arc::clone(&self.storage);
        deadline::keep(deadline, deadline::STORE, move || validate(&storage, request)).await
    }
}

fn validate(
    storage: &Storage,
    request: ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, CallFailure> {
    if !is_known(storage, &request)? {
        let id: String = request.volume_id.chars().take(128).collect();
        return Err(CallFailure::new(Kind::NotFound, format!("this driver has not created a volume {id:?}")));
    }
    let read = |capability| Capability::read(Some(capability)).map(drop);
    Ok(match request.volume_capabilities.iter().try_for_each(read) {
        Err(failure) => ValidateVolumeCapabilitiesResponse { confirmed: None, message: failure.message },
        Ok(()) => ValidateVolumeCapabilitiesResponse {
            confirmed: Some(Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        },
    })
}

/// Whether this controller created the volume. The context alone proves it, or else the memory.
fn is_known(storage: &Storage, request: &ValidateVolumeCapabilitiesRequest) -> Result<bool, CallFailure> {
    let Some(id) = VolumeId::parse(&request.volume_id) else { return Ok(false) };
    if id.has_context(&context::own(request.volume_context.clone())) {
        return Ok(true);
    }
    Ok(memory(&*storage.volumes()?).find(&id)?.is_some())
}
