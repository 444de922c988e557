//! torch.save since 1.6: a zip file with the pickle `data.pkl` and a file below `data/` for each storage.

use archives::{Budget, Checked, ZipFile};

use super::assemble::Assembly;
use super::pickle::unpickle;
use super::values::StorageAt;
use crate::state_dict::StateDict;

pub(crate) fn zip(zip: &ZipFile, budget: &Budget, key: Option<&str>) -> Checked<StateDict> {
    if zip.has("constants.pkl") {
        return Err("is a TorchScript program; save its state_dict() instead".to_owned());
    }
    let bytes = zip.bytes().as_slice();
    if zip.has("byteorder") && &bytes[zip.stored("byteorder")?] != b"little" {
        return Err("was written on a big-endian machine".to_owned());
    }
    let pickle = &bytes[zip.stored("data.pkl")?];
    let unpickled = unpickle(pickle, budget).map_err(|reason| format!("data.pkl: {reason}"))?.0;
    let storage = |storage: &StorageAt| zip.stored(&format!("data/{}", storage.key));
    Assembly { bytes: zip.bytes(), budget, place_of: &storage }.state_dict(&unpickled, key)
}
