//! The table, and the same as JSON.

use std::fmt;

use serde::Serialize;

/// What was measured, with what was wanted.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where and how it was measured, in words.
    pub setting: Vec<String>,
    /// What has a bound.
    pub rows: Vec<Row>,
    /// What others need, measured in the same run.
    pub comparison: Vec<Row>,
}

/// One thing that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What.
    pub what: String,
    /// What is wanted, in words.
    pub bound: Option<String>,
    /// What it is, in words.
    pub measured: String,
    /// Whether that is as wanted; `None` without bound, or where it could not be measured.
    pub holds: Option<bool>,
    /// The numbers in `measured`, with the unit at the end of their names.
    pub values: Vec<(String, f64)>,
}

impl Report {
    /// Whether no bound was missed.
    pub fn all_hold(&self) -> bool {
        self.rows.iter().all(|row| row.holds != Some(false))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.setting {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\n| operation | bound | measured | |\n|---|---|---|---|")?;
        for row in &self.rows {
            let holds = match row.holds {
                Some(true) => "holds",
                Some(false) => "**missed**",
                None => "not measured",
            };
            let bound = row.bound.as_deref().unwrap_or_default();
            writeln!(f, "| {} | {bound} | {} | {holds} |", row.what, row.measured)?;
        }
        if !self.comparison.is_empty() {
            writeln!(f, "\nFor comparison:\n\n| operation | measured |\n|---|---|")?;
        }
        for row in &self.comparison {
            writeln!(f, "| {} | {} |", row.what, row.measured)?;
        }
        Ok(())
    }
}

/// A number with as many digits as matter.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(holds: Option<bool>) -> Row {
        let bound = holds.map(|_| "1 ms".to_owned());
        Row { what: "a".into(), bound, measured: "2 ms".into(), holds, values: Vec::new() }
    }

    #[test]
    fn what_is_missed_is_said() {
        let mut report = Report {
            setting: Vec::new(),
            rows: vec![row(Some(true)), row(None)],
            comparison: vec![],
        };
        assert!(report.all_hold() && !report.to_string().contains("missed"));
        report.rows.push(row(Some(false)));
        assert!(!report.all_hold());
        assert!(report.to_string().contains("| a | 1 ms | 2 ms | **missed** |"));
    }

    #[test]
    fn numbers_are_as_exact_as_they_are_small() {
        assert_eq!([0.1234, 1.234, 12.34, 1234.5].map(number), ["0.123", "1.23", "12.3", "1234"]);
    }
}
