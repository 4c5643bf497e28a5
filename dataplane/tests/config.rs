//! Configuration files as an operator meets them: the samples are accepted, mistakes are explained
//! (the texts are stored in `tests/snapshots/config`), and no file makes the reader panic.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p dataplane --test config` writes the stored texts anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cluster::seal::Key;
use dataplane::config::{self, Arbiter, Loaded, Severity, Survivor, change};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";

/// A directory with what the samples name, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("understudy-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("www")).expect("a temporary directory");
        let key = path.join("secret.key");
        fs::write(&key, KEY).expect("a key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("its mode");
        let key = path.join("cluster.key");
        fs::write(&key, Key::new([7; 32]).to_text()).expect("a key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("its mode");
        let open = path.join("open.key");
        fs::write(&open, Key::new([8; 32]).to_text()).expect("a key");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("its mode");
        let short = path.join("short.key");
        fs::write(&short, "0011").expect("a short key");
        fs::set_permissions(&short, fs::Permissions::from_mode(0o600)).expect("its mode");
        Directory(path)
    }

    fn parse(&self, text: &str) -> Loaded {
        config::parse("node.toml", text.into(), &self.0)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Name and text of each TOML file in a directory of the repository.
fn files(directory: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(repository(directory)).expect("the directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(path).expect("its text")));
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{directory} has no TOML file");
    files
}

/// The configuration that the README shows.
fn shown_in_readme() -> (String, String) {
    let readme = fs::read_to_string(repository("README.md")).expect("the README");
    let (_, rest) = readme.split_once("```toml\n").expect("a sample in it");
    let (sample, _) = rest.split_once("```").expect("its end");
    ("README.md".into(), sample.into())
}

#[test]
fn the_samples_are_accepted_and_mean_what_they_spell_out() {
    let directory = Directory::new("samples");
    for (name, text) in files("tools/examples").into_iter().chain([shown_in_readme()]) {
        let loaded = directory.parse(&text);
        assert_eq!(loaded.count(Severity::Error), 0, "{name}:\n{}", loaded.render(false));
        let warnings = if name == "alone" { 2 } else { 0 };
        assert_eq!(loaded.count(Severity::Warning), warnings, "{name}:\n{}", loaded.render(false));
        let config = loaded.config.expect("no error, so a configuration");
        let again = directory.parse(&config.effective());
        assert_eq!(again.render(false), loaded_warnings(&again), "{name}:\n{}", again.text);
        assert_eq!(again.config.as_ref(), Some(&config), "{name}:\n{}", config.effective());
    }
}

/// The rendering of a file's warnings alone.
fn loaded_warnings(loaded: &Loaded) -> String {
    let mut warnings = loaded.clone();
    warnings.diagnostics.retain(|d| d.severity == Severity::Warning);
    warnings.render(false)
}

#[test]
fn the_pair_of_samples_agrees() {
    let directory = Directory::new("pair");
    let files = files("tools/examples");
    let config = |name: &str| {
        let (_, text) = files.iter().find(|(found, _)| found == name).expect("the sample");
        directory.parse(text).config.expect("a configuration")
    };
    let (one, two, other) = (config("node1"), config("node2"), config("no-witness"));
    assert_eq!(config::agree(&one, &two), Vec::<String>::new());
    assert!(config::agree(&one, &other).len() > 3);
    assert_eq!(other.cluster.arbiter, Arbiter::None { survivor: Survivor::Node(one.node.id) });
}

#[test]
fn mistakes_are_explained_as_stored() {
    let directory = Directory::new("mistakes");
    let update = std::env::var_os("UPDATE_SNAPSHOTS").is_some();
    for (name, text) in files("tests/snapshots/config") {
        let shown = directory.parse(&text).render(false);
        let place = directory.0.display().to_string();
        assert!(!shown.contains(&place), "{name}: the text names this machine:\n{shown}");
        let stored = repository("tests/snapshots/config").join(format!("{name}.txt"));
        if update {
            fs::write(&stored, &shown).expect("the stored text");
        }
        let expected = fs::read_to_string(&stored).unwrap_or_default();
        assert_eq!(shown, expected, "{name}; UPDATE_SNAPSHOTS=1 stores the new text");
    }
}

/// What a running node makes of another file: every change that it takes, or every reason against it.
#[test]
fn a_running_node_takes_what_can_change_and_names_what_cannot() {
    let directory = Directory::new("changes");
    let files = files("tools/examples");
    let (_, text) = files.iter().find(|(name, _)| name == "proxy").expect("the sample");
    let running = directory.parse(text).config.expect("a configuration");
    let edited = |edits: &[(&str, &str)]| {
        let mut text = text.clone();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        directory.parse(&text)
    };
    let changes = |edits: &[(&str, &str)]| {
        let changes = change::changes(&running, &running, &edited(edits));
        changes.map(|changes| change::in_words(&changes))
    };
    assert_eq!(changes(&[]), Ok(vec![]));
    assert_eq!(changes(&[("# A load balancer", "# Another remark")]), Ok(vec![]));
    let taken = changes(&[
        ("\"1h\"", "\"3h\"\nkeep_alive = {}"),
        ("\"round-robin\"", "\"source\""),
        ("weight = 2", "weight = 5"),
        ("name = \"a\", address = \"10.88.0.11\"", "name = \"z\", address = \"10.88.0.99\""),
    ]);
    let server = |name: &str, host: &str, weight: u32| {
        format!(
            "{{\"address\":\"10.88.0.{host}\",\"backup\":false,\"max_connections\":0,\"name\":\"{name}\",\
             \"port\":8080,\"weight\":{weight}}}"
        )
    };
    let servers = "services[shop].application.servers";
    let expected = [
        "services[shop].application.balance: \"round-robin\" -> \"source\"".to_string(),
        "services[shop].application.server_timeout: \"1h\" -> \"3h\"".to_string(),
        format!("{servers}[a]: {} -> none", server("a", "11", 1)),
        format!("{servers}[b]: {} -> {}", server("b", "12", 2), server("b", "12", 5)),
        format!("{servers}[z]: none -> {}", server("z", "99", 1)),
        "services[shop].idle_timeout: \"1h\" -> \"3h\"".to_string(),
        "services[shop].keep_alive.count: none -> 9".to_string(),
        "services[shop].keep_alive.idle: none -> \"2h\"".to_string(),
        "services[shop].keep_alive.interval: none -> \"75s\"".to_string(),
    ];
    assert_eq!(taken.expect("all of it may change"), expected);
    let refused = |edits: &[(&str, &str)]| {
        let mut file = edited(edits);
        file.diagnostics = change::changes(&running, &running, &file).expect_err("refused");
        file.render(false)
    };
    let shown = refused(&[
        ("name = \"balancer\"", "name = \"other\""),
        ("\"eth0\"", "\"eth9\""),
        ("[80, 443]", "[80]"),
        ("\"1h\"", "\"2h\""),
        ("[\"10.88.0.110\"]", "[\"10.88.0.111\"]"),
    ]);
    let stored = repository("tests/snapshots/reload.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&stored, &shown).expect("the stored text");
    }
    assert_eq!(shown, fs::read_to_string(stored).unwrap_or_default());
    let failback = |to: &str| changes(&[("\"1h\"", &format!("\"1h\"\nfailback = \"{to}\""))]);
    assert!(failback("all").is_ok());
    assert!(failback("new-connections").is_err(), "a second generation takes memory at start");
    let other = [("name = \"shop\"", "name = \"store\"")];
    let reasons = change::changes(&running, &running, &edited(&other)).expect_err("its addresses");
    assert_eq!(reasons.len(), 1, "what is inside of them says nothing more");
    let why = &reasons[0].message;
    assert!(why.contains("belongs to \"shop\", which leaves"), "{why}");
    let secret = directory.0.join("secret.key");
    fs::write(&secret, KEY.replace("00", "11")).expect("another secret");
    let reasons = change::changes(&running, &running, &edited(&[])).expect_err("another secret");
    assert!(reasons[0].message.contains("`cluster.secret_file, its content`"));
    let broken = edited(&[("id = 1", "id = ")]);
    assert_eq!(change::changes(&running, &running, &broken), Err(broken.diagnostics.clone()));
}

/// xorshift64*: the same sequence on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound.max(1)
    }
}

/// Fuzz target: any bytes as a configuration.
fn read_anything(directory: &Directory, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let loaded = directory.parse(&text);
    let rendered = loaded.render(false);
    assert_eq!(rendered.is_empty(), loaded.diagnostics.is_empty());
    assert_eq!(loaded.config.is_some(), loaded.count(Severity::Error) == 0);
    for diagnostic in &loaded.diagnostics {
        let line = diagnostic.line(&loaded.file, &loaded.text).line;
        assert!(line <= loaded.text.matches('\n').count() + 1);
    }
}

#[test]
fn no_mutation_of_a_file_panics() {
    let directory = Directory::new("fuzz");
    let mut seeds = files("tools/examples");
    seeds.extend(files("tests/snapshots/config"));
    let pieces: Vec<&str> = seeds.iter().flat_map(|(_, text)| text.split_inclusive('\n')).collect();
    let odd =
        ["\"", "[", "]", "[[", "{", "=", "-1", "0x", "1e9", "é", "\u{0}", "'''", ".", "[[a]]\n"];
    let mut random = Random(0x5eed);
    for round in 0..3000 {
        let mut bytes = seeds[round % seeds.len()].1.clone().into_bytes();
        for _ in 0..=random.below(4) {
            if bytes.is_empty() {
                bytes.push(b'\n');
            }
            let at = random.below(bytes.len());
            match random.below(5) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.drain(at..(at + random.below(40)).min(bytes.len()))),
                2 => bytes.truncate(at + 1),
                3 => drop(bytes.splice(at..at, odd[random.below(odd.len())].bytes())),
                _ => drop(bytes.splice(at..at, pieces[random.below(pieces.len())].bytes())),
            }
        }
        read_anything(&directory, &bytes);
    }
}
