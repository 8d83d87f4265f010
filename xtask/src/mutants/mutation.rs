//! A mutation: which text of which file is replaced by what, and which tests are to notice.
//!
//! ```text
//! rule: §8 step 5: the lower node ID
//! file: crates/matrix-dmls/src/graph/rule.rs
//! package: matrix-dmls
//! tests: graph::
//! ---- old
//! the text as it is, there once
//! ---- new
//! the text instead
//! ----
//! ```

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result, bail};

/// One deliberate mistake.
#[derive(Debug)]
pub struct Mutation {
    /// Its file's name, without number and extension.
    pub name: String,
    /// The rule that it breaks.
    pub rule: String,
    /// The source file.
    pub file: String,
    /// The package whose tests are to notice.
    pub package: String,
    /// Which of its tests are run: parts of their names.
    pub tests: String,
    old: String,
    new: String,
}

/// Tests of one package. Several mutations can have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Runs<'a> {
    /// The package.
    pub package: &'a str,
    /// Parts of the tests' names.
    pub tests: &'a str,
}

impl fmt::Display for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.tests, self.package)
    }
}

impl Mutation {
    /// Which tests are to notice.
    pub fn runs(&self) -> Runs<'_> {
        Runs { package: &self.package, tests: &self.tests }
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        Self::parse(name, &text).with_context(|| format!("{} is no mutation", path.display()))
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let (head, rest) = text.split_once("---- old\n").context("no old text")?;
        let (old, rest) = rest.split_once("\n---- new\n").context("no new text")?;
        let new = rest.strip_suffix("\n----\n").context("no end")?;
        let field = |key: &str| -> Result<String> {
            let line = head.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            Ok(line.with_context(|| format!("no {key}"))?.to_owned())
        };
        Ok(Self {
            name: name.to_owned(),
            rule: field("rule")?,
            file: field("file")?,
            package: field("package")?,
            tests: field("tests")?,
            old: old.to_owned(),
            new: new.to_owned(),
        })
    }

    /// The source file with the mistake in it.
    pub fn apply(&self, text: &str) -> Result<String> {
        match text.matches(&self.old).count() {
            1 => Ok(text.replacen(&self.old, &self.new, 1)),
            0 => bail!("{} has no such text any more", self.file),
            more => bail!("{} has the text {more} times", self.file),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "rule: a rule\nfile: f.rs\npackage: p\ntests: t\n\
        ---- old\na\nb\n---- new\nc\n----\n";

    #[test]
    fn replaces_text_that_is_there_once() {
        let mutation = Mutation::parse("x", TEXT).unwrap();
        assert_eq!(mutation.apply("0\na\nb\n1").unwrap(), "0\nc\n1");
        assert!(mutation.apply("nothing").is_err());
        assert!(mutation.apply("a\nb\na\nb").is_err());
    }

    #[test]
    fn needs_all_fields() {
        assert!(Mutation::parse("x", &TEXT.replace("tests: t\n", "")).is_err());
        assert!(Mutation::parse("x", &TEXT.replace("---- new", "---- no")).is_err());
    }
}
