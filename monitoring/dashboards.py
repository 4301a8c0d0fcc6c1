"""Makes dashboards/*.json, which Grafana reads, of dashboards/*.yaml; `--check` only compares.

They ask for metrics alone, never for recorded series, so that they work without the rules. In a query, marks
like `<queue>` stand for what is chosen at the top of the dashboard.
"""

import json
import re
import sys
import zlib
from pathlib import Path
from typing import Any, Literal

import msgspec
from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    FieldTextAlignment,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LineInterpolation,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

HERE = Path(__file__).parent
PROMETHEUS = DataSourceRef("prometheus", "${datasource}")

# All of them match where Prometheus adds no namespace or pool.
KIT = 'namespace=~"$namespace"'
MARKS = {
    "<kit>": KIT,
    "<pool>": f'{KIT}, pool=~"$pool"',
    "<scaled>": f'{KIT}, scale_target=~"$pool"',
    "<queue>": f'{KIT}, queue=~"$queue"',
    "<requests>": f'{KIT}, route!~"/healthz|/readyz|/metrics"',
}
NO_BACKLOG = r"amq\\..*|celeryev\\..*|celery_delayed_.*|gw\\..*|.+\\.pidbox|.+\\.dlq"
POOLS = (
    f"query_result(group by (pool) (worker_slots{{{KIT}}}"
    f' or label_replace(autoscaler_desired_replicas{{{KIT}}}, "pool", "$1", "scale_target", "(.+)")))'
)
QUEUES = f'label_values(rabbitmq_detailed_queue_messages_ready{{{KIT}, queue!~"{NO_BACKLOG}"}}, queue)'


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Refuses keys that it does not know."""


class Panel(_Strict, frozen=True):
    """What one panel shows; `dashed` is a regular expression for the legends that are limits."""

    title: str
    about: str
    queries: dict[str, str]  # legend → PromQL
    kind: Literal["number", "chart", "table"] = "chart"
    unit: str = "short"
    width: int | None = None  # of 24
    red_above: float | str | None = None  # or the alert that knows the number
    stacked: bool = False
    bars: bool = False
    steps: bool = False
    dashed: str = ""
    columns: tuple[str, ...] = ()

    @property
    def limit(self) -> float | None:
        """The number above which something is wrong."""
        return threshold(self.red_above) if isinstance(self.red_above, str) else self.red_above


class Row(_Strict, frozen=True):
    """Panels under one heading."""

    title: str
    panels: list[Panel]


class Page(_Strict, frozen=True):
    """One dashboard."""

    title: str
    uid: str
    about: str
    rows: list[Row]


def threshold(alert: str) -> float:
    """Find the number that an alert compares with, the first if there are several."""
    for path in HERE.glob("rules/*.yaml"):
        for group in msgspec.yaml.decode(path.read_bytes())["groups"]:
            for rule in group["rules"]:
                if rule.get("alert") == alert and (number := re.search(r"> ([\d.]+)", rule["expr"])):
                    return float(number[1])
    raise SystemExit(f"redAbove: {alert} is no alert that compares with a number")


def number(panel: Panel) -> stat.Panel:
    """One big number, with its past behind it."""
    built = (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("-")
        .thresholds(levels("text", None))
    )
    if panel.limit is not None:
        built.thresholds(levels("green", panel.limit or 1e-9))  # a level begins at its number
    return built.span(panel.width or 3).height(4)


def chart(panel: Panel) -> timeseries.Panel:
    """Lines or bars over time."""
    built = (
        timeseries.Panel()
        .draw_style(GraphDrawStyle.BARS if panel.bars else GraphDrawStyle.LINE)
        .line_interpolation(LineInterpolation.STEP_AFTER if panel.steps else LineInterpolation.LINEAR)
        .fill_opacity(60 if panel.bars else 25 if panel.stacked else 5)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if panel.stacked else StackingMode.NONE))
        .show_points(VisibilityMode.NEVER)
        .min(0)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if panel.limit is not None:
        built.thresholds(levels("green", panel.limit))
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    if panel.dashed:
        style = {"custom.lineStyle": {"fill": "dash", "dash": [8, 8]}, "custom.fillOpacity": 0}
        built.override_by_regexp(panel.dashed, [DynamicConfigValue(key, style[key]) for key in style])
    return built.span(panel.width or 8).height(8)


def listing(panel: Panel) -> table.Panel:
    """Labels as columns and the value last, the greatest on top."""
    order = {name: at for at, name in enumerate([*panel.columns, "Value"])}
    options = {"excludeByName": {"Time": True}, "indexByName": order}
    return (
        table.Panel()
        .align(FieldTextAlignment.AUTO)
        .with_transformation(DataTransformerConfig(id_val="organize", options=options))
        .sort_by([common.TableSortByFieldState().display_name("Value").desc(True)])
        .span(panel.width or 8)
        .height(8)
    )


def levels(well: str, red: float | None) -> dashboard.ThresholdsConfig:
    """A color, and red from a number on."""
    steps = [Threshold(None, well)] + ([] if red is None else [Threshold(red, "red")])
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def built(panel: Panel) -> stat.Panel | timeseries.Panel | table.Panel:
    """Any panel, with its queries."""
    kinds = {"number": number, "chart": chart, "table": listing}
    made: Any = kinds[panel.kind](panel)
    for at, (legend, expression) in enumerate(panel.queries.items()):
        query = prometheus.Dataquery().ref_id(chr(ord("A") + at)).expr(filled(expression))
        query.legend_format(legend or "__auto")
        if panel.kind == "table":
            query.format(PromQueryFormat.TABLE).instant()
        made.with_target(query)
    made.id(stable_id(panel.title)).title(panel.title).description(panel.about).unit(panel.unit)
    return made.datasource(PROMETHEUS)  # type: ignore[no-any-return]


def stable_id(title: str) -> int:
    """An id that stays when other panels come and go, so that links to it stay good."""
    return zlib.crc32(title.encode()) % 10**6


def filled(expression: str) -> str:
    """PromQL with what is chosen in place of the marks."""
    for mark, selector in MARKS.items():
        expression = expression.replace(mark, selector)
    return expression


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A choice of any of the values that a query finds."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query({"query": query, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .current(VariableOption(text="All", value="$__all"))
    )


def dashboard_of(page: Page) -> dashboard.Dashboard:
    """A whole dashboard."""
    changes = "sum by (scale_target) (changes(autoscaler_desired_replicas{<scaled>}[1m])) > 0"
    made = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.about)
        .tags(["celery-kit"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-30m", "now")
        .refresh("10s")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            choice("namespace", "Namespace", "label_values(kit_build_info, namespace)").all_value(".*")
        )
        .with_variable(choice("pool", "Pool", POOLS).regex('/pool="([^"]+)"/').all_value(".*"))
        .with_variable(choice("queue", "Queue", QUEUES))
        .annotation(
            dashboard.AnnotationQuery()
            .name("Number of workers changed")
            .datasource(PROMETHEUS)
            .enable(True)
            .icon_color("blue")
            .expr(filled(changes))
        )
    )
    for row in page.rows:
        made.with_row(dashboard.Row(row.title).id(stable_id(row.title)))
        for panel in row.panels:
            made.with_panel(built(panel))
    return made


def text_of(path: Path) -> str:
    """The JSON that a YAML file makes."""
    try:
        page = msgspec.yaml.decode(path.read_bytes(), type=Page)
    except msgspec.DecodeError as error:
        raise SystemExit(f"{path.name}: {error}") from None
    return json.dumps(dashboard_of(page).build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for source in sorted(HERE.glob("dashboards/*.yaml")):
        made = source.with_suffix(".json")
        if "--check" not in sys.argv:
            made.write_text(text_of(source))
        elif not made.exists() or made.read_text() != text_of(source):
            sys.exit(f"{made.name} is out of date: run `make docs`")
