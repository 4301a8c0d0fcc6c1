"""Keys, certificates and kubeconfigs of one life of the cluster."""

from pathlib import Path

import msgspec

from tests.cluster.network import NODE_IP
from tests.cluster.tools import run

API = f"https://{NODE_IP}:6443"
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_API_NAMES = [
    *("DNS:kubernetes", "DNS:kubernetes.default", "DNS:kubernetes.default.svc"),
    *("DNS:kubernetes.default.svc.cluster.local", "IP:10.96.0.1", f"IP:{NODE_IP}"),
]
_USERS = {
    "admin": "/O=system:masters/CN=admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
}


class Pki:
    """The files: `<name>.key` and `<name>.crt` each, and `<user>.kubeconfig`."""

    def __init__(self, folder: Path, node: str) -> None:
        self.folder = folder
        self._node = node

    def __getitem__(self, file: str) -> str:
        return str(self.folder / file)

    def make(self) -> None:
        """Make all of them anew."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Python 3.13 verifies strictly: an authority says so, and what it signs names it
        use = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        request = ("openssl", "req", "-x509", *_CURVE, "-subj", "/CN=celery-kit", *use)
        run(*request, "-days", "365", "-keyout", self["ca.key"], "-out", self["ca.crt"])
        run("openssl", "genrsa", "-out", self["serviceaccounts.key"], "2048")
        self._issue("kube-apiserver", "/CN=kube-apiserver", _API_NAMES)
        users = {**_USERS, "kubelet": f"/O=system:nodes/CN=system:node:{self._node}"}
        for name, subject in users.items():
            self._issue(name, subject, [f"DNS:{self._node}", f"IP:{NODE_IP}"])
            Path(self[f"{name}.kubeconfig"]).write_bytes(msgspec.yaml.encode(self._kubeconfig(name)))

    def _issue(self, name: str, subject: str, names: list[str]) -> None:
        key, asked, extensions = self[f"{name}.key"], self[f"{name}.csr"], self[f"{name}.extensions"]
        use = "extendedKeyUsage=serverAuth,clientAuth"
        Path(extensions).write_text(
            f"{use}\nauthorityKeyIdentifier=keyid\nsubjectAltName={','.join(names)}\n"
        )
        run("openssl", "req", *_CURVE, "-subj", subject, "-keyout", key, "-out", asked)
        authority = ("-CA", self["ca.crt"], "-CAkey", self["ca.key"], "-CAcreateserial")
        sign = ("openssl", "x509", "-req", "-in", asked, *authority, "-days", "365", "-extfile", extensions)
        run(*sign, "-out", self[f"{name}.crt"])

    def _kubeconfig(self, user: str) -> dict[str, object]:
        login = {"client-certificate": self[f"{user}.crt"], "client-key": self[f"{user}.key"]}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "lab", "cluster": {"server": API, "certificate-authority": self["ca.crt"]}}
            ],
            "users": [{"name": user, "user": login}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "current-context": "lab",
        }
