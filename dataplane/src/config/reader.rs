//! Typed reading of TOML tables that goes on after an error.
//!
//! A [`Table`] is asked for each key it may have; what it was never asked for is an unknown key. A
//! bad value is reported and answered with `None`, the caller puts a placeholder there and reads on;
//! [`Reader::good`] tells the later checks which values are real. Places are remembered by path
//! ("services[1].home"), so that checks over several values can point at each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Diagnostic, Kind};

/// Where each value lies in the file, and what was wrong so far.
#[derive(Default)]
pub struct Reader {
    diagnostics: Vec<Diagnostic>,
    /// Keys that are missing, by path: not worth a word if a misspelling of them is found.
    missing: BTreeMap<String, Diagnostic>,
    places: Places,
    bad: BTreeSet<String>,
}

/// Where each value lies in the file, by its path.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<String, Range<usize>>);

impl Places {
    /// The place of the value at `path`, or of the nearest table around it.
    pub fn of(&self, path: &str) -> Option<Range<usize>> {
        let mut path = path;
        loop {
            if let Some(place) = self.0.get(path) {
                return Some(place.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// A table being read.
pub struct Table<'a> {
    path: String,
    place: Range<usize>,
    entries: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
}

/// A value being read.
#[derive(Clone, Copy)]
pub struct Value<'a>(&'a Spanned<DeValue<'a>>);

impl Reader {
    /// Every problem, and where values lie.
    pub fn into_parts(self) -> (Vec<Diagnostic>, Places) {
        (self.diagnostics.into_iter().chain(self.missing.into_values()).collect(), self.places)
    }

    /// The place of the value at `path`, or of the nearest table around it.
    pub fn place(&self, path: &str) -> Option<Range<usize>> {
        self.places.of(path)
    }

    /// Whether the value at `path` was read without an error (or defaulted).
    pub fn good(&self, path: &str) -> bool {
        !self.bad.contains(path)
    }

    /// Whether `path` is written in the file.
    pub fn written(&self, path: &str) -> bool {
        self.places.0.contains_key(path)
    }

    /// Notes a problem.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Notes that the value at `path` is wrong, and how.
    pub fn reject(&mut self, path: &str, kind: Kind, message: impl Into<String>) {
        self.bad.insert(path.into());
        let place = self.place(path);
        self.push(Diagnostic::error(kind, place, message));
    }

    /// As [`Reader::reject`], with what to do.
    pub fn reject_with_help(&mut self, path: &str, kind: Kind, message: String, help: &str) {
        self.bad.insert(path.into());
        let place = self.place(path);
        self.push(Diagnostic::error(kind, place, message).help(help));
    }

    fn wrong_type(&mut self, path: &str, value: Value<'_>, wanted: &str) {
        let message = format!("{} must be {wanted}, not {}", subject(path), value.describe());
        self.reject(path, Kind::WrongType, message);
    }

    /// A string through `parse`, which answers with what is wrong.
    pub fn parsed<T>(
        &mut self,
        path: &str,
        value: Value<'_>,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let DeValue::String(text) = value.0.get_ref() else {
            self.wrong_type(path, value, wanted);
            return None;
        };
        let message = match parse(text) {
            Ok(value) => return Some(value),
            Err(message) => message,
        };
        self.reject(path, Kind::BadValue, format!("{}: {message}", subject(path)));
        None
    }

    /// A whole number within `range`.
    pub fn integer(
        &mut self,
        path: &str,
        value: Value<'_>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let DeValue::Integer(integer) = value.0.get_ref() else {
            self.wrong_type(path, value, "a whole number");
            return None;
        };
        let (digits, radix) = (integer.as_str(), integer.radix());
        let number = i128::from_str_radix(digits, radix).ok();
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let number = number.map_or(digits.into(), |number| number.to_string());
                let (key, low, high) = (subject(path), range.start(), range.end());
                let message = format!("{key} is {number}; it must be in {low}..={high}");
                self.reject(path, Kind::OutOfRange, message);
                None
            }
        }
    }

    /// The elements of an array, with their paths.
    pub fn array<'a>(
        &mut self,
        path: &str,
        value: Value<'a>,
        wanted: &str,
    ) -> Option<Vec<(String, Value<'a>)>> {
        let DeValue::Array(array) = value.0.get_ref() else {
            self.wrong_type(path, value, wanted);
            return None;
        };
        let mut elements = Vec::with_capacity(array.len());
        for (i, element) in array.iter().enumerate() {
            let path = format!("{path}[{i}]");
            self.places.0.insert(path.clone(), element.span());
            elements.push((path, Value(element)));
        }
        Some(elements)
    }

    /// A table.
    pub fn table<'a>(&mut self, path: &str, value: Value<'a>) -> Option<Table<'a>> {
        match value.0.get_ref() {
            DeValue::Table(entries) => Some(Table {
                path: path.into(),
                place: value.0.span(),
                entries: Some(entries),
                asked: Vec::new(),
            }),
            _ => {
                self.wrong_type(path, value, "a table");
                None
            }
        }
    }
}

impl<'a> Table<'a> {
    /// The whole file.
    pub fn root(entries: &'a DeTable<'a>) -> Table<'a> {
        Table { path: String::new(), place: 0..0, entries: Some(entries), asked: Vec::new() }
    }

    /// The path of `key` in this table.
    pub fn path(&self, key: &str) -> String {
        match self.path.is_empty() {
            true => key.into(),
            false => format!("{}.{key}", self.path),
        }
    }

    /// The value of `key`, if it is written.
    pub fn value(&mut self, reader: &mut Reader, key: &'static str) -> Option<Value<'a>> {
        self.asked.push(key);
        let value = self.entries?.get(key)?;
        reader.places.0.insert(self.path(key), value.span());
        Some(Value(value))
    }

    /// Reports `key` as missing if it is not written; `None` stays `None` in either case.
    pub fn required<T>(
        &self,
        reader: &mut Reader,
        key: &str,
        value: Option<T>,
        example: &str,
    ) -> Option<T> {
        // A table that is not there at all has been reported once.
        let Some(entries) = self.entries else { return value };
        if value.is_none() {
            let path = self.path(key);
            if !entries.contains_key(key) {
                let place = Some(self.place.clone()).filter(|place| !place.is_empty());
                let message = match self.path.is_empty() {
                    true => format!("`{key}` is missing"),
                    false => format!("`{key}` is missing in `{}`", header(&self.path)),
                };
                let help = format!("write `{example}`");
                let error = Diagnostic::error(Kind::MissingKey, place, message).help(help);
                reader.missing.insert(path.clone(), error);
            }
            reader.bad.insert(path);
        }
        value
    }

    /// A string through `parse`.
    pub fn parsed<T>(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.value(reader, key)?;
        reader.parsed(&self.path(key), value, wanted, parse)
    }

    /// A whole number within `range`.
    pub fn integer(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = self.value(reader, key)?;
        reader.integer(&self.path(key), value, range)
    }

    /// true or false.
    pub fn boolean(&mut self, reader: &mut Reader, key: &'static str) -> Option<bool> {
        let value = self.value(reader, key)?;
        match value.0.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => {
                reader.wrong_type(&self.path(key), value, "true or false");
                None
            }
        }
    }

    /// One of some words.
    pub fn choice<T: Copy>(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let value = self.value(reader, key)?;
        let list = alternatives(words.iter().map(|(word, _)| *word), "\"");
        let path = self.path(key);
        reader.parsed(&path, value, &list, |text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| {
                let near = nearest(text, words.iter().map(|(word, _)| *word));
                let near = near.map(|word| format!("; did you mean \"{word}\"?"));
                format!("{text:?} is not {list}{}", near.unwrap_or_default())
            })
        })
    }

    /// A table inside this one; without entries if it is not written.
    pub fn table(&mut self, reader: &mut Reader, key: &'static str) -> Table<'a> {
        let path = self.path(key);
        let value = self.value(reader, key);
        let table = value.and_then(|value| reader.table(&path, value));
        table.unwrap_or(Table { path, place: 0..0, entries: None, asked: Vec::new() })
    }

    /// As [`Table::table`]; reported if it is not written.
    pub fn required_table(
        &mut self,
        reader: &mut Reader,
        key: &'static str,
        example: &str,
    ) -> Table<'a> {
        let table = self.table(reader, key);
        let found = table.entries.map(|_| ());
        self.required(reader, key, found, example);
        table
    }

    /// Each table of an array of tables.
    pub fn tables(&mut self, reader: &mut Reader, key: &'static str) -> Option<Vec<Table<'a>>> {
        let path = self.path(key);
        let value = self.value(reader, key)?;
        let elements = reader.array(&path, value, &format!("tables, each under `[[{path}]]`"))?;
        Some(elements.iter().filter_map(|(path, value)| reader.table(path, *value)).collect())
    }

    /// Reports every key that was not asked for.
    pub fn finish(self, reader: &mut Reader) {
        for (key, value) in self.entries.into_iter().flatten() {
            if self.asked.iter().any(|asked| asked == key.get_ref()) {
                continue;
            }
            let known = self.asked.iter().copied();
            let whole = match (self.path.is_empty(), value.get_ref()) {
                (true, DeValue::Table(_)) => format!("unknown table `[{}]`", key.get_ref()),
                (true, _) => format!("unknown key `{}`", key.get_ref()),
                (false, _) => {
                    format!("unknown key `{}` in `{}`", key.get_ref(), header(&self.path))
                }
            };
            let help = match nearest(key.get_ref(), known.clone()) {
                Some(near) => {
                    reader.missing.remove(&self.path(near));
                    format!("did you mean `{near}`?")
                }
                None => format!("known here: {}", list(known, "`", "and")),
            };
            reader.push(Diagnostic::error(Kind::UnknownKey, Some(key.span()), whole).help(help));
        }
    }
}

impl<'a> Value<'a> {
    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        self.0.get_ref().is_str()
    }

    /// Whether it is a whole number.
    pub fn is_integer(self) -> bool {
        self.0.get_ref().is_integer()
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.0.get_ref().is_array()
    }

    fn describe(self) -> &'static str {
        match self.0.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        }
    }
}

/// The last key of a path, as the subject of a sentence.
fn subject(path: &str) -> String {
    let key = path.rsplit('.').next().unwrap_or(path);
    match key.split_once('[') {
        Some((key, _)) => format!("one of `{key}`"),
        None => format!("`{key}`"),
    }
}

/// The header under which the table at `path` is written.
fn header(path: &str) -> String {
    let keys: Vec<&str> = path.split('.').map(|key| key.split('[').next().unwrap_or(key)).collect();
    match path.ends_with(']') {
        true => format!("[[{}]]", keys.join(".")),
        false => format!("[{}]", keys.join(".")),
    }
}

/// The candidate that was probably meant.
fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::osa_distance(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.chars().count() / 3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// "a", "b" or "c".
fn alternatives<'a>(words: impl Iterator<Item = &'a str>, quote: &str) -> String {
    list(words, quote, "or")
}

fn list<'a>(words: impl Iterator<Item = &'a str>, quote: &str, last: &str) -> String {
    let words: Vec<String> = words.map(|word| format!("{quote}{word}{quote}")).collect();
    match words.as_slice() {
        [] => "nothing".into(),
        [word] => word.clone(),
        [head @ .., tail] => format!("{} {last} {tail}", head.join(", ")),
    }
}
