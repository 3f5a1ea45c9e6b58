//! What templates can do, beyond what the corpus compares with Jinja2, and what they cannot.

use proptest::prelude::*;
use proto::map;
use proto::value::Value as OurValue;

use super::*;

struct Echo;

impl Functions for Echo {
    fn call(&self, name: &str, mut args: Vec<OurValue>, kwargs: Map) -> Result<OurValue, String> {
        match name {
            "test.echo" => Ok(args.remove(0)),
            "test.kwarg" => Ok(OurValue::Map(kwargs)),
            _ => Err("no such function".to_owned()),
        }
    }
}

fn files(path: &str) -> Result<Option<String>, String> {
    Ok(match path {
        "map.yaml" => Some("a: {{ tag }}\nb: [1, yes]\n"),
        "map.json" => Some(r#"{"a": 1}"#),
        "lib.jinja" => Some("{% macro hi(x) %}hi {{ x }}{% endmacro %}{% set y = 5 %}\n"),
        "inc.jinja" => Some("included {{ tag }}\n"),
        "bad.jinja" => Some("\n{{ nope }}\n"),
        "loop.jinja" => Some("{% include 'loop.jinja' %}"),
        "loop.yaml" => Some("{% import_yaml 'loop.yaml' as x %}"),
        _ => None,
    }
    .map(str::to_owned))
}

fn context() -> Context {
    let vars = map! { "tag" => "t/x", "data" => map! { "id" => "m1", "args" => vec!["ls", "/tmp"] } };
    Context { vars, functions: Some(Arc::new(Echo)), loader: Some(Arc::new(files)), repairs: Repairs::Off, now: None }
}

fn check(text: &str, expected: &str) {
    assert_eq!(render(text, "t", &context()).map(|rendered| rendered.text), Ok(expected.to_owned()), "{text}");
}

fn refused(text: &str, expected: &str) {
    assert_eq!(render(text, "t", &context()).unwrap_err().to_string(), expected, "{text}");
}

#[test]
fn salts_filters_work() {
    check("{{ data | json }}", r#"{"args": ["ls", "/tmp"], "id": "m1"}"#);
    check("{{ data | json | yaml_dquote }}", r#""{\"args\": [\"ls\", \"/tmp\"], \"id\": \"m1\"}""#);
    check("{{ data | yaml }}", "{id: m1, args: [ls, /tmp]}");
    check("{{ data | yaml(false) }}", "id: m1\nargs:\n- ls\n- /tmp");
    check(
        "{{ 'it\\'s' | yaml_squote }} {{ 'x' | yaml_encode }} {{ 5 | yaml_encode }} {{ none | yaml_encode }}",
        "'it''s' \"x\" 5 null",
    );
    check("{{ 'yes' | to_bool }} {{ 'no' | to_bool }} {{ 1 | to_bool }} {{ none | to_bool }}", "True False True False");
    check("{{ 'a b' | quote }} {{ 'ab' | quote }}", "'a b' ab");
    check(
        "{{ 'web12' | regex_match('web(\\d+)') }} {{ 'xweb12' | regex_match('web') }} {{ 'xweb1' | regex_search('web(.)') }}",
        "('12',) None ('1',)",
    );
    check("{{ 'a1b2' | regex_replace('([a-z])(\\d)', '\\\\2\\\\1') }}", "1a2b");
    check(
        "{{ [1,2] | union([2,3]) }}{{ [1,2] | intersect([2,3]) }}{{ [1,2] | difference([2,3]) }}{{ [1,2] | symmetric_difference([2,3]) }}",
        "[1, 2, 3][2][1][1, 3]",
    );
    check(
        "{{ [1,[2,[3]]] | flatten }} {{ 'x' | sequence }} {{ [1] | is_list }} {{ 'x' | is_list }}",
        "[1, 2, 3] ['x'] True False",
    );
    check("{{ {'a': {'b': [7]}} | traverse('a:b:0') }} {{ '1.5' | to_num }} {{ [1,2,3] | avg }}", "7 1.5 2.0");
    check("{{ '{a: 1}' | load_yaml }} {{ 'hi' | base64_encode }} {{ 'aGk=' | base64_decode }}", "{'a': 1} aGk= hi");
}

#[test]
fn salts_tags_and_functions_work() {
    check("{% import_yaml 'map.yaml' as m %}{{ m.a }} {{ m.b }}", "t/x [1, True]");
    check("{% import_json 'salt://map.json' as m with context %}{{ m }}", "{'a': 1}");
    check("{% import_text 'inc.jinja' as m %}{{ m }}", "included t/x");
    check("{% load_yaml as m %}\na: 1\nb: [{{ tag }}]\n{% endload %}{{ m }}", "{'a': 1, 'b': ['t/x']}");
    check("{% from 'lib.jinja' import hi, y with context %}{{ hi('x') }}{{ y }}", "hi x5");
    check("{% import 'lib.jinja' as lib %}{{ lib.hi(1) }}", "hi 1");
    check("{% include 'inc.jinja' %}", "included t/x");
    check("{% include 'none.jinja' ignore missing %}ok", "ok");
    check("{{ salt['test.echo']('x') }} {{ salt.test.echo([1]) }} {{ salt['test.kwarg'](a=1) }}", "x [1] {'a': 1}");
    refused("\n{{ salt['no.fn']() }}", "Jinja error: no.fn: no such function; line 2 (t)");
    refused("{{ raise('broken') }}", "Jinja error: broken; line 1 (t)");
    check("{% do data.args.append('x') %}{{ data['args'] }}", "['ls', '/tmp', 'x']");
}

#[test]
fn failures_name_file_and_line() {
    refused("a\n\n{{ data.user }}", "Jinja variable 'dict object' has no attribute 'user'; line 3 (t)");
    refused("{{ data['user'].x }}", "Jinja variable 'dict object' has no attribute 'user'; line 1 (t)");
    refused("{{ nope }}", "Jinja variable 'nope' is undefined; line 1 (t)");
    refused("{{ nope() }}", "Jinja variable 'nope' is undefined; line 1 (t)");
    refused("{{ data.args[7] }}", "Jinja variable list object has no element 7; line 1 (t)");
    refused("{{ data.keys()[0] }}", "Jinja variable dict_keys object has no element 0; line 1 (t)");
    refused("{{ data.id.nope() }}", "Jinja variable 'str object' has no attribute 'nope'; line 1 (t)");
    refused("\n{% include 'bad.jinja' %}", "Jinja variable 'nope' is undefined; line 2 (bad.jinja)");
    refused("{{ 'x' | nofilter }}", "Jinja syntax error: no filter named 'nofilter'; line 1 (t)");
    refused("\n\n{{ 1 + }}", "Jinja syntax error: a tag that is not understood; line 3 (t)");
    assert!(render("\n{% if x %}", "t", &context()).unwrap_err().message.starts_with("Jinja syntax error"));
}

#[test]
fn views_can_be_indexed_only_as_a_repair() {
    let context = Context { repairs: Repairs::On, ..context() };
    let rendered = render("x\na: {{ data.keys()[0] }}\nb: {{ data.values()[-1][0] }}\n", "t", &context).unwrap();
    assert_eq!(rendered.text, "x\na: id\nb: ls\n");
    let shown: Vec<String> = rendered.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "t:2: keys() cannot be indexed; write it as: a: {{ (data.keys() | list)[0] }}",
            "t:3: values() cannot be indexed; write it as: b: {{ (data.values() | list)[-1][0] }}",
        ]
    );
}

#[test]
fn nothing_runs_away() {
    let fails = |text: &str| assert!(render(text, "t", &context()).is_err(), "{text}");
    let doubling =
        "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(64) %}{% set ns.x = OP %}{% endfor %}";
    for op in [
        "ns.x ~ ns.x",
        "ns.x + ns.x",
        "ns.x * 2",
        "ns.x | replace('a', 'aa')",
        "ns.x.replace('a', 'aa')",
        "ns.x | join(ns.x)",
        "'%s%s' % (ns.x, ns.x)",
        "'{0}{0}'.format(ns.x)",
        "ns.x | regex_replace('a', 'aa')",
    ] {
        fails(&doubling.replace("OP", op));
    }
    let lists = "{% set ns = namespace(x=[1, 2]) %}{% for i in range(100000) %}{% set ns.x = OP %}{% endfor %}";
    for op in [
        "[ns.x]",
        "(ns.x, 1)",
        "{'a': ns.x}",
        "ns.x + ns.x",
        "ns.x * 2",
        "ns.x, 1",
        "[ns]",
        "ns",
        "dict(a=ns.x)",
        "namespace(x=ns.x)",
        "cycler(ns.x)",
    ] {
        fails(&lists.replace("OP", op));
    }
    fails("{% set a = [] %}{% do a.append(a) %}");
    fails("{% set a = {} %}{{ a[a] }}");
    fails("{% set a = {} %}{{ a[(a, 1)] }}");
    fails("{% set a = [1] %}{% set b = [a] %}{{ a.index(b) }}");
    check("{% set a = [[1]] %}{% set b = [a] %}{{ a == b }}{{ a in b }}{{ b.index(a) }}", "FalseTrue0");
    fails("{% set a = {} %}{% set b = [a] %}{% do a.update(x=b) %}");
    fails(
        "{% set l = [] %}{% for i in range(1000) %}{% do l.append([]) %}{% endfor %}{% for i in range(999) %}{% do l[i].append(l[i + 1]) %}{% endfor %}",
    );
    fails("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}");
    fails("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}");
    fails(
        "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(x='abcdefgh') %}{% for i in range(99) %}{% set ns.x = f(ns.x) %}{% endfor %}",
    );
    fails("{% include 'loop.jinja' %}");
    fails("{% import_yaml 'loop.yaml' as x %}");
    fails("{{ 'x'.ljust(100000000000) }}");
    fails("{{ '%1000000000d' % 1 }}");
    fails("{{ '{:>1000000000}'.format(1) }}");
    fails("{{ [1] | batch(1000000000, 'x') | list }}");
    fails("{{ 'a\nb' | indent(1000000000) }}");
    let _ = render("{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' | regex_match('(a+)+(?=b)$') }}", "t", &context());
    fails(&format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "text ".repeat(1_000)));
    fails(&format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000)));
    fails(&format!("{{{{ {}1 }}}}", "-".repeat(5_000)));
    fails(&format!("{{{{ {}1 }}}}", "not ".repeat(5_000)));
    fails(&"{% if true %}".repeat(5_000));
}

proptest! {
    #[test]
    fn any_template_gives_an_answer(text in r"(\{\{|\}\}|\{%|%\}|\{#|#\}| (set|for|in|if|else|endif|endfor|do|raw|load_yaml as|endload|import_yaml|macro|data|x|is|not|or) |[\[\](){}|.,:=+*~%'\x22 0-9a-z\n-]){0,30}") {
        let _ = render(&text, "t", &context());
    }
}
