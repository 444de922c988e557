//! Writes `report.html` of a run's folder anew: `cargo run -p report --example render RUN`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder?")?);
    let run = report::Run::read(&folder)?;
    std::fs::write(folder.join("report.html"), report::page(&run))?;
    Ok(())
}
