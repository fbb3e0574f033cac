#!/usr/bin/env python3
"""Runs a root file system of Tollgate's image as a container runtime would, behind a real Envoy, on the quickstart's files.

    tests/tools/run_image.py TREE INSPECTED WORK

TREE is the root, INSPECTED what `buildah inspect` says about the image, WORK a folder that does not exist yet. User, working folder,
environment, command, health check and signal are the image's own. The root is read-only, the user has no capabilities, and there is no
network but loopback. Called by image.sh; must be root.
"""

import ctypes
import errno
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "envoy" / "quickstart"
USER = 65532
PATIENCE_SECONDS = 30
NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS

sys.dont_write_bytecode = True  # demo.py lies in the sources.
sys.path.insert(0, str(QUICKSTART))


def say(text):
    print(f"   {text}", flush=True)


def expect(what, seen, wanted):
    if seen != wanted:
        sys.exit(f"run_image.py: {what}: {seen!r} instead of {wanted!r}")
    say(f"{what}: {seen}")


class Container:
    """The image's settings, and the root as its user sees it."""

    def __init__(self, tree, inspected, work):
        docker = json.loads(pathlib.Path(inspected).read_text())["Docker"]["config"]
        self.config, self.tree, self.root, self.etc = docker, pathlib.Path(tree), work / "root", work / "etc"
        self.environment = dict(pair.split("=", 1) for pair in docker["Env"])

    def lay_out(self):
        """The quickstart's files, as somebody would mount them at /etc/tollgate: read-only, but for the two folders that they name."""
        for folder in (self.root, self.etc / "run", self.etc / "data"):
            folder.mkdir(parents=True)
        shutil.copy(QUICKSTART / "tollgate.yaml", self.etc)
        (self.etc / "jwt-secret").write_text(os.urandom(32).hex())
        (self.etc / "jwt-secret").chmod(0o400)
        for path in (self.etc / "jwt-secret", self.etc / "run", self.etc / "data"):
            os.chown(path, USER, USER)
        shutil.copy(QUICKSTART / "envoy.yaml", self.etc)
        # A container runtime makes these before it makes the root read-only.
        (self.tree / "etc/tollgate").mkdir()
        (self.tree / "proc").mkdir(exist_ok=True)
        inside = self.root / "etc/tollgate"
        for command in (
            ["mount", "--bind", self.tree, self.root],
            ["mount", "-o", "remount,bind,ro,nosuid,nodev", self.root],
            ["mount", "--bind", self.etc, inside],
            ["mount", "-o", "remount,bind,ro,nosuid,nodev", inside],
            ["mount", "--bind", self.etc / "run", inside / "run"],
            ["mount", "--bind", self.etc / "data", inside / "data"],
            ["mount", "-t", "proc", "proc", self.root / "proc"],
        ):
            subprocess.run(command, check=True)

    def enter(self):
        user, group = (int(part) for part in self.config["User"].split(":"))
        os.chroot(self.root)
        os.chdir(self.config["WorkingDir"])
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
        ctypes.CDLL(None).prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)

    def start(self, command, **particulars):
        return subprocess.Popen(command, env=self.environment, preexec_fn=self.enter, **particulars)

    def run(self, *arguments):
        running = self.start([*self.config["Entrypoint"], *arguments], stdout=subprocess.PIPE, text=True)
        said, _ = running.communicate(timeout=PATIENCE_SECONDS)
        return running.returncode, said

    def is_healthy(self):
        form, *command = self.config["Healthcheck"]["Test"]
        assert form == "CMD", "the health check needs no shell"
        return self.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait(PATIENCE_SECONDS) == 0

    def what_can_be_written(self):
        """Every folder of the root in which the user may make a file."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            self.enter()
            found = []
            for folder, folders, _ in os.walk("/"):
                if folder == "/":
                    folders.remove("proc")
                try:
                    os.close(os.open(f"{folder}/probe", os.O_CREAT | os.O_WRONLY))
                    os.unlink(f"{folder}/probe")
                    found.append(folder)
                except OSError as error:
                    assert error.errno in (errno.EROFS, errno.EACCES), error
            os.write(writing, json.dumps(sorted(found)).encode())
            os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            return json.load(pipe)


def wait_until(ready, what, *processes):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        for process in processes:
            if process.poll() is not None:
                sys.exit(f"run_image.py: {process.args[0]} ended with {process.returncode} before {what}")
        if time.monotonic() > deadline:
            sys.exit(f"run_image.py: not {what} within {PATIENCE_SECONDS} s")
        time.sleep(0.05)


def ask(headers):
    """What a client of Envoy is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", 10000, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/api/v1/conversations", headers=headers)
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body


def envoy_answers():
    try:
        connection = http.client.HTTPConnection("127.0.0.1", 10000, timeout=PATIENCE_SECONDS)
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def show(container, envoy):
    import demo  # the upstream that echoes

    config = container.config
    expect("user", config["User"], f"{USER}:{USER}")
    expect("stop signal", config["StopSignal"], "SIGTERM")
    expect("ports", sorted(config["ExposedPorts"]), ["8080/tcp", "9191/tcp", "9464/tcp"])
    container.lay_out()
    label = config["Labels"].get
    expect("base", label("org.opencontainers.image.base.name", "").startswith("gcr.io/distroless/"), True)
    expect("version", container.run("--version"), (0, f"tollgate {label('org.opencontainers.image.version')}\n"))
    expect("what the user can write", container.what_can_be_written(), ["/etc/tollgate/data", "/etc/tollgate/run"])
    expect("check-config", container.run("check-config")[0], 0)
    expect("healthy before it runs", container.is_healthy(), False)
    gate = container.start([*config["Entrypoint"], *config["Cmd"]], stdout=subprocess.DEVNULL)
    wait_until(container.is_healthy, "healthy", gate)
    say("healthy, by the image's own health check")

    os.chdir(container.etc)
    upstream = demo.serve_echo()
    front = subprocess.Popen([envoy, "-c", "envoy.yaml", "--disable-hot-restart", "--log-level", "error"], stdout=subprocess.DEVNULL)
    wait_until(envoy_answers, "an answer from Envoy", front, gate)
    status, body = ask({})
    expect("without a key, through Envoy", (status, body["error"]["code"]), (401, "UNAUTHENTICATED"))
    code, made = container.run("keys", "create", "--user", "paula", "--org", "acme", "--tier", "pro", "--scope", "conversations:read", "--json")
    expect("keys create", code, 0)
    status, body = ask({"x-api-key": json.loads(made)["key"]})
    expect("with it", (status, body["headers"].get("user")), (200, "paula"))

    gate.send_signal(getattr(signal, config["StopSignal"]))
    expect("ends, after its signal, with", gate.wait(PATIENCE_SECONDS), 0)
    front.terminate()
    front.wait(PATIENCE_SECONDS)
    upstream.shutdown()


def main():
    tree, inspected, work, *inner = sys.argv[1:]
    if not inner:
        envoy = subprocess.run([ROOT / "tests/tools/envoy.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        # Mounts, processes and the network go with this command.
        namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        return subprocess.run([*namespaces, sys.executable, __file__, tree, inspected, work, envoy]).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    show(Container(tree, inspected, pathlib.Path(work).resolve()), inner[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
