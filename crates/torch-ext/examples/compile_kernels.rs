//! Compiles the kernels for a GPU where there is none, in every variant that a run may want, and says what became of them.
//!
//!     cargo run -p torch-ext --example compile_kernels -- libnvrtc.so sm_80 sm_90
//!     cargo run -p torch-ext --example compile_kernels -- libhiprtc.so gfx90a gfx942

use std::error::Error;
use std::path::Path;

use tch::Kind;
use torch_ext::kernels;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let compiler = arguments.next().ok_or("which libnvrtc.so or libhiprtc.so?")?;
    let (mut compiled, mut spills) = (0, Vec::new());
    for architecture in arguments {
        let (mut bytes, mut registers) = (0, 0);
        for (kind, most) in [(Kind::Float, 4), (Kind::BFloat16, 8), (Kind::Half, 8)] {
            for lanes in [1, 2, 4, 8].into_iter().filter(|&lanes| lanes <= most) {
                let made = kernels::compile(&architecture, kind, lanes, Some(Path::new(&compiler)))?;
                compiled += 1;
                bytes += made.bytes;
                let mut kernel = "";
                for line in made.log.lines() {
                    if let Some((_, name)) = line.split_once("Compiling entry function '") {
                        kernel = name.split('\'').next().unwrap_or_default();
                    }
                    registers = registers.max(before(line, " registers").unwrap_or(0));
                    if before(line, " bytes spill stores").is_some_and(|spilled| spilled > 0) {
                        spills.push(format!("{kernel} for {architecture}, {lanes} of {kind:?}: {}", line.trim()));
                    }
                }
                // hipRTC says nothing.
                if registers == 0 && architecture.starts_with("sm_") {
                    return Err(format!("the compiler said nothing of registers: {}", made.log).into());
                }
            }
        }
        let registers = if registers > 0 { format!(", {registers} registers at most") } else { String::new() };
        println!("{architecture}: {bytes} bytes{registers}");
    }
    if compiled == 0 {
        return Err("for which architectures?".into());
    }
    if spills.is_empty() { Ok(()) } else { Err(format!("registers do not suffice:\n{}", spills.join("\n")).into()) }
}

/// The number before these words.
fn before(line: &str, words: &str) -> Option<u32> {
    line.split(words)
        .next()?
        .rsplit(|letter: char| !letter.is_ascii_digit())
        .next()
        .filter(|_| line.contains(words))?
        .parse()
        .ok()
}
