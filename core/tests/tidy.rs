//! The rules of this repository that no compiler checks, over every file that git knows: what may import what, how long
//! things may be, what is never written.
//!
//! Every rule is a function from one file (beside all others) to its findings, and stands in `RULES` with a
//! sample that breaks it, so that a rule which has gone blind is noticed. Code is looked at without its comments and the
//! contents of its strings. Left out: what rustfmt and clippy check, and subjects of commits.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 450;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 140;
const STRUCT_FIELDS_MAX: usize = 12;

/// Functions that are longer for a reason.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// Files with more code for a reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Structs with more fields for a reason: settings, pictures for people, and machines that are not divided yet.
const LARGE_STRUCTS: [(&str, &str, &str); 6] = [
    ("core/src/config.rs", "NodeConfig", "settings"),
    ("node/src/settings/mod.rs", "Settings", "settings"),
    ("sim/src/scenario/cluster.rs", "Cluster", "settings"),
    ("core/src/status.rs", "Status", "a picture"),
    ("core/src/status.rs", "Counters", "a picture"),
    ("core/src/engine/contract.rs", "EngineStats", "a picture"),
];

/// Names that say nothing about what is inside.
const DRAWERS: [&str; 8] =
    ["util", "utils", "common", "types", "helper", "helpers", "misc", "stuff"];

/// (below this path, except in these files, no code may say this)
const BANS: [(&str, &[&str], &[&str]); 7] = [
    ("core/src/", &[], &["tokio::", "madsim::", "std::fs", "std::net"]),
    ("engines/src/", &["engines/src/os_disk.rs"], &["tokio::", "madsim::", "std::fs", "std::net"]),
    ("net/src/", &[], &["madsim::", "rondo_sim", "rondo_engines", "rondo_node"]),
    ("node/src/", &[], &["madsim::", "rondo_sim"]),
    ("sim/src/", &["sim/src/rt.rs"], &["madsim::"]),
    // Shrinking stops after some real time; what a run does knows none.
    ("sim/src/", &["sim/src/shrink/mod.rs"], &["std::time::Instant", "std::time::SystemTime"]),
    ("", &["core/src/wire/frame.rs"], &["bincode::"]),
];

/// (a manifest, the packages it may never name)
const MANIFEST_BANS: [(&str, &[&str]); 4] = [
    ("core/Cargo.toml", &["tokio", "madsim", "engines", "net", "node", "sim"]),
    ("engines/Cargo.toml", &["tokio", "madsim", "net", "node", "sim"]),
    ("net/Cargo.toml", &["madsim", "engines", "node", "sim"]),
    ("node/Cargo.toml", &["madsim", "sim"]),
];

type Rule = fn(&File, &Repository) -> Vec<Finding>;

/// (what must hold, its check, a path and a text that break it)
const RULES: [(&str, Rule, &str, &str); 18] = [
    ("a file opens with what it is about", head, "net/src/a.rs", "use std::fmt;\n//! Late.\n"),
    (
        "a module uses only modules above it",
        order,
        "core/src/first.rs",
        "//! A.\nuse crate::second::B;\n",
    ),
    ("every file is a module of its crate", declared, "core/src/lost.rs", "//! Nobody names it.\n"),
    ("a file is one idea", file_size, "net/src/a.rs", "let a = 1;\n..500\n"),
    ("a function fits a screen", function_size, "net/src/a.rs", "fn a() {\n    b();\n..70}\n"),
    ("a struct is one idea", struct_size, "net/src/a.rs", "struct A {\n    a: u8,\n..12}\n"),
    ("a line fits the window", line_size, "net/src/a.rs", "// 34567890..15\n"),
    ("a name says what is inside", names, "net/src/utils.rs", "//! A drawer.\n"),
    ("imports are named one by one", globs, "net/src/a.rs", "use std::{fmt,\n    io::*};\n"),
    ("nothing is left for later", leftovers, "docs/a.md", concat!("# A\n\nTO", "DO: say more\n")),
    ("no unwrap outside tests", unwraps, "net/src/a.rs", "fn a() { b().unwrap(); }\n"),
    ("code keeps to its side of the traits", bans, "core/src/a.rs", "use std::fs::File;\n"),
    (
        "packages keep to their side",
        manifests,
        "core/Cargo.toml",
        "[dependencies]\ntokio.workspace = true\n",
    ),
    (
        "the project speaks of itself alone",
        outsiders,
        "docs/a.md",
        concat!("# A\n\nsee /wo", "rk/x\n"),
    ),
    ("links lead somewhere", links, "docs/a.md", "# A\n\n[b](nowhere/b.md)\n"),
    (
        "a test that a page names is there",
        named_tests,
        "docs/a.md",
        concat!("# A\n\n`this_test_is_", "not_there`\n"),
    ),
    ("the map names every file", mapped, "net/src/unknown.rs", "//! On no map.\n"),
    ("a page has one title", titles, "docs/a.md", "Text first.\n\n# A\n\n# B\n"),
];

/// A tracked file.
struct File {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
    /// For Rust: `text` with comments and the contents of strings blanked, line by line.
    code: String,
}

/// A line, counted from 1, and what is wrong there.
type Finding = (usize, String);

impl File {
    fn new(path: &str, text: &str) -> File {
        let code = if path.ends_with(".rs") { code_only(text) } else { String::new() };
        File { path: path.to_owned(), text: text.to_owned(), code }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The code above the unit tests.
    fn product(&self) -> &str {
        let end = self.code.find("#[cfg(test)]\nmod ").unwrap_or(self.code.len());
        if self.is_test() { "" } else { &self.code[..end] }
    }
}

struct Repository {
    root: PathBuf,
    files: Vec<File>,
}

impl Repository {
    fn open() -> Repository {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let paths = tracked(&root).unwrap_or_else(|| walked(&root));
        let read = |path: &String| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            Some(File::new(path, &text))
        };
        let files = paths.iter().filter_map(read).collect();
        Repository { root, files }
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = text.lines().map(str::to_owned).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

/// Without git, as in an unpacked archive: everything but hidden and built files.
#[expect(clippy::disallowed_methods, reason = "this test looks at files")]
fn walked(root: &Path) -> Vec<String> {
    let (mut paths, mut below) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(directory) = below.pop() {
        for entry in std::fs::read_dir(root.join(&directory)).into_iter().flatten().flatten() {
            let path = directory.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !name.starts_with('.') && name != "target" => {
                    below.push(path);
                }
                Ok(kind) if kind.is_file() => paths.push(path.to_string_lossy().replace('\\', "/")),
                _ => {}
            }
        }
    }
    paths
}

/// `text` with comments and the contents of strings and characters turned into blanks.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before = code.chars().last().unwrap_or(' ');
        let (length, is_code) = token(rest, before);
        let (this, next) = rest.split_at(length.max(first.len_utf8()));
        if is_code {
            code.push_str(this);
        } else {
            code.extend(this.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = next;
    }
    code
}

/// How many bytes belong together at the start of `rest`, and whether they are code.
fn token(rest: &str, before: char) -> (usize, bool) {
    let until = |end: &str, from: usize| {
        rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), false);
    }
    if rest.starts_with("/*") {
        return (until("*/", 2), false);
    }
    if rest.starts_with('r') && !before.is_alphanumeric() && before != '_' || rest.starts_with("br")
    {
        let from = rest.find('r').unwrap_or(0) + 1;
        let hashes = rest[from..].bytes().take_while(|&byte| byte == b'#').count();
        if rest[from + hashes..].starts_with('"') {
            return (until(&format!("\"{}", "#".repeat(hashes)), from + hashes + 1), false);
        }
    }
    if let Some(quote) = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')) {
        let lifetime = quote == '\'' && !rest[1..].starts_with('\\') && {
            let mut chars = rest[1..].chars();
            chars.next();
            chars.next() != Some('\'')
        };
        if lifetime {
            return (1, true);
        }
        let mut escaped = false;
        for (at, byte) in rest.bytes().enumerate().skip(1) {
            if !escaped && byte == quote as u8 {
                return (at + 1, false);
            }
            escaped = !escaped && byte == b'\\';
        }
        return (rest.len(), false);
    }
    (0, true)
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, line))
}

fn count_code(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

/// Every line of `text` in which one of `words` stands, with the word.
fn mentions<'a>(text: &'a str, words: &'a [&str]) -> impl Iterator<Item = (usize, &'a str)> {
    lines(text).flat_map(move |(at, line)| {
        words.iter().filter(move |word| has_word(line, word)).map(move |word| (at, *word))
    })
}

/// Whether `word` stands in `line`, not as the end or the start of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().filter(|_| word.starts_with(inner));
        let after = line[at + word.len()..].chars().next().filter(|_| word.ends_with(inner));
        !before.is_some_and(inner) && !after.is_some_and(inner)
    })
}

fn head(file: &File, _: &Repository) -> Vec<Finding> {
    if !file.is_rust() || file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![(1, "start with `//! ` and the one idea of the file".to_owned())]
}

/// The modules that a `lib.rs` or `mod.rs` lists, in order, without its tests.
fn modules(file: &File) -> Vec<&str> {
    file.product()
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
        .collect()
}

/// At every level from the crate down: what this file names with `crate::` must not come after the module it is in.
fn order(file: &File, all: &Repository) -> Vec<Finding> {
    let Some((root, inside)) = file.path.split_once("/src/").filter(|_| file.is_rust()) else {
        return Vec::new();
    };
    let grouped = lines(file.product()).filter(|(_, line)| line.contains("crate::{"));
    let mut findings: Vec<Finding> =
        grouped.map(|(at, _)| (at, "import from one module at a time".to_owned())).collect();
    let (mut folder, mut named) = (format!("{root}/src"), "crate::".to_owned());
    let mut list = all.file(&format!("{folder}/lib.rs"));
    for own in inside.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/') {
        let modules = list.map(modules).unwrap_or_default();
        let Some(place) = modules.iter().position(|name| *name == own) else { break };
        let last = inside.trim_end_matches(".rs").ends_with(own);
        for later in &modules[place + 1..] {
            let names = [format!("{named}{later}"), format!("super::{later}")];
            let names = &names[..if last { 2 } else { 1 }];
            let uses = |line: &str| names.iter().any(|name| has_word(line, name));
            let uses = lines(file.product()).filter(|(_, line)| uses(line));
            findings.extend(uses.map(|(at, _)| (at, format!("{later} is listed below {own}"))));
        }
        (folder, named) = (format!("{folder}/{own}"), format!("{named}{own}::"));
        list = all.file(&format!("{folder}/mod.rs")).or(all.file(&format!("{folder}.rs")));
    }
    findings
}

fn declared(file: &File, all: &Repository) -> Vec<Finding> {
    let Some((root, inside)) = file.path.split_once("/src/").filter(|_| file.is_rust()) else {
        return Vec::new();
    };
    let inside = inside.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    if matches!(inside, "lib" | "main") || inside.starts_with("bin/") {
        return Vec::new();
    }
    let (folder, own) = inside.rsplit_once('/').unwrap_or(("", inside));
    let parents = match folder {
        "" => vec![format!("{root}/src/lib.rs"), format!("{root}/src/main.rs")],
        folder => vec![format!("{root}/src/{folder}/mod.rs"), format!("{root}/src/{folder}.rs")],
    };
    let line = format!("mod {own};");
    let mut parents = parents.iter().filter_map(|path| all.file(path));
    if parents.any(|parent| parent.code.contains(&line)) {
        return Vec::new();
    }
    vec![(1, format!("nobody says `{line}`: name the file or remove it"))]
}

/// Tests are not counted: they are as long as their stories.
fn file_size(file: &File, _: &Repository) -> Vec<Finding> {
    let count = count_code(file.product());
    let allowed = LONG_FILES.iter().any(|(path, _)| *path == file.path);
    if count <= FILE_LINES_MAX || allowed {
        return Vec::new();
    }
    vec![(1, format!("{count} lines of code, {FILE_LINES_MAX} are the most: make two ideas of it"))]
}

fn struct_size(file: &File, _: &Repository) -> Vec<Finding> {
    let allowed = |name: &str| {
        LARGE_STRUCTS.iter().any(|(path, large, _)| *path == file.path && *large == name)
    };
    let large = structs(file).into_iter();
    let large = large.filter(|(_, name, count)| *count > STRUCT_FIELDS_MAX && !allowed(name));
    let told = large.map(|(at, name, count)| {
        (at, format!("{name} has {count} fields, {STRUCT_FIELDS_MAX} are the most: group them"))
    });
    told.collect()
}

/// The structs above the tests: line, name, and number of fields. rustfmt gives each field a line.
fn structs(file: &File) -> Vec<(usize, String, usize)> {
    let all: Vec<&str> = file.product().lines().collect();
    let mut structs = Vec::new();
    for (at, line) in lines(file.product()).filter(|(_, line)| has_word(line, "struct")) {
        let name = line.split("struct ").nth(1).unwrap_or_default();
        let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let body = &all[at..];
        let end = end_of_block(&all[at - 1..]).saturating_sub(1);
        let fields = body[..end].iter().filter(|line| is_field(line)).count();
        structs.push((at, name, fields));
    }
    structs
}

/// Whether a line of a struct begins a field.
fn is_field(line: &str) -> bool {
    let line = line.trim_start();
    let line = ["pub(crate) ", "pub(super) ", "pub "]
        .iter()
        .find_map(|words| line.strip_prefix(words))
        .unwrap_or(line);
    let name = line.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    name.len() < line.len() && name.starts_with(": ")
}

fn function_size(file: &File, _: &Repository) -> Vec<Finding> {
    long_functions(file)
        .into_iter()
        .filter(|(_, name, _)| {
            !LONG_FUNCTIONS.iter().any(|(path, long, _)| *path == file.path && long == name)
        })
        .map(|(at, name, count)| {
            (at, format!("{name} has {count} lines, {FUNCTION_LINES_MAX} are the most"))
        })
        .collect()
}

/// Functions beyond the bound: line, name, and number of lines.
fn long_functions(file: &File) -> Vec<(usize, String, usize)> {
    let mut long = Vec::new();
    let starts = lines(&file.code).filter(|(_, line)| has_word(line, "fn"));
    for (at, line) in starts {
        let name: String = line
            .split("fn ")
            .nth(1)
            .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
            .unwrap_or_default();
        let body: Vec<&str> = file.code.lines().skip(at - 1).collect();
        let count = count_code(&body[..end_of_block(&body)].join("\n"));
        if count > FUNCTION_LINES_MAX {
            long.push((at, name, count));
        }
    }
    long
}

/// How many of these lines the first block in braces ends after; a declaration without one ends at its semicolon.
fn end_of_block(lines: &[&str]) -> usize {
    let mut depth = 0usize;
    for (at, line) in lines.iter().enumerate() {
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth <= 1 => return at + 1,
                '}' => depth -= 1,
                ';' if depth == 0 && line.ends_with(';') => return at + 1,
                _ => {}
            }
        }
    }
    lines.len()
}

/// In tests expected texts may be longer.
fn line_size(file: &File, _: &Repository) -> Vec<Finding> {
    let product = file.product().lines().count();
    let long = lines(&file.text).take(product);
    let long = long.filter(|(_, line)| line.chars().count() > LINE_CHARS_MAX);
    long.map(|(at, _)| (at, format!("longer than {LINE_CHARS_MAX} characters"))).collect()
}

fn names(file: &File, _: &Repository) -> Vec<Finding> {
    let parts = file.path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    let drawers = parts.filter(|part| DRAWERS.contains(part));
    drawers.map(|part| (1, format!("`{part}` says nothing: name the noun"))).collect()
}

fn globs(file: &File, _: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut open = false;
    for (at, line) in lines(&file.code) {
        let line = line.trim();
        let starts = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        open |= starts.iter().any(|start| line.starts_with(start));
        // Unit tests see what they test, which is one module.
        if open && line.contains('*') && line != "use super::*;" {
            findings.push((at, "name what is imported".to_owned()));
        }
        open &= !line.ends_with(';');
    }
    findings
}

fn leftovers(file: &File, _: &Repository) -> Vec<Finding> {
    let notes =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let stubs = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("#[ig", "nore")];
    let kinds = ["rs", "md", "toml", "sh", "yml", "yaml", "patch", "html", "js", "css"];
    if !kinds.contains(&file.path.rsplit('.').next().unwrap_or_default()) {
        return Vec::new();
    }
    let notes = mentions(&file.text, &notes).collect::<Vec<_>>();
    let stubs = mentions(&file.code, &stubs).collect::<Vec<_>>();
    let both = notes.into_iter().chain(stubs);
    both.map(|(at, word)| (at, format!("{word}: do it, or leave it out and say so"))).collect()
}

fn unwraps(file: &File, _: &Repository) -> Vec<Finding> {
    let inside = file.path.contains("/src/") && !file.path.contains("/peers/");
    let found = mentions(if inside { file.product() } else { "" }, &[".unwrap()"]);
    found
        .map(|(at, _)| (at, "say with expect why it cannot fail, or handle it".to_owned()))
        .collect()
}

fn bans(file: &File, _: &Repository) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (below, except, words) in BANS {
        if file.path.starts_with(below) && !except.contains(&file.path.as_str()) {
            let found = mentions(&file.code, words);
            findings.extend(
                found.map(|(at, word)| (at, format!("{word} has no place below {below:?}"))),
            );
        }
    }
    findings
}

fn manifests(file: &File, _: &Repository) -> Vec<Finding> {
    let banned = MANIFEST_BANS.iter().find(|(path, _)| *path == file.path);
    let banned = banned.map_or(&[][..], |(_, packages)| packages);
    let mut section = "";
    let mut findings = Vec::new();
    for (at, line) in lines(&file.text) {
        if line.starts_with('[') {
            section = line;
        }
        let package = line.split(['.', '=', ' ']).next().unwrap_or_default();
        let both = section.trim_matches(['[', ']']).rsplit_once('.');
        let tabled = both.is_some_and(|(_, name)| line == section && banned.contains(&name));
        if section.contains("dependencies") && (banned.contains(&package) || tabled) {
            findings.push((at, format!("{line}: the wrong direction")));
        }
    }
    findings
}

fn outsiders(file: &File, _: &Repository) -> Vec<Finding> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("seman", "tics.md"),
        concat!("sur", "face.md"),
        concat!("goa", "ls.md"),
        concat!("haz", "ards.tsv"),
        concat!("check", "ing.md"),
        concat!("shared/", "design"),
    ];
    let found = mentions(&file.text, &words);
    found.map(|(at, word)| (at, format!("{word} is not part of this repository"))).collect()
}

/// The lines of a page outside its code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    lines(text).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn links(file: &File, all: &Repository) -> Vec<Finding> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let mut findings = Vec::new();
    for (at, line) in prose(&file.text) {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let elsewhere = target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !path.is_empty() && !all.root.join(folder).join(path).exists() {
                findings.push((at, format!("there is no {target}")));
            }
        }
    }
    findings
}

/// A name of four words or more in a page is a test's.
fn named_tests(file: &File, all: &Repository) -> Vec<Finding> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let is_test = |name: &str| {
        let words = name.split('_');
        words.clone().count() >= 4
            && words
                .flat_map(str::bytes)
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let is_there = |name: &str| {
        // One that ends with `_` stands for all that begin with it.
        let named = format!("fn {name}{}", if name.ends_with('_') { "" } else { "(" });
        all.files.iter().any(|file| file.is_rust() && file.text.contains(&named))
    };
    let named = prose(&file.text)
        .flat_map(|(at, line)| line.split('`').skip(1).step_by(2).map(move |name| (at, name)));
    let gone = named.filter(|(_, name)| is_test(name) && !is_there(name));
    gone.map(|(at, name)| (at, format!("there is no {name}"))).collect()
}

/// Where every file of a crate has its place: the simulator has a map of its own.
fn mapped(file: &File, all: &Repository) -> Vec<Finding> {
    let Some((root, inside)) = file.path.split_once("/src/").filter(|_| file.is_rust()) else {
        return Vec::new();
    };
    let name = inside.rsplit('/').next().unwrap_or(inside);
    let page = match root {
        "core" | "engines" | "net" | "node" => "docs/ARCHITECTURE.md",
        "sim" => "docs/internals/simulation.md",
        _ => return Vec::new(),
    };
    let is_frame = ["lib.rs", "main.rs", "mod.rs", "tests.rs"].contains(&name);
    let map = all.file(page).map_or("", |map| map.text.as_str());
    let of_crate = map.split("\n### ").find(|part| part.starts_with(&format!("{root}:")));
    if is_frame || of_crate.unwrap_or(map).lines().any(|row| names_file(row, inside)) {
        return Vec::new();
    }
    vec![(1, format!("{page} does not name it: give it a place in the code map"))]
}

/// Whether a row of a map names a file of `src/`: whole, or below a folder that the row has named before.
fn names_file(row: &str, inside: &str) -> bool {
    let mut folders = vec![String::new()];
    for named in row.split('`').filter(|text| text.ends_with(".rs")) {
        let named = named.strip_prefix("src/").unwrap_or(named);
        if folders.iter().any(|folder| inside == format!("{folder}{named}")) {
            return true;
        }
        if let Some((folder, _)) = named.rsplit_once('/') {
            let below = folders.iter().map(|above| format!("{above}{folder}/"));
            let below: Vec<String> = below.collect();
            folders.extend(below);
        }
    }
    false
}

fn titles(file: &File, _: &Repository) -> Vec<Finding> {
    let page = if file.path.ends_with(".md") { file.text.as_str() } else { return Vec::new() };
    let titles: Vec<usize> =
        prose(page).filter(|(_, line)| line.starts_with("# ")).map(|(at, _)| at).collect();
    if titles == [1] { Vec::new() } else { vec![(1, "start with one `# ` title".to_owned())] }
}

#[test]
fn the_repository_keeps_every_rule() {
    let all = Repository::open();
    assert!(all.file("core/tests/tidy.rs").is_some(), "the repository is found");
    let mut report = String::new();
    for (rule, check, _, _) in RULES {
        for file in &all.files {
            for (at, finding) in check(file, &all) {
                writeln!(report, "{}:{at}: {rule}: {finding}", file.path)
                    .expect("a string takes all");
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn every_exemption_is_needed() {
    let all = Repository::open();
    let file = |path: &str| all.file(path).unwrap_or_else(|| panic!("{path} is gone"));
    for (path, _) in LONG_FILES {
        assert!(count_code(file(path).product()) > FILE_LINES_MAX, "{path} is short");
    }
    for (path, name, _) in LONG_FUNCTIONS {
        let is_it = |long: &(usize, String, usize)| long.1 == name;
        assert!(long_functions(file(path)).iter().any(is_it), "{name} in {path} is short");
    }
    for (path, name, _) in LARGE_STRUCTS {
        let is_it = |of: &(usize, String, usize)| of.1 == name && of.2 > STRUCT_FIELDS_MAX;
        assert!(structs(file(path)).iter().any(is_it), "{name} in {path} is small");
    }
    for (_, except, words) in BANS {
        for path in except {
            assert!(mentions(&file(path).code, words).next().is_some(), "{path} says none of it");
        }
    }
}

/// `..N` at the end of a line repeats that line N times.
fn sample(text: &str) -> String {
    let mut long = String::new();
    for line in text.lines() {
        match line.split_once("..") {
            Some((repeated, times)) if !repeated.is_empty() => {
                long.push_str(&repeated.repeat(times.parse().expect("a number")));
            }
            Some((_, times)) => {
                let last = long.lines().last().unwrap_or_default().to_owned() + "\n";
                let digits = times.trim_end_matches(|c: char| !c.is_ascii_digit());
                long.push_str(&last.repeat(digits.parse().expect("a number")));
                long.push_str(&times[digits.len()..]);
            }
            None => long.push_str(line),
        }
        long.push('\n');
    }
    long
}

#[test]
fn every_rule_finds_its_sample() {
    let list = "//! Modules.\npub mod first;\n\npub mod second;\n";
    let all = Repository {
        root: Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
        files: vec![
            File::new("core/src/lib.rs", list),
            File::new("docs/ARCHITECTURE.md", "# Map\n\n`second.rs`\n"),
        ],
    };
    for (rule, check, path, text) in RULES {
        assert!(!check(&File::new(path, &sample(text)), &all).is_empty(), "blind: {rule}");
        let good = [
            ("core/src/second.rs", "//! Good.\nuse crate::first::A;\n"),
            ("b.md", "# B\n\n[c](core)\n"),
        ];
        for (path, text) in good {
            assert_eq!(check(&File::new(path, text), &all), [], "{rule}");
        }
    }
}

#[test]
fn comments_and_strings_are_not_code() {
    let text = "a /* b */ c // d\n'e' \"f\\\"g\" r#\"h\"i\"# j<'k> b\"l\" '\\'' m";
    let code: BTreeSet<char> = code_only(text).chars().filter(|c| c.is_alphabetic()).collect();
    assert_eq!(code.into_iter().collect::<String>(), "abcjkm");
    assert_eq!(code_only(text).lines().count(), text.lines().count());
}
