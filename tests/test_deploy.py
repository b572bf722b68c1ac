"""What is deployed elsewhere is checked here, offline: schemas, linters, and the stance that every file must keep."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SCRIPTS = sorted([*DEPLOY.glob("*.sh"), *DEPLOY.glob("slurm/*")])
DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile.*"))
BIN = Path(sys.executable).parent

yaml = pytest.importorskip("yaml")


def documents(path):
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C: schemas are long
    return [one for one in yaml.load_all(path.read_text(), loader) if one]


def lint(program, *arguments):
    """Run a linter that pip installs; what it prints."""
    found = shutil.which(program, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{program} is not installed: pip install -c constraints.txt -e '.[test]'")
    done = subprocess.run([found, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


def pod_specs():
    """(file, pod spec) of everything that runs."""
    for path in MANIFESTS:
        for one in documents(path):
            spec = one.get("spec", {})
            if one["kind"] == "DaskCluster":
                yield path.name, spec["worker"]["spec"]
                yield path.name, spec["scheduler"]["spec"]
            elif one["kind"] == "DaskWorkerGroup":
                yield path.name, spec["worker"]["spec"]
            elif one["kind"] in ("Job", "DaemonSet"):
                yield path.name, spec["template"]["spec"]


ALL_PODS = list(pod_specs())
PODS = [(name, pod) for name, pod in ALL_PODS if pod["containers"][0]["name"] != "image"]
"""Without those that only keep an image on its node."""
TOUCH_DATA = [(name, pod) for name, pod in PODS if pod["containers"][0]["name"] in ("worker", "popcat")]
NODES = 12
"""So many nodes, each with a pod that keeps the image, must fit in the quota."""


def closed(schema):
    """A Kubernetes schema that forbids keys it does not know."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not is_open:
        result["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        result = {"type": ["integer", "string"]}
    return result


@pytest.fixture(scope="module")
def validators():
    """kind -> validator of the operator's resources, from the package that installs them."""
    jsonschema = pytest.importorskip("jsonschema")
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None:
        pytest.skip("dask-kubernetes is not installed: pip install -c constraints.txt -e '.[test]'")
    made = {}
    for path in Path(found.origin).parent.glob("operator/deployment/helm/*/crds/*.yaml"):
        for crd in documents(path):
            (version,) = [one for one in crd["spec"]["versions"] if one["served"]]
            schema = closed(version["schema"]["openAPIV3Schema"])
            # what every object of Kubernetes has, and no resource's own schema lists
            schema["properties"] |= {"apiVersion": {"const": f"{crd['spec']['group']}/{version['name']}"},
                                     "kind": {"const": crd["spec"]["names"]["kind"]}, "metadata": {"type": "object"}}
            made[crd["spec"]["names"]["kind"]] = jsonschema.Draft202012Validator(schema)
    return made


def dask_resources():
    return [one for path in MANIFESTS for one in documents(path) if one["kind"].startswith("Dask")]


def test_the_operators_own_schemas_accept_the_cluster_and_its_gpu_workers(validators):
    assert {one["kind"] for one in dask_resources()} == {"DaskCluster", "DaskWorkerGroup"}
    for one in dask_resources():
        assert [error.message for error in validators[one["kind"]].iter_errors(one)] == []


@pytest.mark.parametrize("wrong", ["replica", "spec.container", "spec.containers.0.imag"])
def test_the_schemas_refuse_a_key_that_is_misspelt(validators, wrong):
    (cluster,) = [one for one in dask_resources() if one["kind"] == "DaskCluster"]
    at = cluster["spec"]["worker"]
    *path, last = wrong.split(".")
    for key in path:
        at = at[int(key) if key.isdigit() else key]
    at[last] = "x"
    (error,) = validators["DaskCluster"].iter_errors(cluster)
    assert f"'{last}' was unexpected" in error.message


@pytest.mark.parametrize(("name", "pod"), ALL_PODS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(ALL_PODS)])
def test_every_pod_has_least_privileges_limits_and_certificates(name, pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert pod["automountServiceAccountToken"] is False
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    assert pod["containers"][0]["name"] == "image" or volumes["tls"]["secret"]["secretName"] == "popcat-tls"
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"]["drop"] == ["ALL"]
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][bound])
        assert re.fullmatch(r"[\w./-]+:\d[\w.-]+", container["image"])
        assert {mount["name"] for mount in container.get("volumeMounts", [])} == set(volumes)


def config_map():
    (found,) = [one["data"] for one in core_resources() if one["kind"] == "ConfigMap"]
    return found


def test_pods_reach_the_store_by_a_role_and_no_key_or_shared_volume_is_anywhere():
    (account,) = [one for one in core_resources() if one["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False and len(TOUCH_DATA) == 3
    for _, pod in TOUCH_DATA:
        assert pod["serviceAccountName"] == account["metadata"]["name"]
        assert pod["containers"][0]["envFrom"] == [{"configMapRef": {"name": "popcat-store"}}]
        (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "identity"]
        (source,) = [one["projected"]["sources"] for one in pod["volumes"] if one["name"] == "identity"]
        token = source[0]["serviceAccountToken"]
        assert config_map()["AWS_WEB_IDENTITY_TOKEN_FILE"] == f"{mount['mountPath']}/{token['path']}"
        assert mount["readOnly"] and token["audience"] == "sts.amazonaws.com"
    (scheduler,) = [pod for _, pod in PODS if pod["containers"][0]["name"] == "scheduler"]
    assert "serviceAccountName" not in scheduler
    for path in MANIFESTS:
        assert not re.search(r"PersistentVolumeClaim:|persistentVolumeClaim:|ACCESS_KEY|hostPath", path.read_text())
    (job,) = [pod for name, pod in PODS if name == "infer.yaml"]
    assert sum(word.startswith("s3://") for word in job["containers"][0]["args"]) == 2


def test_the_network_lets_pods_out_to_https_and_not_to_the_credentials_of_a_node():
    (policy,) = [one["spec"] for one in core_resources() if one["kind"] == "NetworkPolicy"]
    (outside,) = [rule for rule in policy["egress"] if "ipBlock" in rule["to"][0]]
    assert outside["ports"] == [{"protocol": "TCP", "port": 443}]
    assert outside["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]


def test_the_nodes_of_each_pool_pull_the_image_that_runs_there():
    kept = {pod["containers"][0]["image"]: pod for _, pod in ALL_PODS if pod["containers"][0]["name"] == "image"}
    assert set(kept) == {pod["containers"][0]["image"] for _, pod in PODS if pod["containers"][0]["name"] != "popcat"}
    (gpu,) = [pod for name, pod in TOUCH_DATA if name == "gpu-workers.yaml"]
    (keeps,) = [pod for image, pod in kept.items() if image == gpu["containers"][0]["image"]]
    for where in ("nodeSelector", "tolerations"):
        assert keeps[where] == gpu[where]


def test_only_workers_with_a_gpu_claim_one():
    for name, pod in PODS:
        for container in pod["containers"]:
            asks = "nvidia.com/gpu" in container["resources"]["limits"]
            assert asks == ("GPU=1" in container["args"]) == (name == "gpu-workers.yaml")


def test_long_lived_pods_have_probes():
    for _, pod in PODS:
        for container in pod["containers"]:
            if "infer" not in container["args"]:
                assert {"readinessProbe", "livenessProbe"} <= set(container)


def test_every_port_that_leaves_a_host_speaks_tls():
    for path in [*MANIFESTS, *SCRIPTS, DEPLOY / "docker" / "compose.yaml"]:
        assert "tcp://" not in path.read_text()
    for _, pod in PODS:
        words = " ".join(pod["containers"][0]["args"])
        if "scheduler" in words.split():
            assert "--protocol tls" in words and "--dashboard-address 127.0.0.1" in words
    assert "--protocol tls" in (DEPLOY / "slurm" / "scheduler.sbatch").read_text()
    config = yaml.safe_load((DEPLOY / "dask.yaml").read_text())
    assert config["distributed"]["comm"]["require-encryption"] is True


def dashboards():
    """(where, command line) of every scheduler and worker that a recipe starts."""
    for name, pod in PODS:
        for container in pod["containers"]:
            yield name, " ".join(container["args"])
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        yield f"compose.yaml {name}", " ".join(service["command"])
    for path in SCRIPTS:
        yield path.name, path.read_text().replace("\\\n", "")
    yield "README.md", (DEPLOY / "README.md").read_text()


def test_no_dashboard_listens_beyond_its_host():
    """They have no encryption, and ask nobody for a name."""
    found = 0
    for where, text in dashboards():
        for command in re.findall(r"dask (?:scheduler|worker)\s(?:[^\n`,]|\n(?!\n))+", text):
            addresses = re.findall(r"--dashboard-address (\S+)", command)
            assert "--no-dashboard" in command or all(one.startswith("127.0.0.1:") for one in addresses), where
            assert "--no-dashboard" in command or addresses, where
            found += 1
    assert found >= 10
    assert "8787:8787" not in (DEPLOY / "docker" / "compose.yaml").read_text()


def core_resources():
    return [one for path in MANIFESTS for one in documents(path) if "dask.org" not in one["apiVersion"]]


def unknown_keys(value, kind, models, at=""):
    """Keys that a type of the Kubernetes API does not have."""
    if kind.lower().startswith("list[") and isinstance(value, list):
        return [one for i, item in enumerate(value) for one in unknown_keys(item, kind[5:-1], models, f"{at}.{i}")]
    model = getattr(models, kind, None)
    if model is None or not isinstance(value, dict) or not hasattr(model, "attribute_map"):
        return []
    types = {name: model.openapi_types[attribute] for attribute, name in model.attribute_map.items()}
    return [f"{at}.{key}" for key in value if key not in types] + [
        one for key in value if key in types for one in unknown_keys(value[key], types[key], models, f"{at}.{key}")]


def test_kubernetes_knows_every_key_of_the_other_resources():
    models = pytest.importorskip("kubernetes.client.models")
    for one in core_resources():
        if one["kind"] != "Kustomization":
            assert unknown_keys(one, f"V1{one['kind']}", models) == [], one["kind"]
    (job,) = [one for one in core_resources() if one["kind"] == "Job"]
    job["spec"]["template"]["spec"]["containers"][0]["imag"] = "x"
    assert unknown_keys(job, "V1Job", models) == [".spec.template.spec.containers.0.imag"]


def test_what_would_end_a_run_is_not_evicted():
    budgets = [one["spec"] for one in core_resources() if one["kind"] == "PodDisruptionBudget"]
    assert [one["minAvailable"] for one in budgets] == [1, 1]
    labels = [one["selector"]["matchLabels"] for one in budgets]
    (cluster,) = [one for one in dask_resources() if one["kind"] == "DaskCluster"]
    assert cluster["spec"]["scheduler"]["service"]["selector"] in labels  # as the operator labels its scheduler
    (job,) = [one for one in core_resources() if one["kind"] == "Job"]
    assert job["spec"]["template"]["metadata"]["labels"] in labels


def test_a_job_ends_and_is_removed():
    (job,) = [one["spec"] for one in core_resources() if one["kind"] == "Job"]
    assert 0 < job["ttlSecondsAfterFinished"] <= 7 * 86400
    assert 0 < job["activeDeadlineSeconds"] <= 30 * 86400


def amount(text):
    """A quantity of Kubernetes as a number."""
    units = {"m": 1e-3, "Gi": 2.0**30, "Mi": 2.0**20}
    number, unit = re.fullmatch(r"([\d.]+)([a-zA-Z]*)", str(text)).groups()
    return float(number) * units.get(unit, 1.0)


def test_all_that_the_recipes_start_fits_in_the_quota_of_the_namespace():
    (quota,) = [one["spec"]["hard"] for one in core_resources() if one["kind"] == "ResourceQuota"]
    replicas = {one["kind"]: one["spec"].get("worker", one["spec"]).get("replicas") for one in dask_resources()}
    replicas["DaskWorkerGroup"] = next(one["spec"]["worker"]["replicas"] for one in dask_resources()
                                       if one["kind"] == "DaskWorkerGroup")  # fmt: skip
    total = dict.fromkeys(quota, 0.0)
    for name, pod in ALL_PODS:
        (container,) = pod["containers"]
        of = {"cluster.yaml": "DaskCluster", "gpu-workers.yaml": "DaskWorkerGroup"}.get(name)
        times = replicas[of] if container["name"] == "worker" else NODES if container["name"] == "image" else 1
        total["pods"] += times
        for bound in ("requests", "limits"):
            for what, value in container["resources"][bound].items():
                if f"{bound}.{what}" in total:
                    total[f"{bound}.{what}"] += times * amount(value)
    assert total["pods"] >= 10 and total["limits.memory"] > 0 and total["requests.nvidia.com/gpu"] > 0
    assert [name for name, value in total.items() if value > amount(quota[name])] == []
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert {"quota.yaml", "disruption.yaml", "network.yaml", "store.yaml", "images.yaml"} <= set(listed)
    assert all((DEPLOY / "kubernetes" / name).is_file() for name in listed)


def test_compose_gives_no_service_more_than_it_needs():
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == "10001:10001"
        assert "no-new-privileges:true" in service["security_opt"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert (DEPLOY / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_and_runs_without_root(path):
    text = path.read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.M)
    assert bases and all(re.fullmatch(r"python:\d+\.\d+\.\d+-[\w-]+@sha256:[0-9a-f]{64}", base) for base in bases)
    assert re.findall(r"^USER (\S+)", text, re.M)[-1] == "10001:10001"
    assert "-c constraints.txt" in text
    for source in re.findall(r"^COPY (?!--from)(?:--chmod=\d+ )?(.+) \S+$", text, re.M):
        assert all((ROOT / name).exists() for name in source.split())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    assert lint("hadolint", path) == ""


def test_shellcheck_finds_nothing():
    assert lint("shellcheck", "-x", *SCRIPTS) == ""


def test_yamllint_finds_nothing():
    assert lint("yamllint", "-c", ROOT / ".yamllint.yaml", "--strict", DEPLOY) == ""


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Certificates as deploy/tls.sh makes them."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls") / "tls"
    subprocess.run([DEPLOY / "tls.sh", folder], check=True, capture_output=True)
    return folder


def test_certificates_are_private_and_made_once(tls):
    assert {path.name for path in tls.iterdir()} == {"ca.pem", "node.pem", "node.key"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in [tls, *tls.iterdir()])
    before = (tls / "node.key").read_bytes()
    said = subprocess.run([DEPLOY / "tls.sh", tls], check=True, capture_output=True, text=True).stdout
    assert "still valid" in said
    assert (tls / "node.key").read_bytes() == before


def test_certificates_say_how_long_they_are_valid_and_are_made_anew_in_their_last_day(tls, tmp_path):
    again = subprocess.run([DEPLOY / "tls.sh", tls], check=True, capture_output=True, text=True).stdout
    assert re.search(r"still valid, until \w+ +\d+ [\d:]+ \d{4} GMT", again)
    short = tmp_path / "short"
    said = subprocess.run([DEPLOY / "tls.sh", short, "1"], check=True, capture_output=True, text=True).stdout
    assert "valid for 1 days" in said
    before = (short / "node.pem").read_bytes()
    subprocess.run([DEPLOY / "tls.sh", short, "9"], check=True, capture_output=True)
    assert (short / "node.pem").read_bytes() != before
    assert "valid for 30 days" in (DEPLOY / "README.md").read_text()


@pytest.fixture
def fake_slurm(tmp_path):
    """An sbatch that only writes down how it was called."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "sbatch").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\nwc -l <{tmp_path}/calls\n')
    (commands / "sbatch").chmod(0o755)
    return {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "POPCAT_RUN": str(tmp_path / "run"),
            "HOME": str(tmp_path)}  # fmt: skip


@pytest.mark.parametrize(("gpu", "workers"), [("0", "cpu-workers.sbatch"), ("1", "gpu-workers.sbatch")])
def test_submit_starts_scheduler_workers_and_client(fake_slurm, tls, tmp_path, gpu, workers):
    command = [DEPLOY / "slurm" / "submit.sh", "my galaxies.parquet", "-o", "out"]
    subprocess.run(command, env={**fake_slurm, "GPU": gpu}, check=True, capture_output=True)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [Path(re.search(r"\S+\.sbatch", call)[0]).name for call in calls] == [
        "scheduler.sbatch", workers, "infer.sbatch"]
    assert calls[2].endswith("infer.sbatch my galaxies.parquet -o out")
    assert (tmp_path / "run" / "jobs").read_text().split() == ["1", "2"]
    comm = yaml.safe_load((tmp_path / "run" / "dask.yaml").read_text())["distributed"]["comm"]
    assert Path(comm["tls"]["ca-file"]).is_file() and Path(comm["tls"]["worker"]["key"]).is_file()
    assert (tmp_path / "run").stat().st_mode & 0o077 == 0


def test_the_deployed_configuration_makes_a_cluster_that_speaks_tls_alone(tls, tmp_path):
    config = (DEPLOY / "dask.yaml").read_text().replace("/etc/popcat-tls", str(tls))
    (tmp_path / "dask.yaml").write_text(config)
    environment = {**os.environ, "DASK_CONFIG": str(tmp_path / "dask.yaml")}
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    with open(tmp_path / "log", "w") as log:
        options = {"env": environment, "stdout": log, "stderr": log}
        running = [subprocess.Popen([*dask, "scheduler", "--protocol", "tls", "--host", "127.0.0.1", "--port", "0",
                                     "--scheduler-file", file, "--no-dashboard"], **options)]  # fmt: skip
        try:
            while not file.exists():
                assert running[0].poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.1)
            address = json.loads(file.read_text())["address"]
            assert address.startswith("tls://")
            running.append(subprocess.Popen([*dask, "worker", "--scheduler-file", file, "--nthreads", "1",
                                             "--no-dashboard", "--no-nanny"], **options))  # fmt: skip
            simulate = [sys.executable, "-m", "popcat", "simulate", "-n", "50", "-o", tmp_path / "library",
                        "--client", file]  # fmt: skip
            subprocess.run(simulate, env=environment, check=True, capture_output=True)
            assert '"worker": "tls://' in (tmp_path / "library" / "_popcat" / "000000.json").read_text()
            plain = [*simulate[:-3], tmp_path / "other", "--client", file]
            refused = subprocess.run(plain, capture_output=True, text=True)
            assert refused.returncode == 2
            assert "no Dask scheduler answers" in refused.stderr
        finally:
            for process in running:
                process.kill()
                process.wait()
