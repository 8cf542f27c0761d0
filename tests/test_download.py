"""Downloads from a real server on this machine: cut off, continued, changed meanwhile, damaged; and unpacking."""

from __future__ import annotations

import collections
import hashlib
import json
import re
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from slr_lib import download
from slr_lib.errors import InputError

PIECE = download._PIECE
TABLE = b"attachment_id\ttext\n"


class Server(ThreadingHTTPServer):
    """Serves `files` (name -> bytes); `requests` lists (name, Range, status, bytes sent)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.requests = {}, []
        self.ranges = self.validates = self.heeds = self.sizes = True
        self.cut = None  # bytes after which the next answers break off, one number each
        self.status = []  # statuses of the next answers

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, name = self.server, self.path.lstrip("/")
        content = server.files.get(name)
        asked = self.headers.get("Range")
        if server.status or content is None:
            status = server.status.pop(0) if server.status else 404
            server.requests.append((name, asked, status, 0))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        start = 0
        same = not (server.validates and server.heeds) or self.headers.get("If-Range", tag) == tag
        if asked and server.ranges and same:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        status = 206 if start else 200
        if start >= len(content):
            status = 416
        self.send_response(status)
        if server.validates:
            self.send_header("ETag", tag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(content)}")
            content = b""
        body = content[start:] if status != 416 else b""
        if server.sizes:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        cut = server.cut.pop(0) if server.cut else None
        sent = body if cut is None else body[:cut]
        server.requests.append((name, asked, status, len(sent)))
        self.end_headers()
        self.wfile.write(sent)
        if cut is not None or not server.sizes:
            self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data_sets").mkdir()
    (tmp_path / "data_sets" / "slovo.yaml").write_text(
        "{title: Slovo, kind: videos, path: data/slovo/corpus, class_counts: [2]}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


CLIPS = {"slovo/annotations.csv": TABLE, "slovo/train/a.mp4": noise(300_000), "slovo/test/b.mp4": noise(200_000, 1)}


def pack(path, members=CLIPS) -> bytes:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path.read_bytes()


def test_a_file_comes_whole(server, tmp_path):
    server.files["x"] = noise(3_000_000)
    download.fetch(server.url + "x", tmp_path / "deep" / "x")
    assert (tmp_path / "deep" / "x").read_bytes() == server.files["x"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x"], "partial files are gone"


def test_a_lost_connection_is_continued_where_it_broke(server, tmp_path):
    server.files["x"], server.cut = noise(3_000_000), [1_200_000, 0, 500_000]
    download.fetch(server.url + "x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == server.files["x"]
    starts = [int(asked[6:-1]) if asked else 0 for _, asked, _, _ in server.requests]
    pieces = [place // PIECE * PIECE for place in (1_200_000, 1_200_000 // PIECE * PIECE + 500_000)]
    assert starts == [0, pieces[0], pieces[0], pieces[1]]


def test_a_connection_that_stays_lost_keeps_what_came_and_the_next_run_goes_on(server, tmp_path):
    server.files["x"], server.cut = noise(1_000_000), [400_000] + [0] * 20
    with pytest.raises(InputError, match=f"{6 * PIECE} bytes are kept, run the command again"):
        download.fetch(server.url + "x", tmp_path / "x")
    assert (tmp_path / "x.part").stat().st_size == 6 * PIECE and not (tmp_path / "x").exists()
    server.cut = None
    server.requests.clear()
    download.fetch(server.url + "x", tmp_path / "x")
    assert server.requests == [("x", f"bytes={6 * PIECE}-", 206, 1_000_000 - 6 * PIECE)]
    assert (tmp_path / "x").read_bytes() == server.files["x"]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.files["x"], server.cut, server.ranges = noise(1_000_000), [400_000], False
    download.fetch(server.url + "x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == server.files["x"]
    assert [status for _, _, status, _ in server.requests] == [200, 200]


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize("size", [800_000, 1_000_000, 300_000])
def test_a_file_that_changed_meanwhile_is_begun_anew(server, tmp_path, validates, size):
    server.files["x"], server.cut, server.validates = noise(1_000_000), [400_000] + [0] * 9, validates
    with pytest.raises(InputError):
        download.fetch(server.url + "x", tmp_path / "x")
    server.files["x"], server.cut = noise(size, 7), None
    if validates or size != 1_000_000:  # of the same size and without a validator nothing tells; a zip's CRC does
        download.fetch(server.url + "x", tmp_path / "x")
        assert (tmp_path / "x").read_bytes() == server.files["x"]


def test_a_server_that_ignores_if_range_is_seen_through(server, tmp_path):
    server.files["x"], server.cut = noise(1_000_000), [400_000] + [0] * 9
    with pytest.raises(InputError):
        download.fetch(server.url + "x", tmp_path / "x")
    server.files["x"], server.cut, server.heeds = noise(1_000_000, 7), None, False
    download.fetch(server.url + "x", tmp_path / "x")
    assert [status for _, _, status, _ in server.requests[-2:]] == [206, 200]
    assert (tmp_path / "x").read_bytes() == server.files["x"]


def test_a_run_killed_after_the_last_byte_asks_for_no_more(server, tmp_path):
    server.files["x"], server.cut = noise(1_000_000), [400_000] + [0] * 9
    with pytest.raises(InputError):
        download.fetch(server.url + "x", tmp_path / "x")
    (tmp_path / "x.part").write_bytes(server.files["x"])
    download.fetch(server.url + "x", tmp_path / "x")
    assert server.requests[-1][1:3] == ("bytes=1000000-", 416) and (tmp_path / "x").read_bytes() == server.files["x"]


def test_a_server_that_does_not_say_the_size(server, tmp_path):
    server.files["x"], server.sizes = noise(1_000_000), False
    download.fetch(server.url + "x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == server.files["x"]


def test_a_busy_server_is_asked_again_and_a_refusal_is_one_sentence(server, tmp_path):
    server.files["x"], server.status = noise(1000), [503, 429]
    download.fetch(server.url + "x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == server.files["x"]
    with pytest.raises(InputError, match=r"nothing: the server answers 404 .*--base-url"):
        download.fetch(server.url + "nothing", tmp_path / "y")
    with pytest.raises(InputError, match="connection fails"):
        download.fetch("http://127.0.0.1:9/x", tmp_path / "z")
    with pytest.raises(InputError, match="--base-url"):
        download.fetch("no address", tmp_path / "z")


def test_a_disk_too_small_is_told_before_a_byte_is_kept(server, tmp_path, monkeypatch):
    server.files["x"] = noise(1_000_000)
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(10, 9, 1_900_000))
    with pytest.raises(InputError, match=r"0\.0 GB are needed for .*make room"):
        download.fetch(server.url + "x", tmp_path / "x", extra_space=1.0)
    assert (tmp_path / "x.part").stat().st_size == 0
    download.fetch(server.url + "x", tmp_path / "x", extra_space=0.5)
    assert (tmp_path / "x").is_file()


def test_two_downloads_of_one_file_do_not_meet(server, tmp_path):
    server.files["x"] = noise(1000)
    with download._locked(tmp_path / "x.part"), pytest.raises(InputError, match="another download"):
        download.fetch(server.url + "x", tmp_path / "x")


def test_slovo_arrives_checked_recorded_and_unpacked_once(server, project, capsys):
    server.files["slovo.zip"] = content = pack(project / "made.zip")
    server.cut = [300_000]
    command = ["slovo", "--base-url", server.url]
    assert download.main(command) == 0, capsys.readouterr().err
    folder = project / "data" / "slovo"
    digest = hashlib.sha256(content).hexdigest()
    assert digest in capsys.readouterr().out
    assert (folder / "slovo.zip.sha256").read_text() == f"{digest}  slovo.zip\n"
    record = json.loads((folder / "slovo.zip.json").read_text())
    assert record["sha256"] == digest and record["bytes"] == len(content) and record["url"] == server.url + "slovo.zip"
    corpus = {path.relative_to(folder / "corpus").as_posix(): path.read_bytes()
              for path in (folder / "corpus").rglob("*") if path.is_file()}
    assert corpus == {name.removeprefix("slovo/"): content for name, content in CLIPS.items()}
    (folder / "slovo.zip").unlink()
    server.requests.clear()
    assert download.main(command) == 0 and "unpacked already" in capsys.readouterr().out
    assert server.requests == []


@pytest.mark.parametrize(
    "names",
    [
        ("annotations.csv", "train/a.mp4", "test/b.mp4"),
        ("annotations.csv", "slovo/train/a.mp4", "slovo/test/b.mp4"),
        ("x/y/annotations.csv", "x/y/train/a.mp4", "x/y/test/b.mp4"),
    ],
)
def test_the_table_lies_where_it_will(project, names):
    extra = {"__MACOSX/train/._a.mp4": b"x", "slovo/.DS_Store": b"x"}
    pack(project / "s.zip", dict(zip(names, (TABLE, b"1", b"2"))) | extra)
    assert download.unpack(project / "s.zip", project / "out") == 3
    out = project / "out"
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["annotations.csv", "test/b.mp4", "train/a.mp4"]


def test_the_table_may_lie_beside_the_archive(server, project, capsys):
    server.files["slovo.zip"] = pack(project / "made.zip", {"slovo/train/a.mp4": b"1", "slovo/test/b.mp4": b"2"})
    command = ["slovo", "--base-url", server.url]
    assert download.main(command) == 1
    assert "hukenovs/slovo" in (said := capsys.readouterr().err) and said.count("\n") == 1
    server.files["annotations.csv"] = TABLE
    assert download.main(command) == 0
    assert (project / "data" / "slovo" / "corpus" / "annotations.csv").read_bytes() == TABLE
    assert [name for name, _, status, _ in server.requests if status == 200] == ["slovo.zip", "annotations.csv"]


def test_a_damaged_member_is_named_and_the_sound_ones_stay(server, project, capsys):
    content = bytearray(pack(project / "made.zip"))
    content[content.index(CLIPS["slovo/train/a.mp4"][:50]) + 1000] ^= 1
    server.files["slovo.zip"] = bytes(content)
    command = ["slovo", "--base-url", server.url]
    assert download.main(command) == 1
    said = capsys.readouterr().err
    assert "1 of its 3 members are damaged" in said and "slovo/train/a.mp4" in said and "delete" in said
    corpus = project / "data" / "slovo" / "corpus"
    assert (corpus / "test" / "b.mp4").is_file() and not list((corpus / "train").iterdir())
    before = (corpus / "test" / "b.mp4").stat().st_mtime_ns
    server.files["slovo.zip"] = pack(project / "made.zip")
    (project / "data" / "slovo" / "slovo.zip").unlink()
    assert download.main(command) == 0
    assert (corpus / "train" / "a.mp4").read_bytes() == CLIPS["slovo/train/a.mp4"]
    assert (corpus / "test" / "b.mp4").stat().st_mtime_ns == before, "a sound file was unpacked again"


def test_a_changed_file_of_the_right_size_is_unpacked_again(project):
    pack(project / "s.zip")
    download.unpack(project / "s.zip", project / "out")
    (project / "out" / "train" / "a.mp4").write_bytes(noise(300_000, 5))
    download.unpack(project / "s.zip", project / "out")
    assert (project / "out" / "train" / "a.mp4").read_bytes() == CLIPS["slovo/train/a.mp4"]


def test_what_is_no_zip_is_one_sentence(project):
    (project / "s.zip").write_bytes(pack(project / "made.zip")[:400_000])
    with pytest.raises(InputError, match=r"s\.zip is no sound zip archive .*delete"):
        download.unpack(project / "s.zip", project / "out")


@pytest.mark.parametrize("name", ["../evil.mp4", "/evil.mp4", "slovo/train/../../../evil.mp4", "..\\evil.mp4"])
def test_a_member_that_would_leave_the_folder_stops_all(project, name):
    pack(project / "s.zip", {**CLIPS, name: b"evil"})
    with pytest.raises(InputError, match="would leave the folder"):
        download.unpack(project / "s.zip", project / "out")
    assert not (project / "out").exists()


def test_a_link_in_the_archive_stops_all(project):
    with zipfile.ZipFile(project / "s.zip", "w") as packed:
        info = zipfile.ZipInfo("slovo/train")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/tmp")
    with pytest.raises(InputError, match="would leave the folder"):
        download.unpack(project / "s.zip", project / "out")


def test_a_disk_too_small_to_unpack_is_told_before(project, monkeypatch):
    pack(project / "s.zip")
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(10, 9, 400_000))
    with pytest.raises(InputError, match=r"to unpack s\.zip"):
        download.unpack(project / "s.zip", project / "out")
    assert not (project / "out").exists()


def test_the_address_is_the_authors():
    assert download.BASE_URLS["slovo"].startswith("https://") and download.BASE_URLS["slovo"].endswith("/slovo/")
