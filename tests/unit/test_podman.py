"""What podman's containers are refused for, before anything is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from criu_lazy_ext.engines import podman
from criu_lazy_ext.engines.engine import Found
from criu_lazy_ext.profile import Container

PLAIN: dict[str, Any] = {
    "HostConfig": {"NetworkMode": "bridge", "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}},
    "Mounts": [{"Type": "volume", "Name": "data", "Driver": "local"}],
    "NetworkSettings": {"Networks": {}},
}


def obstacles(runtime: str = "crun", **changed: Any) -> list[str]:
    found = Found(1, Path("/"), Path("/"), PLAIN | changed, runtime)
    return podman.engine(Container("podman", "box")).obstacles(found)


def test_each_obstacle_is_told() -> None:
    assert obstacles() == []
    told = obstacles(
        "kata",
        HostConfig={"NetworkMode": "container:12ab"},
        Mounts=[{"Type": "volume", "Name": "far", "Driver": "nfs"}],
        Pod="34cd",
    )
    for problem, word in zip(told, ("is run by kata", "network 'container:12ab'", "driver nfs", "pod"), strict=True):
        assert word in problem


@pytest.mark.parametrize(
    ("policy", "kept"),
    [({"Name": "", "MaximumRetryCount": 0}, "no"), ({"Name": "always", "MaximumRetryCount": 0}, "always"),
        ({"Name": "on-failure", "MaximumRetryCount": 3}, "on-failure:3")],
)  # fmt: skip
def test_the_restart_policy_is_kept_as_podman_takes_it(policy: dict[str, Any], kept: str) -> None:
    found = Found(1, Path("/"), Path("/"), PLAIN | {"HostConfig": {"RestartPolicy": policy}})
    assert podman.engine(Container("podman", "box")).kept(found) == {"restart": kept}
