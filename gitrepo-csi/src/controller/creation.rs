//! Parses a request to create a volume.

use std::collections::BTreeMap;

use gitrepo_core::credentials::Credentials;
use gitrepo_core::spec::CommitId;
use gitrepo_core::spec::DefaultDirectory;
use gitrepo_core::spec::VolumeSpec;

use crate::capability::Capability;
use crate::context;
use crate::context::REQUESTED_REVISION;
use crate::failure::CallFailure;
use crate::proto::csi::v1::CapacityRange;
use crate::proto::csi::v1::CreateVolumeRequest;

/// Longest context of a volume, in bytes, all keys and values together: CSI's limit.
const CONTEXT_BYTES: usize = 4096;

/// Longest name of a volume. The provisioner's names have about forty letters, and CSI suggests 128.
const LONGEST_NAME: usize = 1024;

/// The volume to create.
pub(super) struct Creation {
    pub(super) name: String,
    pub(super) spec: VolumeSpec,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) capacity: Capacity,
    pub(super) credentials: Credentials,
    /// The claim's namespace, if the provisioner tells.
    pub(super) namespace: Option<String>,
}

/// The requested size. A volume is always as large as its tree, so any size is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Capacity {
    required: i64,
    limit: i64,
}

impl Creation {
    /// Parses a request.
    pub(super) fn read(request: CreateVolumeRequest) -> Result<Self, CallFailure> {
        let credentials = context::credentials(request.secrets);
        if request.name.is_empty() || request.name.len() > LONGEST_NAME {
            return Err(CallFailure::invalid(format!("name is missing, or longer than {LONGEST_NAME} bytes")));
        }
        if request.volume_capabilities.is_empty() {
            return Err(CallFailure::invalid("volume_capabilities is missing"));
        }
        for capability in &request.volume_capabilities {
            Capability::read(Some(capability))?;
        }
        if request.volume_content_source.is_some() {
            return Err(CallFailure::invalid(
                "a volume can be created only from its repository, not from a snapshot or another volume (dataSource)",
            ));
        }
        if let Some(key) = request.mutable_parameters.keys().next() {
            let key: String = key.chars().take(64).collect();
            return Err(CallFailure::invalid(format!("{key:?}: the parameters of a volume cannot be changed")));
        }
        let capacity = Capacity::read(request.capacity_range.as_ref())?;
        let namespace = context::namespace(&request.parameters);
        let mut parameters = context::own(request.parameters);
        let spec = VolumeSpec::from_attributes(&parameters, DefaultDirectory::BaseName)?;
        parameters.retain(|_, value| !value.is_empty());
        Ok(Self { name: request.name, spec, parameters, capacity, credentials: credentials?, namespace })
    }

    /// Returns the context of the volume at `commit`.
    ///
    /// # Errors
    ///
    /// When it exceeds CSI's limit.
    pub(super) fn context(&self, commit: CommitId) -> Result<BTreeMap<String, String>, CallFailure> {
        let mut context = self.parameters.clone();
        context.insert("revision".to_owned(), commit.to_string());
        context.insert(REQUESTED_REVISION.to_owned(), self.spec.revision.to_string());
        let length: usize = context.iter().map(|(key, value)| key.len() + value.len()).sum();
        if length > CONTEXT_BYTES {
            return Err(CallFailure::invalid(format!(
                "the parameters are too long: a volume's context may have {CONTEXT_BYTES} bytes"
            )));
        }
        Ok(context)
    }
}

impl Capacity {
    fn read(range: Option<&CapacityRange>) -> Result<Self, CallFailure> {
        let Some(range) = range else { return Ok(Self::default()) };
        let (required, limit) = (range.required_bytes, range.limit_bytes);
        if required < 0 || limit < 0 || (limit > 0 && required > limit) {
            return Err(CallFailure::invalid(format!(
                "capacity_range is contradictory: at least {required} and at most {limit} bytes"
            )));
        }
        Ok(Self { required, limit })
    }

    /// The promised size in bytes; 0 for none.
    pub(super) fn promised(self) -> i64 {
        self.required
    }

    /// Whether a volume with this promised size satisfies the request.
    pub(super) fn is_met_by(self, promised: i64) -> bool {
        promised >= self.required && (self.limit == 0 || promised <= self.limit)
    }
}

#[cfg(test)]
mod tests {
    use gitrepo_core::error::Kind;

    use super::*;
    use crate::capability::tests::filesystem;
    use crate::proto::csi::v1::VolumeCapability;
    use crate::proto::csi::v1::VolumeContentSource;
    use crate::proto::csi::v1::volume_capability::AccessType;
    use crate::proto::csi::v1::volume_capability::BlockVolume;
    use crate::proto::csi::v1::volume_capability::access_mode::Mode;

    fn capability() -> VolumeCapability {
        filesystem(Mode::MultiNodeReaderOnly, &[], "")
    }

    fn request(parameters: &[(&str, &str)]) -> CreateVolumeRequest {
        let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        CreateVolumeRequest {
            name: "pvc-1".to_owned(),
            volume_capabilities: vec![capability()],
            parameters,
            ..CreateVolumeRequest::default()
        }
    }

    const REPOSITORY: (&str, &str) = ("repository", "https://git.example.org/a");

    #[test]
    fn the_context_has_the_commit_and_the_requested_revision() {
        let parameters =
            [REPOSITORY, ("subdirectory", "docs"), ("directory", ""), ("csi.storage.k8s.io/pvc/name", "claim")];
        let commit = CommitId::from_bytes([0xab; 20]);
        let creation = Creation::read(request(&parameters)).ok().unwrap();
        let expected = [
            REPOSITORY,
            ("subdirectory", "docs"),
            ("revision", &"ab".repeat(20)),
            (REQUESTED_REVISION, &creation.spec.revision.to_string()),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(creation.context(commit), Ok(expected));

        let long = "d/".repeat(2000);
        let creation = Creation::read(request(&[REPOSITORY, ("subdirectory", &long)])).ok().unwrap();
        assert_eq!(creation.context(commit).unwrap_err().kind, Kind::InvalidRequest);
    }

    #[test]
    fn requests_that_cannot_be_met_are_refused() {
        let good = || request(&[REPOSITORY]);
        let block = VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..capability() };
        let range = |required_bytes, limit_bytes| Some(CapacityRange { required_bytes, limit_bytes });
        let one = [("key".to_owned(), "value".to_owned())];
        for (request, named) in [
            (CreateVolumeRequest { name: String::new(), ..good() }, "name"),
            (CreateVolumeRequest { name: "x".repeat(2000), ..good() }, "name"),
            (CreateVolumeRequest { volume_capabilities: Vec::new(), ..good() }, "volume_capabilities"),
            (CreateVolumeRequest { volume_capabilities: vec![capability(), block], ..good() }, "Filesystem"),
            (
                CreateVolumeRequest { volume_content_source: Some(VolumeContentSource::default()), ..good() },
                "dataSource",
            ),
            (CreateVolumeRequest { mutable_parameters: one.clone().into(), ..good() }, "key"),
            (CreateVolumeRequest { secrets: one.into(), ..good() }, "key"),
            (CreateVolumeRequest { capacity_range: range(2, 1), ..good() }, "capacity_range"),
            (CreateVolumeRequest { capacity_range: range(-1, 0), ..good() }, "capacity_range"),
            (request(&[]), "repository"),
            (request(&[REPOSITORY, ("revison", "x")]), "revision"),
            (request(&[REPOSITORY, ("branch", "x")]), "did you mean revision?"),
        ] {
            let failure = Creation::read(request).err().unwrap();
            assert_eq!(failure.kind, Kind::InvalidRequest);
            assert!(failure.message.contains(named), "{failure}");
        }
    }

    #[test]
    fn the_required_capacity_is_promised_and_compared() {
        let capacity =
            |required_bytes, limit_bytes| Capacity::read(Some(&CapacityRange { required_bytes, limit_bytes })).unwrap();
        assert_eq!(capacity(10, 0).promised(), 10);
        assert!(capacity(10, 0).is_met_by(10) && capacity(10, 0).is_met_by(20) && capacity(5, 10).is_met_by(10));
        assert!(!capacity(20, 0).is_met_by(10) && !capacity(5, 9).is_met_by(10));
        assert!(Capacity::read(None).unwrap().is_met_by(0));
    }
}
