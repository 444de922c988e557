//! Log lines that say which rank they come from.

use std::io::Write;

use world::World;

use crate::observe::terminal;

/// Log lines on stderr, with rank and host; `RUST_LOG` chooses which.
pub(crate) fn init(world: &World) {
    let place = format!("rank {}/{} {}", world.rank(), world.size(), world.host());
    let style = if terminal::shows_colour() { env_logger::WriteStyle::Always } else { env_logger::WriteStyle::Never };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .write_style(style)
        .format(move |out, record| {
            let style = out.default_level_style(record.level());
            let (time, level) = (out.timestamp_seconds(), record.level());
            writeln!(out, "[{time} {style}{level:<5}{style:#} {place}] {}", record.args())
        })
        .init();
}
