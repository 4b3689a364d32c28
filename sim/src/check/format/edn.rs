//! A small reader of EDN, the notation of Clojure's data: what recorded histories use of it, and no more.
//!
//! One form at a time, so a recording is never held as a tree. Depth and length of a form are bounded; text that is not
//! EDN is an error that names the line. Numbers keep the spelling they have. Tags are read over, comments and what
//! `#_` discards are skipped. Characters, metadata and namespaced maps are left out.

use crate::check::format::{Malformed, Result};

/// How deep forms may be nested.
const DEPTH_MAX: usize = 32;
/// How many forms one form may hold.
const FORMS_MAX: usize = 10_000;

/// A form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// `nil`.
    Nil,
    /// `"text"`.
    Text(String),
    /// `:keyword`, without the colon.
    Keyword(String),
    /// A number, `true`, `false` or a symbol, as it is spelt.
    Plain(String),
    /// `[...]`, `(...)` or `#{...}`.
    Sequence(Vec<Form>),
    /// `{...}`.
    Map(Vec<(Form, Form)>),
}

impl Form {
    /// What a map says of a keyword.
    pub(super) fn get(&self, keyword: &str) -> Option<&Form> {
        let Form::Map(pairs) = self else {
            return None;
        };
        let is_it = |form: &Form| matches!(form, Form::Keyword(name) if name == keyword);
        pairs.iter().find(|(name, _)| is_it(name)).map(|(_, value)| value)
    }

    /// The form as text that is equal for equal forms.
    pub(super) fn spelt(&self) -> String {
        let all = |forms: &[Form]| forms.iter().map(Form::spelt).collect::<Vec<_>>().join(" ");
        match self {
            Form::Nil => "nil".to_owned(),
            Form::Text(text) => format!("{text:?}"),
            Form::Keyword(name) => format!(":{name}"),
            Form::Plain(text) => text.clone(),
            Form::Sequence(forms) => format!("[{}]", all(forms)),
            Form::Map(pairs) => {
                let pair =
                    |(name, value): &(Form, Form)| format!("{} {}", name.spelt(), value.spelt());
                format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// A text that is read form by form.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    /// How many forms the form that is being read may still hold.
    forms_left: usize,
    /// The bracket that the whole recording stands in.
    outer: Option<u8>,
    /// Whether anything was read.
    has_begun: bool,
    /// How many forms stand around the next one, discarded ones too.
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(text: &'a str) -> Reader<'a> {
        Reader {
            text: text.as_bytes(),
            at: 0,
            line: 1,
            forms_left: FORMS_MAX,
            outer: None,
            has_begun: false,
            depth: 0,
        }
    }

    /// The next map of a recording, with its line: the maps stand one after the other, or all in one vector or list.
    pub(super) fn map(&mut self) -> Result<Option<(usize, Form)>> {
        self.skip()?;
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if is_first && let Some(open @ (b'[' | b'(')) = self.peek() {
            self.at += 1;
            self.outer = Some(closing(open));
            self.skip()?;
        }
        let line = self.line;
        match (self.peek(), self.outer) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(self.wrong("the history's bracket is never closed")),
            (Some(byte), Some(outer)) if byte == outer => {
                self.at += 1;
                self.skip()?;
                self.outer = None;
                match self.peek() {
                    None => Ok(None),
                    Some(_) => Err(self.wrong("nothing may follow the history's closing bracket")),
                }
            }
            _ => {
                self.forms_left = FORMS_MAX;
                let form = self.form()?;
                match form {
                    Form::Map(_) => Ok(Some((line, form))),
                    other => Err(Malformed {
                        line,
                        what: format!(
                            "{} is no operation: a map is, as {{:type :ok ...}}",
                            other.spelt()
                        ),
                    }),
                }
            }
        }
    }

    /// The only form of a text.
    pub(super) fn only(text: &str) -> Result<Form> {
        let mut reader = Reader::new(text);
        reader.skip()?;
        let form = reader.form()?;
        reader.skip()?;
        match reader.peek() {
            None => Ok(form),
            Some(_) => Err(reader.wrong("one value is expected, not several")),
        }
    }

    fn form(&mut self) -> Result<Form> {
        self.depth += 1;
        let form = self.bounded();
        self.depth -= 1;
        form
    }

    fn bounded(&mut self) -> Result<Form> {
        if self.depth > DEPTH_MAX {
            return Err(self.wrong(&format!("forms are nested more than {DEPTH_MAX} deep")));
        }
        self.forms_left = match self.forms_left.checked_sub(1) {
            Some(left) => left,
            None => return Err(self.wrong(&format!("a form holds more than {FORMS_MAX} others"))),
        };
        match self.peek() {
            None => Err(self.wrong("the text ends where a value is expected")),
            Some(b'"') => self.string(),
            Some(open @ (b'[' | b'(')) => self.sequence(closing(open)),
            Some(b'{') => self.pairs(),
            Some(b'#') => self.dispatch(),
            Some(b']' | b')' | b'}') => Err(self.wrong("a bracket is closed that is not open")),
            Some(_) => self.token(),
        }
    }

    fn sequence(&mut self, close: u8) -> Result<Form> {
        self.at += 1;
        let mut forms = Vec::new();
        loop {
            self.skip()?;
            if self.peek() == Some(close) {
                self.at += 1;
                return Ok(Form::Sequence(forms));
            }
            forms.push(self.form()?);
        }
    }

    fn pairs(&mut self) -> Result<Form> {
        let Form::Sequence(forms) = self.sequence(b'}')? else {
            return Err(self.wrong("a map is expected"));
        };
        if forms.len() % 2 != 0 {
            return Err(self.wrong("a map has a key without a value"));
        }
        let mut forms = forms.into_iter();
        let mut pairs = Vec::new();
        while let (Some(name), Some(value)) = (forms.next(), forms.next()) {
            pairs.push((name, value));
        }
        Ok(Form::Map(pairs))
    }

    /// A set, or a tag, which is read over.
    fn dispatch(&mut self) -> Result<Form> {
        self.at += 1;
        match self.peek() {
            Some(b'{') => self.sequence(b'}'),
            Some(byte) if byte.is_ascii_alphabetic() => {
                self.token()?;
                self.skip()?;
                self.form()
            }
            _ => Err(self.wrong("a tag or a set is expected behind #")),
        }
    }

    fn string(&mut self) -> Result<Form> {
        let line = self.line;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(byte) = self.take() else {
                return Err(Malformed { line, what: "a text is never closed".to_owned() });
            };
            match byte {
                b'"' => break,
                b'\\' => bytes.extend(self.escape()?.to_string().into_bytes()),
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map(Form::Text).map_err(|_| self.wrong("a text is not UTF-8"))
    }

    fn escape(&mut self) -> Result<char> {
        match self.take() {
            Some(b'n') => Ok('\n'),
            Some(b't') => Ok('\t'),
            Some(b'r') => Ok('\r'),
            Some(byte @ (b'\\' | b'"')) => Ok(char::from(byte)),
            Some(b'u') => {
                let digits = self.text.get(self.at..self.at + 4).unwrap_or_default();
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                let code = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                self.at += 4;
                code.ok_or_else(|| self.wrong("four hexadecimal digits are expected behind \\u"))
            }
            _ => {
                Err(self.wrong("a text has an unknown escape; \\n \\t \\r \\\\ \\\" \\u are known"))
            }
        }
    }

    fn token(&mut self) -> Result<Form> {
        let from = self.at;
        let ends = |byte: u8| is_space(byte) || b"[](){}\";".contains(&byte);
        while self.peek().is_some_and(|byte| !ends(byte)) {
            self.at += 1;
        }
        let token = std::str::from_utf8(&self.text[from..self.at]);
        let token = token.map_err(|_| self.wrong("a name is not UTF-8"))?;
        match token.strip_prefix(':') {
            _ if token == "nil" => Ok(Form::Nil),
            Some("") => Err(self.wrong("a keyword has no name")),
            Some(name) => Ok(Form::Keyword(name.to_owned())),
            None if token.is_empty() => Err(self.wrong("a value is expected")),
            None => Ok(Form::Plain(token.to_owned())),
        }
    }

    /// Skips space, comments and what is discarded.
    fn skip(&mut self) -> Result<()> {
        loop {
            match self.peek() {
                Some(byte) if is_space(byte) => {
                    self.take();
                }
                Some(b';') => while self.take().is_some_and(|byte| byte != b'\n') {},
                Some(b'#') if self.text.get(self.at + 1) == Some(&b'_') => {
                    self.at += 2;
                    self.discarded()?;
                }
                _ => return Ok(()),
            }
        }
    }

    fn discarded(&mut self) -> Result<()> {
        while self.peek().is_some_and(is_space) {
            self.take();
        }
        self.form().map(drop)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Some(byte)
    }

    fn wrong(&self, what: &str) -> Malformed {
        Malformed { line: self.line, what: what.to_owned() }
    }
}

const fn closing(open: u8) -> u8 {
    if open == b'[' { b']' } else { b')' }
}

const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b','
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        match Reader::only(text) {
            Ok(form) => form.spelt(),
            Err(malformed) => malformed.to_string(),
        }
    }

    #[test]
    fn forms_are_read_as_they_are_meant() {
        assert_eq!(
            told(r#"{:a [1 "x\"\u0041" nil], :b #{:c}}"#),
            r#"{:a [1 "x\"A" nil], :b [:c]}"#
        );
        assert_eq!(told("; a comment\n #_ [skipped] #some.Tag{:f :read}"), "{:f :read}");
        assert_eq!(told("-3"), "-3");
    }

    #[test]
    fn what_is_not_edn_is_an_error_with_its_line() {
        let cases = [
            ("", "line 1: the text ends where a value is expected"),
            ("\n[1 2", "line 2: the text ends where a value is expected"),
            ("\"abc", "line 1: a text is never closed"),
            ("{:a}", "line 1: a map has a key without a value"),
            ("]", "line 1: a bracket is closed that is not open"),
            ("[1)", "line 1: a bracket is closed that is not open"),
            (
                r#""\q""#,
                "line 1: a text has an unknown escape; \\n \\t \\r \\\\ \\\" \\u are known",
            ),
            (r#""\u00"#, "line 1: four hexadecimal digits are expected behind \\u"),
            ("1 2", "line 1: one value is expected, not several"),
            (":", "line 1: a keyword has no name"),
            ("#", "line 1: a tag or a set is expected behind #"),
        ];
        for (text, expect) in cases {
            assert_eq!(told(text), expect, "{text:?}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        assert_eq!(told(&"[".repeat(100_000)), "line 1: forms are nested more than 32 deep");
        assert_eq!(told(&"#a ".repeat(100_000)), "line 1: forms are nested more than 32 deep");
        let wide = format!("[{}]", "1 ".repeat(20_000));
        assert_eq!(told(&wide), "line 1: a form holds more than 10000 others");
        let discarded = "line 1: forms are nested more than 32 deep";
        assert_eq!(told(&"[#_".repeat(100_000)), discarded, "what is discarded counts, too");
    }
}
