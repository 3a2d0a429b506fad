"""What a container must show of files and folders that hold links."""

from pathlib import Path

from hpcbench.runtime import command


def shown(*paths: Path) -> dict[str, str]:
    """What is shown, by the path at which it is."""
    return {str(named): str(real) for real, named in command.linked_paths(paths)}


def test_a_file_is_shown_alone(tmp_path: Path) -> None:
    file = tmp_path / "events.json"
    file.write_text("{}")
    assert shown(file) == {str(file): str(file)}


def test_links_out_of_a_folder_bring_what_they_lead_to(tmp_path: Path) -> None:
    folder, store = tmp_path / "events", tmp_path / "store"
    for each in (folder, store):
        each.mkdir()
    (store / "pf_mask").write_bytes(b"1")
    (folder / "pf_mask").symlink_to("../store/pf_mask")
    assert shown(folder) == {
        str(folder): str(folder),
        str(store / "pf_mask"): str(store / "pf_mask"),
    }


def test_what_a_link_leads_to_within_its_folder_is_not_shown_again(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "same").symlink_to("one")
    assert shown(tmp_path) == {str(tmp_path): str(tmp_path)}
