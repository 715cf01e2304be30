// SPDX-License-Identifier: MIT OR Apache-2.0
//! Layers, merging and every message.

use std::os::unix::fs::symlink;

use super::dropin::{self, Edit, ToggleError};
use super::*;

fn p(names: &[&str]) -> Vec<&'static Platform> {
    names.iter().map(|name| Platform::named(name).unwrap()).collect()
}

/// The configuration that these files make.
fn load(files: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Config::from_files(files.iter().map(|(path, text)| (Path::new(*path), text.as_bytes())))
}

/// The whole text of what is wrong with the file `c.toml`.
fn complaint(text: &str) -> String {
    load(&[("c.toml", text)]).unwrap_err().to_string()
}

type Platforms = [&'static Platform];

/// Plans it and does it; tells whether there was anything to do.
fn write_toggle(root: &Root, native: &Platforms, on: &Platforms, off: &Platforms) -> Result<bool, ToggleError> {
    let edit = dropin::plan_toggle(root, native, on, off)?;
    match &edit {
        Some(Edit::Write(text)) => root.write_whole(&dropin::path(), text.as_bytes()).unwrap(),
        Some(Edit::Remove) => root.remove_file(&dropin::path()).unwrap(),
        None => {}
    }
    Ok(edit.is_some())
}

fn image(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::image(dir.path()).unwrap();
    for (path, text) in files {
        root.write_whole(Path::new(path), text.as_bytes()).unwrap();
    }
    (dir, root)
}

const HANDLER: &str = r"[[handler]]
name = 'mine'
magic = '\x7fELF\x00'
interpreter = '/usr/bin/mine'
";

#[test]
fn nothing_written_means_the_defaults() {
    let (_dir, root) = image(&[]);
    assert_eq!(Config::load(&root).unwrap(), Loaded::default());
    assert_eq!(load(&[("c.toml", "")]).unwrap().config, Config::default());
}

#[test]
fn every_key_is_read() {
    let text = r"
        platforms = ['linux/amd64', 'ppc64el', 'x86_64']
        enable = ['riscv64']
        disable = ['arm64']
        take_over = true
        credentials = true
        emulator = 'never'
        proof_max_age = '2h30m'
        interpreters = { amd64 = '/usr/bin/qemu-x86_64', 'linux/arm/v7' = '/opt/arm' }
        selftest.runtime = 'podman'
        selftest.timeout = '90s'
        selftest.large_pages_are_critical = true
        service.back_off_after = 0x20
        [[handler]]
        name = 'mine'
        magic = '\x7fELF:'
        mask = '\xff\xff\xff\xff\x0f'
        offset = 0x2
        interpreter = '/usr/bin/mine'
        flags = 'OC'
    ";
    let config = load(&[("c.toml", text)]).unwrap().config;
    let rule = Rule::parse(r":mine:M:2:\x7f\x45\x4c\x46\x3a:\xff\xff\xff\xff\x0f:/usr/bin/mine:OC").unwrap();
    let expected = Config {
        platforms: Some(p(&["amd64", "ppc64le"])),
        enable: p(&["riscv64"]),
        disable: p(&["arm64"]),
        handlers: vec![CustomHandler { rule }],
        interpreters: vec![(p(&["amd64"])[0], "/usr/bin/qemu-x86_64".into()), (p(&["arm"])[0], "/opt/arm".into())],
        take_over: true,
        credentials: true,
        emulator: Emulator::Never,
        proof_max_age: Duration::from_secs(9000),
        selftest_runtime: Runtime::Podman,
        selftest_timeout: Duration::from_secs(90),
        large_pages_are_critical: true,
        back_off_after: 32,
    };
    assert_eq!(config, expected);
}

#[test]
fn flags_follow_the_interpreters_name() {
    for (interpreter, flags) in
        [("/usr/bin/mine", "F"), ("/usr/libexec/qemu-binfmt/x86_64-binfmt-P", "PF"), ("/x-binfmt-P/y", "F")]
    {
        let text = HANDLER.replace("/usr/bin/mine", interpreter);
        assert_eq!(load(&[("c", &text)]).unwrap().config.handlers[0].rule.flags.to_string(), flags, "{interpreter}");
        let text = format!("{text}flags = ''");
        assert_eq!(load(&[("c", &text)]).unwrap().config.handlers[0].rule.flags.to_string(), "");
    }
}

#[test]
fn later_files_win() {
    let other = HANDLER.replace("/usr/bin/mine", "/opt/other");
    let third = HANDLER.replace("'mine'", "'third'");
    // What the files say, one after the other, and what they mean together, as one file.
    for (files, meaning) in [
        (&["platforms = ['amd64', '386']", "platforms = ['arm']"][..], "platforms = ['arm']"),
        (&["platforms = ['amd64']", "platforms = 'auto'"], ""),
        (&["platforms = ['amd64']", "platforms = []"], "platforms = []"),
        (&["enable = ['arm']", "enable = ['riscv64']"], "enable = ['arm', 'riscv64']"),
        (&["disable = ['arm']", "enable = ['arm']"], "enable = ['arm']"),
        (&["enable = ['arm', 's390x']", "disable = ['arm']"], "enable = ['s390x']\ndisable = ['arm']"),
        (&["disable = ['arm']", "enable = ['arm']", "disable = ['arm']"], "disable = ['arm']"),
        (&["disable = ['arm']", "platforms = ['arm']"], "platforms = ['arm']\ndisable = ['arm']"),
        (&["take_over = true", "credentials = true"], "take_over = true\ncredentials = true"),
        (&["take_over = true", "take_over = false"], ""),
        (&["emulator = 'always'", "emulator = 'auto'"], ""),
        (&["emulator = 'never'", "emulator = 'always'"], "emulator = 'always'"),
        (&["selftest.timeout = '5s'", "selftest.runtime = 'all'"], "[selftest]\ntimeout = '5s'\nruntime = 'all'"),
        (
            &["[interpreters]\narm = '/a'\namd64 = '/b'", "[interpreters]\narm = '/c'"],
            "[interpreters]\namd64 = '/b'\narm = '/c'",
        ),
        (&[HANDLER, &third, &other], &format!("{other}{third}")),
    ] {
        let files: Vec<_> = files.iter().map(|text| ("c.toml", *text)).collect();
        assert_eq!(load(&files).unwrap().config, load(&[("c.toml", meaning)]).unwrap().config, "{files:?}");
    }
}

#[test]
fn files_are_found_by_systemds_rules() {
    let (dir, root) = image(&[
        ("/usr/lib/qemu-persist/config.toml", "take_over = true\ncredentials = true"),
        ("/run/qemu-persist/config.toml", "proof_max_age = '1d'"),
        ("/usr/lib/qemu-persist/config.toml.d/10-a.toml", "enable = ['arm']"),
        ("/usr/lib/qemu-persist/config.toml.d/20-b.toml", "enable = ['amd64']"),
        ("/usr/local/lib/qemu-persist/config.toml.d/10-a.toml", "enable = ['s390x']"),
        ("/etc/qemu-persist/config.toml.d/05-z.toml", "enable = ['386']\nproof_max_age = '2d'"),
        ("/etc/qemu-persist/config.toml.d/05-z.toml.bak", "broken"),
    ]);
    symlink("/dev/null", dir.path().join("etc/qemu-persist/config.toml.d/20-b.toml")).unwrap();
    let loaded = Config::load(&root).unwrap();
    assert_eq!(loaded.config.enable, p(&["386", "s390x"]));
    assert_eq!(loaded.config.proof_max_age, Duration::from_secs(2 * 86400));
    assert!(!loaded.config.take_over);
    let files = [
        "/run/qemu-persist/config.toml",
        "/etc/qemu-persist/config.toml.d/05-z.toml",
        "/usr/local/lib/qemu-persist/config.toml.d/10-a.toml",
    ];
    assert_eq!(loaded.files, files.map(PathBuf::from));
    let origins: Vec<_> = loaded.origins.iter().map(|(key, path)| (key.as_str(), path.to_str().unwrap())).collect();
    assert_eq!(origins, [("enable.386", files[1]), ("enable.s390x", files[2]), ("proof_max_age", files[1])]);

    symlink("/dev/null", dir.path().join("etc/qemu-persist/config.toml")).unwrap();
    assert_eq!(Config::load(&root).unwrap().files, files[1..].iter().map(PathBuf::from).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_read_is_told_and_nothing_is_assumed() {
    let (dir, root) = image(&[("/etc/qemu-persist/config.toml.d/10-a.toml", "x = 1")]);
    std::fs::create_dir_all(dir.path().join("run/qemu-persist/config.toml")).unwrap();
    symlink("nowhere", dir.path().join("etc/qemu-persist/config.toml.d/20-b.toml")).unwrap();
    let error = Config::load(&root).unwrap_err();
    let top = dir.path().canonicalize().unwrap().display().to_string();
    let expected = format!(
        "the configuration has 3 problems

cannot be read: No such file or directory (os error 2)
 --> {top}/etc/qemu-persist/config.toml.d/20-b.toml

cannot be read: not a regular file
 --> {top}/run/qemu-persist/config.toml

there is no key `x`: the keys there are platforms, enable, disable, take_over, credentials, emulator, \
         proof_max_age, interpreters, selftest, service, handler
 --> {top}/etc/qemu-persist/config.toml.d/10-a.toml:1:1
  |
1 | x = 1
  | ^"
    );
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.files, [PathBuf::from(format!("{top}/etc/qemu-persist/config.toml.d/10-a.toml"))]);
    let summary = format!(
        "{top}/etc/qemu-persist/config.toml.d/20-b.toml: cannot be read: No such file or directory (os error 2) (and 2 more)"
    );
    assert_eq!(error.summary(), summary);
}

/// What is written, the message, and where: line, column and the marked text.
type Row = (&'static str, &'static str, (usize, usize, &'static str));

const MISTAKES: &[Row] = &[
    ("takeover = true", "there is no key `takeover`: did you mean `take_over`?", (1, 1, "takeover")),
    ("[selftests]", "there is no key `selftests`: did you mean `selftest`?", (1, 2, "selftests")),
    ("timeout = '9s'", "there is no key `timeout`: did you mean `selftest.timeout`?", (1, 1, "timeout")),
    (
        "back_off_after = 3",
        "there is no key `back_off_after`: did you mean `service.back_off_after`?",
        (1, 1, "back_off_after"),
    ),
    (
        "service.back_off_after = 0",
        "`service.back_off_after` has to be a number of repairs from 1 to 1000000",
        (1, 26, "0"),
    ),
    (
        "service.back_off_after = 'x'",
        "`service.back_off_after` has to be a number of repairs from 1 to 1000000, and this is a text",
        (1, 26, "'x'"),
    ),
    ("[selftest]\ntimout = '9s'", "there is no key `timout` in [selftest]: did you mean `timeout`?", (2, 1, "timout")),
    (
        "[selftest]\ntake_over = true",
        "there is no key `take_over` in [selftest]: move it above the file's first [table], since it belongs to none",
        (2, 1, "take_over"),
    ),
    (
        "[interpreters]\ntake_over = true",
        "there is no key `take_over` in [interpreters]: move it above the file's first [table], since it belongs to none",
        (2, 1, "take_over"),
    ),
    (
        "[selftest]\nimage = 'x'",
        "there is no key `image` in [selftest]: the keys there are runtime, timeout, large_pages_are_critical",
        (2, 1, "image"),
    ),
    ("\n\ttake_over = 'yes'", "`take_over` has to be true or false, and this is a text", (2, 14, "'yes'")),
    (
        "emulator = 'alway'",
        "\"alway\" does not say when `emulator` is preferred: did you mean \"always\"?",
        (1, 12, "'alway'"),
    ),
    (
        "emulator = 'on large pages'",
        "\"on large pages\" does not say when `emulator` is preferred: known are auto, always, never",
        (1, 12, "'on large pages'"),
    ),
    ("emulator = true", "`emulator` has to be a text in quotes, and this is true or false", (1, 12, "true")),
    ("credentials = 1.5", "`credentials` has to be true or false, and this is a number", (1, 15, "1.5")),
    (
        "platforms = 'amd64'",
        "`platforms` has to be \"auto\" or a list of platforms such as [\"amd64\"], and this is a text",
        (1, 13, "'amd64'"),
    ),
    (
        "enable = true",
        "`enable` has to be a list of platforms such as [\"amd64\"], and this is true or false",
        (1, 10, "true"),
    ),
    (
        "platforms = ['amd46']",
        "\"amd46\" is no platform that QEMU is known to run: did you mean \"amd64\"?",
        (1, 14, "'amd46'"),
    ),
    (
        "disable = ['linux/x86-64']",
        "\"linux/x86-64\" is no platform that QEMU is known to run: did you mean \"x86_64\"?",
        (1, 12, "'linux/x86-64'"),
    ),
    (
        "enable = ['sparc']",
        "\"sparc\" is no platform that QEMU is known to run: known are amd64, 386, arm64, arm, riscv64, ppc64le, \
         s390x, mips64le, mips64, loong64",
        (1, 11, "'sparc'"),
    ),
    ("enable = [3]", "`enable` is a list of texts such as \"amd64\", and this is a number", (1, 11, "3")),
    (
        "enable = ['arm']\ndisable = ['arm', '386']",
        "linux/arm is in both `enable` and `disable` of this file: take it out of one",
        (2, 11, "['arm', '386']"),
    ),
    (
        "proof_max_age = 8",
        "`proof_max_age` has to be a duration such as \"90s\", \"2h 30m\" or \"8d\", and this is a number",
        (1, 17, "8"),
    ),
    (
        "proof_max_age = '8'",
        "`proof_max_age` has to be a duration such as \"90s\", \"2h 30m\" or \"8d\": time unit needed, for example \
         8sec or 8ms",
        (1, 17, "'8'"),
    ),
    ("selftest.timeout = '0s'", "`selftest.timeout` has to be longer than nothing", (1, 20, "'0s'")),
    ("proof_max_age = '101y'", "`proof_max_age` has to be a hundred years at most", (1, 17, "'101y'")),
    (
        "selftest.runtime = 'podmann'",
        "\"podmann\" is no runtime of the self-test: did you mean \"podman\"?",
        (1, 20, "'podmann'"),
    ),
    (
        "selftest.runtime = 'lxc'",
        "\"lxc\" is no runtime of the self-test: known are auto, builtin, docker, podman, nerdctl, buildkit, all",
        (1, 20, "'lxc'"),
    ),
    ("selftest.runtime = []", "`selftest.runtime` has to be a text in quotes, and this is a list", (1, 20, "[]")),
    (
        "selftest = 1979-05-27",
        "`selftest` has to be a table, [selftest], and this is a date or time",
        (1, 12, "1979-05-27"),
    ),
    (
        "[interpreters]\namd64 = 'qemu-x86_64'",
        "interpreter \"qemu-x86_64\" is not an absolute path in plain characters, without a colon",
        (2, 9, "'qemu-x86_64'"),
    ),
    (
        "[interpreters]\namd64 = '/a'\nx86_64 = '/b'",
        "the interpreter of linux/amd64 is given twice in this file",
        (3, 1, "x86_64"),
    ),
    (
        "[interpreters]\nvax = '/a'",
        "\"vax\" is no platform that QEMU is known to run: known are amd64, 386, arm64, arm, riscv64, ppc64le, s390x, \
         mips64le, mips64, loong64",
        (2, 1, "vax"),
    ),
    (
        "[handler]\nname = 'x'",
        "`handler` has to be written as [[handler]], in double brackets, and this is a table",
        (1, 1, "[handler]"),
    ),
    ("handler = [3]", "`handler` has to be a table, [[handler]], and this is a number", (1, 12, "3")),
    (
        "handler = [{ name = 'x', magic = 'x' }]",
        "this handler has no `interpreter`",
        (1, 12, "{ name = 'x', magic = 'x' }"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'x'\ninterpreter = '/x'\nflag = 'F'",
        "there is no key `flag` in [[handler]]: did you mean `flags`?",
        (5, 1, "flag"),
    ),
    (
        "[[handler]]\nname = 'register'\nmagic = 'x'\ninterpreter = '/x'",
        "\"register\" cannot be the name of a handler",
        (2, 8, "'register'"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = '\\x7'\ninterpreter = '/x'",
        "`magic` has a broken escape: \"\\x7\" has to be characters and \\xNN",
        (3, 9, "'\\x7'"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = ''\ninterpreter = '/x'",
        "magic \"\" is not 1 to 256 bytes, written as characters and \\xNN",
        (3, 9, "''"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = \"\\x7fELF\"\ninterpreter = '/x'",
        "write `magic` in single quotes, '\\x7fELF', so that TOML leaves its backslashes alone",
        (3, 9, "\"\\x7fELF\""),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'x'\nmask = \"\\xff\"\ninterpreter = '/x'",
        "write `mask` in single quotes, '\\x7fELF', so that TOML leaves its backslashes alone",
        (4, 8, "\"\\xff\""),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'xy'\nmask = 'x'\ninterpreter = '/x'",
        "the mask has 1 bytes and the magic 2: they have to be equally long",
        (4, 8, "'x'"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'xy'\noffset = 255\ninterpreter = '/x'",
        "offset \"255\": the magic has to lie within the first 256 bytes of a program",
        (4, 10, "255"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'xy'\noffset = -1\ninterpreter = '/x'",
        "offset \"-1\": the magic has to lie within the first 256 bytes of a program",
        (4, 10, "-1"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'xy'\noffset = '1'\ninterpreter = '/x'",
        "`offset` has to be a number of bytes, and this is a text",
        (4, 10, "'1'"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'xy'\ninterpreter = '/x:y'",
        "interpreter \"/x:y\" is not an absolute path in plain characters, without a colon",
        (4, 15, "'/x:y'"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'xy'\ninterpreter = '/x'\nflags = 'FZ'",
        "flag \"Z\" is not known; P, O, C and F are",
        (5, 9, "'FZ'"),
    ),
    (
        "[[handler]]\nname = 'x'\nmagic = 'x'\ninterpreter = '/x'\n[[handler]]\nname = 'x'\nmagic = 'y'\ninterpreter = '/y'",
        "there are two handlers named \"x\" in this file",
        (6, 8, "'x'"),
    ),
    (
        "[[handler]]\nname = 'qemu-aarch64'\nmagic = 'x'\ninterpreter = '/x'",
        "\"qemu-aarch64\" is the name of the handler that linux/arm64 gets, which `platforms` or `enable` may ask for: \
         choose another name, or put \"arm64\" into `disable`",
        (2, 8, "'qemu-aarch64'"),
    ),
    ("take_over = true\ntake_over = true", "this is no TOML: duplicate key", (2, 1, "take_over")),
    ("platforms = [", "this is no TOML: unclosed array, expected `]`", (1, 14, "")),
    ("a = \n\n", "this is no TOML: string values must be quoted, expected literal string", (1, 5, "")),
];

#[test]
fn every_mistake_is_shown_where_it_is() {
    for (text, message, (line, column, marked)) in MISTAKES {
        let shown = text.lines().nth(line - 1).unwrap().replace('\t', "    ");
        let shown = shown.trim_end();
        let tabs = text.lines().nth(line - 1).unwrap()[..column - 1].matches('\t').count();
        let indent = " ".repeat(column - 1 + 3 * tabs);
        let carets = "^".repeat(marked.len().max(1));
        let expected = format!("{message}\n --> c.toml:{line}:{column}\n  |\n{line} | {shown}\n  | {indent}{carets}");
        assert_eq!(complaint(text), expected, "{text}");
    }
}

#[test]
fn all_mistakes_of_all_files_are_collected() {
    let files =
        [("a.toml", "x = 1\n\nenable = [\n  'arm',\n  'vaxx',\n]\n"), ("b.toml", "= 3"), ("c.toml", "b = '\u{7}'")];
    let error = load(&files).unwrap_err();
    let places: Vec<_> = error.problems.iter().map(|p| p.place.to_string()).collect();
    assert_eq!(places, ["a.toml:1:1", "a.toml:5:3", "b.toml:1:1", "c.toml:1:6"]);
}

#[test]
fn nothing_in_a_message_moves_the_cursor() {
    for text in ["\"a\\u001b[2J\" = 1", "enable = [\"\\u001b[2J\"]", "a\u{1b} = 1", "x = 1 # \u{202e}"] {
        let shown = complaint(text);
        assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    }
}

#[test]
fn long_lines_are_shown_around_the_place() {
    let text = format!("enable = [{}'vaxx']", "'arm', ".repeat(100));
    let expected = "\"vaxx\" is no platform that QEMU is known to run: known are amd64, 386, arm64, arm, riscv64, \
        ppc64le, s390x, mips64le, mips64, loong64
 --> c.toml:1:711
  |
1 | …rm', 'arm', 'arm', 'arm', 'arm', 'arm', 'vaxx']
  |                                          ^^^^^^";
    assert_eq!(complaint(&text), expected);
    let text = format!("x = '{}'", "y".repeat(500));
    assert!(complaint(&text).lines().all(|line| line.chars().count() < 160));
}

#[test]
fn a_conventional_name_is_free_where_the_platform_is_not_wanted() {
    let handler = HANDLER.replace("mine", "qemu-aarch64");
    for (others, fits) in [
        ("", false),
        ("disable = ['arm64']", true),
        ("platforms = []", true),
        ("platforms = ['amd64']", true),
        ("platforms = ['amd64']\nenable = ['arm64']", false),
        ("platforms = ['arm64']", false),
        ("platforms = ['arm64']\ndisable = ['arm64']", true),
    ] {
        assert_eq!(load(&[("c.toml", others), ("d.toml", &handler)]).is_ok(), fits, "{others}");
    }
    let never_automatic = HANDLER.replace("mine", "qemu-s390x");
    assert!(load(&[("d.toml", &never_automatic)]).is_ok());
}

#[test]
fn what_is_wanted_depends_on_what_runs_by_itself() {
    for (text, native, wanted, refused) in [
        ("", &["arm64", "arm"][..], &["amd64", "386"][..], &[][..]),
        ("", &["arm64"], &["amd64", "386"], &[]),
        ("", &["arm"], &["amd64", "386"], &[]),
        ("", &["amd64", "386"], &["arm64", "arm", "riscv64"], &[]),
        ("", &["riscv64"], &["amd64", "arm64"], &[]),
        ("", &[], &["amd64", "arm64"], &[]),
        ("enable = ['s390x', 'amd64']", &["arm64"], &["amd64", "386", "s390x"], &[]),
        ("disable = ['386']", &["arm64"], &["amd64"], &[]),
        ("platforms = []", &["arm64"], &[], &[]),
        ("platforms = ['arm64', 'amd64']", &["arm64", "arm"], &["amd64"], &["arm64"]),
        ("enable = ['arm']", &["arm64", "arm"], &["amd64", "386"], &["arm"]),
        ("platforms = ['arm64']\ndisable = ['arm64']", &["arm64"], &[], &[]),
    ] {
        let config = load(&[("c.toml", text)]).unwrap().config;
        assert_eq!(config.wanted(&p(native)), p(wanted), "{text} on {native:?}");
        assert_eq!(config.refused(&p(native)), p(refused), "{text} on {native:?}");
    }
}

const ENABLED: &str = "/etc/qemu-persist/config.toml.d/90-enabled.toml";
const HEADER: &str = "# Written by `qemu-persist enable` and `qemu-persist disable`.\n\
    # Changes are kept, but write anything else into a file of your own beside it.\n";

/// What is enabled and disabled in one call, whether it changes the drop-in, and what it says then.
type Step = (&'static [&'static str], &'static [&'static str], bool, &'static str);

#[test]
fn the_drop_in_says_what_the_others_do_not() {
    let steps: &[(&str, &[Step])] = &[
        (
            "",
            &[
                (&["amd64"], &[], false, ""),
                (&["riscv64"], &[], true, "enable = [\"riscv64\"]\n"),
                (&["riscv64", "amd64"], &[], false, "enable = [\"riscv64\"]\n"),
                (&["s390x"], &["386"], true, "enable = [\"riscv64\", \"s390x\"]\ndisable = [\"386\"]\n"),
                (&[], &["386"], false, "enable = [\"riscv64\", \"s390x\"]\ndisable = [\"386\"]\n"),
                (&["386"], &["riscv64"], true, "enable = [\"s390x\"]\n"),
                (&[], &["s390x"], true, ""),
                (&[], &["s390x"], false, ""),
            ],
        ),
        (
            "platforms = ['amd64']\ndisable = ['arm']",
            &[
                (&["arm"], &["amd64"], true, "enable = [\"arm\"]\ndisable = [\"amd64\"]\n"),
                (&[], &["arm"], true, "disable = [\"amd64\"]\n"),
                (&["amd64"], &[], true, ""),
                (&[], &["386"], false, ""),
            ],
        ),
    ];
    for (main, steps) in steps {
        let (_dir, root) = image(&[("/etc/qemu-persist/config.toml", main)]);
        for (enable, disable, changed, text) in *steps {
            let result = write_toggle(&root, &p(&["arm64"]), &p(enable), &p(disable));
            assert_eq!(result.unwrap(), *changed, "{enable:?} {disable:?}");
            let expected = if text.is_empty() { None } else { Some(format!("{HEADER}{text}")) };
            assert_eq!(root.read_text(Path::new(ENABLED)).ok(), expected);
            let config = Config::load(&root).unwrap().config;
            let wanted = config.wanted(&p(&["arm64"]));
            assert!(p(enable).iter().all(|p| wanted.contains(p)) && !p(disable).iter().any(|p| wanted.contains(p)));
        }
    }
}

#[test]
fn the_drop_in_gives_way_to_what_others_wrote() {
    let native = p(&["arm64"]);
    let enable = |root: &Root| write_toggle(root, &native, &p(&["s390x"]), &[]);
    // A later file has the last word, and is named.
    let (dir, root) = image(&[("/etc/qemu-persist/config.toml.d/95-x.toml", "disable = ['s390x']")]);
    let message = enable(&root).unwrap_err().to_string();
    let top = dir.path().canonicalize().unwrap().display().to_string();
    let file = format!("{top}/etc/qemu-persist/config.toml.d/95-x.toml");
    assert_eq!(message, format!("{file} disables linux/s390x, and is read after 90-enabled.toml: change it there"));
    assert!(!root.exists(Path::new(ENABLED)));
    // A file of somebody else's, or a mask, is left as it is.
    for text in ["enable = []", &format!("{HEADER}take_over = true")] {
        let (_dir, root) = image(&[(ENABLED, text)]);
        assert!(matches!(enable(&root), Err(ToggleError::Foreign(_))), "{text}");
        assert_eq!(root.read_text(Path::new(ENABLED)).unwrap(), text);
    }
    let (dir, root) = image(&[("/etc/qemu-persist/config.toml.d/x", "")]);
    symlink("/dev/null", dir.path().join(&ENABLED[1..])).unwrap();
    assert!(matches!(enable(&root), Err(ToggleError::Foreign(_))));
    // A broken configuration is told of first.
    let (_dir, root) = image(&[("/etc/qemu-persist/config.toml", "x = 1")]);
    assert!(matches!(enable(&root), Err(ToggleError::Config(_))));
    // One that a system image came with is continued, and replaced even by an empty one.
    let vendor = ENABLED.replace("/etc", "/usr/lib");
    let (_dir, root) = image(&[(&vendor, "enable = ['riscv64']")]);
    assert!(enable(&root).unwrap());
    assert_eq!(Config::load(&root).unwrap().config.enable, p(&["riscv64", "s390x"]));
    assert!(write_toggle(&root, &native, &[], &p(&["riscv64", "s390x"])).unwrap());
    assert_eq!(root.read_text(Path::new(ENABLED)).unwrap(), HEADER);
    assert_eq!(Config::load(&root).unwrap().config, Config::default());
}

#[test]
fn disabling_solves_a_conflict_of_names() {
    let handler = HANDLER.replace("mine", "qemu-x86_64");
    let (_dir, root) = image(&[("/etc/qemu-persist/config.toml", &handler)]);
    assert!(Config::load(&root).is_err());
    assert!(write_toggle(&root, &p(&["arm64"]), &[], &p(&["amd64"])).unwrap());
    assert!(Config::load(&root).is_ok());
    assert!(matches!(write_toggle(&root, &p(&["arm64"]), &p(&["amd64"]), &[]), Err(ToggleError::Config(_))));
    assert!(Config::load(&root).is_ok());
}
