//! PBS Professional, OpenPBS and Torque. From OpenPBS' `src/cmds/qsub_sup.c`, `src/resmom/start_exec.c`,
//! `src/server/node_manager.c`, and pbs_resources(7B).

use source_text::Span;

use crate::words::{Given, Rules, Word, lines, options, split};
use crate::{Found, Script, clock, first, last};

/// Options with a value, of OpenPBS and Torque.
const VALUES: &str = "a A b c C d D e F j J k K l L m M N o p P q r R S t T u v w W";

pub(crate) fn read(text: &str) -> Script {
    let mut script = Script::default();
    let mut asked = Asked::default();
    let mut continued: Option<(String, usize)> = None;
    for (line, base) in lines(text) {
        // A directive whose line ends in a backslash goes on.
        if let Some((mut before, start)) = continued.take() {
            // Spaces in the place of the backslash and the line's end: every word keeps its place.
            before.extend(std::iter::repeat_n(' ', base - start - before.len()));
            before.push_str(line);
            directive(&before, start, &mut script, &mut asked);
            continue;
        }
        let start = line.trim_start();
        if let Some(rest) = start.strip_prefix("#PBS") {
            let at = base + line.len() - rest.len();
            script.directives.push(Span::new(base, base + line.len()));
            match rest.trim_end().strip_suffix('\\') {
                Some(rest) => continued = Some((rest.to_owned(), at)),
                None => directive(rest, at, &mut script, &mut asked),
            }
        } else if !(start.is_empty() || start.starts_with('#') || line.starts_with(':')) {
            break; // the first command
        }
    }
    asked.settle(&mut script);
    script
}

/// What `-l` asks for, as it stands.
#[derive(Default)]
struct Asked {
    resources: Vec<(String, Word)>,
}

impl Asked {
    fn get(&self, name: &str) -> Option<&Word> {
        self.resources.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

fn directive(line: &str, base: usize, script: &mut Script, asked: &mut Asked) {
    let words = match split(line, base, Rules { comment: None, python: false }) {
        Ok(words) => words,
        Err(span) => return script.problem("a quote that is not closed: qsub refuses the directive", span),
    };
    // A comment behind a directive is none: qsub takes its words for more options.
    if let Some(word) = words.iter().find(|word| word.text.starts_with('#')) {
        script.problem("a directive has no comments: qsub refuses these words (directive error)", word.span);
    }
    let before = words.iter().position(|word| word.text.starts_with('#')).unwrap_or(words.len());
    for given in options(&words[..before], VALUES, false).given {
        option(&given, script, asked);
    }
}

fn option(given: &Given, script: &mut Script, asked: &mut Asked) {
    let Some(value) = &given.value else { return };
    script.request.note_name(&given.name, &["A", "P", "q"], Some(value));
    match given.name.as_str() {
        "l" => {
            for (name, value) in resources(value) {
                // Of a resource that is given twice the first counts.
                if asked.get(&name).is_none() {
                    asked.resources.push((name, value));
                }
            }
        }
        "q" => last(&mut script.request.queue, value.text.clone(), given.span),
        "J" | "t" => last(&mut script.request.array, value.text.clone(), given.span),
        _ => {}
    }
}

/// `a=b,c=d`: a comma inside of quotes was taken with its word.
fn resources(word: &Word) -> Vec<(String, Word)> {
    let parts = word.text.split(',').filter(|part| !part.is_empty());
    let resource = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (name.trim().to_ascii_lowercase(), Word { text: value.trim().to_owned(), span: word.span })
    };
    parts.map(resource).collect()
}

/// One kind of chunk of a selection.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    count: usize,
    cpus: Option<usize>,
    ranks: Option<usize>,
    gpus: Option<usize>,
    mib: Option<u64>,
}

impl Chunk {
    fn ranks(&self) -> usize {
        self.ranks.unwrap_or(usize::from(self.cpus != Some(0)))
    }
}

impl Asked {
    fn settle(&self, script: &mut Script) {
        if let Some(time) = self.get("walltime") {
            match clock(&time.text, 4, 1) {
                Some(seconds) => last(&mut script.request.seconds, seconds, time.span),
                None => script.problem(
                    format!("'{}' is no walltime: seconds, minutes:seconds or hours:minutes:seconds", time.text),
                    time.span,
                ),
            }
        }
        match (self.get("select"), self.get("nodes")) {
            (Some(select), nodes) => {
                if let Some(nodes) = nodes {
                    script.problem("nodes cannot be used with select: qsub refuses the job", nodes.span);
                }
                for name in ["ncpus", "mem", "mpiprocs", "ngpus", "vmem", "ompthreads"] {
                    if let Some(value) = self.get(name) {
                        script.problem(
                            format!("{name} belongs into the chunks of select: qsub refuses the job"),
                            value.span,
                        );
                    }
                }
                self.select(select, script);
            }
            (None, Some(nodes)) => self.nodes(nodes, script),
            (None, None) => self.single(script),
        }
        if let Some(place) = self.get("place")
            && place.text.to_ascii_lowercase().split(':').any(|word| matches!(word, "excl" | "exclhost"))
        {
            script.request.whole_nodes = Some(place.span);
        }
    }

    fn select(&self, select: &Word, script: &mut Script) {
        let chunks: Option<Vec<_>> = select.text.split('+').map(chunk).collect();
        let Some(chunks) = chunks else {
            script.request.unknown = Some(Found { value: "the selection of chunks cannot be read", span: select.span });
            return script.problem(format!("'{}' is no selection of chunks", select.text), select.span);
        };
        let place = self.get("place").map(|place| place.text.to_ascii_lowercase()).unwrap_or_default();
        let has_place = |words: &[&str]| place.split(':').any(|word| words.contains(&word));
        let total: usize = chunks.iter().map(|chunk| chunk.count).fold(0, usize::saturating_add);
        let packed = has_place(&["pack"]);
        // Chunks on nodes of their own; or all on one.
        let nodes = match () {
            () if packed => Some(1),
            () if total == 1 || has_place(&["scatter", "vscatter", "exclhost"]) => Some(total),
            () => None,
        };
        settle(&chunks, nodes, select.span, script);
        if packed || nodes.is_none() {
            script.request.tasks_per_node = None;
            if total > 1 {
                script.request.memory_per_node = None;
                script.request.gpus_per_node = None;
            }
        }
        if script.request.gpus_per_node.is_none() && chunks.iter().any(|chunk| chunk.gpus.is_some()) {
            let value = "GPUs are asked for by chunk, and how the chunks are spread over nodes is not said";
            script.request.unknown_gpus = Some(Found { value, span: select.span });
        }
    }

    fn nodes(&self, nodes: &Word, script: &mut Script) {
        let text = nodes.text.split('#').next().unwrap_or_default();
        let chunks: Option<Vec<_>> = text.split('+').map(old_chunk).collect();
        let Some(mut chunks) = chunks else {
            return script.problem(format!("'{}' is no specification of nodes", nodes.text), nodes.span);
        };
        let total: usize = chunks.iter().map(|chunk| chunk.count).fold(0, usize::saturating_add);
        // Memory of the whole job is shared by its nodes.
        let mib = self.get("mem").and_then(|mem| size_mib(&mem.text));
        for chunk in &mut chunks {
            chunk.mib = mib.map(|mib| mib / total.max(1) as u64);
        }
        settle(&chunks, Some(total), nodes.span, script);
    }

    /// Neither chunks nor nodes: one chunk of what is asked for.
    fn single(&self, script: &mut Script) {
        if let Some(procs) = self.get("procs").and_then(|procs| Some((procs.text.parse().ok()?, procs.span))) {
            return last(&mut script.request.tasks, procs.0, procs.1); // Torque's
        }
        let number = |name: &str| -> Option<Found<usize>> {
            let value = self.get(name)?;
            Some(Found { value: value.text.parse().ok()?, span: value.span })
        };
        let Some(cpus) = number("ncpus") else { return };
        let span = cpus.span;
        match number("mpiprocs") {
            Some(ranks) => {
                last(&mut script.request.nodes, 1, span);
                script.request.cpus_per_task = Some(Found { value: cpus.value / ranks.value.max(1), span });
                script.request.tasks = Some(ranks);
            }
            // PBS itself takes one node and one rank; large sites take as many nodes as the CPUs fill.
            None => {
                script.request.unknown =
                    Some(Found { value: "how -l ncpus is spread over nodes and ranks is the site's", span });
            }
        }
        script.request.gpus_per_node = number("ngpus");
        if let (Some(mem), Some(_)) = (self.get("mem"), &script.request.nodes)
            && let Some(mib) = size_mib(&mem.text)
        {
            last(&mut script.request.memory_per_node, mib, mem.span);
        }
    }
}

fn settle(chunks: &[Chunk], nodes: Option<usize>, span: Span, script: &mut Script) {
    let request = &mut script.request;
    let tasks = chunks.iter().map(|chunk| chunk.count.saturating_mul(chunk.ranks())).fold(0, usize::saturating_add);
    if let Some(nodes) = nodes.filter(|nodes| *nodes > 0) {
        first(&mut request.nodes, nodes, span);
    }
    if tasks > 0 {
        first(&mut request.tasks, tasks, span);
    }
    request.tasks_are_default = chunks.iter().all(|chunk| chunk.ranks.is_none());
    let [only] = chunks else { return };
    if only.ranks() > 0 {
        first(&mut request.tasks_per_node, only.ranks(), span);
    }
    if let Some(cpus) = only.cpus {
        first(&mut request.cpus_per_task, (cpus / only.ranks().max(1)).max(1), span);
    }
    if let Some(gpus) = only.gpus {
        first(&mut request.gpus_per_node, gpus, span);
    }
    if let Some(mib) = only.mib {
        first(&mut request.memory_per_node, mib, span);
    }
}

/// `2:ncpus=8:mpiprocs=4`.
fn chunk(text: &str) -> Option<Chunk> {
    let mut chunk = Chunk { count: 1, ..Chunk::default() };
    for (at, part) in text.split(':').enumerate() {
        match part.split_once('=') {
            None if at == 0 => chunk.count = part.trim().parse().ok()?,
            None => return None,
            Some((name, value)) => match name.trim().to_ascii_lowercase().as_str() {
                "ncpus" => chunk.cpus = Some(value.parse().ok()?),
                "mpiprocs" => chunk.ranks = Some(value.parse().ok()?),
                "ngpus" | "naccelerators" | "gpus" => chunk.gpus = Some(value.parse().ok()?),
                "mem" => chunk.mib = Some(size_mib(value)?),
                _ => {}
            },
        }
    }
    Some(chunk)
}

/// `2:ppn=4:gpus=1`, `n01:ppn=4`.
fn old_chunk(text: &str) -> Option<Chunk> {
    let mut chunk = Chunk { count: 1, ..Chunk::default() };
    let (mut ranks, mut threads) = (None, 1);
    for (at, part) in text.split(':').enumerate() {
        match part.split_once('=') {
            None if at == 0 && part.starts_with(|c: char| c.is_ascii_digit()) => {
                chunk.count = part.trim().parse().ok()?;
            }
            None => {}
            Some((name, value)) => match name.trim().to_ascii_lowercase().as_str() {
                "ppn" if value == "all" => {}
                "ppn" => ranks = Some(value.parse().ok()?),
                "cpp" | "ncpus" => threads = value.parse().ok()?,
                "gpus" | "ngpus" => chunk.gpus = Some(value.parse().ok()?),
                _ => {}
            },
        }
    }
    chunk.ranks = ranks;
    chunk.cpus = Some(ranks.unwrap_or(1).saturating_mul(threads));
    Some(chunk)
}

/// `8gb`, `512mb`, `1024` (bytes), in MiB.
fn size_mib(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let number: u64 = lower[..digits].parse().ok()?;
    let bytes = match &lower[digits..] {
        "" | "b" => 1,
        "k" | "kb" => 1 << 10,
        "m" | "mb" => 1 << 20,
        "g" | "gb" => 1 << 30,
        "t" | "tb" => 1 << 40,
        "p" | "pb" => 1 << 50,
        _ => return None,
    };
    Some(number.checked_mul(bytes)? >> 20)
}

#[cfg(test)]
mod tests {
    use crate::Scheduler;
    use crate::tests::shown;

    #[test]
    fn what_jobs_ask_for() {
        let cases = [
            ("-l select=2:ncpus=8:mpiprocs=4 -l place=scatter", "2 8 2 - - -"),
            ("-l select=2:ncpus=8:mpiprocs=4", "- 8 2 - - -"),
            ("-l select=2:ncpus=8", "- 2 8 - - -"),
            ("-l select=2:ncpus=8:mpiprocs=8:ompthreads=1:ngpus=4:mem=64gb -l place=scatter:excl", "2 16 1 4 65536 -"),
            ("-l select=1:ncpus=1:mem=4gb+4:ncpus=16:mpiprocs=16:mem=32gb", "- 65 - - - -"),
            ("-l select=1:ncpus=8:ngpus=2,walltime=01:00:00", "1 1 8 2 - 3600"),
            ("-l select=ncpus=4", "1 1 4 - - -"),
            ("-l select=2:ncpus=0:mem=1gb+1:ncpus=4", "- 1 - - - -"),
            ("-l select=4 -l place=pack", "1 4 - - - -"),
            ("-l nodes=2:ppn=4", "2 8 1 - - -"),
            ("-l nodes=2:ppn=4,mem=16gb", "2 8 1 - 8192 -"),
            ("-lnodes=4", "4 4 1 - - -"),
            ("-l nodes=2:ppn=2:ncpus=4", "2 4 4 - - -"),
            ("-l nodes=1:ppn=4+2:ppn=8", "3 20 - - - -"),
            ("-l nodes=2:ppn=4:gpus=1", "2 8 1 1 - -"),
            ("-l nodes=n01:ppn=4+n02", "2 5 - - - -"),
            ("-l ncpus=16,mem=32gb", "- - - - - -"),
            ("-l ncpus=16,mpiprocs=4,mem=32gb", "1 4 4 - 32768 -"),
            ("-l ncpus=16,mpiprocs=4", "1 4 4 - - -"),
            ("-l procs=16", "- 16 - - - -"),
            ("-l walltime=90:00 -l walltime=1", "- - - - - 5400"),
            ("-l walltime=3600", "- - - - - 3600"),
            ("-l walltime=2h", "- - - - - - !'2h' is no walltime: seconds, minutes:seconds or hours:minutes:seconds"),
            ("-l select=2 -l nodes=2", "- 2 - - - - !nodes cannot be used with select: qsub refuses the job"),
            (
                "-l select=2:ncpus=4 -l mem=8gb",
                "- 2 4 - - - !mem belongs into the chunks of select: qsub refuses the job",
            ),
            (
                "-l nodes=2 # two of them",
                "2 2 1 - - - !a directive has no comments: qsub refuses these words (directive error)",
            ),
        ];
        for (line, expected) in cases {
            let text = format!("#!/bin/bash\n#PBS {line}\nmpirun a\n");
            assert_eq!(shown(Scheduler::Pbs, &text), expected, "{line}");
        }
    }

    #[test]
    fn which_lines_are_read() {
        let text = "#!/bin/bash\n# words\n\n  #PBS -l walltime=60\n#PBS -l \\\n nodes=2:ppn=2\n##PBS -l walltime=5\ncd x\n#PBS -l mem=1gb\n";
        assert_eq!(shown(Scheduler::Pbs, text), "2 4 1 - - 60");
    }
}
