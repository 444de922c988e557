//! What the bits of a run depend on beside its plan and its data: programs, processors, and what chooses among their instructions.

use std::collections::BTreeMap;

use tch::Device;
use torch_ext::{cuda, kernels};
use world::World;

/// Values by names.
pub(crate) type Fingerprint = BTreeMap<String, String>;

/// Variables by which libraries are told which kernels to take.
const VARIABLES: [&str; 7] = [
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ONEDNN_DISABLED",
];

/// That of all ranks: where they differ, a value names all that there are. Collective.
pub(crate) fn of_ranks(world: &World, device: Device) -> anyhow::Result<Fingerprint> {
    let own = serde_json::to_string(&own(device))?;
    let of_ranks = world.control().all_gather_text(&own)?;
    let of_ranks: Vec<Fingerprint> =
        of_ranks.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
    Ok(merged(&of_ranks))
}

fn own(device: Device) -> Fingerprint {
    let set = VARIABLES.iter().filter_map(|name| Some(format!("{name}={}", std::env::var(name).ok()?)));
    let known = [
        ("rust-train", env!("CARGO_PKG_VERSION").to_owned()),
        ("libtorch", torch_ext::version()),
        ("processor", processor().unwrap_or_default()),
        ("instructions", torch_ext::cpu_capability()),
        ("device", gpu(device)),
        ("kernels", if kernels::are_used(device) { "fused" } else { "libtorch's" }.to_owned()),
        ("variables", set.collect::<Vec<_>>().join(" ")),
    ];
    known.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The GPU's name; of the CPU [`processor`] tells.
fn gpu(device: Device) -> String {
    match device {
        Device::Cuda(index) => cuda::properties(index).map(|properties| properties.name).unwrap_or_default(),
        _ => "cpu".to_owned(),
    }
}

/// The processor's name, as Linux gives it.
pub(crate) fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map(|(_, name)| name.trim().to_owned())
}

/// Each value once, in the order of ranks.
fn merged(of_ranks: &[Fingerprint]) -> Fingerprint {
    let mut all: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in of_ranks.iter().flatten() {
        let values = all.entry(name.clone()).or_default();
        if !values.contains(&value.as_str()) {
            values.push(value);
        }
    }
    all.into_iter().map(|(name, values)| (name, values.join(" | "))).collect()
}

/// How `now` differs from what was known `then`, in words; what only one of them knows does not count.
pub(crate) fn changes(then: &Fingerprint, now: &Fingerprint) -> Vec<String> {
    let both = now.iter().filter_map(|(name, now)| Some((name, then.get(name)?, now)));
    let shown = |value: &str| if value.is_empty() { "none".to_owned() } else { value.to_owned() };
    both.filter(|(_, then, now)| then != now)
        .map(|(name, then, now)| format!("{name}: {}, was {}", shown(now), shown(then)))
        .collect()
}

/// The values that ranks do not have in common, in words.
pub(crate) fn uneven(of_ranks: &Fingerprint) -> Vec<String> {
    of_ranks.iter().filter(|(_, value)| value.contains(" | ")).map(|(name, value)| format!("{name}: {value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(values: &[(&str, &str)]) -> Fingerprint {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_differs_is_named() {
        let (old, new) = (fingerprint(&[("processor", "Xeon"), ("rust-train", "1")]), own(Device::Cpu));
        let wanted = format!("processor: {}, was Xeon", new["processor"]);
        assert!(changes(&old, &new).contains(&wanted), "{:?}", changes(&old, &new));
        assert!(changes(&new, &own(Device::Cpu)).is_empty());
        assert!(changes(&Fingerprint::new(), &new).is_empty(), "an old checkpoint knows nothing");
        let set = changes(&fingerprint(&[("variables", "")]), &fingerprint(&[("variables", "MKL_CBWR=AVX2")]));
        assert_eq!(set, ["variables: MKL_CBWR=AVX2, was none"]);
        assert!(!new["processor"].is_empty() && !new["instructions"].is_empty(), "{new:?}");
    }

    #[test]
    fn ranks_are_put_together() {
        let [one, other] = ["Xeon", "EPYC"].map(|name| fingerprint(&[("processor", name), ("libtorch", "2")]));
        let all = merged(&[one.clone(), other, one]);
        assert_eq!(all, fingerprint(&[("processor", "Xeon | EPYC"), ("libtorch", "2")]));
        assert_eq!(uneven(&all), ["processor: Xeon | EPYC"]);
    }
}
