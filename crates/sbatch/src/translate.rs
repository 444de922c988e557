//! `#PBS` and `#BSUB` lines, as `sbatch` translates them: they override its own directives. From `src/sbatch/xlate.c` and
//! `opt.c`, Slurm 20.11 to 26.05.

use source_text::Span;

use crate::options::option;
use crate::request::{Origin, Setting};
use crate::token;

/// Lines that do not start with `#` behind which nothing is translated any more.
const MOST_OTHER_LINES: usize = 100;

/// The settings that the lines come to, in their order. If any line is LSF's, those of PBS are not read.
pub(crate) fn translate(text: &str) -> Vec<Setting> {
    let lsf = words(text, "#BSUB");
    if !lsf.is_empty() {
        return lsf_options(&lsf);
    }
    pbs_options(&words(text, "#PBS"))
}

/// The words of all lines that start with `magic`.
fn words(text: &str, magic: &str) -> Vec<(String, Span)> {
    let mut words = Vec::new();
    let mut others = 0;
    let mut start = 0;
    for line in text.split('\n') {
        let base = start;
        start += line.len() + 1;
        if let Some(rest) = line.strip_prefix(magic) {
            let tokens = token::tokens(rest, base + magic.len(), &mut Vec::new());
            words.extend(tokens.into_iter().map(|token| (token.text.clone(), token.span)));
        } else if !line.starts_with('#') {
            others += 1;
            if others > MOST_OTHER_LINES {
                break;
            }
        }
    }
    words
}

/// Options of one letter, with their values.
fn letters<'w>(words: &'w [(String, Span)], values: &str) -> Vec<(char, &'w str, Span)> {
    let mut found = Vec::new();
    let mut next = 0;
    while let Some((word, span)) = words.get(next) {
        next += 1;
        let Some(letter) = word.strip_prefix('-').and_then(|rest| rest.chars().next()) else { break };
        let rest = &word[1 + letter.len_utf8()..];
        if !values.contains(letter) {
            found.push((letter, "", *span));
        } else if rest.is_empty() {
            let Some((value, behind)) = words.get(next) else { break };
            next += 1;
            found.push((letter, value.as_str(), span.cover(*behind)));
        } else {
            found.push((letter, rest, *span));
        }
    }
    found
}

struct Settings(Vec<Setting>);

impl Settings {
    fn add(&mut self, name: &str, value: impl Into<String>, span: Span) {
        if let Some(option) = option(name) {
            self.0.push(Setting { option, value: Some(value.into()), origin: Origin::Script(span) });
        }
    }
}

fn pbs_options(words: &[(String, Span)]) -> Vec<Setting> {
    let mut settings = Settings(Vec::new());
    for (letter, value, span) in letters(words, "aAcCdeJjklmMNopqrStuvWw") {
        match letter {
            'a' => settings.add("begin", value, span),
            'A' => settings.add("account", value, span),
            'd' | 'w' => settings.add("chdir", value, span),
            'e' => settings.add("error", value, span),
            'J' | 't' => settings.add("array", value, span),
            'l' => resources(value, span, &mut settings),
            'N' => settings.add("job-name", value, span),
            'o' => settings.add("output", value, span),
            'q' => settings.add("partition", value, span),
            _ => {}
        }
    }
    settings.0
}

/// `-l`: the keys are found wherever they stand in the text.
fn resources(text: &str, span: Span, settings: &mut Settings) {
    let value = |key: &str, end: char| {
        let rest = &text[text.find(key)? + key.len()..];
        Some(rest.split(end).next().unwrap_or_default())
    };
    if let Some(nodes) = value("nodes=", ',') {
        let (mut count, mut per_node, mut named) = (0usize, 0usize, Vec::new());
        for part in nodes.split(['+', ':']) {
            match part.split_once('=') {
                Some(("ppn", number)) => per_node = per_node.saturating_add(number.parse().unwrap_or(0)),
                Some(("gpus", number)) => settings.add("gpus-per-node", number, span),
                Some(_) => {}
                None if part.starts_with(|c: char| c.is_ascii_digit()) => {
                    let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
                    count = count.saturating_add(part[..digits].parse().unwrap_or(0));
                }
                None => named.push(part),
            }
        }
        if count > 0 {
            settings.add("nodes", count.to_string(), span);
        }
        if per_node > 0 {
            settings.add("ntasks", per_node.saturating_mul(count.max(1)).to_string(), span);
        }
        if !named.is_empty() {
            settings.add("nodelist", named.join(","), span);
        }
    }
    let (nodes, cpus, ranks) = (value("select=", ':'), value("ncpus=", ':'), value("mpiprocs=", ':'));
    if let Some(nodes) = nodes {
        settings.add("nodes", nodes, span);
    }
    if let Some(cpus) = cpus {
        settings.add("mincpus", cpus, span);
    }
    if let Some(ranks) = ranks {
        settings.add("ntasks-per-node", ranks, span);
    }
    if let (Some(_), Some(Ok(cpus)), Some(Ok(ranks))) =
        (nodes, cpus.map(str::parse::<usize>), ranks.map(str::parse::<usize>))
        && cpus > ranks
        && ranks > 0
    {
        settings.add("cpus-per-task", (cpus / ranks).to_string(), span);
    }
    if let Some(memory) = value("mem=", ',') {
        settings.add("mem", memory.trim_end_matches(['b', 'B']), span);
    }
    if let Some(time) = value("walltime=", ',') {
        settings.add("time", time, span);
    }
    if let Some(accelerators) = value("naccelerators=", ',') {
        settings.add("gres", format!("gpu:{accelerators}"), span);
    }
}

fn lsf_options(words: &[(String, Span)]) -> Vec<Setting> {
    let mut settings = Settings(Vec::new());
    for (letter, value, span) in letters(words, "ceJmMnoqW") {
        match letter {
            'c' => settings.add("chdir", value, span),
            'e' => settings.add("error", value, span),
            'J' => settings.add("job-name", value, span),
            'm' => settings.add("nodelist", value.replace(' ', ","), span),
            'M' if value.ends_with(|c: char| c.is_ascii_digit()) => {
                settings.add("mem-per-cpu", format!("{value}K"), span);
            }
            'M' => settings.add("mem-per-cpu", value, span),
            'n' => settings.add("ntasks", value.rsplit(',').next().unwrap_or_default(), span),
            'o' => settings.add("output", value, span),
            'q' => settings.add("partition", value, span),
            'W' => settings.add("time", value, span),
            'x' => {
                if let Some(option) = option("exclusive") {
                    settings.0.push(Setting { option, value: None, origin: Origin::Script(span) });
                }
            }
            _ => {}
        }
    }
    settings.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lines_come_to() {
        let cases = [
            ("#PBS -l nodes=2:ppn=4", "nodes=2 ntasks=8"),
            ("#PBS -lnodes=2:ppn=4:gpus=2,walltime=1:00:00", "gpus-per-node=2 nodes=2 ntasks=8 time=1:00:00"),
            ("#PBS -l nodes=1:ppn=4+2:ppn=8", "nodes=3 ntasks=36"),
            (
                "#PBS -l select=2:ncpus=8:mpiprocs=4:mem=8gb",
                "nodes=2 mincpus=8 ntasks-per-node=4 cpus-per-task=2 mem=8g",
            ),
            ("#PBS -l select=4:ncpus=8", "nodes=4 mincpus=8"),
            ("#PBS -N name -q long -A me # words", "job-name=name partition=long account=me"),
            ("#BSUB -n 4,8\n#BSUB -W 2:00 -M 4000 -x", "ntasks=8 time=2:00 mem-per-cpu=4000K exclusive="),
            ("#BSUB -n 8\n#PBS -l nodes=2", "ntasks=8"),
            ("a\n#PBS -l nodes=2", "nodes=2"),
            (" #PBS -l nodes=2\n##PBS -l nodes=3", ""),
        ];
        for (text, expected) in cases {
            let settings = translate(text);
            let shown: Vec<_> = settings
                .iter()
                .map(|setting| format!("{}={}", setting.option.name, setting.value.as_deref().unwrap_or_default()))
                .collect();
            assert_eq!(shown.join(" "), expected, "{text}");
        }
    }
}
