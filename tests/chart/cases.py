"""Values that people may give: every template's branches are taken by one of them."""

from collections.abc import Mapping
from typing import Any

OWN = {"existingSecret": "own"}
NOT_BUNDLED = {
    "prometheus": {"enabled": False},
    "grafana": {"enabled": False},
    "autoscaler": {"prometheusUrl": "http://prometheus.example:9090"},
}

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
    "fast": {
        "worker": {
            "pools": {
                "quick": {"queues": ["clicks"], "poolType": "threads", "profile": "fast", "packing": True}
            }
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
        **NOT_BUNDLED,
    },
    "external broker": {
        "rabbitmq": {
            "enabled": False,
            "external": {
                "host": "broker.example",
                "metricsUrl": "http://nodes.broker.example:15692",
                "existingSecret": "broker-login",
            },
        },
    },
    "operator": {
        "monitoring": {"mode": "operator", "labels": {"release": "prometheus"}},
        "worker": {"pools": {"mail": {"queues": ["mail"]}}},
        **NOT_BUNDLED,
    },
    "no monitoring": {"monitoring": {"mode": "none"}, **NOT_BUNDLED},
    "closed": {
        "networkPolicy": {
            "clients": {
                name: [{"namespaceSelector": {"matchLabels": {"team": name}}}]
                for name in ("gateway", "flower", "grafana", "rabbitmq", "mysql", "prometheus")
            },
            "servers": {"apiServer": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
            "extraEgress": {
                "all": [{"to": [{"namespaceSelector": {"matchLabels": {"team": "mesh"}}}]}],
                "worker": [],
                "gateway": [{"ports": [{"port": 8443}]}],
            },
        }
    },
    "open": {"networkPolicy": {"enabled": False}},
    "tls": {
        "certManager": {"issuerRef": {"name": "team-ca"}},
        "rabbitmq": {"tls": {"enabled": True}},
        "mysql": {"tls": {"enabled": True}},
        "gateway": {"ingress": {"enabled": True, "host": "tasks.example", "tls": {"enabled": True}}},
        "flower": {
            "urlPrefix": "/flower",
            "ingress": {"enabled": True, "className": "nginx", "annotations": {"a/b": "c"}},
        },
        "grafana": {
            "ingress": {
                "enabled": True,
                "host": "charts.example",
                "tls": {"enabled": True, "secretName": "own"},
            }
        },
    },
    "own certificates": {
        "rabbitmq": {"tls": {"enabled": True, "existingSecret": "own"}},
        "mysql": {"tls": {"enabled": True, "existingSecret": "own"}},
    },
    "external tls": {
        "rabbitmq": {
            "enabled": False,
            "external": {
                "host": "broker.example",
                "existingSecret": "broker-login",
                "tls": {"enabled": True, "caSecret": "broker-ca"},
            },
        },
        "mysql": {
            "enabled": False,
            "external": {"host": "db.example", "existingSecret": "db-login", "tls": {"enabled": True}},
        },
        **NOT_BUNDLED,
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
        "autoscaler": {"replicas": 2, "extraEnv": [{"name": "TZ", "value": "UTC"}]},
        "flower": {"urlPrefix": "/flower", "readOnly": False, "extraEnv": [{"name": "TZ", "value": "UTC"}]},
        "rabbitmq": {"persistence": {"storageClass": "fast"}, "extraConfig": "heartbeat = 30"},
        "mysql": {"persistence": {"existingClaim": "old-data"}},
        "prometheus": {"persistence": {"enabled": True}},
    },
    "thresholds": {
        "worker": {
            "autoscale": {"policy": "threshold"},
            "pools": {"quick": {"queues": ["clicks"], "autoscale": {"policy": "slo", "sloSeconds": 0.5}}},
        }
    },
    "dry run": {"autoscaler": {"mode": "dryRun"}},
    "demo": {"demo": {"enabled": True}, "gateway": {"auth": {"enabled": False}}},
    # each pool by another, on the autoscaler's advice
    "advice": {
        "autoscaler": {"mode": "advise"},
        "worker": {
            "pools": {
                "default": {"queues": ["default"]},
                "keda": {"queues": ["a"], "autoscale": {"scaler": "keda", "minWorkers": 0}},
                "hpa": {"queues": ["b"], "autoscale": {"scaler": "hpa"}},
            }
        },
    },
    # and by the backlog; YAML's `off` is false
    "followers": {
        "autoscaler": {"mode": False},
        "worker": {
            "autoscale": {"targetBacklogPerWorker": 2.5, "downWindowSeconds": 7200, "cooldownSeconds": 0},
            "pools": {
                "default": {"queues": ["default"], "autoscale": {"scaler": "keda"}},
                "more": {"queues": ["a.b", "c"], "autoscale": {"scaler": "keda"}},
                "hpa": {"queues": ["d", "e"], "autoscale": {"scaler": "hpa"}},
            },
        },
    },
}
