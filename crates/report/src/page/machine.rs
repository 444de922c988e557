//! Who computed where, with what, and how it went on.

use maud::{Markup, html};

use super::count;
use crate::{Environment, Rank, Session};

pub(super) fn tables(environment: &Environment) -> Markup {
    let last = environment.sessions.last();
    html! {
        div.columns {
            div.card { h3 { "History" } (history(&environment.sessions)) }
            @if let Some(session) = last {
                div.card { h3 { "Layout" } (layout(&session.ranks)) }
                div.card { h3 { "Versions" } (versions(session)) }
            }
        }
        @if let Some(session) = last {
            div.card { h3 { "Command" } pre { (command(&session.command)) } p.note { "in " (session.directory) } }
        }
    }
}

fn history(sessions: &[Session]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Time" } th.number { "Step" } th { "What" } } }
            tbody {
                @for (number, session) in sessions.iter().enumerate() {
                    tr {
                        td { (session.started) }
                        td.number { (session.first_step) }
                        td { @if number == 0 { "started" } @else { "resumed" } " on " (count(session.ranks.len(), "rank")) }
                    }
                    @if let Some(end) = &session.end {
                        tr { td { (end.time) } td.number { (end.step) } td { (end.how) } }
                    } @else if number + 1 < sessions.len() {
                        tr { td { "–" } td.number { "–" } td { "ended without a word" } }
                    }
                }
            }
        } }
    }
}

/// Ranks that follow each other on one node are one row.
fn layout(ranks: &[Rank]) -> Markup {
    let mut first = 0;
    let mut rows = Vec::new();
    for of_node in ranks.chunk_by(|one, next| one.node == next.node && one.host == next.host) {
        let last = first + of_node.len() - 1;
        let numbers = if first == last { first.to_string() } else { format!("{first}–{last}") };
        let mut devices: Vec<_> = of_node.iter().map(|rank| rank.device.as_str()).collect();
        devices.dedup();
        rows.push((&of_node[0].host, numbers, devices.join(", "), of_node[0].threads));
        first = last + 1;
    }
    html! {
        div.scroll { table {
            thead { tr { th { "Node" } th { "Ranks" } th { "Devices" } th.number { "Threads per rank" } } }
            tbody {
                @for (host, numbers, devices, threads) in rows {
                    tr { td { (host) } td { (numbers) } td { (devices) } td.number { (threads) } }
                }
            }
        } }
    }
}

fn versions(session: &Session) -> Markup {
    let commit = session.commit.iter().map(|commit| ("commit", commit));
    let job = session.slurm_job.iter().map(|job| ("Slurm job", job));
    html! {
        dl {
            @for (name, version) in &session.versions { dt { (name) } dd { (version) } }
            @for (name, value) in commit.chain(job) { dt { (name) } dd { (value) } }
        }
    }
}

/// The command line, quoted for a shell where it must be.
fn command(words: &[String]) -> String {
    let is_plain = |word: &str| {
        !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./=:,+@%".contains(letter))
    };
    let quote =
        |word: &String| if is_plain(word) { word.clone() } else { format!("'{}'", word.replace('\'', r"'\''")) };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_blanks_are_quoted() {
        let words = ["rust-train", "--data", "my pets", "--device", "", "it's"].map(str::to_owned);
        assert_eq!(command(&words), r"rust-train --data 'my pets' --device '' 'it'\''s'");
    }

    #[test]
    fn ranks_of_a_node_are_one_row() {
        let rank = |node: usize, device: &str| Rank {
            host: format!("n{node}"),
            node,
            device: device.to_owned(),
            ..Rank::default()
        };
        let html = layout(&[rank(0, "CPU"), rank(0, "CPU"), rank(1, "CUDA 0"), rank(1, "CUDA 1")]).into_string();
        assert!(html.contains("<td>n0</td><td>0–1</td><td>CPU</td>"), "{html}");
        assert!(html.contains("<td>n1</td><td>2–3</td><td>CUDA 0, CUDA 1</td>"), "{html}");
    }
}
