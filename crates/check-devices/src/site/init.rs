//! `sinfo` to partitions, and partitions to a site file that a person completes.

use std::fmt::Write;

use crate::facts::Partition;

/// What to ask `sinfo` for: partition, availability, time limit, nodes, CPUs, memory, gres, features.
pub(crate) const SINFO_FORMAT: &str = "%P|%a|%l|%D|%c|%m|%G|%f";

/// Reads what `sinfo -h -o '%P|%a|%l|%D|%c|%m|%G|%f'` prints; lines that do not fit are left out.
pub(crate) fn partitions_of_sinfo(output: &str) -> Vec<Partition> {
    let partition = |line: &str| {
        let fields: Vec<_> = line.trim().split('|').collect();
        let &[name, up, time_limit, nodes, cpus, memory, gres, features] = &fields[..] else { return None };
        // `64+` means: nodes differ, and this is the least.
        let number = |text: &str| text.trim_end_matches('+').parse().ok();
        let known = |text: &str| (!text.is_empty() && text != "(null)").then(|| text.to_owned());
        Some(Partition {
            name: name.trim_end_matches('*').to_owned(),
            default: name.ends_with('*'),
            up: Some(up == "up"),
            nodes: number(nodes),
            cpus: number(cpus),
            memory_mib: number(memory).map(|mib: usize| mib as u64),
            gres: known(gres),
            time_limit: known(time_limit),
            features: known(features).map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default(),
            ..Partition::default()
        })
    };
    output.lines().filter_map(partition).collect()
}

/// Adds what `scontrol show partition -o` and `scontrol show config` print, which sinfo does not say: who gets whole nodes,
/// and what a job gets that asks for no time or memory.
pub(crate) fn complete_by_scontrol(partitions: &mut [Partition], shown: &str, config: &str) {
    let setting = |name: &str| {
        let lines = config.lines().filter_map(|line| line.split_once('='));
        lines.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let is_linear = setting("SelectType").is_some_and(|kind| kind.ends_with("linear"));
    for line in shown.lines() {
        let fields: Vec<_> = line.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        let field = |name: &str| fields.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let Some(name) = field("PartitionName") else { continue };
        // Before Slurm 26.05 a whole node is OverSubscribe=EXCLUSIVE, since then Exclusive=NODE.
        let whole = match (field("OverSubscribe"), field("Exclusive")) {
            _ if is_linear => Some(true),
            (Some("EXCLUSIVE"), _) | (_, Some("NODE" | "TOPO")) => Some(true),
            (Some(_), _) => Some(false),
            (None, _) => None,
        };
        let unlimited = |value: &str| matches!(value, "UNLIMITED" | "NONE" | "(null)" | "0");
        let memory = |of: &str, words: &str| {
            let own = field(of).filter(|value| !unlimited(value));
            let value = own.or_else(|| setting(of).filter(|value| !unlimited(value)))?;
            let mib = value.split_whitespace().next()?.parse().ok()?;
            Some(format!("{} per {words}", sbatch::value::Memory { mib }))
        };
        let default_memory = memory("DefMemPerCPU", "CPU").or_else(|| memory("DefMemPerNode", "node"));
        let default_time = field("DefaultTime").filter(|value| *value != "NONE").map(str::to_owned);
        for partition in partitions.iter_mut().filter(|partition| partition.name == name) {
            partition.whole_nodes = whole;
            partition.default_memory = Some(default_memory.clone().unwrap_or_else(|| "all".to_owned()));
            partition.default_time = default_time.clone();
        }
    }
}

/// A site file with what `sinfo` knows, and comments where a person knows more.
pub(crate) fn site_init(version: Option<&str>, partitions: &[Partition]) -> String {
    let mut text = String::from(
        "# Site file of check-devices. Where it is looked for: --site, $CHECK_DEVICES_SITE,\n\
         # ~/.config/check-devices.toml, /etc/check-devices.toml.\n\n",
    );
    match version {
        Some(version) => _ = writeln!(text, "slurm_version = {}", quoted(version)),
        None => text.push_str("# slurm_version = \"23.02\"\n"),
    }
    text.push_str(
        "\n# What sinfo cannot know; remove the # where it holds.\n\
         # internet_on_compute_nodes = false\n\
         # submit_from_compute_nodes = true\n\
         # node_local = [\"/tmp\", \"/local\"]      # folders that each node has for itself\n\
         # plugin_options = [\"container-image\"]  # options that plugins add to sbatch\n\
         # allow = [\"L14\"]                      # checks that nobody here wants to hear of\n\n\
         # [accelerators]                        # beyond the built-in table: check-devices plan --help\n\
         # my-gpu = \"48G\"\n",
    );
    for partition in partitions {
        let _ = write!(text, "\n[[partition]]\nname = {}\n", quoted(&partition.name));
        if partition.default {
            text.push_str("default = true\n");
        }
        let numbers = [("nodes", partition.nodes), ("cpus", partition.cpus)];
        for (name, value) in numbers {
            if let Some(value) = value {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
        if let Some(memory) = partition.memory_mib {
            let _ = writeln!(text, "memory_mib = {memory}");
        }
        let texts = [
            ("gres", &partition.gres),
            ("time_limit", &partition.time_limit),
            ("default_time", &partition.default_time),
            ("default_memory", &partition.default_memory),
        ];
        for (name, value) in texts {
            if let Some(value) = value {
                let _ = writeln!(text, "{name} = {}", quoted(value));
            }
        }
        if let Some(whole) = partition.whole_nodes {
            let _ = writeln!(text, "whole_nodes = {whole}");
        }
        if !partition.features.is_empty() {
            let features: Vec<_> = partition.features.iter().map(|feature| quoted(feature)).collect();
            let _ = writeln!(text, "features = [{}]", features.join(", "));
        }
        if partition.gres.as_deref().is_some_and(|gres| gres.contains("gpu")) {
            text.push_str("# accelerator = \"a100-40\"\n# driver = \"550.54\"\n");
        }
        text.push_str("# pmi = [\"pmix\", \"pmi2\"]\n");
    }
    text
}

/// As a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::Site;
    use super::*;

    const SINFO: &str = "gpu*|up|2-00:00:00|16|64|515000+|gpu:a100:4(S:0-1)|a100,ib\ncpu|down|infinite|100|128|257000|(null)|(null)\nrubbish\n";

    #[test]
    fn what_sinfo_prints_makes_a_site_file() {
        let partitions = partitions_of_sinfo(SINFO);
        assert_eq!(partitions.len(), 2);
        assert_eq!(
            (partitions[0].default, partitions[0].memory_mib, partitions[1].up),
            (true, Some(515_000), Some(false))
        );
        let text = site_init(Some("23.02"), &partitions);
        let site = Site::parse(&text, None).unwrap();
        assert_eq!(
            site.partition,
            partitions.iter().map(|partition| Partition { up: None, ..partition.clone() }).collect::<Vec<_>>()
        );
        insta::assert_snapshot!(text);
    }
}
