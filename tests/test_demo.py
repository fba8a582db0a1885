"""The demo: what it takes, refuses, shows and leaves behind (nothing)."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import demo_tool
import pytest
from browser import browse
from conftest import REPOSITORY

from splathead.demo.jobs import Job, JobQueue, QueueFullError
from splathead.demo.server import DemoHandler, DemoSite, parse_options, upload_name
from splathead.web import Refused, Server

OWN = {"X-SplatHead": "1"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo") / "jobs"
    jobs = JobQueue(demo_tool.enhance, root, max_waiting=3, kept=2, limit_s=30)
    server = Server("127.0.0.1", 0, DemoHandler, DemoSite(jobs, 100_000))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    jobs.close()
    assert not root.exists()


def ask(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors="replace")


def finished(server: Server, key: str) -> dict:
    for _ in range(300):
        state = json.loads(ask(server, "GET", f"/jobs/{key}")[1])
        if state["state"] in ("done", "failed"):
            return state
    raise AssertionError(f"job not finished: {state}")


def upload(server: Server, name: str, body: bytes, query: str = "") -> str:
    status, text = ask(server, "POST", f"/jobs?name={name}{query}", body, **OWN)
    assert status == 201, text
    return json.loads(text)["job"]


def folders(server: Server) -> list[Path]:
    root = server.site.jobs.root
    return list(root.iterdir()) if root.exists() else []


def test_a_file_becomes_a_report(demo):
    status, page = ask(demo, "GET", "/")
    assert status == 200 and "demo.js" not in page and 'data-limit="100000"' in page and "connect-src 'self'" in page
    key = upload(demo, "my%20head.ply", b"good", "&near=100&hfov=50&up=-z")
    state = finished(demo, key)
    assert state["state"] == "done" and state["name"] == "my_head.ply" and state["seconds"] > 0
    status, report = ask(demo, "GET", f"/jobs/{key}/report.html")
    assert (
        status == 200
        and "my_head.ply, enhanced" in report
        and all(option in report for option in ("near = 100", "hfov = 50", "up = -z"))
    )
    assert ask(demo, "GET", f"/jobs/{key}/mesh.glb")[0] == 200
    for path in ("../my_head.ply", "%2e%2e/my_head.ply", "my_head.ply", "/etc/passwd"):
        assert ask(demo, "GET", f"/jobs/{key}/{path}")[0] == 404
    assert ask(demo, "GET", "/jobs/other")[0] == 404 and ask(demo, "GET", "/jobs/")[0] == 404


PROBE = """<script>
window.onerror = (message) => { document.title = "ERROR " + message; };
const input = document.querySelector("input[type=file]"), files = new DataTransfer();
document.querySelector("input[name=near]").value = "12,5";
document.querySelector("select[name=front]").value = "-y";
files.items.add(new File(["CONTENT"], "my head.ply"));
input.files = files.files;
input.dispatchEvent(new Event("change"));
const watch = setInterval(() => {
  const frame = document.querySelector("iframe"), text = document.getElementById("status").textContent;
  if (!frame && !document.querySelector("#status.bad")) return;
  clearInterval(watch);
  document.title = `DONE ${text} | ${frame ? frame.getAttribute("src").replace(/[^/]*(?=.report)/, "KEY") : "no report"}`;
}, 100);
</script></body>"""


@pytest.mark.slow
@pytest.mark.parametrize(("content", "expected"), [
    ("good", r"DONE my_head.ply: done in \d+ s \| jobs/KEY/report.html"),
    ("broken", r"DONE my head.ply: my_head.ply: no Gaussians in it \| no report"),
    ("x" * 100_001, r"DONE my head.ply: 1 MiB are more than this page takes \| no report"),
])  # fmt: skip
def test_the_page_works_in_a_browser(demo, tmp_path, monkeypatch, content, expected):
    page = demo.site.page().replace("</body>", PROBE.replace("CONTENT", content))
    monkeypatch.setattr(demo.site, "page", lambda: page)
    assert re.fullmatch(expected, browse(demo.url, tmp_path))
    if content == "good":
        reports = [path.read_text() for path in demo.site.jobs.root.glob("*/out/report.html")]
        (mine,) = (text for text in reports if "near = 12.5" in text)
        assert "front = -y" in mine and "up = " not in mine


def test_what_goes_wrong_is_said_and_leaves_nothing(demo):
    before = folders(demo)
    state = finished(demo, upload(demo, "a.ply", b"broken"))
    assert state["state"] == "failed" and state["message"] == "a.ply: no Gaussians in it"
    state = finished(demo, upload(demo, "b.ply", b"dies"))
    assert state["state"] == "failed" and "exit code 9" in state["message"]
    assert sorted(folders(demo)) == sorted(before)


def test_uploads_are_refused_before_they_are_received(demo):
    before = folders(demo)
    for headers, body, expected in [
        ({**OWN, "Content-Length": "100001"}, None, 413), ({**OWN, "Content-Length": "9" * 30}, None, 411),
        ({**OWN, "Content-Length": "-5"}, None, 411), ({**OWN, "Transfer-Encoding": "chunked"}, None, 411),
        ({**OWN, "Content-Length": "0"}, None, 400), ({}, b"x", 403),
    ]:  # fmt: skip
        assert ask(demo, "POST", "/jobs?name=a.ply", body, **headers)[0] == expected, headers
    for name in ("a.pkl", "a.pt", "a", "a.ply.exe", ""):
        assert ask(demo, "POST", f"/jobs?name={name}", b"x", **OWN)[0] == 415
    for query in ("&near=nan", "&near=-1", "&near=x", "&near=1e999", "&out=1"):
        assert ask(demo, "POST", f"/jobs?name=a.ply{query}", b"x", **OWN)[0] == 400
    too_large = ask(demo, "POST", "/jobs?name=a.ply", None, **OWN, **{"Content-Length": str(2**20 + 2**17)})[1]
    assert too_large.strip() == "a file of 1.2 MiB, expected at most 0.1 MiB"
    assert ask(demo, "POST", "/other?name=a.ply", b"x", **OWN)[0] == 404
    assert sorted(folders(demo)) == sorted(before)


def test_an_upload_that_is_broken_off_leaves_nothing(demo):
    before = folders(demo)
    with socket.create_connection(demo.server_address[:2]) as client:
        head = b"POST /jobs?name=a.ply HTTP/1.1\r\nHost: localhost\r\nX-SplatHead: 1\r\nContent-Length: 90000\r\n\r\n"
        client.sendall(head + b"half")
        time.sleep(0.2)
    for _ in range(50):
        if sorted(folders(demo)) == sorted(before):
            break
        time.sleep(0.1)
    assert sorted(folders(demo)) == sorted(before)


def test_names_and_options():
    assert upload_name("../../etc/pass wd.PLY") == "pass_wd.ply" and upload_name("C:\\x\\häd.splat") == "h_d.splat"
    for name, expected in {".ply.png": "ply.png", "…png.npy": "png.npy", "..npy": "upload.npy"}.items():
        assert upload_name(name) == expected
    assert len(upload_name("x" * 500 + ".ply")) == 84
    assert parse_options({"near": "1.5", "scale_mm": "2"}) == {"near": 1.5, "scale_mm": 2.0}
    assert parse_options({"up": "-z", "front": "auto"}) == {"up": "-z", "front": "auto"}
    for wrong in ({"up": "w"}, {"front": "../x"}, {"near": "z"}, {"views": "3"}):
        with pytest.raises(Refused, match=f"{next(iter(wrong))}.*expected"):
            parse_options(wrong)
    with pytest.raises(Refused):
        upload_name("a.zip")


def queued(jobs: JobQueue, text: bytes) -> Job:
    job = Job(jobs.new_folder(), "a.ply", {})
    job.input.write_bytes(text)
    jobs.submit(job)
    return job


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_one_at_a_time_no_more_than_wait_and_closing_ends_all(tmp_path):
    jobs = JobQueue(demo_tool.enhance, tmp_path / "jobs", max_waiting=2)
    first = queued(jobs, b"slow")
    wait_for(lambda: first.state == "running")
    others = [queued(jobs, b"good") for _ in range(2)]
    assert [jobs.position(job) for job in (first, *others)] == [0, 1, 2]
    with pytest.raises(QueueFullError):
        jobs.new_folder()
    assert [job.state for job in others] == ["waiting", "waiting"]
    start = time.monotonic()
    jobs.close()
    assert time.monotonic() - start < 10 and not (tmp_path / "jobs").exists() and first.state == "failed"


def test_jobs_are_stopped_after_their_time_and_old_ones_forgotten(tmp_path):
    jobs = JobQueue(demo_tool.enhance, tmp_path / "jobs", kept=1, limit_s=1)
    job = queued(jobs, b"slow")
    wait_for(lambda: job.ended)
    assert job.message == "stopped after 1 s" and not job.folder.exists()
    again = queued(jobs, b"broken")
    wait_for(lambda: again.ended and jobs.get(job.key) is None)
    assert jobs.get(again.key) is again
    jobs.close()


def test_script_cleans_up_when_it_is_ended(tmp_path):
    command = [sys.executable, str(REPOSITORY / "scripts" / "22_demo.py"), "--port", "0", "--no_browser"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment) as process:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/jobs?name=a.ply", b"ply\n", OWN)
        assert connection.getresponse().status == 201
        assert len(list(tmp_path.glob("splathead_demo_*"))) == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    assert not list(tmp_path.glob("splathead_demo_*"))
