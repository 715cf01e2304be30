// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the man pages, dated as asked for, the shell completions and the JSON Schemas into a
//! directory, from the program's own definitions: the same definitions and date give the same bytes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use qemu_persist::assess::checks::{HOST_CHECKS, SERVICE_CHECKS, TARGET_CHECKS};
use qemu_persist::causes::table::CAUSES;
use qemu_persist::cli::Cli;
use qemu_persist::finding::OTHERS;
use qemu_persist::report::schema;

/// What the pages are part of.
const SOURCE: &str = concat!("qemu-persist ", env!("CARGO_PKG_VERSION"));

/// What is left in `$?`, by verb: the first word after `qemu-persist`.
#[expect(clippy::type_complexity, reason = "the rows of a table")]
const EXIT_CODES: [(&[&str], &[(&str, &str)]); 7] = [
    (
        &["status", "selftest", "host"],
        &[
            ("0", "All is well."),
            ("1", "A warning: it works, and something asks for attention."),
            ("2", "Critical: a wanted platform does not work, or the configuration is broken."),
            ("3", "Unknown: it could not be found out."),
            ("64", "Wrong usage."),
        ],
    ),
    (
        &["apply", "remove", "enable", "disable"],
        &[
            ("0", "Done, or with --check: nothing to do."),
            ("1", "With --check: there is something to do."),
            ("2", "A wanted platform failed; the others are done. With --check: it cannot be done."),
            ("64", "Wrong usage."),
            ("77", "Root is needed; nothing was changed."),
            ("78", "The configuration is broken; nothing was changed."),
        ],
    ),
    (
        &["explain"],
        &[
            ("0", "The text is known."),
            ("1", "Nothing in it is known."),
            ("3", "It cannot be read."),
            ("64", "Wrong usage."),
        ],
    ),
    (
        &["image"],
        &[
            ("0", "Every image runs natively."),
            ("1", "Some run emulated, or natively with a limit."),
            ("2", "Some do not run."),
            ("3", "Of some nothing is known. The worst counts, in the order 2, 1, 3, 0."),
            ("64", "Wrong usage."),
        ],
    ),
    (
        &["compose"],
        &[
            ("0", "Every service runs natively; of fix: it is printed, or there is nothing to print."),
            ("1", "Some run emulated, or natively with a limit."),
            ("2", "Some do not run as the files stand."),
            ("3", "Of some nothing is known, or the files cannot be read. The worst counts, in the order 2, 1, 3, 0."),
            ("64", "Wrong usage."),
        ],
    ),
    (
        &["fix"],
        &[
            ("0", "The kernel's pages have 4 KiB, or will have after a reboot; with --undo: the change is taken back."),
            ("1", "They have not, and nothing was changed."),
            ("2", "The change cannot be made."),
            ("64", "Wrong usage."),
            ("77", "Root is needed; nothing was changed."),
        ],
    ),
    (
        &["config"],
        &[("0", "The configuration is sound."), ("64", "Wrong usage."), ("78", "The configuration is broken.")],
    ),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [folder, date] = arguments.as_slice() else { bail!("usage: qemu-persist-assets DIRECTORY YYYY-MM-DD") };
    let folder = Path::new(folder);
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, date, &folder.join("man"))?;
    write_findings(date, &folder.join("man"))?;
    write_completions(&folder.join("completions"))?;
    write_schemas(&folder.join("schema"))
}

/// Writes a page for `command` and one for each command below it.
fn write_pages(command: &Command, date: &str, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let file = folder.join(format!("{name}.1"));
    let page = render_page(command, &name, date).with_context(|| file.display().to_string())?;
    fs::write(&file, page).with_context(|| file.display().to_string())?;
    command.get_subcommands().filter(|c| !c.is_hide_set()).try_for_each(|c| write_pages(c, date, folder))
}

/// The page of one command: what clap knows of it, then exit status and neighbours.
fn render_page(command: &Command, name: &str, date: &str) -> anyhow::Result<Vec<u8>> {
    let man = Man::new(command.clone()).title(name).date(date).source(SOURCE).manual("qemu-persist");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if command.get_after_long_help().or(command.get_after_help()).is_some() {
        man.render_extra_section(&mut page)?;
    }
    let mut tail = Roff::new();
    if let Some(verb) = name.split('-').nth(2) {
        let (_, codes) = EXIT_CODES.iter().find(|(verbs, _)| verbs.contains(&verb)).context("exit codes unknown")?;
        tail.control("SH", ["EXIT STATUS"]);
        for (code, meaning) in *codes {
            tail.control("TP", ["4"]).text([bold(*code)]).text([roman(*meaning)]);
        }
    }
    if command.get_arguments().any(|argument| argument.get_id() == "json") {
        let words = name.split('-').skip(2).collect::<Vec<_>>().join(" ");
        let form = schema::forms().into_iter().find(|form| form.commands.contains(&words.as_str()));
        let form = form.with_context(|| format!("{words} --json has no schema"))?;
        tail.control("SH", ["JSON"]).text([
            roman("What --json writes is described by "),
            italic(format!("/usr/share/qemu-persist/schema/{}.schema.json", form.name)),
            roman(". Later versions add keys and values, and change none."),
        ]);
    }
    tail.control("SH", ["SEE ALSO"]);
    let others = [
        ("qemu-persist", "(1), "),
        ("qemu-persist.toml", "(5), "),
        ("qemu-persist-findings", "(7), "),
        ("qemu-persistd", "(8), "),
    ];
    for (other, section) in others.iter().filter(|(other, _)| *other != name) {
        tail.control("BR", [*other, *section]);
    }
    tail.control("BR", ["binfmt.d", "(5)"]);
    tail.to_writer(&mut page)?;
    Ok(page)
}

/// Writes the page of every finding.
fn write_findings(date: &str, folder: &Path) -> anyhow::Result<()> {
    let mut page = Roff::new();
    page.control("TH", ["qemu-persist-findings", "7", date, SOURCE, "qemu-persist"]);
    page.control("SH", ["NAME"]).text([roman("qemu-persist-findings - what qemu-persist can find, by id")]);
    page.control("SH", ["DESCRIPTION"]).text([roman(
        "Every finding has an id, which stands in brackets behind its text, and in JSON under the key id. Scripts may \
         compare it: an id keeps its meaning and is never used for another. Each finding says by itself how bad it \
         is, what is wrong on this host, and what to do.",
    )]);
    let host = HOST_CHECKS.iter().map(|check| (check.id, check.title)).collect();
    let target = TARGET_CHECKS.iter().map(|check| (check.id, check.title)).collect();
    let service = SERVICE_CHECKS.iter().map(|check| (check.id, check.title)).collect();
    let causes = CAUSES.iter().map(|cause| (cause.id, cause.title)).collect();
    let sections: [(_, _, Vec<_>); 5] = [
        ("THE HOST", "Of the host as a whole, found by status and after apply:", host),
        ("PLATFORMS AND HANDLERS", "Of each platform or handler that is wanted, found by them too:", target),
        ("THE SERVICE", "Of the service, where it is installed, found by them too:", service),
        ("CONTAINERS", "Found by selftest, and by status --containers:", OTHERS.to_vec()),
        ("ERROR MESSAGES", "What a text may mean that explain is given:", causes),
    ];
    for (heading, lead, findings) in sections {
        page.control("SH", [heading]).text([roman(lead)]);
        for (id, title) in findings {
            page.control("TP", []).text([bold(id)]).text([roman(format!("{title}."))]);
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.control("BR", ["qemu-persist", "(1),"]).control("BR", ["qemu-persist-status", "(1),"]);
    page.control("BR", ["qemu-persist-selftest", "(1),"]).control("BR", ["qemu-persist-explain", "(1)"]);
    let file = folder.join("qemu-persist-findings.7");
    fs::write(&file, page.render()).with_context(|| file.display().to_string())
}

/// Writes the completions, named as each shell looks for them.
fn write_completions(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let names = [(Shell::Bash, "qemu-persist"), (Shell::Zsh, "_qemu-persist"), (Shell::Fish, "qemu-persist.fish")];
    for (shell, name) in names {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "qemu-persist", &mut text);
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Writes the schemas of what `--json` writes.
fn write_schemas(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for form in schema::forms() {
        let file = folder.join(format!("{}.schema.json", form.name));
        let text = serde_json::to_string_pretty(&form.schema)? + "\n";
        fs::write(&file, text).with_context(|| file.display().to_string())?;
    }
    Ok(())
}
