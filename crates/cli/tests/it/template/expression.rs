//! Reads the expressions of an Azure Resource Manager template: `"[concat(parameters('Name'), '-plan')]"`.

/// One expression, as read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Text(String),
    Number(i64),
    Call(String, Vec<Expression>),
    /// `of.name`
    Property(Box<Expression>, String),
    /// `of[at]`
    Index(Box<Expression>, Box<Expression>),
}

/// What a string of a template is: text, or an expression to resolve. Text that begins with a bracket is written with
/// two.
pub(super) enum Text<'a> {
    Plain(String),
    Expression(&'a str),
}

pub(super) fn kind_of(text: &str) -> Text<'_> {
    if let Some(escaped) = text.strip_prefix("[[") {
        return Text::Plain(format!("[{escaped}"));
    }
    match text
        .strip_prefix('[')
        .and_then(|inside| inside.strip_suffix(']'))
    {
        Some(inside) => Text::Expression(inside),
        None => Text::Plain(text.to_owned()),
    }
}

pub(super) fn parse(text: &str) -> Result<Expression, String> {
    let mut parser = Parser {
        rest: text.chars().collect(),
        at: 0,
    };
    let expression = parser.expression()?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(expression),
        Some(left) => Err(format!("`{left}` at {} is left over", parser.at)),
    }
}

struct Parser {
    rest: Vec<char>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        let is_there = self.peek() == Some(wanted);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.eat(wanted) {
            return Ok(());
        }
        Err(format!("no `{wanted}` at {}", self.at))
    }

    fn expression(&mut self) -> Result<Expression, String> {
        let mut expression = self.primary()?;
        loop {
            if self.eat('.') {
                expression = Expression::Property(Box::new(expression), self.name()?);
            } else if self.eat('[') {
                let index = self.expression()?;
                self.expect(']')?;
                expression = Expression::Index(Box::new(expression), Box::new(index));
            } else {
                return Ok(expression);
            }
        }
    }

    fn primary(&mut self) -> Result<Expression, String> {
        self.skip_space();
        match self.peek() {
            Some('\'') => self.text(),
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_ascii_alphabetic() => {
                let name = self.name()?;
                self.expect('(')?;
                let mut arguments = Vec::new();
                if self.eat(')') {
                    return Ok(Expression::Call(name, arguments));
                }
                loop {
                    arguments.push(self.expression()?);
                    if self.eat(')') {
                        return Ok(Expression::Call(name, arguments));
                    }
                    self.expect(',')?;
                }
            }
            other => Err(format!("{other:?} at {} begins no expression", self.at)),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        self.skip_space();
        let begin = self.at;
        while self
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            self.at += 1;
        }
        if begin == self.at {
            return Err(format!("no name at {begin}"));
        }
        Ok(self.rest[begin..self.at].iter().collect())
    }

    /// Between quotes; a quote in it is written twice.
    fn text(&mut self) -> Result<Expression, String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err("a text has no end".to_owned()),
                Some('\'') => {
                    self.at += 1;
                    if self.peek() != Some('\'') {
                        return Ok(Expression::Text(text));
                    }
                    text.push('\'');
                    self.at += 1;
                }
                Some(c) => {
                    text.push(c);
                    self.at += 1;
                }
            }
        }
    }

    fn number(&mut self) -> Result<Expression, String> {
        let begin = self.at;
        self.at += 1;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        let text: String = self.rest[begin..self.at].iter().collect();
        text.parse()
            .map(Expression::Number)
            .map_err(|_| format!("`{text}` is no number"))
    }
}

/// Every expression in a value, the names of properties included, with where it stands.
pub(super) fn each_text(value: &serde_json::Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::String(text) => found.push((path.to_owned(), text.clone())),
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                each_text(item, &format!("{path}[{index}]"), found);
            }
        }
        serde_json::Value::Object(map) => {
            for (key, item) in map {
                found.push((format!("{path}/{key}"), key.clone()));
                each_text(item, &format!("{path}/{key}"), found);
            }
        }
        _ => {}
    }
}

/// Calls `visit` for an expression and all in it.
pub(super) fn walk(expression: &Expression, visit: &mut impl FnMut(&Expression)) {
    visit(expression);
    match expression {
        Expression::Text(_) | Expression::Number(_) => {}
        Expression::Call(_, arguments) => {
            arguments.iter().for_each(|argument| walk(argument, visit));
        }
        Expression::Property(of, _) => walk(of, visit),
        Expression::Index(of, at) => {
            walk(of, visit);
            walk(at, visit);
        }
    }
}
