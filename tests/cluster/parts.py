"""The programs that make up the node: their order, flags and files."""

import json
from pathlib import Path

from tests.cluster.network import NODE_IP, POD_RANGE, SERVICE_RANGE
from tests.cluster.pki import Pki

ETCD_PORTS = (12379, 12380)  # unusual ones; all else listens on the node's own address
PAUSE = "localhost/celery-kit/pause:1"


def containerd(run: Path, root: Path) -> list[str]:
    """Write containerd's file; return its command. All of its state is below `run` and goes with it."""
    file = run / "containerd.toml"
    # restrict_oom_score_adj: without CAP_SYS_RESOURCE runc may not lower scores, and every pod fails
    file.write_text(f"""version = 2
root = "{root}"
state = "{run}/state"
[grpc]
  address = "{run}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{run}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{run}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      Root = "{run}/runc"
""")
    return ["containerd", "--config", str(file)]


def kubernetes(run: Path, node: str, pki: Pki) -> dict[str, list[str]]:
    """Write the parts' files; return their flags, in the order in which they are started."""
    client, peer = (f"http://127.0.0.1:{port}" for port in ETCD_PORTS)
    return {
        "etcd": [
            f"--data-dir={run}/etcd",
            "--unsafe-no-fsync",  # it does not outlive the node
            *(f"--{name}={client}" for name in ("listen-client-urls", "advertise-client-urls")),
            *(f"--{name}={peer}" for name in ("listen-peer-urls", "initial-advertise-peer-urls")),
            f"--initial-cluster=default={peer}",
        ],
        "kube-apiserver": [
            f"--etcd-servers={client}",
            f"--bind-address={NODE_IP}",
            f"--advertise-address={NODE_IP}",
            "--secure-port=6443",
            f"--tls-cert-file={pki['kube-apiserver.crt']}",
            f"--tls-private-key-file={pki['kube-apiserver.key']}",
            f"--client-ca-file={pki['ca.crt']}",
            f"--service-account-key-file={pki['serviceaccounts.key']}",
            f"--service-account-signing-key-file={pki['serviceaccounts.key']}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-client-certificate={pki['admin.crt']}",
            f"--kubelet-client-key={pki['admin.key']}",
            "--kubelet-preferred-address-types=InternalIP",
        ],
        "kube-controller-manager": [
            f"--kubeconfig={pki['kube-controller-manager.kubeconfig']}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            f"--service-account-private-key-file={pki['serviceaccounts.key']}",
            f"--root-ca-file={pki['ca.crt']}",
            "--use-service-account-credentials",
            f"--flex-volume-plugin-dir={run}/volume-plugins",
        ],
        "kube-scheduler": [
            f"--kubeconfig={pki['kube-scheduler.kubeconfig']}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
        "kubelet": [
            f"--config={_write(run / 'kubelet.json', _kubelet(run, pki))}",
            f"--kubeconfig={pki['kubelet.kubeconfig']}",
            f"--hostname-override={node}",
            f"--node-ip={NODE_IP}",
            f"--root-dir={run}/kubelet",
        ],
        "kube-proxy": [f"--config={_write(run / 'kube-proxy.json', _kube_proxy(node, pki))}"],
        "coredns": ["-conf", str(_corefile(run, pki))],
    }


def _kubelet(run: Path, pki: Pki) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_IP,
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": pki["ca.crt"]},
            "webhook": {"enabled": False},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": pki["kubelet.crt"],
        "tlsPrivateKeyFile": pki["kubelet.key"],
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/celerykit",
        "containerRuntimeEndpoint": f"unix://{run}/containerd.sock",
        "clusterDNS": [NODE_IP],
        "clusterDomain": "cluster.local",
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,  # nothing could bring an image back
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "enforceNodeAllocatable": [],
        "podLogsDir": f"{run}/pod-logs",
        "volumePluginDir": f"{run}/volume-plugins",
    }


def _kube_proxy(node: str, pki: Pki) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": pki["kube-proxy.kubeconfig"]},
        "clusterCIDR": POD_RANGE,
        "mode": "iptables",
        "hostnameOverride": node,
        "healthzBindAddress": f"{NODE_IP}:10256",
        "metricsBindAddress": f"{NODE_IP}:10249",
        # leave the machine's own settings as they are
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"localhostNodePorts": False},
    }


def _corefile(run: Path, pki: Pki) -> Path:
    file = run / "Corefile"
    file.write_text(f""".:53 {{
    bind {NODE_IP}
    errors
    ready {NODE_IP}:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {pki["admin.kubeconfig"]} lab
        pods insecure
    }}
    cache 5
}}
""")
    return file


def _write(file: Path, content: dict[str, object]) -> Path:
    file.write_text(json.dumps(content, indent=1))
    return file
