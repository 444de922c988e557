//! Programs that stand before another one and start it: containers, profilers, environments, limits.

use super::options::{Grammar, Style, Unlisted};

/// A program that starts the one behind its own words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrapper {
    /// File names.
    pub(super) names: &'static [&'static str],
    /// The word that must follow, before or behind options: `exec` of `apptainer exec`.
    pub(super) verbs: &'static [&'static str],
    pub(super) grammar: Grammar,
    /// Words of its own behind the options: an image, a duration.
    pub(super) positional: usize,
    /// Whether `NAME=value` words may follow, too.
    pub(super) assigns: bool,
    /// Whether the program stands behind `--` only.
    pub(super) behind_dashes: bool,
}

const fn wrapper(names: &'static [&'static str], values: &'static str, flags: &'static str) -> Wrapper {
    let grammar = Grammar { values, pairs: "", flags, glued: "", style: Style::Getopt, unlisted: Unlisted::Flag };
    Wrapper { names, verbs: &[], grammar, positional: 0, assigns: false, behind_dashes: false }
}

const fn with_verbs(verbs: &'static [&'static str], inner: Wrapper) -> Wrapper {
    Wrapper { verbs, ..inner }
}

const fn with_positional(positional: usize, inner: Wrapper) -> Wrapper {
    Wrapper { positional, ..inner }
}

/// Options that no list names take a value.
const fn open(inner: Wrapper) -> Wrapper {
    Wrapper { grammar: Grammar { unlisted: Unlisted::Value, ..inner.grammar }, ..inner }
}

/// One dash is as good as two.
const fn in_words(inner: Wrapper) -> Wrapper {
    Wrapper { grammar: Grammar { style: Style::Words, ..inner.grammar }, ..inner }
}

/// Every wrapper that is known.
#[rustfmt::skip]
pub(super) const WRAPPERS: &[Wrapper] = &[
    Wrapper { assigns: true, ..wrapper(&["env"], "u unset C chdir a argv0", "i ignore-environment 0 null v debug") },
    wrapper(&["nohup", "setsid", "catchsegv", "dumb-init", "fakeroot", "nocache", "eatmydata", "tini"], "", "c f w ctty fork wait s v g"),
    wrapper(&["time"], "o output f format", "a append p portability q quiet v verbose"),
    wrapper(&["nice"], "n adjustment", "1 2 3 4 5 6 7 8 9 0"),
    wrapper(&["ionice"], "c class n classdata", "t ignore"),
    wrapper(&["stdbuf"], "i input o output e error", ""),
    with_positional(1, wrapper(&["timeout"], "k kill-after s signal", "v verbose preserve-status foreground f p")),
    with_positional(1, wrapper(&["taskset"], "", "a all-tasks c cpu-list")),
    with_positional(1, wrapper(&["chrt"], "T P D", "b d f i o r R a m v batch fifo idle other rr")),
    wrapper(
        &["numactl"],
        "i interleave w weighted-interleave p preferred P preferred-many c cpubind N cpunodebind C physcpubind m membind",
        "a all l localalloc b balancing t strict",
    ),
    wrapper(&["unbuffer"], "", "p"),
    wrapper(&["xvfb-run"], "e error-file f auth-file n server-num p xauth-protocol s server-args w wait", "a auto-servernum l listen-tcp"),
    Wrapper {
        assigns: true,
        ..wrapper(&["sudo"], "u user g group h host p prompt C close-from D chdir", "A b B E e H i k K l n P S s preserve-env")
    },
    // Debuggers and profilers.
    wrapper(&["strace"], "a b e E I o O p P s S u U X attach output trace string-limit user", "A c C d D f F h i k n q r t T v V w x y Y z Z follow-forks"),
    wrapper(&["ltrace"], "a A D e F l n o p s u x w", "b c C f h i L r S t T V"),
    wrapper(&["valgrind"], "", "v q d h"),
    in_words(wrapper(&["gdb", "cuda-gdb", "rocgdb"], "x command ex eval-command ix iex d directory s symbols cd b l D i t tty", "args q quiet batch batch-silent nx nh n nw w tui")),
    wrapper(&["compute-sanitizer", "cuda-memcheck"], "tool log-file kernel-regex launch-count launch-skip save error-exitcode target-processes print-limit leak-check", ""),
    with_verbs(&["stat"], wrapper(&["perf"], "e p t C cpu r repeat o output x G I interval-print D delay M metrics", "a A B d g i j n S T v")),
    with_verbs(&["record"], wrapper(&["perf"], "c C D delay e event F freq G j k m o output p r t u call-graph", "a b B d g i n N P q R s T v W")),
    with_verbs(&["profile", "launch", "start"], open(wrapper(&["nsys"], "b c d e f n o p s t w x y k", "h help v version"))),
    open(wrapper(&["ncu", "nv-nsight-cu-cli"], "o i k c s p export", "f force-overwrite csv nvtx call-stack details-all h v quiet disable-extra-suffixes")),
    in_words(wrapper(&["nvprof"], "o output-profile export-profile u t m e timeout metrics events kernels devices log-file profile-from-start", "f force-overwrite csv s q print-gpu-trace print-gpu-summary print-api-trace profile-child-processes")),
    wrapper(&["rocprof"], "i o d t m timestamp basenames", "stats hip-trace hsa-trace sys-trace roctx-trace kfd-trace verbose"),
    Wrapper { behind_dashes: true, ..wrapper(&["rocprofv3", "rocprof-sys-run", "rocprof-sys-sample", "omnitrace-run", "omnitrace-sample"], "", "") },
    Wrapper { behind_dashes: true, ..with_verbs(&["profile"], wrapper(&["omniperf", "rocprof-compute"], "", "")) },
    in_words(wrapper(&["vtune", "amplxe-cl"], "collect c result-dir r knob k duration d search-dir data-limit", "q quiet no-summary start-paused")),
    in_words(wrapper(&["tau_exec"], "T", "v io memory cuda cupti ebs rocm l0 openacc ompt power nccl syscall")),
    in_words(wrapper(&["likwid-perfctr"], "c C E g M o s S t V T G W I R group output", "a e h H i m O P v f Z marker")),
    in_words(wrapper(&["likwid-pin"], "c C d s t V verbose", "h i m p q S v")),
    in_words(wrapper(&["map", "ddt", "perf-report"], "o output mpiargs", "profile connect offline noqueue start h")),
    wrapper(&["scan"], "e f", "q t n s i"),
    wrapper(&["hpcrun"], "e event o output c count f", "t trace a"),
    wrapper(&["spindle"], "", ""),
    // Containers.
    // What `run` is given goes to the image's own script, which hands it on.
    with_positional(1, with_verbs(&["exec", "run"], wrapper(
        &["apptainer", "singularity"],
        "add-caps app apply-cgroups B bind cpu-shares cpus cpuset-cpus cwd device dns drop-caps env env-file fusemount H home hostname \
         memory mount network network-args no-mount o overlay pwd S scratch security tmpdir W workdir docker-username docker-password",
        "e cleanenv compat c contain C containall disable-cache f fakeroot i ipc keep-privs n net no-home no-init no-nv no-pid no-privs \
         no-rocm no-umask nohttps nv nvccli oom-kill-disable p pid rocm unsquash u userns uts writable-tmpfs w writable vm d debug q quiet s silent v verbose",
    ))),
    with_positional(1, with_verbs(&["run"], open(wrapper(
        &["docker", "podman", "podman-hpc", "nerdctl", "sarus"],
        "a e c h l m p u v w env volume name gpus network net ipc shm-size ulimit mount workdir user entrypoint device memory cpus",
        "d i t P q it ti rm detach interactive tty init privileged read-only gpu mpi cuda-mpi nccl ssh glibc",
    )))),
    wrapper(&["shifter"], "V volume i image m module e env env-file", "h v verbose E clearenv"),
    with_positional(1, with_verbs(&["start"], wrapper(&["enroot"], "c conf m mount e env rc", "r root w rw net pid ipc uts"))),
    with_positional(1, wrapper(&["ch-run"], "b bind c cd g gid m mount s storage u uid unset-env", "home j join no-passwd t private-tmp q v w write")),
    // Environments.
    with_verbs(&["run"], wrapper(&["conda", "mamba", "micromamba"], "n name p prefix cwd r root-prefix a attach e env", "v dev no-capture-output s live-stream debug-wrapper-scripts")),
    with_verbs(&["run"], wrapper(&["poetry", "pipenv", "rye", "hatch", "pdm"], "C directory P project p e env python pyproject pypi-mirror", "q v n l s quiet verbose")),
    with_verbs(&["run"], wrapper(
        &["uv"],
        "extra no-extra group no-group only-group env-file w with with-editable with-requirements package p python index default-index i \
         index-url extra-index-url f find-links cache-dir config-file directory project color",
        "all-extras no-dev dev only-dev no-editable exact isolated active no-active no-sync locked frozen no-project offline q v quiet verbose",
    )),
    with_verbs(&["run"], wrapper(&["pixi"], "e environment p platform manifest-path", "x executable clean-env skip-deps frozen locked as-is v q")),
    // Helpers of sites that bind and go on.
    wrapper(&["tacc_affinity", "task_affinity", "mpibind", "numawrap"], "", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_in_two_lists() {
        for wrapper in WRAPPERS {
            let Grammar { values, flags, .. } = wrapper.grammar;
            for value in values.split_ascii_whitespace() {
                assert!(!flags.split_ascii_whitespace().any(|flag| flag == value), "{:?} {value}", wrapper.names);
            }
        }
    }
}
