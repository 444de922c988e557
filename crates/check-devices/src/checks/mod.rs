//! Every check, one file a check or close family, and the list of them.
//!
//! P: the script as Slurm reads it. L: the layout. B: the batch. M: memory. S: software. D: devices. O: the system.
//! N: the network. A check is a value ([`Check`]) with its explanation and source beside the function that makes it.

mod batch;
mod devices;
mod layout;
mod memory;
mod need;
mod network;
mod script;
mod software;
mod system;

use crate::check::Check;

/// All checks, in the order of a listing.
#[rustfmt::skip]
pub(crate) const CHECKS: &[&Check] = &[
    &script::file::P01, &script::file::P02, &script::file::P03,
    &script::placement::P04, &script::placement::P05, &script::options::P06, &script::options::P07,
    &script::values::P08, &script::options::P09, &script::options::P10, &script::options::P11,
    &script::values::P12, &script::placement::P13, &script::placement::P14, &script::values::P15,
    &script::values::P16, &script::exclusive::P17, &script::exclusive::P18,
    &script::output::P19, &script::output::P20, &script::output::P21, &script::options::P22, &script::options::P23,
    &script::placement::P24, &script::file::P25, &script::file::P26,

    &layout::tasks::L01, &layout::gpus::L02, &layout::launch::L03, &layout::tasks::L04, &layout::gpus::L05,
    &layout::gpus::L06, &layout::gpus::L07, &layout::gpus::L08, &layout::launch::L09, &layout::tasks::L10,
    &layout::launch::L11, &layout::cpus::L12, &layout::cpus::L13, &layout::limits::L14, &layout::limits::L15,
    &layout::limits::L16, &layout::limits::L17, &layout::signal::L18, &layout::signal::L19, &layout::signal::L20,
    &layout::site::L21, &layout::visibility::L22, &layout::visibility::L23, &layout::visibility::L24,
    &layout::body::L25, &layout::body::L26, &layout::body::L27, &layout::site::L28, &layout::site::L29,
    &layout::launch::L30, &layout::launch::L31, &layout::launch::L32, &layout::gpus::L33, &layout::cpus::L34,

    &batch::shares::B01, &batch::shares::B02, &batch::world::B03, &batch::device::B04,
    &batch::normalization::B05, &batch::normalization::B06, &batch::steps::B07, &batch::steps::B08,
    &batch::steps::B09, &batch::advice::B10, &batch::advice::B11, &batch::shares::B12, &batch::shares::B13,
    &batch::virtual_ranks::B14,

    &memory::M01, &memory::M02, &memory::M03, &memory::M04, &memory::M05, &memory::M06,

    &software::S01, &software::S02, &software::S03, &software::S04, &software::S05, &software::S06, &software::S07,
    &software::S08, &software::S09, &software::S10, &software::S12,

    &devices::D01, &devices::D02, &devices::D03, &devices::D04, &devices::D05, &devices::D06, &devices::D07,
    &devices::D08, &devices::D09, &devices::D10, &devices::D11, &devices::D12, &devices::D13,

    &system::O01, &system::O02, &system::O03, &system::O05, &system::O07, &system::O08, &system::O09, &system::O10,
    &system::O11,

    &network::N01, &network::N02, &network::N03, &network::N04,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_check_is_explained() {
        let mut ids: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for check in CHECKS {
            assert!(check.explanation.len() > 60 && check.explanation.ends_with('.'), "{}", check.id);
            assert!(!check.source.is_empty() && !check.title.is_empty(), "{}", check.id);
        }
    }
}
