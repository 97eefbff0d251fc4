//! The gateway's side: from the page of the running agent, or from the spool of a stopped one.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::Report;
use crate::agent::status::{LedgerRow, Status};
use crate::cli::exit::Failure;
use crate::cli::style::Style;
use crate::cli::{reachable, sources};
use crate::http::fetch;
use crate::spool;
use crate::wire::{Lane, PerLane, epoch_text};

/// The configured agent: its page if it runs, else its spool.
pub(super) fn configured(config: Option<&Path>, style: Style) -> Result<Report, Failure> {
    let config = sources::agent_config(config)?.config;
    match ask(reachable(config.http.listen)) {
        Ok(status) => Ok(of_status(&status, style)),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            spool(&config.data_dir.join("spool"), style)
        }
        Err(e) => Err(Failure::Failed(e.into())),
    }
}

/// The agent whose page is at `addr`.
pub(super) fn page(addr: SocketAddr, style: Style) -> anyhow::Result<Report> {
    let status = ask(addr).map_err(|e| {
        anyhow::anyhow!(
            "no agent tells its ledger on {addr} ({e}); is it running? A stopped one's spool is read with --spool"
        )
    })?;
    Ok(of_status(&status, style))
}

fn ask(addr: SocketAddr) -> io::Result<Status> {
    smol::block_on(fetch::get_json(addr, "/api/status"))
}

fn of_status(status: &Status, style: Style) -> Report {
    let title = format!("{}, running, version {}", status.device, status.version);
    let rows = status.ledger.iter().map(|row| Row { books: row.clone(), found: None, damaged: 0 });
    report(&title, json!({ "device": status.device }), rows.collect(), style)
}

/// The spool in `dir`, whose blocks are counted and checked one by one. No agent may hold it.
pub(super) fn spool(dir: &Path, style: Style) -> Result<Report, Failure> {
    let failed = |e: spool::InspectError| Failure::Failed(e.into());
    let stat = spool::stat(dir).map_err(failed)?;
    let (mut found, mut damaged): (PerLane<u64>, PerLane<u64>) = Default::default();
    spool::list(dir, |block| {
        found[block.entry.id.lane.index()] += block.entry.records();
        damaged[block.entry.id.lane.index()] += if block.sound { 0 } else { block.entry.records() };
    })
    .map_err(failed)?;
    let rows = Lane::ALL.iter().zip(&stat.ledger).map(|(lane, books)| {
        let i = lane.index();
        Row { books: LedgerRow::of(*lane, books), found: Some(found[i]), damaged: damaged[i] }
    });
    let title = format!("{}, epoch {}", dir.display(), epoch_text(stat.epoch));
    Ok(report(&title, json!({ "spool": dir.display().to_string() }), rows.collect(), style))
}

/// One lane, and what lies in its blocks.
struct Row {
    books: LedgerRow,
    /// Records that lie there; none where nobody looked.
    found: Option<u64>,
    /// Of these, records in blocks that do not read.
    damaged: u64,
}

impl Row {
    /// What is wrong with it.
    fn problem(&self) -> Option<String> {
        let books = &self.books;
        if !books.balances() {
            return Some("the books do not add up: please report this".into());
        }
        match self.found {
            Some(found) if found != books.pending => Some(format!(
                "{found} records lie there instead of {}: see `outpost spool ls`",
                books.pending
            )),
            _ if self.damaged > 0 => Some(format!(
                "{} records are damaged: the agent will declare them lost when it comes to them",
                self.damaged
            )),
            _ => None,
        }
    }
}

fn report(title: &str, mut head: Value, rows: Vec<Row>, style: Style) -> Report {
    let good = rows.iter().all(|row| row.problem().is_none());
    let mut text = format!(
        "{title}\n\n{:8}{:>12} ={:>14} +{:>10} +{:>10}\n",
        "lane", "admitted", "acknowledged", "pending", "evicted"
    );
    for row in &rows {
        let LedgerRow { lane, admitted, acknowledged, pending, evicted, evicted_by_reason, .. } = &row.books;
        let lane = lane.name();
        let reasons: Vec<String> = evicted_by_reason.iter().map(|(why, n)| format!("{why}: {n}")).collect();
        let line = format!(
            "{lane:8}{admitted:>12}  {acknowledged:>14}  {pending:>10}  {evicted:>10}  {}",
            reasons.join(", ")
        );
        let _ = writeln!(text, "{}", line.trim_end());
        if let Some(problem) = row.problem() {
            let _ = writeln!(text, "        {}", style.red(&format!("✗ {problem}")));
        }
    }
    let verdict = if good {
        style.green("✓ every record is acknowledged, waiting, or declared given up")
    } else {
        style.red("✗ the ledger does not balance")
    };
    let _ = writeln!(text, "\n{verdict}");
    head["ok"] = good.into();
    head["lanes"] = rows.iter().map(lane_json).collect();
    Report { good, text, json: head }
}

fn lane_json(row: &Row) -> Value {
    let LedgerRow { lane, epoch, admitted, acknowledged, pending, evicted, evicted_by_reason, .. } =
        &row.books;
    json!({
        "lane": lane, "epoch": epoch, "admitted": admitted, "acknowledged": acknowledged, "pending": pending,
        "evicted": evicted, "evicted_by_reason": evicted_by_reason, "found": row.found, "damaged": row.damaged,
        "ok": row.problem().is_none(), "problem": row.problem(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::Style;

    fn row(pending: u64, found: u64, damaged: u64) -> Row {
        let books = spool::LaneLedger {
            epoch: 7,
            admitted: 9,
            acknowledged: 4,
            pending,
            evicted: [0, 2, 0, 0, 0, 0],
            bytes: 0,
        };
        Row { books: LedgerRow::of(Lane::Raw, &books), found: Some(found), damaged }
    }

    #[test]
    fn a_ledger_is_good_only_if_the_books_add_up_and_the_blocks_are_there() {
        let good = report("x", json!({}), vec![row(3, 3, 0)], Style::PLAIN);
        assert!(good.good && good.text.contains("disk_full: 2") && good.json["ok"] == true, "{}", good.text);
        for (bad, why) in [
            (row(4, 4, 0), "do not add up"),
            (row(3, 2, 0), "2 records lie there instead of 3"),
            (row(3, 3, 1), "1 records are damaged"),
        ] {
            let bad = report("x", json!({}), vec![bad], Style::PLAIN);
            assert!(
                !bad.good && bad.text.contains(why) && bad.json["lanes"][0]["ok"] == false,
                "{}",
                bad.text
            );
        }
    }
}
