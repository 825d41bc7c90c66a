//! Arithmetic: whole numbers exactly, everything else in double precision, and no result that is not one.
//!
//! `-2^2` is -4 and `2^3^2` is 512, as on paper; the crates at hand bind the minus sign first.

use std::fmt;

/// The longest expression that is evaluated, in bytes.
pub(crate) const MAX_BYTES: usize = 256;
/// How deep parentheses, signs and powers may nest: each level is a few frames of the stack.
const MAX_DEPTH: usize = 32;

/// The value of `+ - * / % ^`, parentheses and decimal numbers.
///
/// # Errors
/// What a person would want to read: where the expression breaks off, or why it has no value.
pub(crate) fn evaluate(expression: &str) -> Result<Number, String> {
    if expression.len() > MAX_BYTES {
        return Err(format!("the expression is longer than {MAX_BYTES} bytes"));
    }
    let mut parser = Parser { rest: expression.trim_start(), depth: 0 };
    let value = parser.sum()?;
    match parser.rest.chars().next() {
        None => Ok(value),
        Some(c) => Err(format!("unexpected `{c}`")),
    }
}

/// A result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Whole(i128),
    /// Finite.
    Real(f64),
}

use Number::{Real, Whole};

impl Number {
    /// As a JSON number where every reader gets the same one from it, else as text.
    pub(crate) fn to_json(self) -> serde_json::Value {
        const EXACT: i128 = 1 << 53;
        match self {
            Whole(n) if (-EXACT..=EXACT).contains(&n) => serde_json::Value::from(n as i64),
            Whole(n) => serde_json::Value::from(n.to_string()),
            Real(x) => self.to_string().parse().map_or_else(|_| serde_json::Value::from(x), |x: f64| x.into()),
        }
    }

    fn real(self) -> f64 {
        match self {
            Whole(n) => n as f64,
            Real(x) => x,
        }
    }
}

/// Reals with 12 significant digits: 0.1 + 0.2 is 0.3.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whole(n) => write!(f, "{n}"),
            Real(x) => {
                let rounded: f64 = format!("{x:.11e}").parse().unwrap_or(*x);
                let plain = rounded == 0.0 || (1e-6..1e15).contains(&rounded.abs());
                if plain { write!(f, "{rounded}") } else { write!(f, "{rounded:e}") }
            }
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<Number, String> {
        let mut left = self.product()?;
        while let Some(op) = self.take(&['+', '-', '−']) {
            let right = self.product()?;
            left = if op == '+' {
                combine(left, right, i128::checked_add, |a, b| a + b)?
            } else {
                combine(left, right, i128::checked_sub, |a, b| a - b)?
            };
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Number, String> {
        let mut left = self.signed()?;
        while let Some(op) = self.take(&['*', '×', '·', '/', '÷', '%']) {
            let right = self.signed()?;
            left = match op {
                '/' | '÷' => divide(left, right)?,
                '%' => remainder(left, right)?,
                _ => combine(left, right, i128::checked_mul, |a, b| a * b)?,
            };
        }
        Ok(left)
    }

    fn signed(&mut self) -> Result<Number, String> {
        match self.take(&['+', '-', '−']) {
            None => self.power(),
            Some('+') => self.nested(Self::signed),
            Some(_) => {
                let value = self.nested(Self::signed)?;
                combine(Whole(0), value, i128::checked_sub, |a, b| a - b)
            }
        }
    }

    fn power(&mut self) -> Result<Number, String> {
        let base = self.atom()?;
        match self.take(&['^']) {
            None => Ok(base),
            // To the right, and a sign may stand before the exponent.
            Some(_) => raise(base, self.nested(Self::signed)?),
        }
    }

    fn atom(&mut self) -> Result<Number, String> {
        if self.take(&['(']).is_none() {
            return self.number();
        }
        let value = self.nested(Self::sum)?;
        self.take(&[')']).ok_or("a `)` is missing")?;
        Ok(value)
    }

    fn number(&mut self) -> Result<Number, String> {
        let end = self.rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        if digits.is_empty() {
            let found = rest.chars().next().map_or("the end".to_owned(), |c| format!("`{c}`"));
            return Err(format!("expected a number, found {found}"));
        }
        self.rest = rest.trim_start();
        let plain = without_groups(digits).ok_or_else(|| format!("`{digits}` is not a number"))?;
        match plain.parse() {
            Ok(whole) => Ok(Whole(whole)),
            Err(_) if plain.contains('.') => finite(plain.parse().map_err(|_| format!("`{digits}` is not a number"))?),
            Err(_) => Err(too_large()),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Number, String>) -> Result<Number, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("the expression nests deeper than {MAX_DEPTH} levels"));
        }
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn take(&mut self, operators: &[char]) -> Option<char> {
        let first = self.rest.chars().next().filter(|c| operators.contains(c))?;
        // `**` is a power to some; taken for a product it would have another value.
        if first == '*' && self.rest.starts_with("**") {
            return None;
        }
        self.rest = self.rest[first.len_utf8()..].trim_start();
        Some(first)
    }
}

/// `1,234,567.8` without its commas, when they stand where thousands do.
fn without_groups(digits: &str) -> Option<String> {
    let whole = digits.split('.').next()?;
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let grouped = whole.contains(',');
    let sound = !grouped || ((1..=3).contains(&first.len()) && groups.all(|group| group.len() == 3));
    (sound && !digits[whole.len()..].contains(',')).then(|| digits.replace(',', ""))
}

fn combine(
    left: Number,
    right: Number,
    whole: fn(i128, i128) -> Option<i128>,
    real: fn(f64, f64) -> f64,
) -> Result<Number, String> {
    if let (Whole(a), Whole(b)) = (left, right) {
        return whole(a, b).map(Whole).ok_or_else(too_large);
    }
    finite(real(left.real(), right.real()))
}

fn divide(left: Number, right: Number) -> Result<Number, String> {
    if right.real() == 0.0 {
        return Err("division by zero".to_owned());
    }
    if let (Whole(a), Whole(b)) = (left, right) {
        let rest = a.checked_rem(b).ok_or_else(too_large)?;
        // Divisible: exactly. The quotient cannot overflow, or the remainder would have.
        return if rest == 0 { Ok(Whole(a / b)) } else { finite(a as f64 / b as f64) };
    }
    finite(left.real() / right.real())
}

fn remainder(left: Number, right: Number) -> Result<Number, String> {
    if right.real() == 0.0 {
        return Err("division by zero".to_owned());
    }
    combine(left, right, i128::checked_rem, |a, b| a % b)
}

fn raise(base: Number, exponent: Number) -> Result<Number, String> {
    if let (Whole(a), Whole(b @ 0..)) = (base, exponent) {
        let power = u32::try_from(b).ok().and_then(|b| a.checked_pow(b)).or(small_power(a, b));
        return power.map(Whole).ok_or_else(too_large);
    }
    if base.real() == 0.0 && exponent.real() < 0.0 {
        return Err("division by zero".to_owned());
    }
    finite(base.real().powf(exponent.real()))
}

/// The bases whose powers stay small however large the exponent.
fn small_power(base: i128, exponent: i128) -> Option<i128> {
    match base {
        0 | 1 => Some(base),
        -1 => Some(if exponent % 2 == 0 { 1 } else { -1 }),
        _ => None,
    }
}

fn finite(value: f64) -> Result<Number, String> {
    if value.is_nan() {
        return Err("the result is not a real number".to_owned());
    }
    if value.is_infinite() {
        return Err(too_large());
    }
    // A whole result of a division or a decimal sum reads as one.
    let whole = value.fract() == 0.0 && value.abs() < 1e15;
    Ok(if whole { Whole(value as i128) } else { Real(value) })
}

fn too_large() -> String {
    "the result is too large".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let table = [
            ("2*(3+4)", "14"),
            ("1+1", "2"),
            ("7/2", "3.5"),
            ("1/3", "0.333333333333"),
            ("6/3", "2"),
            ("0.1+0.2", "0.3"),
            ("0.5*4", "2"),
            ("-2^2", "-4"),
            ("2^3^2", "512"),
            ("2^-1", "0.5"),
            ("2 ^ -2 ^ 2", "0.0625"),
            ("6/-2*3", "-9"),
            ("10 % 4", "2"),
            ("1,000+1", "1001"),
            ("1,234,567.5", "1234567.5"),
            ("3 × 4 ÷ 6", "2"),
            ("2^64", "18446744073709551616"),
            ("10^30/10", "100000000000000000000000000000"),
            ("1.5e", "err unexpected `e`"),
            ("1e3", "err unexpected `e`"),
            ("-1^3", "-1"),
            ("(-1)^99999999999", "-1"),
            ("0.000001/1000", "1e-9"),
            ("2.5^300", "2.4099198651e119"),
        ];
        for (expression, expected) in table {
            let value = evaluate(expression).map_or_else(|error| format!("err {error}"), |value| value.to_string());
            assert_eq!(value, expected, "{expression}");
        }
    }

    #[test]
    fn what_has_no_value_says_why() {
        let table = [
            ("1/0", "division by zero"),
            ("5 % (2-2)", "division by zero"),
            ("0^-1", "division by zero"),
            ("2^9999", "the result is too large"),
            ("9^999.5", "the result is too large"),
            ("99999999999999999999999999999999999999999", "the result is too large"),
            ("(-8)^0.5", "the result is not a real number"),
            ("2*", "expected a number, found the end"),
            ("2**3", "unexpected `*`"),
            ("(2+3", "a `)` is missing"),
            ("2+3)", "unexpected `)`"),
            ("1..2", "`1..2` is not a number"),
            ("1,00+1", "`1,00` is not a number"),
            ("", "expected a number, found the end"),
            ("sqrt(4)", "expected a number, found `s`"),
        ];
        for (expression, expected) in table {
            assert_eq!(evaluate(expression).unwrap_err(), expected, "{expression}");
        }
    }

    #[test]
    fn a_hostile_expression_is_refused_in_bounded_stack() {
        let deep = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
        assert_eq!(evaluate(&deep(MAX_DEPTH)).unwrap(), Whole(1));
        assert!(evaluate(&deep(MAX_DEPTH + 1)).unwrap_err().contains("nests deeper"));
        assert!(evaluate(&"-".repeat(200)).unwrap_err().contains("nests deeper"));
        assert!(evaluate(&"2^".repeat(100)).unwrap_err().contains("nests deeper"));
        assert!(evaluate(&"1+".repeat(MAX_BYTES)).unwrap_err().contains("longer than"));
        assert!(evaluate("-170141183460469231731687303715884105727-1").is_ok());
        assert!(evaluate("(-170141183460469231731687303715884105727-1)/-1").is_err());
        assert!(evaluate("(-170141183460469231731687303715884105727-1)%-1").is_err());
    }

    #[test]
    fn json_numbers_are_exact_or_texts() {
        assert_eq!(evaluate("2*(3+4)").unwrap().to_json().to_string(), "14");
        assert_eq!(evaluate("7/2").unwrap().to_json().to_string(), "3.5");
        assert_eq!(evaluate("2^64").unwrap().to_json().to_string(), "\"18446744073709551616\"");
    }
}
