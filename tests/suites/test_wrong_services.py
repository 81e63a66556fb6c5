"""The suites find services that are wrong: the tests that are to fail do, and the others pass."""

import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from subprocess import run
from types import ModuleType

import pytest

from suites.wrong_bases import WrongBlobs, WrongDirectories, WrongPathInfos

HERE = Path(__file__).parent
PLUGIN = "tvix_store.testing.pytest_plugin"
MODULES = [
    "wrong_blob_services",
    "wrong_blob_streams",
    "wrong_blob_upkeep",
    "wrong_directory_services",
    "wrong_directory_trees",
    "wrong_path_info_services",
]

CASES = [
    pytest.param(module, name, id=f"{module}-{name}")
    for module in MODULES
    for name in vars(import_module(f"suites.{module}"))
    if name.startswith("Test")
]

DEPENDS_ON_TIMING = {
    "test_a_cancelled_close_leaves_all_or_nothing",
    "test_a_cancelled_put_many_leaves_only_whole_blobs",
    "test_cancelled_put_many_leaves_only_whole_directories",
    "test_cancelled_put_many_leaves_only_whole_path_infos",
}
"""How far a service gets before it is cancelled is not the same in every version of Python."""

KEPT_BY_CORE = {
    "test_damaged_blob_is_never_read_to_its_end",
    "test_damaged_blob_is_not_in_a_batch",
    "test_damaged_directory_is_never_returned",
    "test_damaged_directory_is_not_in_a_batch",
    "test_damaged_path_info_is_never_returned",
    "test_digest_of_another_length_is_invalid",
}
"""Whatever the service does. They fail when core is broken, which the tests of `tvix_store.checked` look after."""

Outcomes = dict[tuple[str, str], tuple[set[str], int]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Module and class to the names of the tests that failed, and how many were run. All from one run of pytest."""
    report = tmp_path_factory.mktemp("wrong") / "report.xml"
    installed = any(point.value == PLUGIN for point in entry_points(group="pytest11"))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "-p", "no:cacheprovider", f"--junitxml={report}"]
    command += [] if installed else ["-p", PLUGIN]
    result = run(
        [*command, *(str(HERE / f"{module}.py") for module in MODULES)],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == pytest.ExitCode.TESTS_FAILED, result.stdout[-2000:] + result.stderr[-2000:]
    failed: dict[tuple[str, str], set[str]] = defaultdict(set)
    n_run: dict[tuple[str, str], int] = defaultdict(int)
    for case in ElementTree.parse(report).iter("testcase"):
        module, name = case.attrib["classname"].split(".")[-2:]
        n_run[module, name] += 1
        assert case.find("skipped") is None
        if case.find("failure") is not None or case.find("error") is not None:
            failed[module, name].add(case.attrib["name"].partition("[")[0])
    return {key: (failed[key], n_run[key]) for key in n_run}


@pytest.mark.parametrize(("module", "name"), CASES)
def test_wrong_service_fails_the_tests_it_has_to(outcomes: Outcomes, module: str, name: str) -> None:
    failed, n_run = outcomes[module, name]
    loaded: ModuleType = import_module(f"suites.{module}")
    assert failed - DEPENDS_ON_TIMING == getattr(loaded, name).breaks
    assert n_run > 40


@pytest.mark.parametrize("base", [WrongBlobs, WrongDirectories, WrongPathInfos])
def test_every_promise_is_broken_by_some_wrong_service(outcomes: Outcomes, base: type) -> None:
    """A test that nothing makes fail may test nothing."""
    promises = {name for name in dir(base) if name.startswith("test_")}
    broken: set[str] = set()
    for (module, name), (failed, _) in outcomes.items():
        if issubclass(getattr(import_module(f"suites.{module}"), name), base):
            broken |= failed
    assert promises - broken <= KEPT_BY_CORE
