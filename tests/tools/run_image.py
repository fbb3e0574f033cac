#!/usr/bin/env python3
"""Runs a root file system of Tollgate's image as a container runtime would, behind a real Envoy: on the quickstart's files, and on those of
its compose.yaml with a real Redis.

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
REDIS = os.environ.get("TOLLGATE_TEST_REDIS", "")
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


def bind(source, target, is_writable):
    subprocess.run(["mount", "--bind", source, target], check=True)
    if not is_writable:
        subprocess.run(["mount", "-o", "remount,bind,ro,nosuid,nodev", target], check=True)


class Container:
    """The image's settings, and the root as its user sees it."""

    def __init__(self, tree, inspected, work):
        docker = json.loads(pathlib.Path(inspected).read_text())["Docker"]["config"]
        self.config, self.tree, self.root = docker, pathlib.Path(tree), work / "root"
        self.environment = dict(pair.split("=", 1) for pair in docker["Env"])

    def mount(self, *mounts):
        """The root, read-only, with these in it: (source, place, whether it may be written)."""
        self.root.mkdir(parents=True)
        for source, place, _ in mounts:
            # A container runtime makes these before it makes the root read-only. A place inside another mount is there already.
            inside = self.tree / place.lstrip("/")
            if not any(place.startswith(f"{other}/") for _, other, _ in mounts):
                inside.parent.mkdir(parents=True, exist_ok=True)
                inside.mkdir(exist_ok=True) if source.is_dir() else inside.touch()
        (self.tree / "proc").mkdir(exist_ok=True)
        bind(self.tree, self.root, False)
        for source, place, is_writable in mounts:
            bind(source, self.root / place.lstrip("/"), is_writable)
        subprocess.run(["mount", "-t", "proc", "proc", self.root / "proc"], check=True)

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


def show_checks(container, gate):
    """What clients of Envoy are answered, and that Tollgate ends in order."""
    status, body = ask({})
    expect("without a key, through Envoy", (status, body["error"]["code"]), (401, "UNAUTHENTICATED"))
    code, made = container.run("keys", "create", "--user", "paula", "--tier", "pro", "--scope", "conversations:read", "--json")
    expect("keys create", code, 0)
    status, body = ask({"x-api-key": json.loads(made)["key"]})
    expect("with it", (status, body["headers"].get("user")), (200, "paula"))
    gate.send_signal(getattr(signal, container.config["StopSignal"]))
    expect("ends, after its signal, with", gate.wait(PATIENCE_SECONDS), 0)


def show_quickstart(container, work, envoy):
    """The quickstart's files mounted at /etc/tollgate: read-only, but for the two folders that they name."""
    import demo  # the upstream that echoes

    config, etc = container.config, work / "etc"
    expect("user", config["User"], f"{USER}:{USER}")
    expect("stop signal", config["StopSignal"], "SIGTERM")
    expect("ports", sorted(config["ExposedPorts"]), ["8080/tcp", "9191/tcp", "9464/tcp"])
    expect("base", config["Labels"].get("org.opencontainers.image.base.name", "").startswith("gcr.io/distroless/"), True)
    for folder in (etc / "run", etc / "data"):
        folder.mkdir(parents=True)
    for name in ("tollgate.yaml", "envoy.yaml"):
        shutil.copy(QUICKSTART / name, etc)
    (etc / "jwt-secret").write_text(os.urandom(32).hex())
    (etc / "jwt-secret").chmod(0o400)
    for path in (etc / "jwt-secret", etc / "run", etc / "data"):
        os.chown(path, USER, USER)
    container.mount(
        (etc, "/etc/tollgate", False), (etc / "run", "/etc/tollgate/run", True), (etc / "data", "/etc/tollgate/data", True))
    expect("version", container.run("--version"), (0, f"tollgate {config['Labels']['org.opencontainers.image.version']}\n"))
    expect("what the user can write", container.what_can_be_written(), ["/etc/tollgate/data", "/etc/tollgate/run"])
    expect("check-config", container.run("check-config")[0], 0)
    expect("healthy before it runs", container.is_healthy(), False)
    gate = container.start([*config["Entrypoint"], *config["Cmd"]], stdout=subprocess.DEVNULL)
    wait_until(container.is_healthy, "healthy", gate)
    say("healthy, by the image's own health check")
    os.chdir(etc)
    demo.serve_echo()
    front = subprocess.Popen([envoy, "-c", "envoy.yaml", "--disable-hot-restart", "--log-level", "error"], stdout=subprocess.DEVNULL)
    wait_until(envoy_answers, "an answer from Envoy", front, gate)
    show_checks(container, gate)


def show_compose(container, work, envoy):
    """compose.yaml as it stands, with this machine's programs in the place of the images of others."""
    import yaml  # came with yamllint

    services = yaml.safe_load((QUICKSTART / "compose.yaml").read_text())["services"]
    volumes, srv = work / "volumes", work / "srv"
    for name in ("secrets", "sockets", "tollgate", "redis", "prometheus"):
        (volumes / name).mkdir(parents=True)
    srv.mkdir()
    for name in ("envoy.yaml", "compose/stats.yaml"):
        shutil.copy(QUICKSTART / name, srv)
    (srv / "run").symlink_to(volumes / "sockets")
    os.environ["PATH"] = os.pathsep.join([str(pathlib.Path(envoy).parent), str(pathlib.Path(REDIS).parent), os.environ["PATH"]])
    os.environ["PYTHONPATH"], os.environ["PYTHONDONTWRITEBYTECODE"] = str(QUICKSTART), "1"

    def here(words):
        """Words of compose.yaml, in the folders that stand for its volumes."""
        text = json.dumps(words).replace("$$", "$").replace("cd /volumes", f"cd {volumes}")
        return json.loads(text.replace("/run/secrets/", f"{volumes}/secrets/"))

    def command_of(service):
        return here([*services[service].get("entrypoint", []), *services[service]["command"]])

    def is_healthy(service):
        form, *command = here(services[service]["healthcheck"]["test"])
        command = command if form == "CMD" else ["sh", "-c", *command]
        return subprocess.run(command, cwd=srv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def start(service, folder=srv):
        running = subprocess.Popen(command_of(service), cwd=folder, stdout=subprocess.DEVNULL)
        wait_until(lambda: is_healthy(service), f"healthy: {service}", running)
        say(f"{service}: healthy, by its own check")

    for time_of_it in ("first", "second"):
        done = subprocess.run(command_of("prepare"))
        expect(f"prepare, the {time_of_it} time", done.returncode, 0)
    start("redis", volumes / "redis")
    start("upstream")

    hosts = work / "hosts"
    hosts.write_text("127.0.0.1 localhost redis\n")
    places = {"./compose": QUICKSTART / "compose", **{name: volumes / name for name in ("secrets", "sockets", "tollgate")}}
    mounts = [volume.split(":") for volume in services["tollgate"]["volumes"]]
    container.mount((hosts, "/etc/hosts", False), *((places[mount[0]], mount[1], mount[2:] != ["ro"]) for mount in mounts))
    expect("what the user can write", container.what_can_be_written(), ["/run/tollgate", "/var/lib/tollgate"])
    gate = container.start([*container.config["Entrypoint"], *container.config["Cmd"]], stdout=subprocess.DEVNULL)
    wait_until(container.is_healthy, "healthy: tollgate", gate)
    say("tollgate: healthy, by the image's own check")
    start("envoy")
    show_checks(container, gate)


SCENARIOS = {"quickstart": show_quickstart, "compose": show_compose}


def tool(name):
    return subprocess.run([ROOT / "tests" / "tools" / name], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main():
    tree, inspected, work, *inner = sys.argv[1:]
    work = pathlib.Path(work).resolve()
    if inner:
        scenario, envoy = inner
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        SCENARIOS[scenario](Container(tree, inspected, work), work, envoy)
        return 0
    envoy, redis, linters = tool("envoy.sh"), tool("redis.sh"), pathlib.Path(tool("linters.sh"))
    environment = {**os.environ, "TOLLGATE_TEST_REDIS": redis, "PYTHONPATH": str(linters.parent / "lib")}
    for scenario in SCENARIOS:
        print(f"== the image, read-only, on the files of {scenario}", flush=True)
        # Mounts, processes and the network go with this command.
        namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        command = [*namespaces, sys.executable, __file__, tree, inspected, work / scenario, scenario, envoy]
        if code := subprocess.run(command, env=environment).returncode:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
