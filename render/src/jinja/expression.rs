//! Rewrites expressions: literals become our containers, and the operators that can grow values become functions of `ops`.
//! Everything else stays as it is, line breaks included.

use super::lex::{Kind, Token};

/// The deepest nesting of expressions.
const MAX_NESTING: usize = 60;
/// Names that are operators.
const OPERATORS: [&str; 7] = ["and", "else", "if", "in", "is", "not", "or"];

/// Walks over the tokens of one tag.
pub(super) struct Walker<'t> {
    tokens: &'t [Token<'t>],
    at: usize,
    depth: usize,
}

impl<'t> Walker<'t> {
    pub(super) fn new(tokens: &'t [Token<'t>]) -> Walker<'t> {
        Walker { tokens, at: 0, depth: 0 }
    }

    /// Rewrites all expressions up to the end; what stands between them (`,`, `as`, `=`) stays.
    pub(super) fn all(&mut self) -> Option<String> {
        let mut out = String::new();
        while let Some(token) = self.peek() {
            let between = matches!(token.kind, Kind::Op) && matches!(token.text, "," | "=" | ":")
                || matches!(token.kind, Kind::Name) && matches!(token.text, "if" | "in" | "else");
            out.push_str(&if between { self.take()? } else { self.expression()? });
        }
        Some(out)
    }

    /// Rewrites what a loop runs over: an `if` behind it is a filter, not a choice.
    pub(super) fn loop_over(&mut self) -> Option<String> {
        let mut out = self.chain(0)?;
        while let Some(token) = self.peek() {
            out += &match token.text {
                "," | "if" | "recursive" => self.take()?,
                _ => self.chain(0)?,
            };
        }
        Some(out)
    }

    /// Takes the next token as it is.
    pub(super) fn take(&mut self) -> Option<String> {
        let token = self.peek()?;
        self.at += 1;
        Some(format!("{}{}", lead(token.breaks), token.text))
    }

    pub(super) fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.at).copied()
    }

    pub(super) fn is_next(&self, text: &str) -> bool {
        self.peek().is_some_and(|token| token.text == text && token.kind != Kind::Text)
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Takes one of these tokens, if it comes next.
    fn eat(&mut self, texts: &[&str]) -> Option<String> {
        let next = texts.iter().any(|text| self.is_next(text));
        if next { self.take() } else { None }
    }

    fn expect(&mut self, text: &str) -> Option<String> {
        self.eat(&[text])
    }

    /// Rewrites one expression, the conditional one included.
    pub(super) fn expression(&mut self) -> Option<String> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return None;
        }
        let mut out = self.chain(0)?;
        while let Some(word) = self.eat(&["if"]) {
            out = out + &word + &self.chain(0)?;
            // Without an `else` the result prints as nothing.
            out += &match self.eat(&["else"]) {
                Some(word) => word + &self.expression()?,
                None => " else ''".to_owned(),
            };
        }
        self.depth -= 1;
        Some(out)
    }

    /// Operators by how tightly they bind, loosest first.
    fn chain(&mut self, level: usize) -> Option<String> {
        const LEVELS: [&[&str]; 7] = [
            &["or"],
            &["and"],
            &["==", "!=", "<", "<=", ">", ">=", "in", "not"],
            &["+", "-"],
            &["~"],
            &["*", "/", "//", "%"],
            &["**"],
        ];
        const NEGATION: usize = 2;
        let Some(operators) = LEVELS.get(level) else { return self.unary(true) };
        if level == NEGATION
            && let Some(word) = self.eat(&["not"])
        {
            self.depth += 1;
            let inner = if self.depth > MAX_NESTING { None } else { self.chain(level) };
            self.depth -= 1;
            return Some(word + &inner?);
        }
        let mut out = self.chain(level + 1)?;
        while let Some(operator) = self.eat(operators) {
            let operator = match operator.trim() {
                "not" => operator + &self.expect("in")?,
                _ => operator,
            };
            let right = self.chain(level + 1)?;
            out = match operator.trim() {
                "+" => call("__add", &out, &operator, &right),
                "*" => call("__mul", &out, &operator, &right),
                "%" => call("__mod", &out, &operator, &right),
                "~" => call("__cat", &out, &operator, &right),
                _ => out + &operator + &right,
            };
        }
        Some(out)
    }

    fn unary(&mut self, filters: bool) -> Option<String> {
        let mut out = if let Some(sign) = self.eat(&["-", "+"]) {
            self.depth += 1;
            let inner = if self.depth > MAX_NESTING { None } else { self.unary(false) };
            self.depth -= 1;
            if sign.trim() == "+" { inner? } else { sign + &inner? }
        } else {
            let primary = self.primary()?;
            self.postfix(primary)?
        };
        if !filters {
            return Some(out);
        }
        loop {
            if let Some(pipe) = self.eat(&["|"]) {
                out = out + &pipe + &self.dotted_name()?;
                if self.is_next("(") {
                    out += &self.arguments()?;
                }
            } else if let Some(word) = self.eat(&["is"]) {
                out = out + &word + &self.test()?;
            } else if self.is_next("(") {
                out += &self.arguments()?;
            } else {
                return Some(out);
            }
        }
    }

    fn dotted_name(&mut self) -> Option<String> {
        let mut out = self.name()?;
        while let Some(dot) = self.eat(&["."]) {
            out = out + &dot + &self.name()?;
        }
        Some(out)
    }

    fn name(&mut self) -> Option<String> {
        if self.peek()?.kind == Kind::Name { self.take() } else { None }
    }

    fn test(&mut self) -> Option<String> {
        let mut out = self.eat(&["not"]).unwrap_or_default() + &self.dotted_name()?;
        let Some(next) = self.peek() else { return Some(out) };
        let argument = match next.kind {
            Kind::Name => !OPERATORS.contains(&next.text),
            Kind::Op => matches!(next.text, "[" | "{"),
            Kind::Number | Kind::Text => true,
        };
        if self.is_next("(") {
            out += &self.arguments()?;
        } else if argument {
            let primary = self.primary()?;
            out += &self.postfix(primary)?;
        }
        Some(out)
    }

    fn postfix(&mut self, mut out: String) -> Option<String> {
        loop {
            if let Some(dot) = self.eat(&["."]) {
                if self.peek()?.kind == Kind::Op || self.peek()?.kind == Kind::Text {
                    return None;
                }
                out = out + &dot + self.take()?.trim_start_matches(' ');
            } else if self.is_next("[") {
                out = self.subscript(out)?;
            } else if self.is_next("(") {
                out += &self.arguments()?;
            } else {
                return Some(out);
            }
        }
    }

    fn subscript(&mut self, subject: String) -> Option<String> {
        let open = self.take()?;
        let mut bounds = vec![None];
        while !self.is_next("]") {
            if self.eat(&[":"]).is_some() {
                bounds.push(None);
            } else {
                *bounds.last_mut()? = Some(self.expression()?);
            }
            if bounds.len() > 3 {
                return None;
            }
        }
        let close = self.take()?;
        match bounds.as_slice() {
            [index] => Some(subject + &open + index.as_ref()? + &close),
            bounds => {
                let part = |index: usize| bounds.get(index).cloned().flatten().unwrap_or_else(|| "none".to_owned());
                Some(format!("__slice({subject}, {}, {}, {})", part(0), part(1), part(2)))
            }
        }
    }

    fn arguments(&mut self) -> Option<String> {
        let mut out = self.expect("(")?;
        while !self.is_next(")") {
            if let Some(star) = self.eat(&["*", "**"]) {
                out += &star;
            }
            out += &self.expression()?;
            if let Some(equals) = self.eat(&["="]) {
                out = out + &equals + &self.expression()?;
            }
            match self.eat(&[","]) {
                Some(comma) => out += &comma,
                None => break,
            }
        }
        Some(out + &self.expect(")")?)
    }

    fn primary(&mut self) -> Option<String> {
        let token = self.peek()?;
        match (token.kind, token.text) {
            (Kind::Name, name) if OPERATORS.contains(&name) => None,
            (Kind::Name | Kind::Number, _) => self.take(),
            (Kind::Text, _) => {
                let mut out = self.take()?;
                // Texts side by side are one, as in Python.
                while self.peek().is_some_and(|next| next.kind == Kind::Text) {
                    out = call("__cat", &out, "~", &self.take()?);
                }
                Some(out)
            }
            (Kind::Op, "(") => self.parenthesis(),
            (Kind::Op, "[") => {
                let (items, _) = self.items("[", "]")?;
                Some(format!("{}__list([{items}])", lead(token.breaks)))
            }
            (Kind::Op, "{") => {
                let (items, _) = self.items("{", "}")?;
                Some(format!("{}__dict([{items}])", lead(token.breaks)))
            }
            _ => None,
        }
    }

    fn parenthesis(&mut self) -> Option<String> {
        let breaks = self.peek()?.breaks;
        let (items, commas) = self.items("(", ")")?;
        if commas == 0 && !items.is_empty() {
            Some(format!("{}({items})", lead(breaks)))
        } else {
            Some(format!("{}__tuple([{items}])", lead(breaks)))
        }
    }

    /// Rewrites what stands between brackets; the colons of a dict become commas. Returns also how many commas there were.
    fn items(&mut self, open: &str, close: &str) -> Option<(String, usize)> {
        self.expect(open)?;
        let mut out = String::new();
        let mut commas = 0;
        while !self.is_next(close) {
            out += &self.expression()?;
            if open == "{" {
                let colon = self.expect(":")?;
                out = out + &colon.replace(':', ",") + &self.expression()?;
            }
            match self.eat(&[","]) {
                Some(comma) => out += &comma,
                None => break,
            }
            commas += 1;
        }
        let end = self.expect(close)?;
        Some((out + &end.replace(close, "").replace(' ', ""), commas))
    }
}

/// Writes a call in place of a binary operator; the operator's line breaks stay.
fn call(function: &str, left: &str, operator: &str, right: &str) -> String {
    let breaks = operator.matches('\n').count();
    let pad = if left.starts_with(' ') || left.starts_with('\n') { "" } else { " " };
    format!("{pad}{}{function}({left},{}{right})", "", "\n".repeat(breaks))
}

fn lead(breaks: usize) -> String {
    if breaks == 0 { " ".to_owned() } else { "\n".repeat(breaks) }
}
