//! Directive lines as `getopt_long` with sbatch's table reads them: each row was tried out with glibc.

use proptest::prelude::*;
use sbatch::{ProblemKind, Script};

/// The options and the first problem that a script with this one directive has.
fn read(directive: &str) -> (Vec<String>, Option<String>) {
    let text = format!("#!/bin/bash\n{directive}\nhostname\n");
    let script = Script::parse(&text);
    let show = |value: &Option<String>| value.as_ref().map_or(String::new(), |value| format!("={value}"));
    let options =
        script.directives(0).iter().map(|directive| format!("{}{}", directive.option.name, show(&directive.value)));
    let problem = script.problems().first().map(|problem| match &problem.kind {
        ProblemKind::StrayToken { text } => format!("invalid {text}"),
        ProblemKind::AmbiguousOption { name, .. } => format!("ambiguous {name}"),
        ProblemKind::MissingArgument { name } => format!("missing {name}"),
        ProblemKind::UnmatchedQuote { quote } => format!("unmatched {quote}"),
        ProblemKind::UnexpectedColon => "colon".to_owned(),
        other => other.to_string(),
    });
    (options.collect(), problem)
}

#[test]
fn the_vectors() {
    let cases: &[(&str, &[&str], Option<&str>)] = &[
        ("#SBATCH --nodes=2 --ntasks-per-node 4 # x", &["nodes=2", "ntasks-per-node=4"], None),
        ("#SBATCH--nodes=2", &["nodes=2"], None),
        ("#SBATCH_NODES=2", &[], Some("invalid _NODES=2")),
        ("#SBATCH -N=1 -t=1:00:00", &["nodes==1", "time==1:00:00"], None),
        ("#SBATCH -N2 -t1:00:00", &["nodes=2", "time=1:00:00"], None),
        ("#SBATCH -vN3", &["verbose", "nodes=3"], None),
        ("#SBATCH --nodes = 2", &["nodes=="], Some("invalid 2")),
        ("#SBATCH --job-name=\"my job\"", &["job-name=my job"], None),
        ("#SBATCH --job-name=my\\ job", &["job-name=my job"], None),
        ("#SBATCH --job-name=my job", &["job-name=my"], Some("invalid job")),
        ("#SBATCH --job-name=foo#bar --nodes=2", &["job-name=foo"], None),
        ("#SBATCH --comment=\"a # b\" -N1", &["comment=a # b", "nodes=1"], None),
        ("#SBATCH --exclusive user", &["exclusive"], Some("invalid user")),
        ("#SBATCH --nice   0", &["nice"], Some("invalid 0")),
        ("#SBATCH --requeue yes", &["requeue"], Some("invalid yes")),
        ("#SBATCH --exclusive=user", &["exclusive=user"], None),
        ("#SBATCH hetjob --nodes=2", &[], None),
        ("#SBATCH --err=x", &["error=x"], None),
        ("#SBATCH --gpu=4", &[], Some("ambiguous --gpu")),
        ("#SBATCH --ntasks-per=4", &[], Some("ambiguous --ntasks-per")),
        ("#SBATCH --mail-user=<your e-mail>", &["mail-user=<your"], Some("invalid e-mail>")),
        ("#SBATCH -J $USER-${X}", &["job-name=$USER-${X}"], None),
        ("#SBATCH --nodes=2 \\", &["nodes=2"], None),
        ("#SBATCH --output=\"a", &[], Some("unmatched \"")),
        ("#SBATCH : -N1", &[], Some("colon")),
        ("#SBATCH -J", &[], Some("missing -J")),
        ("#SBATCH --gres gpu:a100:4,shard:2 -c 8", &["gres=gpu:a100:4,shard:2", "cpus-per-task=8"], None),
        ("#SBATCH -- --nodes=2", &[], Some("invalid --nodes=2")),
        // Beyond the list: what else sbatch's sources say.
        ("#sbatch -N1", &[], None),
        (" #SBATCH -N1", &[], None),
        ("# SBATCH -N1", &[], None),
        ("#SLURM -N1", &["nodes=1"], None),
        ("#SBATCH --hold=yes", &[], Some("option '--hold' takes no value")),
        ("#SBATCH --workdir=/tmp -N1", &["nodes=1"], Some("sbatch has no option '--workdir'")),
        ("#SBATCH --tasks-per-node=2", &["tasks-per-node=2"], None),
        ("#SBATCH --", &[], None),
        ("#SBATCH -", &[], Some("invalid -")),
    ];
    for (directive, options, problem) in cases {
        let (got, got_problem) = read(directive);
        assert_eq!(
            (got, got_problem.as_deref()),
            (options.iter().map(ToString::to_string).collect(), *problem),
            "{directive}"
        );
    }
}

/// Scripts made of the pieces that matter, and of anything else.
fn scripts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => proptest::sample::select(vec![
            "#SBATCH", "#SLURM", "#!", "\n", " ", "\t", "\r\n", "\0", "\"", "'", "\\", "#", ":", "=", "-", "--", "hetjob",
            "--nodes", "-N", "-J", "--exclusive", "--gres=gpu:", "--gpu", "--time=", "--mem=", "é", "\u{1f600}", "%j",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,8}",
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever the text, every place lies inside it, at character boundaries, and says what stands there.
    #[test]
    fn any_script_is_read(text in scripts()) {
        let script = Script::parse(&text);
        for component in 0..script.components() {
            for directive in script.directives(component) {
                prop_assert!(text.get(directive.span.range()).is_some());
                let written = text.get(directive.value_span.range());
                prop_assert!(written.is_some());
                prop_assert!(directive.span.contains(directive.value_span));
                if let Some(value) = &directive.value {
                    let _ = directive.option.kind.validate(value);
                    let plain = !written.unwrap().contains(['"', '\'', '\\']);
                    prop_assert!(!plain || written == Some(value.as_str()), "{written:?} {value:?}");
                }
            }
            let _ = script.request(component, |_| None, &[]).conflicts();
        }
        for problem in script.problems() {
            prop_assert!(text.get(problem.span.range()).is_some());
            prop_assert!(!problem.kind.to_string().is_empty());
        }
    }

    /// What is written plainly is read back, however it is spelled.
    #[test]
    fn every_spelling_is_the_same(nodes in 1usize..10_000, form in 0usize..5) {
        let directive = match form {
            0 => format!("#SBATCH --nodes={nodes}"),
            1 => format!("#SBATCH --nodes {nodes}"),
            2 => format!("#SBATCH -N{nodes}"),
            3 => format!("#SBATCH -N \"{nodes}\""),
            _ => format!("#SBATCH --nodes=\\{nodes} # a comment"),
        };
        prop_assert_eq!(read(&directive), (vec![format!("nodes={nodes}")], None));
    }
}
