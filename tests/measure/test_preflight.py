"""What images say about themselves, and what is said about those that do not open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcbench.config.container import Container
from hpcbench.errors import UnusableNode
from hpcbench.measure import device, preflight
from hpcbench.measure.preflight import ImageContents
from hpcbench.runtime import images
from tests.helpers.builders import write_prefix
from tests.helpers.sif import write_sif


def test_nvidias_images_have_versions_in_variables_and_names_of_libraries() -> None:
    contents = preflight.parse_probe(
        "CUDA_VERSION=12.6.1.006\nTENSORRT_VERSION=\nTRT_VERSION=10.4.0.26\n"
        "backend=onnxruntime libonnxruntime.so.1.19.2 libtriton_onnxruntime.so \n"
        "backend=tensorrt libtriton_tensorrt.so \n"
        "backend=pytorch libtorch.so libtriton_pytorch.so \n"
        "backend=python triton_python_backend_stub \n"
        "Python 3.10.12\nmanifest=\n"
    )
    assert (contents.cuda, contents.tensorrt) == ("12.6.1.006", "10.4.0.26")
    assert contents.backends == {
        "onnxruntime": "1.19.2",
        "tensorrt": "10.4.0.26",
        "pytorch": None,
        "python": "3.10.12",
    }
    assert json.loads(contents.columns["backend_versions"])["pytorch"] is None


def test_our_own_images_have_them_in_the_manifest_of_their_prefix() -> None:
    manifest = {"versions": {"tritonserver": "2.51.0", "python": "3.13.5", "onnxruntime": "1.28.0"}}
    contents = preflight.parse_probe(
        "CUDA_VERSION=\nTENSORRT_VERSION=\nTRT_VERSION=\n"
        f"backend=python \nPython 3.13.5\nmanifest={json.dumps(manifest)}\n"
    )
    assert contents == ImageContents(None, None, {"python": "3.13.5", "onnxruntime": "1.28.0"})


def test_an_image_with_no_backends_where_they_usually_are_has_none() -> None:
    assert preflight.parse_probe("CUDA_VERSION=\nbackend=* \nmanifest=\n").backends == {}


def test_a_native_prefix_names_its_backends_too(tmp_path: Path) -> None:
    contents = preflight.check_images(Container(prefix=write_prefix(tmp_path)), gpus=False)
    assert contents == ImageContents(None, None, {"python": "3.11.7"})


@pytest.mark.parametrize(
    ("image", "driver", "usable"),
    [
        ("12.6.1.006", (12, 2), True),
        ("11.7.0", (12, 2), True),
        ("13.0.1", (12, 8), False),
        ("12.0", (11, 8), False),
        (None, (11, 8), True),
        ("13.0", None, True),
    ],
)
def test_a_driver_of_an_older_major_cuda_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    image: str | None,
    driver: tuple[int, int] | None,
    usable: bool,
) -> None:
    monkeypatch.setattr(device, "driver_cuda_version", lambda: driver)
    contents = ImageContents(image, None, {})
    preflight.check_driver(contents, gpus=False)
    if usable:
        preflight.check_driver(contents, gpus=True)
    else:
        with pytest.raises(
            UnusableNode, match=f"needs CUDA {image}, and the driver .* supports at most"
        ):
            preflight.check_driver(contents, gpus=True)


@pytest.mark.parametrize("name", ["server.sif", "sdk.sif"])
def test_an_image_that_is_not_the_drivers_makes_a_node_unusable(tmp_path: Path, name: str) -> None:
    server, sdk = (write_sif(tmp_path / each) for each in ("server.sif", "sdk.sif"))
    keys = {"runtime": "apptainer", "server_image": str(server), "sdk_image": str(sdk)}
    container = images.resolve_images(
        Container.model_validate({**keys, "cache": tmp_path / "cache"})
    )
    preflight.check_unchanged(container)
    write_sif(tmp_path / name, b"built again")
    with pytest.raises(UnusableNode, match=f"{name} is not the image that this run began with"):
        preflight.check_unchanged(container)
    (tmp_path / name).unlink()
    with pytest.raises(UnusableNode, match=f"{name} cannot be read on this node"):
        preflight.check_unchanged(container)
