//! What a scenario measured, against what is promised.

use std::fmt;

/// A measured figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What came out.
    pub measured: f64,
    /// What must not be passed; nothing where it is for information.
    pub limit: Option<f64>,
    /// The unit of both.
    pub unit: &'static str,
}

impl Figure {
    /// A figure that must be at most so much.
    pub fn at_most(name: impl Into<String>, measured: f64, limit: f64, unit: &'static str) -> Self {
        Self { name: name.into(), measured, limit: Some(limit), unit }
    }

    /// A figure that nothing is promised of.
    pub fn plain(name: impl Into<String>, measured: f64, unit: &'static str) -> Self {
        Self { name: name.into(), measured, limit: None, unit }
    }

    /// Whether it is within its limit. What is no number is not.
    pub fn holds(&self) -> bool {
        self.limit.is_none_or(|limit| self.measured <= limit)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.limit {
            None => String::new(),
            Some(limit) if self.holds() => format!("at most {limit}"),
            Some(limit) => format!("MORE THAN {limit}"),
        };
        write!(f, "{:58} {:>10.2} {:8} {verdict}", self.name, self.measured, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_holds_up_to_its_limit_and_never_without_a_number() {
        assert!(Figure::at_most("time", 10.0, 10.0, "s").holds());
        assert!(!Figure::at_most("time", 10.1, 10.0, "s").holds());
        assert!(!Figure::at_most("time", f64::NAN, 10.0, "s").holds());
        assert!(Figure::plain("time", 1e9, "s").holds());
        assert!(Figure::at_most("time", 11.0, 10.0, "s").to_string().contains("MORE THAN 10"));
    }
}
