"""Compares what a collector decoded with the page of metrics.

    curl …/metrics | totals.py OUTPUT CHATS

OUTPUT is what rotel printed with --debug-log metrics --debug-log-verbosity detailed. Its last word on every series is
taken. Exits with 1, and says what differs, unless every counter and histogram of the page has the same total there,
and so many chats are among them. With an empty page only the chats are looked at.
"""

import re
import sys

# What looking at the page and exporting change while both are compared.
RESTLESS = ('route="/metrics"', "http_requests_total{status", "_otlp_")


def of_page(text):
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    totals = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        series, value = line.rsplit(" ", 1)
        name = series.split("{")[0]
        kind = types.get(name) or types[re.sub(r"_(bucket|sum|count)$", "", name)]
        if kind != "gauge":
            totals[series] = float(value)
    return totals


def of_collector(lines):
    totals, name, kind, labels, bounds, below = {}, None, None, [], [], 0

    def series(suffix="", extra=()):
        pairs = sorted(labels) + list(extra)
        inside = ",".join(f'{key}="{value}"' for key, value in pairs)
        return name + suffix + (f"{{{inside}}}" if inside else "")

    for line in lines:
        line = line.strip()
        if found := re.fullmatch(r"-> Name: (.*)", line):
            name = found[1]
        elif found := re.fullmatch(r"-> DataType: (.*)", line):
            kind = found[1]
        elif line.startswith(("NumberDataPoints #", "HistogramDataPoints #")):
            labels, bounds, below = [], [], 0
        elif found := re.fullmatch(r"-> (\S+): (?:Str|Int)\((.*)\)", line):
            labels.append((found[1], found[2]))
        elif "AggregationTemporality:" in line:
            assert line.endswith("CUMULATIVE"), line
        elif kind == "Sum" and (found := re.fullmatch(r"Value: (.*)", line)):
            totals[series()] = float(found[1])
        elif kind == "Histogram" and (found := re.fullmatch(r"(Count|Sum): (.*)", line)):
            totals[series("_" + found[1].lower())] = float(found[2])
        elif found := re.fullmatch(r"ExplicitBounds #\d+: (.*)", line):
            bounds.append(found[1])
        elif found := re.fullmatch(r"Buckets #(\d+), Count: (\d+)", line):
            below += int(found[2])
            index = int(found[1])
            bound = bounds[index] if index < len(bounds) else "+Inf"
            totals[series("_bucket", [("le", bound)])] = float(below)
    return totals


def main():
    output, chats = sys.argv[1], float(sys.argv[2])
    with open(output, encoding="utf-8") as lines:
        there = of_collector(lines)
    page = {
        series: value for series, value in of_page(sys.stdin.read()).items() if not any(word in series for word in RESTLESS)
    }
    wrong = {series: (value, there.get(series)) for series, value in page.items() if there.get(series) != value}
    of_chats = 'llmchat_http_requests_total{method="POST",route="/api/chat/completions"'
    told = sum(value for series, value in there.items() if series.startswith(of_chats))
    if chats and told != chats:
        wrong["chats"] = (chats, told)
    for series, (ours, theirs) in sorted(wrong.items()):
        print(f"{series}: {ours} on the page, {theirs} at the collector")
    sys.exit(1 if wrong or not there else 0)


main()
