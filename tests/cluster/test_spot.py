"""AWS's notice that a spot instance is reclaimed reaches the trials on it, by way of Ray."""

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray
from program import ROOT

from benchmarks.support.virtual_nodes import VirtualNodes
from synthcl.cluster import preemption, spot

TOKEN = "for six hours"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class Service(ThreadingHTTPServer):
    """The part of the instance metadata that tells of a reclaim."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.action, self.token, self.asked = None, TOKEN, 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    def do_PUT(self):
        asks = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self.say(200 if asks else 400, self.server.token)

    def do_GET(self):
        self.server.asked += 1
        if self.headers.get("X-aws-ec2-metadata-token") != self.server.token:
            self.say(401, "")
        elif self.path == "/latest/meta-data/spot/instance-action" and self.server.action:
            self.say(200, json.dumps(self.server.action))
        else:
            self.say(404, "")

    def say(self, code, text):
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *told):
        pass


@pytest.fixture
def service():
    with Service() as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield served
        served.shutdown()


def test_nothing_is_told_until_the_notice_and_a_token_that_ran_out_is_renewed(service, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    metadata = spot.Metadata(service.url)
    assert metadata.instance_action() is None
    service.token = "another"
    with pytest.raises(OSError, match="401"):
        metadata.instance_action()
    assert metadata.instance_action() is None
    service.action = {"action": "terminate", "time": "2026-11-24T12:02:00Z"}
    assert metadata.instance_action() == service.action


@pytest.mark.parametrize(
    ("action", "seconds"),
    [
        ({"action": "terminate", "time": "2026-11-24T12:02:00Z"}, 120),
        ({"action": "terminate", "time": "2026-11-24T11:59:00Z"}, 0),
        ({"action": "hibernate"}, spot.NOTICE_SECONDS),
        ({"action": "stop", "time": "soon"}, spot.NOTICE_SECONDS),
    ],
)
def test_a_node_has_as_long_as_its_notice_says(action, seconds):
    assert spot.seconds_left(action, NOW) == seconds


def test_a_service_that_is_away_is_asked_again_and_a_refused_drain_is_tried_again(monkeypatch):
    answers = [OSError("away"), None, {"action": "stop"}, {"action": "stop"}]
    drained = []

    class Away:
        def instance_action(self):
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

    def drain(seconds, node, address):
        drained.append(seconds)
        return len(drained) == 2

    monkeypatch.setattr(spot, "drain", drain)
    spot.wait(Away(), None, None, poll_seconds=0)
    assert answers == []
    assert len(drained) == 2


def test_after_the_notice_a_trial_on_the_node_knows_that_it_must_go_and_one_elsewhere_does_not(service):
    nodes = VirtualNodes([1, 1], dashboard=False)
    try:
        ray.init(address=nodes.address, log_to_driver=False)

        @ray.remote(num_cpus=1)
        class Trial:
            def must_go(self):
                return preemption.must_leave()

            def node(self):
                return ray.get_runtime_context().get_node_id()

        trials = {ray.get(trial.node.remote()): trial for trial in (Trial.remote(), Trial.remote())}
        reclaimed, other = (trials[node.node_id] for node in nodes.nodes)
        listen = [sys.executable, "-P", str(ROOT / "synthcl/cluster/spot.py"), "--metadata", service.url]
        listen += ["--node-id", nodes.nodes[0].node_id, "--address", nodes.address]
        with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as listener:
            while not service.asked:
                assert listener.poll() is None
            assert subprocess.run(listen, timeout=60).returncode == 0  # a second one leaves at once
            assert not ray.get(reclaimed.must_go.remote())
            service.action = {"action": "terminate", "time": f"{datetime.now(UTC) + timedelta(seconds=120):%FT%TZ}"}
            assert "terminate" in listener.communicate(timeout=120)[0]
        assert listener.returncode == 0
        assert ray.get(reclaimed.must_go.remote())
        assert not ray.get(other.must_go.remote())
    finally:
        ray.shutdown()
        nodes.close()


def test_waiting_costs_no_more_than_the_standard_library():
    run_it = f"import runpy, sys; runpy.run_path({str(ROOT / 'synthcl/cluster/spot.py')!r})"
    found = "sys.exit(bool({'ray', 'torch', 'numpy', 'synthcl'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-P", "-c", f"{run_it}; {found}"]).returncode == 0
