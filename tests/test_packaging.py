"""What is in the repository is in the package, and what the package asks for exists."""

import importlib.metadata
import itertools
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

import recurra

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = CONFIG["tool"]["setuptools"]
ROOMS = ("kernels", "memory", "agents", "envs", "benchmarks", "recipes")
RECORDS = ROOT / "benchmarks" / "results"  # what was measured is for the repository's readers


def folder(package):
    return ROOT.joinpath(*package.split(".")[1:])


def files():
    """List the rooms' files, but records and what Python leaves behind."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return [path for path in found if RECORDS not in path.parents]


def test_every_folder_with_python_files_is_listed_and_is_a_package():
    found = {path.parent for path in files() if path.suffix == ".py"}
    names = {".".join(("recurra", *path.relative_to(ROOT).parts)) for path in found}
    assert SETUPTOOLS["packages"] == sorted({"recurra", *names})
    assert all((path / "__init__.py").is_file() for path in found)
    assert SETUPTOOLS["package-dir"] == {"recurra": "."}


def test_every_other_file_is_shipped():
    data = SETUPTOOLS["package-data"]
    assert "py.typed" in data["recurra"]
    assert (ROOT / "py.typed").is_file()
    shipped = set()
    for package, patterns in data.items():
        for pattern in patterns:
            found = set(folder(package).glob(pattern))
            assert found, f"{package} has no {pattern}"
            shipped |= found
    assert [path for path in files() if path.suffix != ".py" and path not in shipped] == []


def test_the_systems_are_those_that_lock_files():
    assert {"Operating System :: POSIX :: Linux", "Operating System :: MacOS"} <= set(CONFIG["project"]["classifiers"])


def test_rooms_that_do_not_import_each_other_are_held_apart():
    below = {"kernels": set(), "envs": set(), "memory": {"kernels"}, "agents": {"kernels", "memory"}}
    below |= {"benchmarks": below.keys() - {"recipes"}}
    apart = set()
    for contract in CONFIG["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            apart |= {(low, high) for high, low in itertools.combinations(contract["layers"], 2)}
        else:
            apart |= set(itertools.product(contract["source_modules"], contract["forbidden_modules"]))
    for room, may in below.items():
        assert {f"recurra.{other}" for other in ROOMS if other not in may | {room}} <= {
            other for source, other in apart if source == f"recurra.{room}"
        }
        assert (f"recurra.{room}", "lightning") in apart


def test_the_version_is_one():
    assert recurra.__version__ == CONFIG["project"]["version"]


def test_extras_name_extras_that_exist():
    extras = CONFIG["project"]["optional-dependencies"]
    for requirements in extras.values():
        for requirement in map(Requirement, requirements):
            if requirement.name == "recurra":
                assert requirement.extras <= extras.keys()


def test_what_is_installed_is_what_the_core_asks_for():
    for requirement in map(Requirement, CONFIG["project"]["dependencies"]):
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)


def test_the_command_is_there():
    for target in CONFIG["project"]["scripts"].values():
        module, name = target.split(":")
        assert re.search(rf"^def {name}\(", (folder(module).with_suffix(".py")).read_text(), re.MULTILINE)
