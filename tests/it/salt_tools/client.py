"""What scripts do with Salt's Python client, against the master that the configuration names. Prints one JSON document.

usage: client.py CONFDIR
"""

import json
import sys

import salt.client
import salt.config
import salt.utils.event

confdir = sys.argv[1]
path = confdir + "/master"
local = salt.client.LocalClient(c_path=path)
found = {}

found["cmd"] = local.cmd("*", "test.ping")
found["grain"] = local.cmd("kernel:Linux", "test.ping", tgt_type="grain")
found["arg"] = local.cmd("m1", "test.arg", ["a b", 7], kwarg={"k": [1, None]})
found["nobody"] = local.cmd("nosuch", "test.ping", timeout=1)

jid = local.cmd_async("*", "test.ping")
found["async_is_a_jid"] = len(jid) == 20 and jid.isdigit()
found["async_returns"] = sorted(
    name for part in local.get_iter_returns(jid, {"m1", "m2"}, timeout=20) if part for name in part
)
found["iter"] = sorted(name for part in local.cmd_iter("*", "test.ping") if part for name in part)
job = local.run_job("*", "test.ping")
found["run_job"] = {"jid": len(job["jid"]), "minions": sorted(job["minions"])}
found["cache"] = sorted(local.get_cache_returns(jid))

opts = salt.config.client_config(path)
event = salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True)
event.fire_event({"n": 7, "raw": b"\x01\xff", "text": "ü"}, "my/script/tag")
seen = event.get_event(wait=20, tag="my/script/", full=True)
found["event"] = {
    "tag": seen["tag"],
    "n": seen["data"]["n"],
    "raw": list(seen["data"]["raw"]),
    "text": seen["data"]["text"],
    "stamped": "_stamp" in seen["data"],
}
for number in range(24):
    event.fire_event({"n": number}, "my/storm")
local.cmd_async("m1", "test.ping")
found["job_event"] = event.get_event(wait=20, tag="salt/job", full=True)["tag"].split("/")[3]
event.destroy()

print(json.dumps(found))
