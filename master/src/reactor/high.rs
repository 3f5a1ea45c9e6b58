//! From rendered files (high data) to chunks (low data), with Salt's rules, checks and order.

use indexmap::IndexMap;
use proto::value::{Map, MapExt, Value};
use render::python;

/// What one file declares, by id.
pub(super) type High = IndexMap<Value, Declaration>;

/// One id of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Declaration {
    /// The file.
    pub(super) sls: String,
    /// The rule that led to it.
    pub(super) rule: String,
    /// What stands under the id: state to list, as [`pad`] leaves it.
    body: Value,
}

/// One thing to do: `id: {state.fun: [args]}`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chunk {
    /// The id.
    pub(super) id: String,
    /// The file.
    pub(super) sls: String,
    /// The rule that led to it.
    pub(super) rule: String,
    /// The reaction type: `local`.
    pub(super) state: String,
    /// The function: `test.ping`.
    pub(super) fun: String,
    /// All arguments, flattened.
    pub(super) given: Map,
}

/// Reads what a file renders to: nothing, or a map of ids. Splits `state.fun` keys.
pub(super) fn pad(rendered: Value, sls: &str) -> Result<High, String> {
    let ids = match rendered {
        Value::Null => return Ok(High::new()),
        Value::Map(ids) => ids,
        other => return Err(format!("a map of ids was expected, not {}", other.kind())),
    };
    let mut high = High::new();
    for (id, body) in ids {
        let body = match body {
            Value::Map(body) => pad_body(body).into(),
            Value::Str(short) => match short.split_once('.') {
                Some((state, fun)) => Map::from_iter([(state.into(), vec![Value::from(fun)].into())]).into(),
                None => return Err(format!("'{}' must be a map, not text", id.to_key())),
            },
            other => return Err(format!("'{}' must be a map, not {}", id.to_key(), other.kind())),
        };
        high.insert(id, Declaration { sls: sls.to_owned(), rule: String::new(), body });
    }
    Ok(high)
}

/// Moves the function from the key to the list. A second function of the same state stays: it is refused later.
fn pad_body(body: Map) -> Map {
    let mut keys: Vec<String> = body.keys().filter_map(|key| key.as_str().map(str::to_owned)).collect();
    keys.sort();
    let mut body = body;
    let mut states: Vec<String> = Vec::new();
    for key in keys.iter().filter(|key| !key.starts_with('_')) {
        let Some(Value::List(_)) = body.at(key) else { continue };
        let (state, fun) = key.split_once('.').map_or((key.as_str(), None), |(state, fun)| (state, Some(fun)));
        if states.iter().any(|one| one == state) {
            continue;
        }
        states.push(state.to_owned());
        if let Some(fun) = fun
            && let Some(Value::List(mut list)) = body.take(key)
        {
            list.push(fun.into());
            body.set(state, list);
        }
    }
    body
}

/// Checks the declarations and turns them into chunks, in the order of execution.
pub(super) fn compile(high: &High) -> Result<Vec<Chunk>, Vec<String>> {
    let errors = verify(high);
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut chunks = Vec::new();
    for (id, declaration) in high {
        let (Some(id), Some(body)) = (id.as_str(), declaration.body.as_map()) else { continue };
        for (state, run) in body.iter().filter(|_| !id.starts_with("__")) {
            let (Some(state), Some(run)) = (state.as_str(), run.as_list()) else { continue };
            if !state.starts_with("__") {
                chunks.extend(chunks_of(id, declaration, state, run));
            }
        }
    }
    Ok(order(chunks))
}

/// Builds the chunk of one state, or one for each of its `names`.
fn chunks_of(id: &str, declaration: &Declaration, state: &str, run: &[Value]) -> Vec<Chunk> {
    let mut given = Map::new();
    let mut names: Vec<Value> = Vec::new();
    let mut fun = String::new();
    for arg in run {
        match arg {
            Value::Str(text) => fun.clone_from(text),
            Value::Map(map) => {
                for (key, value) in map {
                    match (key.as_str(), value) {
                        (Some("names"), Value::List(list)) => names.extend(list.iter().cloned()),
                        _ => drop(given.insert(key.clone(), value.clone())),
                    }
                }
            }
            _ => {}
        }
    }
    let Declaration { sls, rule, .. } = declaration;
    let chunk = Chunk { id: id.to_owned(), sls: sls.clone(), rule: rule.clone(), state: state.to_owned(), fun, given };

    if names.is_empty() {
        return vec![chunk];
    }
    let named = |name: &Value| {
        let mut chunk = chunk.clone();
        match name {
            // `names: [{name: [{key: value}]}]`: a name with arguments of its own.
            Value::Map(map) => {
                for (name, own) in map.iter().take(1) {
                    chunk.given.set("name", name.clone());
                    let own = own.as_list().unwrap_or_default().iter().filter_map(Value::as_map);
                    own.for_each(|own| chunk.given.extend(own.clone()));
                }
            }
            name => chunk.given.set("name", name.clone()),
        }
        chunk
    };
    names.iter().map(named).collect()
}

/// Orders chunks as Salt does: by `order`, then by the text of type, name and function.
fn order(chunks: Vec<Chunk>) -> Vec<Chunk> {
    let number = |chunk: &Chunk| chunk.given.at("order").and_then(Value::as_int);
    let cap = chunks
        .iter()
        .filter_map(number)
        .fold(1, |cap, order| if order > cap - 1 && order > 0 { order + 100 } else { cap });
    #[expect(clippy::cast_precision_loss, reason = "an order beyond 2^53 is still an order")]
    let (cap, last) = (cap as f64, (cap + 1_000_000) as f64);
    let place = |chunk: &Chunk| match chunk.given.at("order") {
        Some(Value::Str(text)) if text == "first" => 0.0,
        Some(Value::Str(text)) if text == "last" => last,
        Some(value) => match value.as_f64() {
            Some(order) if order < 0.0 => order + last,
            Some(order) => order,
            None => cap,
        },
        None => cap,
    };
    let label = |chunk: &Chunk| {
        let name = chunk.given.at("name").map_or_else(|| chunk.id.clone(), Value::to_key);
        format!("{}{name}{}", chunk.state, chunk.fun)
    };
    let mut placed: Vec<(f64, String, Chunk)> =
        chunks.into_iter().map(|chunk| (place(&chunk), label(&chunk), chunk)).collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    placed.into_iter().map(|(_, _, chunk)| chunk).collect()
}

/// Returns what is wrong with the declarations, in Salt's words.
fn verify(high: &High) -> Vec<String> {
    let mut errors = Vec::new();
    for (id, declaration) in high {
        let sls = &declaration.sls;
        let Some(name) = id.as_str() else {
            errors.push(format!(
                "ID '{}' in SLS '{sls}' is not formed as a string, but is type {}. It may need to be quoted.",
                python::str(id),
                id.kind()
            ));
            continue;
        };
        let Some(body) = declaration.body.as_map().filter(|_| !name.starts_with("__")) else { continue };
        for (state, run) in body {
            let Some(state) = state.as_str().filter(|state| !state.starts_with("__")) else { continue };
            match run {
                Value::Null => errors.push(format!(
                    "ID '{name}' in SLS '{sls}' contains a short declaration ({state}) with a trailing colon. When not \
                     passing any arguments to a state, the colon must be omitted."
                )),
                Value::List(run) => verify_functions(name, sls, state, run, &mut errors),
                _ => errors.push(format!("State '{name}' in SLS '{sls}' is not formed as a list")),
            }
        }
    }
    errors
}

fn verify_functions(id: &str, sls: &str, state: &str, run: &[Value], errors: &mut Vec<String>) {
    let mut functions: Vec<&str> = state.split_once('.').map(|(_, fun)| fun).into_iter().collect();
    for fun in run.iter().filter_map(Value::as_str) {
        functions.push(fun);
        if fun.trim().contains(' ') {
            errors.push(format!(
                "The function \"{fun}\" in state \"{id}\" in SLS \"{sls}\" has whitespace, a function with whitespace is \
                 not supported, perhaps this is an argument that is missing a \":\""
            ));
        }
    }
    match functions.as_slice() {
        [] => errors.push(format!("No function declared in state '{id}' in SLS '{sls}'")),
        // A key with a dot that was not split: another function of this state was there already.
        [_] if !state.contains('.') => {}
        _ => errors.push(format!(
            "Too many functions declared in state '{id}' in SLS '{sls}'. Please choose one of the following: {}",
            functions.join(", ")
        )),
    }
}

#[cfg(test)]
mod tests;
