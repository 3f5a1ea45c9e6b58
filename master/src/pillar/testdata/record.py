"""Records what a real Salt makes of each case: run with the Python of a virtualenv that has Salt.

    python record.py [CASE...]
"""

import json
import pathlib
import sys
import tempfile

import salt.config
import salt.pillar
import yaml

HERE = pathlib.Path(__file__).parent


def compile(case):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for path, text in case["files"].items():
            target = folder / "pillar" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        options = dict(case.get("options", {}))
        envs = sorted({path.split("/")[0] for path in case["files"]})
        roots = {env: [str(folder / "pillar" / env)] for env in envs}
        if options.pop("any_env", False):
            roots = {"base": roots["base"], "__env__": [str(folder / "pillar" / "__env__")]}
        options.update(
            root_dir=str(folder), pillar_roots=roots, file_roots={"base": []}, id="master", log_level="quiet"
        )
        config = folder / "master"
        config.write_text(yaml.safe_dump(options))
        opts = salt.config.master_config(str(config))
        request = case.get("request", {})
        grains = dict(case.get("grains", {}), id="m1")
        pillar = salt.pillar.Pillar(
            opts,
            grains,
            "m1",
            request.get("saltenv"),
            pillarenv=request.get("pillarenv"),
            pillar_override=request.get("pillar_override", {}),
        )
        return pillar.compile_pillar()


def main():
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("*.yaml"))
    for name in names:
        case = yaml.safe_load((HERE / f"{name}.yaml").read_text())
        pillar = compile(case)
        (HERE / f"{name}.json").write_text(json.dumps(pillar, indent=1, sort_keys=True) + "\n")
        print(name)


main()
