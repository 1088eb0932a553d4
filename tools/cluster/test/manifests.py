"""Checks the Kubernetes manifests as `kubectl kustomize` prints them, and makes containers for runc from the Job.

    manifests.py validate FILE VERSION...         against the schemas of these versions of Kubernetes
    manifests.py containers FILE JOB FOLDER OPTION=VALUE...
                                                  a bundle for runc, FOLDER/INDEX, for each pod of the Job

Options of `containers`: `rootfs` (folder of the image), `netns` (path with {index}), `address` (with {} for the index from 1),
`claim`, `hosts` (a file), `seccomp` (the profile that manifests name), `flag` (another value for a line of the ConfigMap, name=value; may be repeated). Needs
kubernetes-validate, which brings PyYAML.
"""

import json
import pathlib
import re
import sys
from typing import Any, Dict, Iterator, List, Tuple

import yaml

Object = Dict[str, Any]
#: Kinds that are no part of Kubernetes, and so in no schema; the templates in them are checked as Jobs.
CUSTOM = {"JobSet"}
#: What the default profiles of the container runtimes refuse.
IO_URING = ["io_uring_setup", "io_uring_enter", "io_uring_register"]


def objects(path: str) -> List[Object]:
    return [one for one in yaml.safe_load_all(pathlib.Path(path).read_text()) if one]


def find(all_objects: List[Object], kind: str, name: str) -> Object:
    return next(one for one in all_objects if one["kind"] == kind and one["metadata"]["name"] == name)


def jobs(all_objects: List[Object]) -> Iterator[Object]:
    """The Jobs, and those in the templates of JobSets."""
    for one in all_objects:
        if one["kind"] == "Job":
            yield one
        if one["kind"] == "JobSet":
            for replicated in one["spec"]["replicatedJobs"]:
                name = f"{one['metadata']['name']}-{replicated['name']}"
                spec = replicated["template"]["spec"]
                yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def check_job(job: Object) -> List[str]:
    """What a schema cannot find."""
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    context = {**pod["securityContext"], **container["securityContext"]}
    wrong = []
    if spec.get("completionMode") == "Indexed":
        shards = next(one["value"] for one in container["env"] if one["name"] == "RINGMARK_SHARDS")
        if not spec["completions"] == spec["parallelism"] == int(shards):
            wrong.append(f"{name}: completions, parallelism and RINGMARK_SHARDS differ")
        if not any(argument.startswith("--rendezvous=tcp:") for argument in container["args"]):
            wrong.append(f"{name}: there is no rendezvous")
    if 0 not in (spec.get("backoffLimit"), spec.get("backoffLimitPerIndex")) or pod["restartPolicy"] != "Never":
        wrong.append(f"{name}: shards would be started again")
    needed = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False}
    wrong += [f"{name}: {key} is not {value}" for key, value in needed.items() if context.get(key) is not value]
    if context.get("capabilities") != {"drop": ["ALL"]} or context["seccompProfile"]["type"] == "Unconfined":
        wrong.append(f"{name}: it has capabilities or no seccomp profile")
    volumes = {volume["name"] for volume in pod["volumes"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    if volumes != mounted:
        wrong.append(f"{name}: the volumes {volumes} are not those that are mounted, {mounted}")
    return wrong


def validate(path: str, versions: List[str]) -> int:
    import kubernetes_validate

    all_objects = objects(path)
    wrong = [line for job in jobs(all_objects) for line in check_job(job)]
    known = [one for one in all_objects if one["kind"] not in CUSTOM]
    known += [job for job in jobs(all_objects) if job not in known]
    for version in versions:
        for one in known:
            try:
                kubernetes_validate.validate(one, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                wrong.append(f"{one['kind']} {one['metadata']['name']}, Kubernetes {version}: {error.message}")
    for line in wrong:
        print(f"{path}: {line}")
    if not wrong:
        print(f"{path}: {len(known)} objects fit Kubernetes {', '.join(versions)}")
    return int(bool(wrong))


def expanded(text: str, variables: Dict[str, str]) -> str:
    """The text with $(NAME) replaced, as the kubelet does."""
    return re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), text)


def configuration(all_objects: List[Object], pod: Object, index: int, options: Dict[str, Any]) -> Tuple[Object, Dict[str, str]]:
    """The configuration of a container for runc, and the files of its ConfigMaps: path and text."""
    (container,) = pod["containers"]
    context = {**pod["securityContext"], **container["securityContext"]}
    variables = {"JOB_COMPLETION_INDEX": str(index)}
    for one in container.get("env", []):
        if "fieldRef" in one.get("valueFrom", {}):
            variables[one["name"]] = options["address"].format(index + 1)
        else:
            # The only secret is the token of the job.
            variables[one["name"]] = one.get("value", "0123456789abcdef0123456789abcdef")
    private = ["nosuid", "noexec", "nodev"]
    mounts: List[Object] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/etc/hosts", "type": "bind", "source": options["hosts"], "options": ["bind", "ro"]},
    ]
    files: Dict[str, str] = {}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        read_only = ["ro"] if mount.get("readOnly") else ["rw"]
        one = {"destination": mount["mountPath"], "type": "bind", "options": ["bind", *read_only]}
        if "emptyDir" in volume:
            # As world-writable as the kubelet makes it.
            one = {"destination": mount["mountPath"], "type": "tmpfs", "source": "tmpfs", "options": [*private, "mode=1777"]}
        elif "persistentVolumeClaim" in volume:
            one["source"] = options["claim"]
        else:
            one["source"] = f"{options['folder']}/{mount['name']}"
            data = find(all_objects, "ConfigMap", volume["configMap"]["name"])["data"]
            files.update({f"{one['source']}/{name}": text for name, text in data.items()})
        mounts.append(one)
    namespaces = [{"type": name} for name in ("pid", "ipc", "mount", "uts")]
    namespaces.append({"type": "network", "path": options["netns"].format(index=index)})
    seccomp = json.loads(pathlib.Path(options["seccomp"]).read_text())
    if context["seccompProfile"]["type"] == "RuntimeDefault":
        # The same, as far as it matters here, but for this.
        seccomp["syscalls"].append({"names": IO_URING, "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
    linux: Object = {"namespaces": namespaces, "seccomp": seccomp}
    arguments = [expanded(text, variables) for text in container["args"]]
    none: List[str] = []
    return {
        "ociVersion": "1.0.2",
        "hostname": f"ringmark-{index}",
        "root": {"path": options["rootfs"], "readonly": context["readOnlyRootFilesystem"]},
        "process": {
            "user": {"uid": context["runAsUser"], "gid": context["runAsGroup"]},
            "args": ["/ringmark", *arguments],
            "env": [f"{name}={value}" for name, value in variables.items()],
            "cwd": "/",
            "noNewPrivileges": not context["allowPrivilegeEscalation"],
            "capabilities": {name: none for name in ("bounding", "effective", "inheritable", "permitted", "ambient")},
        },
        "mounts": mounts,
        "linux": linux,
    }, files


def with_flags(text: str, flags: Dict[str, str]) -> str:
    """A file of flags with other values for some of them. Those with an empty value are left out."""
    kept = [line for line in text.splitlines() if line.split(" = ")[0] not in flags]
    return "\n".join([*kept, *(f"{name} = {value}" for name, value in flags.items() if value)]) + "\n"


def containers(path: str, job_name: str, folder: str, given: List[str]) -> int:
    all_objects = objects(path)
    job = find(all_objects, "Job", job_name)
    flags = dict(text[len("flag=") :].split("=", 1) for text in given if text.startswith("flag="))
    options: Dict[str, Any] = dict(text.split("=", 1) for text in given if not text.startswith("flag="))
    for index in range(job["spec"].get("completions", 1)):
        bundle = pathlib.Path(folder).resolve() / str(index)
        bundle.mkdir(parents=True)
        config, files = configuration(all_objects, job["spec"]["template"]["spec"], index, {**options, "folder": str(bundle)})
        (bundle / "config.json").write_text(json.dumps(config, indent=1))
        for name, text in files.items():
            pathlib.Path(name).parent.mkdir(exist_ok=True)
            pathlib.Path(name).write_text(with_flags(text, flags))
    return 0


def main() -> int:
    command, *arguments = sys.argv[1:]
    if command == "validate":
        return validate(arguments[0], arguments[1:])
    path, job, folder, *options = arguments
    return containers(path, job, folder, options)


if __name__ == "__main__":
    sys.exit(main())
