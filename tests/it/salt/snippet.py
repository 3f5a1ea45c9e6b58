"""Runs a snippet as a user would, with /etc/salt somewhere else, and prints what it saw as one JSON document:
{"seen": NAME, "value": ...}, or {"raised": TYPE, "text": ...}.

usage: snippet.py FILE NAME ETC SEEN [WITHOUT]

ETC takes the place of /etc/salt. The run ends when the name SEEN is bound to something or called, which endless loops
never do by themselves. WITHOUT is a text that is left out of the snippet.
"""

import json
import os
import sys

path, name, etc, seen = sys.argv[1:5]
without = sys.argv[5] if len(sys.argv) > 5 else None

# Where a script finds its configuration if it does not say.
import salt.syspaths

salt.syspaths.CONFIG_DIR = etc


def read():
    """Returns the snippets by their names."""
    found = {}
    with open(path) as file:
        for part in file.read().split("\n== ")[1:]:
            title, _, code = part.partition("\n")
            title, _, other = title.partition(" after ")
            if other:
                code = found[other].strip().rsplit("\n", 1)[0] + "\n" + code
            found[title] = code
    return found


class Done(Exception):
    pass


class Names(dict):
    """The names of a snippet: the run ends when the one that is waited for is bound."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        if key == seen and value is not None:
            raise Done(value)


def called(value):
    raise Done(value)


code = read()[name].replace("/etc/salt", etc)
if without:
    assert without in code
    code = code.replace(without, "")
names = Names()
if seen in ("print", "do_something_with_job_return"):
    names.update({seen: called})
try:
    exec(compile(code, name, "exec"), {"__name__": "__main__"}, names)
    answer = {"ended": True}
except Done as done:
    answer = {"seen": seen, "value": done.args[0]}
except Exception as error:
    answer = {"raised": type(error).__name__, "text": str(error)}
sys.stdout.write(json.dumps(answer, default=repr) + "\n")
sys.stdout.flush()
os._exit(0)
