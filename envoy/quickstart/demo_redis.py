#!/usr/bin/env python3
"""Two sidecars that share one Redis, behind one Envoy: `make demo STORE=redis`. Starts a private Redis, two Tollgates on the quickstart's
rules, an Envoy that balances over both and an upstream that echoes; shows one limit, one count and one revocation that both sidecars
share; says what to try and stays until Ctrl-C. Everything that it starts it also stops. What it writes is in target/demo/.
"""

import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True  # demo.py lies in the sources.

import demo
from demo import BASE_URL, DEMO, ENVOY_PORT, HERE, ROOT, Child, Trouble, answers, make_key, paint, say, step, tool

REDIS_PORT = 6399
OPS_PORTS = {"one": 9464, "two": 9465}
BURST = 10
FIRED = 20
# A count is told to Redis within a second; this is for machines that are busy.
PATIENCE_SECONDS = 10


def replaced(text, changes):
    for old, new in changes.items():
        if text.count(old) != 1:
            raise Trouble(f"envoy/quickstart has changed: {old!r} occurs {text.count(old)} times; demo_redis.py must follow")
        text = text.replace(old, new)
    return text


def lay_out():
    """The quickstart's files, changed where two sidecars differ from one."""
    shutil.rmtree(DEMO, ignore_errors=True)
    for folder in (DEMO, DEMO / "run", DEMO / "redis", *(DEMO / name / sub for name in OPS_PORTS for sub in ("run", "data"))):
        folder.mkdir(parents=True, mode=0o700)
    secret, password = secrets.token_hex(32), secrets.token_hex(32)
    demo.write_private("jwt-secret", secret)
    # What keys the hashes of API keys: every sidecar must have the same.
    demo.write_private("pepper", secrets.token_hex(32))
    demo.write_private("redis-password", password)
    demo.write_private("redis/redis.conf", "".join(f"{line}\n" for line in (
        "bind 127.0.0.1", f"port {REDIS_PORT}", f"requirepass {password}", f"dir {json.dumps(str(DEMO / 'redis'))}",
        # As envoy/guarantees.md recommends: nothing is evicted, and at most the last second is lost with the machine.
        "maxmemory 256mb", "maxmemory-policy noeviction", "appendonly yes", "appendfsync everysec",
    )))
    rules = (HERE / "tollgate.yaml").read_text()
    for name, port in OPS_PORTS.items():
        (DEMO / name / "tollgate.yaml").write_text(replaced(rules, {
            "ops: 127.0.0.1:9464": f"ops: 127.0.0.1:{port}",
            "# Users, keys and exact counts live in one folder; there is no server to install.\n":
                "# Users, keys, limits and counts are shared; the folder holds what this sidecar has counted and not yet told.\n",
            "  embedded: { path: ./data }\n":
                f"  redis: {{ url: redis://127.0.0.1:{REDIS_PORT}, password: {{ file: ../redis-password }}, path: ./data }}\n"
                "peppers:\n"
                "  - { id: demo, secret: { file: ../pepper } }\n",
            "hmac_secret: { file: ./jwt-secret }": "hmac_secret: { file: ../jwt-secret }",
        }))
    endpoint = "              - endpoint: { address: { pipe: { path: %s } } }\n"
    (DEMO / "envoy.yaml").write_text(replaced((HERE / "envoy.yaml").read_text(), {
        endpoint % "run/check.sock": endpoint % "one/run/check.sock" + endpoint % "two/run/check.sock",
        # One that is ending, or gone, is not asked any more.
        "      load_assignment:\n        cluster_name: tollgate\n":
            "      health_checks:\n"
            "        - timeout: 0.5s\n"
            "          interval: 1s\n"
            # Envoy's default is a minute: too late for the first requests.
            "          no_traffic_interval: 1s\n"
            "          unhealthy_threshold: 1\n"
            "          healthy_threshold: 1\n"
            "          grpc_health_check: { service_name: envoy.service.auth.v3.Authorization }\n"
            "      load_assignment:\n        cluster_name: tollgate\n",
    }))
    return secret


class Service(Child):
    """A child that may be ended from outside: its process id lies in a file, and it is started again."""

    def __init__(self, name, command, ready):
        self.command, self.ready = command, ready
        super().__init__(name, command)
        self.note()

    def note(self):
        (DEMO / self.name / "pid").write_text(f"{self.process.pid}\n")

    def is_up(self):
        self.wait_until(self.ready)

    def keep_up(self):
        if self.process.poll() is None:
            return
        say(f"{paint('33', self.name)} ended (code {self.process.returncode}); starting it again")
        super().__init__(self.name, self.command)
        self.note()
        self.is_up()

    def stop(self):
        super().stop()
        # The number will be another program's one day, and the printed commands signal whatever it names.
        (DEMO / self.name / "pid").unlink(missing_ok=True)

    def ask_to_end(self):
        # Whoever tried what a silent Redis does may have left it stopped.
        self.process.send_signal(signal.SIGCONT)
        super().ask_to_end()


def redis_answers():
    try:
        connection = http.client.HTTPConnection("127.0.0.1", REDIS_PORT, timeout=2)
        connection.connect()
        connection.close()
        return True
    except OSError:
        return False


# --- what is shown -----------------------------------------------------------------------------------------------------------

def checks_of(name):
    """How many checks this sidecar has answered, as it says itself."""
    connection = http.client.HTTPConnection("127.0.0.1", OPS_PORTS[name], timeout=5)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("tollgate_checks_total"))


def fire(key):
    """One request through Envoy: its status, and which sidecar was asked."""
    before = {name: checks_of(name) for name in OPS_PORTS}
    connection = http.client.HTTPConnection("127.0.0.1", ENVOY_PORT, timeout=10)
    connection.request("GET", "/api/v1/products", headers={"x-api-key": key})
    response = connection.getresponse()
    response.read()
    connection.close()
    asked = [name for name in OPS_PORTS if checks_of(name) > before[name]]
    return response.status, response.getheader("retry-after"), asked[0] if asked else "?"


def tollgate_json(tollgate, *words):
    done = subprocess.run([tollgate, *words, "--json"], cwd=DEMO, capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"tollgate {words[0]} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def used(tollgate, name, user):
    rows = tollgate_json(tollgate, "usage", "--config", f"{name}/tollgate.yaml", "--user", user)["data"]
    return {outcome: sum(row["count"] for row in rows if row["outcome"] == outcome) for outcome in ("allowed", "limited")}


def show_one_limit(key):
    step(f"one limit: {FIRED} requests in a row on the free tier, whose burst is {BURST}")
    began = time.monotonic()
    outcomes = []
    for number in range(FIRED):
        status, retry_after, name = fire(key)
        outcomes.append((status, name))
        told = paint("32", "200") if status == 200 else paint("33", f"{status}, come back in {retry_after} s")
        say(f"   {number + 1:2}  sidecar {name}  {told}")
    seconds = time.monotonic() - began
    admitted = {name: sum(1 for status, who in outcomes if status == 200 and who == name) for name in OPS_PORTS}
    refused = sum(1 for status, _ in outcomes if status == 429)
    total = sum(admitted.values())
    say(f"   one let {admitted['one']} through, two let {admitted['two']}: {total} in {seconds:.1f} s, and {refused} were told 429.")
    # A token comes back each second.
    if not BURST <= total <= BURST + int(seconds) + 1 or total + refused != FIRED:
        raise Trouble(f"{total} of {FIRED} were admitted and {refused} limited; the shared bucket should admit {BURST} and one a second")
    say(f"   Each by itself would have admitted its own {BURST}.")
    return {"allowed": total, "limited": refused}


def show_one_count(tollgate, user, expected):
    step("one count: what that user has used, read from either sidecar")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(used(tollgate, name, user) != expected for name in OPS_PORTS) and time.monotonic() < deadline:
        time.sleep(0.1)
    for name in OPS_PORTS:
        counts = used(tollgate, name, user)
        say(f"   tollgate usage --config {name}/tollgate.yaml --user {user}:  {counts['allowed']} allowed, {counts['limited']} limited")
        if counts != expected:
            raise Trouble(f"sidecar {name} should say {expected}; see target/demo/{name}.log")


def show_one_revocation(tollgate):
    step("one revocation: a key made at one, revoked at two")
    made = tollgate_json(tollgate, "keys", "create", "--config", "one/tollgate.yaml", "--user", "ida", "--scope", "knowledge:read", "--tier", "pro")
    # Both have the key in memory.
    before = [fire(made["key"]) for _ in range(4)]
    if any(status != 200 for status, _, _ in before):
        raise Trouble(f"the new key should open at both: {before}")
    done = subprocess.run([tollgate, "keys", "revoke", "--config", "two/tollgate.yaml", made["id"]], cwd=DEMO, capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"tollgate keys revoke failed: {done.stderr.strip()}")
    began, last, refused = time.monotonic(), None, 0
    while refused < 6 and time.monotonic() - began < PATIENCE_SECONDS:
        status, _, _ = fire(made["key"])
        refused = refused + 1 if status == 401 else 0
        if status == 200:
            last = time.monotonic() - began
    if refused < 6:
        raise Trouble("the revoked key still opens; see target/demo/one.log")
    still = f"{last * 1000:.0f} ms after the revocation was acknowledged it still opened once" if last else "no request after it was let through"
    say(f"   {still}; promised are 750 ms.")


TRIES = [
    ("One bucket: ten at most, and one a second that comes back, whichever sidecar is asked. The others are 429.",
     'for i in $(seq 15); do curl -s -o /dev/null -w "%{http_code} " -H "x-api-key: $FREE_KEY" "$BASE_URL/api/v1/products"; done; echo'),
    ("End one sidecar in the middle of your own requests: nobody notices, and this program starts it again.",
     'kill -TERM $(cat target/demo/one/pid); for i in $(seq 40); do curl -s -o /dev/null -w "%{http_code} " '
     '-H "x-api-key: $PRO_KEY" "$BASE_URL/api/v1/customers"; sleep 0.2; done; echo'),
    ("Redis falls silent at the fifth request. What is known is trusted for two seconds; then 503, never an allow by accident. And on again.",
     'for i in $(seq 16); do [ $i != 5 ] || kill -STOP $(cat target/demo/redis/pid); curl -s -o /dev/null -w "%{http_code} " '
     '-H "x-api-key: $PRO_KEY" "$BASE_URL/api/v1/customers"; sleep 0.5; done; echo; kill -CONT $(cat target/demo/redis/pid)'),
    ("Nothing that was counted is lost: a second after Redis is back, both sidecars say the same.",
     'sleep 2; tollgate usage --user paula; TOLLGATE_CONFIG=$TWO tollgate usage --user paula'),
    ("Is Redis set up well, how quickly does it answer, what lies in it?",
     'tollgate store check'),
    ("Everything into a file; and what the two sidecars say about the shared store.",
     'tollgate store export --to target/demo/backup.jsonl --replace; curl -s http://127.0.0.1:9465/metrics | grep -E "^tollgate_(redis_connected|redis_breaker_open|changes_lease|sidecars|usage_unpublished)"'),
]

NOTES = [
    "Rules: target/demo/one/tollgate.yaml and two/tollgate.yaml. Logs: target/demo/{envoy,one,two,redis}.log.",
    "What is promised under which faults: envoy/guarantees.md.",
    "Ctrl-C stops everything; the two Tollgates drain for five seconds each.",
]


# --- the whole ---------------------------------------------------------------------------------------------------------------

def main():
    stopping = demo.until_told()
    children, server = [], None
    try:
        demo.check_ports({**demo.PORTS, OPS_PORTS["two"]: "the second Tollgate's health and metrics", REDIS_PORT: "a private Redis"})
        step("an Envoy and a Redis (first time: some megabytes, unpacked under target/)")
        envoy = tool([str(ROOT / "tests/tools/envoy.sh")], "getting Envoy")
        redis = tool([str(ROOT / "tests/tools/redis.sh")], "getting Redis")
        step("building Tollgate (first time: some minutes)")
        tollgate = str(demo.build())
        if stopping.is_set():
            return 0
        secret = lay_out()
        step("starting the upstream, Redis, two Tollgates and Envoy")
        os.chdir(DEMO)
        server = demo.serve_echo()
        children.append(Service("redis", [redis, str(DEMO / "redis/redis.conf")], redis_answers))
        children[-1].is_up()
        for name, port in OPS_PORTS.items():
            ready = lambda port=port: answers(port, "/readyz")
            children.append(Service(name, [tollgate, "serve", "--config", f"{name}/tollgate.yaml"], ready))
            children[-1].is_up()
        services = list(children)
        child, ready = demo.start_envoy(envoy)
        children.append(child)
        child.wait_until(ready)
        free_key = make_key(tollgate, "fred", "freds-shop", "free", demo.EVERY_SCOPE, "one/tollgate.yaml")
        demo.write_environment(pathlib.Path(tollgate), {
            "TOLLGATE_CONFIG": str(DEMO / "one/tollgate.yaml"),
            "TWO": str(DEMO / "two/tollgate.yaml"),
            "BASE_URL": BASE_URL,
            "OPS_URL": demo.OPS_URL,
            "FREE_KEY": free_key,
            "PRO_KEY": make_key(tollgate, "paula", "acme", "pro", demo.EVERY_SCOPE, "two/tollgate.yaml"),
            "ADMIN_KEY": make_key(tollgate, "admin", None, "enterprise", demo.ADMIN_SCOPES, "one/tollgate.yaml"),
            "JWT": demo.make_token(secret),
        })
        for show in (lambda: show_one_count(tollgate, "fred", show_one_limit(free_key)), lambda: show_one_revocation(tollgate)):
            if stopping.is_set():
                return 0
            show()
        demo.explain_what_to_try(TRIES, *NOTES)
        while not stopping.wait(0.5):
            child.check()
            for service in services:
                service.keep_up()
        return 0
    except Trouble as trouble:
        say(f"{paint('1;31', 'demo:')} {trouble}")
        return 1
    finally:
        # Envoy first, then both sidecars at once, and Redis last: they tell it what they still have.
        if len(children) > len(OPS_PORTS) + 1:
            children.pop().stop()
        for child in children[1:]:
            child.ask_to_end()
        demo.stop_all(children, server)


if __name__ == "__main__":
    sys.exit(main())
