"""Answers each snippet of the corpus with what the real PyYAML and Jinja2 make of it."""
import json
import sys

import jinja2
import yaml

class Loader(yaml.CSafeLoader):
    """PyYAML with Salt's changes that matter here: no timestamps, no duplicate keys, no octal numbers."""

    def construct_mapping(self, node, deep=False):
        self.flatten_mapping(node)
        own = [key.value for key, _ in node.value]
        mapping = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=deep)
            if isinstance(key, (list, dict, set)):
                raise yaml.YAMLError("unacceptable key")
            if key in mapping and key_node.value in self.literal:
                raise yaml.YAMLError("duplicate")
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping

    def flatten_mapping(self, node):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        self.literal = {key for key in keys if isinstance(key, str) and keys.count(key) > 1}
        super().flatten_mapping(node)


def whole_number(self, node):
    """Salt's loader: leading zeros mean nothing."""
    if node.value[0] == "0" and node.value[:2] not in ("0b", "0x"):
        node.value = node.value.lstrip("0") or "0"
    return self.construct_yaml_int(node)


Loader.add_constructor("tag:yaml.org,2002:int", whole_number)
Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda self, node: self.construct_scalar(node))
Loader.add_constructor("tag:yaml.org,2002:set", lambda self, node: list(self.construct_mapping(node, deep=True)))
Loader.add_constructor("tag:yaml.org,2002:map", lambda self, node: self.construct_mapping(node, deep=True))


def pairs(self, node):
    return [[self.construct_object(k, deep=True), self.construct_object(v, deep=True)] for m in node.value for k, v in m.value]


Loader.add_constructor("tag:yaml.org,2002:omap", pairs)
Loader.add_constructor("tag:yaml.org,2002:pairs", pairs)

env = jinja2.Environment(
    undefined=jinja2.StrictUndefined, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], keep_trailing_newline=True
)

# Salt's own filter keeps the order of the keys.
env.policies["json.dumps_kwargs"] = {}


def answer(kind, text, context):
    try:
        if kind == "yaml":
            return repr(yaml.load(text, Loader))
        if kind == "dump":
            return yaml.safe_dump(json.loads(text), default_flow_style=False, allow_unicode=True, sort_keys=False)
        return env.from_string(text).render(context)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


request = json.load(sys.stdin)
answers = [answer(kind, text, json.loads(request["context"])) for kind, text in request["snippets"]]
json.dump(answers, sys.stdout)
