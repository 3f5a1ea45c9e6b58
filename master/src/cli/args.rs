//! Functions and arguments as operators type them: YAML typed, `name=value` as keyword arguments, several functions.

use proto::map;
use proto::value::{Map, Value};

use super::exit::Usage;

/// Arguments of one function.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Typed {
    /// Positional arguments.
    pub(super) arg: Vec<Value>,
    /// Keyword arguments.
    pub(super) kwarg: Map,
}

impl Typed {
    /// Reads words; the names in `raw` keep their values as text.
    pub(super) fn read(words: &[String], raw: &[String]) -> Typed {
        let mut typed = Typed::default();
        for word in words {
            match render::yaml::parse_kwarg(word) {
                Some((name, value)) => {
                    let as_typed = || word.split_once('=').map_or("", |(_, text)| text);
                    let value = if raw.contains(&name) { as_typed().into() } else { value };
                    typed.kwarg.insert(name.into(), value);
                }
                None => typed.arg.push(render::yaml::cli_arg(word)),
            }
        }
        typed
    }

    /// Returns the arguments as they go out: keyword arguments as one map at the end.
    pub(super) fn into_arg(self) -> Vec<Value> {
        let mut arg = self.arg;
        if !self.kwarg.is_empty() {
            let mut last = map! { "__kwarg__" => true };
            last.extend(self.kwarg);
            arg.push(last.into());
        }
        arg
    }
}

/// A function, or several, with their arguments, as a job carries them.
#[derive(Debug, PartialEq)]
pub(super) struct Call {
    /// The function, or a list of them.
    pub(super) fun: Value,
    /// Its arguments, or a list of arguments for each.
    pub(super) arg: Vec<Value>,
}

impl Call {
    /// Reads `test.ping` or `test.ping,test.echo` and the words after it.
    pub(super) fn read(fun: &str, words: &[String], separator: &str, raw: &[String]) -> Result<Call, Usage> {
        if !fun.contains(',') {
            return Ok(Call { fun: fun.into(), arg: Typed::read(words, raw).into_arg() });
        }
        let funs: Vec<&str> = fun.split(',').collect();
        let groups = group(words, separator, funs.len());
        if groups.len() != funs.len() {
            let which = if groups.len() < funs.len() {
                "without defining all arguments"
            } else {
                "with more arguments than commands"
            };
            return Err(Usage(format!("Cannot execute compound command {which}.")));
        }
        let arg = groups.iter().map(|words| Value::List(Typed::read(words, raw).into_arg())).collect();
        Ok(Call { fun: funs.into(), arg })
    }
}

/// Shares words out between functions: at separators that stand alone, if there are enough, else within words too.
fn group(words: &[String], separator: &str, funs: usize) -> Vec<Vec<String>> {
    if words.iter().filter(|word| *word == separator).count() == funs - 1 {
        return words.split(|word| word == separator).map(<[String]>::to_vec).collect();
    }
    let mut groups = vec![Vec::new()];
    for word in words {
        for (at, part) in word.split(separator).enumerate() {
            if at > 0 {
                groups.push(Vec::new());
            }
            if !part.is_empty() {
                groups.last_mut().expect("there is always one").push(part.to_owned());
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fun: &str, words: &[&str]) -> Result<(String, String), String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let call = Call::read(fun, &words, ",", &["raw".to_owned()]).map_err(|error| error.to_string())?;
        Ok((call.fun.to_json().to_string(), Value::List(call.arg).to_json().to_string()))
    }

    fn check(fun: &str, words: &[&str], expected_fun: &str, expected_arg: &str) {
        assert_eq!(read(fun, words), Ok((expected_fun.to_owned(), expected_arg.to_owned())), "{words:?}");
    }

    #[test]
    fn arguments_are_typed_as_salt_types_them() {
        // recorded/events/args.txt, kwargs.txt, arg-repr.txt
        check(
            "test.arg",
            &["1", "two", "3.5", "True", "None", "{a: 1}", "[x,y]", "kw=5"],
            r#""test.arg""#,
            r#"[1,"two",3.5,true,null,{"a":1},["x","y"],{"__kwarg__":true,"kw":5}]"#,
        );
        check(
            "f",
            &["num=1", "txt=text", "d={k: v}"],
            r#""f""#,
            r#"[{"__kwarg__":true,"num":1,"txt":"text","d":{"k":"v"}}]"#,
        );
        check("f", &["1", "\"1\"", "2024-01-02", "0x10", "yes"], r#""f""#, r#"[1,"1","2024-01-02",16,true]"#);
        check("f", &["a==b", "a b=c", "1=x"], r#""f""#, r#"["a==b","a b=c","1=x"]"#);
        check("f", &["raw=007"], r#""f""#, r#"[{"__kwarg__":true,"raw":"007"}]"#);
        check("f", &[], r#""f""#, "[]");
    }

    #[test]
    fn several_functions_share_the_words() {
        // recorded/events/multi-fun.txt
        check("test.ping,test.echo", &[",hello"], r#"["test.ping","test.echo"]"#, r#"[[],["hello"]]"#);
        check(
            "test.echo,test.arg",
            &["a,b", ",", "1", "k=2"],
            r#"["test.echo","test.arg"]"#,
            r#"[["a,b"],[1,{"__kwarg__":true,"k":2}]]"#,
        );
        check("test.ping,test.ping", &[","], r#"["test.ping","test.ping"]"#, "[[],[]]");
        let short = read("a.b,c.d", &["x"]).unwrap_err();
        assert_eq!(short, "Cannot execute compound command without defining all arguments.");
        let long = read("a.b,c.d", &["x,y,z"]).unwrap_err();
        assert_eq!(long, "Cannot execute compound command with more arguments than commands.");
    }
}
