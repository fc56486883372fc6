"""The guard notices when PySyncObj is not the one whose inside it knows."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj

from rendezvous_raft.replication.raft import guard
from rendezvous_raft.replication.raft.guard import UnsuitableEngineError, check_pysyncobj


def test_the_pinned_version_passes() -> None:
    check_pysyncobj()
    assert pysyncobj.syncobj.VERSION == guard.PINNED_VERSION


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pysyncobj.syncobj, "VERSION", "0.3.18")
    with pytest.raises(UnsuitableEngineError, match=r"need pysyncobj 0\.3\.17, found 0\.3\.18"):
        check_pysyncobj()


@pytest.mark.parametrize("name", guard._METHODS)
def test_a_private_method_that_is_renamed_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(SyncObj, f"_SyncObj__{name}")
    with pytest.raises(UnsuitableEngineError, match=f"__{name} "):
        check_pysyncobj()


@pytest.mark.parametrize("name", guard._METHODS)
def test_a_private_method_with_other_parameters_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(SyncObj, f"_SyncObj__{name}", lambda self, one, two, three, four: None)
    with pytest.raises(UnsuitableEngineError, match=f"__{name} "):
        check_pysyncobj()


@pytest.mark.parametrize("name", guard._ATTRIBUTES.values())
def test_a_private_attribute_that_is_renamed_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = inspect.getsource(SyncObj.__init__)
    assert f"self.__{name} =" in source
    renamed = source.replace(f"self.__{name} =", f"self.__{name}New =")
    monkeypatch.setattr(inspect, "getsource", lambda _: renamed)
    with pytest.raises(UnsuitableEngineError, match=f"__{name}$"):
        check_pysyncobj()


def test_every_attribute_has_its_readable_name() -> None:
    for readable, private in guard._ATTRIBUTES.items():
        instance = SimpleNamespace(**{f"_SyncObj__{private}": "theirs"})
        attribute = vars(guard.GuardedSyncObj)[readable]
        assert attribute.fget(instance) == "theirs"
        attribute.fset(instance, "ours")
        assert vars(instance) == {f"_SyncObj__{private}": "ours"}
