"""Values that people may give: every template's branches are taken by one of them."""

from collections.abc import Mapping
from typing import Any

OWN = {"existingSecret": "own"}

CASES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "pools": {
        "worker": {
            "concurrency": 4,
            "pools": {
                "slow": {
                    "queues": ["reports", "exports"],
                    "taskTimeLimitSeconds": 60,
                    "autoscale": {"minWorkers": 0, "maxWorkers": 3},
                },
                "fixed": {
                    "queues": ["mail"],
                    "poolType": "gevent",
                    "concurrency": 100,
                    "replicas": 3,
                    "autoscale": {"enabled": False},
                },
            },
        }
    },
    "no pool": {"worker": {"pools": {"default": None}}},
    "no autoscaler": {"autoscaler": {"enabled": False}, "worker": {"replicas": 2}},
    "small": {
        "autoscaler": {"enabled": False},
        "flower": {"enabled": False},
        "prometheus": {"enabled": False},
        "grafana": {"enabled": False},
        "gateway": {"auth": {"enabled": False}},
        "rabbitmq": {"persistence": {"enabled": False}},
        "mysql": {"persistence": {"enabled": False}, "exporter": {"enabled": False}},
    },
    "external": {
        "rabbitmq": {
            "enabled": False,
            "external": {
                "host": "broker.example",
                "vhost": "/team a",
                "managementUrl": "http://broker.example:15672/",
                "existingSecret": "broker-login",
            },
        },
        "mysql": {
            "enabled": False,
            "external": {"host": "db.example", "database": "tasks", "existingSecret": "db-login"},
        },
        "prometheus": {"enabled": False},
        "grafana": {"enabled": False},
        "autoscaler": {"prometheusUrl": "http://prometheus.example:9090"},
    },
    "own secrets": {
        "gateway": {"auth": OWN},
        "worker": {"auth": OWN},
        "flower": {"auth": OWN},
        "rabbitmq": {"auth": OWN},
        "mysql": {"auth": OWN},
        "grafana": {"auth": OWN},
    },
    "much": {
        "global": {"imageRegistry": "registry.example/mirror", "imagePullSecrets": ["pull"]},
        "gateway": {
            "replicas": 3,
            "catalogue": {"app.report": {"queue": "default", "timeLimitSeconds": 60}},
            "extraEnv": [{"name": "CELERYKIT_GATEWAY_EXAMPLES", "value": "true"}],
        },
        "worker": {
            "taskModules": ["app.tasks", "app.more"],
            "extraEnv": [{"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "app", "key": "s"}}}],
        },
        "autoscaler": {"replicas": 2},
        "flower": {"urlPrefix": "/flower", "readOnly": False},
        "rabbitmq": {"persistence": {"storageClass": "fast"}, "extraConfig": "heartbeat = 30"},
        "mysql": {"persistence": {"existingClaim": "old-data"}},
        "prometheus": {"persistence": {"enabled": True}},
    },
}
