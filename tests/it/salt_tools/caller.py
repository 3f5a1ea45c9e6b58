"""What scripts on a Salt minion's host do: `salt.client.Caller`, and a listener on the master that hears of it. Prints one
JSON document.

usage: caller.py MASTER_CONFDIR MINION_CONFDIR
"""

import fnmatch
import json
import sys

import salt.client
import salt.config
import salt.utils.event
import salt.version

master, minion = sys.argv[1:]
found = {}

opts = salt.config.client_config(master + "/master")
forms = {"sock_dir": opts["sock_dir"], "opts": opts}
if salt.version.__saltstack_version__.major < 3007:
    # Later libraries no longer take it.
    forms["transport"] = opts["transport"]
event = salt.utils.event.get_event("master", listen=True, **forms)

caller = salt.client.Caller(minion + "/minion")
found["ping"] = caller.cmd("test.ping")

event.fire_event({"n": 8}, "my/script/done")
while True:
    ret = event.get_event(wait=20, full=True)
    if ret is None or fnmatch.fnmatch(ret["tag"], "my/*/done"):
        found["matched"] = ret and ret["data"]["n"]
        break

event.destroy()
print(json.dumps(found))
