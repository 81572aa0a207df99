#!/usr/bin/python3
"""What a kubelet says to a container runtime, in a few words.

    cri.py version
    cri.py [--parent CGROUP] pod NAME JSON          makes a pod of the class HANDLER; JSON are members of PodSandboxConfig
    cri.py [--parent CGROUP] container POD NAME JSON   makes and starts one; JSON are members of ContainerConfig
    cri.py exec CONTAINER COMMAND…                  its output and status
    cri.py status CONTAINER | pod-status POD | stats CONTAINER      JSON
    cri.py update CONTAINER JSON                    LinuxContainerResources
    cri.py stop CONTAINER SECONDS | remove CONTAINER | remove-pod POD | pods

JSON's names and types are those of api.proto of k8s.io/cri-api v1, of which the part that is used stands below. The socket
is in CRI_SOCKET, logs go to WORK/pods.
"""

import json
import os
import sys
import uuid

import grpc

# Messages: a field's number, its type, and `*` if it is repeated; a map's type is {}. In the order of api.proto.
TYPES = {
    "VersionRequest": {"version": (1, "string")},
    "VersionResponse": {"runtime_name": (2, "string"), "runtime_version": (3, "string"), "runtime_api_version": (4, "string")},
    "Metadata": {"name": (1, "string"), "uid": (2, "string"), "namespace": (3, "string"), "attempt": (4, "int")},
    "ContainerMetadata": {"name": (1, "string"), "attempt": (2, "int")},
    "Int64Value": {"value": (1, "int")},
    "NamespaceOption": {"network": (1, "int"), "pid": (2, "int"), "ipc": (3, "int"), "target_id": (4, "string")},
    "SecurityProfile": {"profile_type": (1, "int"), "localhost_ref": (2, "string")},
    "LinuxSandboxSecurityContext": {
        "namespace_options": (1, "NamespaceOption"), "run_as_user": (3, "Int64Value"), "readonly_rootfs": (4, "bool"),
        "supplemental_groups": (5, "int*"), "privileged": (6, "bool"), "run_as_group": (8, "Int64Value"),
        "seccomp": (9, "SecurityProfile"),
    },
    "LinuxPodSandboxConfig": {
        "cgroup_parent": (1, "string"), "security_context": (2, "LinuxSandboxSecurityContext"), "sysctls": (3, "{}"),
    },
    "PodSandboxConfig": {
        "metadata": (1, "Metadata"), "hostname": (2, "string"), "log_directory": (3, "string"), "labels": (6, "{}"),
        "annotations": (7, "{}"), "linux": (8, "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig"), "runtime_handler": (2, "string")},
    "RunPodSandboxResponse": {"pod_sandbox_id": (1, "string")},
    "PodRequest": {"pod_sandbox_id": (1, "string")},
    "PodSandboxNetworkStatus": {"ip": (1, "string")},
    "PodSandboxStatus": {
        "id": (1, "string"), "metadata": (2, "Metadata"), "state": (3, "int"), "network": (5, "PodSandboxNetworkStatus"),
        "runtime_handler": (9, "string"),
    },
    "PodSandboxStatusResponse": {"status": (1, "PodSandboxStatus")},
    "PodSandbox": {"id": (1, "string")},
    "ListPodSandboxResponse": {"items": (1, "PodSandbox*")},
    "ImageSpec": {"image": (1, "string")},
    "KeyValue": {"key": (1, "string"), "value": (2, "string")},
    "Mount": {
        "container_path": (1, "string"), "host_path": (2, "string"), "readonly": (3, "bool"), "propagation": (5, "int"),
    },
    "Device": {"container_path": (1, "string"), "host_path": (2, "string"), "permissions": (3, "string")},
    "LinuxContainerResources": {
        "cpu_period": (1, "int"), "cpu_quota": (2, "int"), "cpu_shares": (3, "int"), "memory_limit_in_bytes": (4, "int"),
        "oom_score_adj": (5, "int"), "cpuset_cpus": (6, "string"), "cpuset_mems": (7, "string"),
    },
    "Capability": {"add_capabilities": (1, "string*"), "drop_capabilities": (2, "string*")},
    "LinuxContainerSecurityContext": {
        "capabilities": (1, "Capability"), "privileged": (2, "bool"), "namespace_options": (3, "NamespaceOption"),
        "run_as_user": (5, "Int64Value"), "run_as_username": (6, "string"), "readonly_rootfs": (7, "bool"),
        "supplemental_groups": (8, "int*"), "no_new_privs": (11, "bool"), "run_as_group": (12, "Int64Value"),
        "masked_paths": (13, "string*"), "readonly_paths": (14, "string*"), "seccomp": (15, "SecurityProfile"),
    },
    "LinuxContainerConfig": {
        "resources": (1, "LinuxContainerResources"), "security_context": (2, "LinuxContainerSecurityContext"),
    },
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata"), "image": (2, "ImageSpec"), "command": (3, "string*"), "args": (4, "string*"),
        "working_dir": (5, "string"), "envs": (6, "KeyValue*"), "mounts": (7, "Mount*"), "devices": (8, "Device*"),
        "log_path": (11, "string"), "stdin": (12, "bool"), "tty": (14, "bool"), "linux": (15, "LinuxContainerConfig"),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, "string"), "config": (2, "ContainerConfig"), "sandbox_config": (3, "PodSandboxConfig"),
    },
    "ContainerRequest": {"container_id": (1, "string")},
    "StopContainerRequest": {"container_id": (1, "string"), "timeout": (2, "int")},
    "ContainerStatus": {
        "id": (1, "string"), "metadata": (2, "ContainerMetadata"), "state": (3, "int"), "created_at": (4, "int"),
        "started_at": (5, "int"), "finished_at": (6, "int"), "exit_code": (7, "int"), "reason": (10, "string"),
        "message": (11, "string"), "log_path": (15, "string"),
    },
    "ContainerStatusResponse": {"status": (1, "ContainerStatus")},
    "UpdateContainerResourcesRequest": {"container_id": (1, "string"), "linux": (2, "LinuxContainerResources")},
    "ExecSyncRequest": {"container_id": (1, "string"), "cmd": (2, "string*"), "timeout": (3, "int")},
    "ExecSyncResponse": {"stdout": (1, "bytes"), "stderr": (2, "bytes"), "exit_code": (3, "int")},
    "UInt64Value": {"value": (1, "int")},
    "CpuUsage": {"timestamp": (1, "int"), "usage_core_nano_seconds": (2, "UInt64Value")},
    "MemoryUsage": {"timestamp": (1, "int"), "working_set_bytes": (2, "UInt64Value")},
    "ContainerStats": {"cpu": (2, "CpuUsage"), "memory": (3, "MemoryUsage")},
    "ContainerStatsResponse": {"stats": (1, "ContainerStats")},
    "Empty": {},
}


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, kind, value):
    if kind in ("int", "bool"):
        return varint(number << 3) + varint(int(value))
    if kind == "{}":
        entries = (field(1, "string", key) + field(2, "string", item) for key, item in value.items())
        return b"".join(varint(number << 3 | 2) + varint(len(entry)) + entry for entry in entries)
    data = value if kind == "bytes" else value.encode() if kind == "string" else encode(kind, value)
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode(name, message):
    out = b""
    for key, value in message.items():
        number, kind = TYPES[name][key]
        for item in value if kind.endswith("*") else [value]:
            out += field(number, kind.rstrip("*"), item)
    return out


def decode(name, data):
    fields = {number: (key, kind) for key, (number, kind) in TYPES[name].items()}
    message, at = {}, 0

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        tag = read()
        if tag & 7 == 0:
            value = read()
        elif tag & 7 == 2:
            length = read()
            value = data[at : at + length]
            at += length
        else:
            sys.exit(f"cri.py: {name} has a field of wire type {tag & 7}")
        if tag >> 3 not in fields:
            continue
        key, kind = fields[tag >> 3]
        base = kind.rstrip("*")
        if base in TYPES:
            value = decode(base, value)
        elif base in ("string", "bytes"):
            value = value.decode(errors="replace")
        elif base == "int" and value >= 1 << 63:
            value -= 1 << 64
        if kind.endswith("*"):
            message.setdefault(key, []).append(value)
        else:
            message[key] = value
    return message


def call(method, request, message, response="Empty"):
    with grpc.insecure_channel(f"unix://{os.environ['CRI_SOCKET']}") as channel:
        rpc = channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        try:
            return decode(response, rpc(encode(request, message), timeout=50))
        except grpc.RpcError as error:
            sys.exit(f"{method}: {error.details()}")


def merge(base, more):
    for key, value in more.items():
        base[key] = merge(base.get(key, {}), value) if isinstance(value, dict) else value
    return base


WORK = os.environ["WORK"]


def remember(pod, config=None):
    """A pod's configuration comes along with each of its containers."""
    path = f"{WORK}/pods/{pod}.json"
    if config is not None:
        with open(path, "w") as file:
            json.dump(config, file)
    with open(path) as file:
        return json.load(file)


def main():
    words, parent = sys.argv[1:], ""
    if words[0] == "--parent":
        parent, words = words[1], words[2:]
    verb, *words = words
    os.makedirs(f"{WORK}/pods", exist_ok=True)
    if verb == "version":
        seen = call("Version", "VersionRequest", {}, "VersionResponse")
        print(f"CRI {seen['runtime_api_version']} of {seen['runtime_name']} {seen['runtime_version']}")
    elif verb == "pod":
        name, more = words
        config = {
            "metadata": {"name": name, "uid": uuid.uuid4().hex, "namespace": "default"},
            "log_directory": f"{WORK}/pods/{name}",
            "linux": {"cgroup_parent": parent, "security_context": {"namespace_options": {"pid": 1}}},
        }
        merge(config, json.loads(more))
        request = {"config": config, "runtime_handler": os.environ["HANDLER"]}
        pod = call("RunPodSandbox", "RunPodSandboxRequest", request, "RunPodSandboxResponse")["pod_sandbox_id"]
        remember(pod, config)
        print(pod)
    elif verb == "container":
        pod, name, more = words
        config = {
            "metadata": {"name": name}, "image": {"image": os.environ["IMAGE"]}, "log_path": f"{name}.log",
            # A kubelet's own default: 0 would be the pod's processes, 1 are the container's.
            "linux": {"resources": {}, "security_context": {"namespace_options": {"pid": 1}}},
        }
        merge(config, json.loads(more))
        request = {"pod_sandbox_id": pod, "config": config, "sandbox_config": remember(pod)}
        container = call("CreateContainer", "CreateContainerRequest", request, "ContainerRequest")["container_id"]
        call("StartContainer", "ContainerRequest", {"container_id": container})
        print(container)
    elif verb == "exec":
        request = {"container_id": words[0], "cmd": words[1:], "timeout": 5}
        seen = call("ExecSync", "ExecSyncRequest", request, "ExecSyncResponse")
        sys.stdout.write(seen.get("stdout", ""))
        sys.stderr.write(seen.get("stderr", ""))
        sys.exit(seen.get("exit_code", 0))
    elif verb == "status":
        print(json.dumps(call("ContainerStatus", "ContainerRequest", {"container_id": words[0]}, "ContainerStatusResponse")["status"]))
    elif verb == "pod-status":
        print(json.dumps(call("PodSandboxStatus", "PodRequest", {"pod_sandbox_id": words[0]}, "PodSandboxStatusResponse")["status"]))
    elif verb == "stats":
        print(json.dumps(call("ContainerStats", "ContainerRequest", {"container_id": words[0]}, "ContainerStatsResponse")["stats"]))
    elif verb == "update":
        call("UpdateContainerResources", "UpdateContainerResourcesRequest", {"container_id": words[0], "linux": json.loads(words[1])})
    elif verb == "stop":
        call("StopContainer", "StopContainerRequest", {"container_id": words[0], "timeout": int(words[1])})
    elif verb == "remove":
        call("RemoveContainer", "ContainerRequest", {"container_id": words[0]})
    elif verb == "remove-pod":
        call("StopPodSandbox", "PodRequest", {"pod_sandbox_id": words[0]})
        call("RemovePodSandbox", "PodRequest", {"pod_sandbox_id": words[0]})
    elif verb == "pods":
        for pod in call("ListPodSandbox", "Empty", {}, "ListPodSandboxResponse").get("items", []):
            print(pod["id"])
    else:
        sys.exit(f"cri.py: no such word: {verb}")


main()
