"""The tables in README.md that say what is supported, made from the code itself.

python tools/support_table.py           # print them
python tools/support_table.py --write   # put them into README.md
python tools/support_table.py --check   # exit code 1 if README.md is stale
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from interop.capture.keras import registry
from interop.capture.keras.absent import ABSENT
from interop.graph.opsets import DEFAULT_OPSET, IR_VERSIONS
from interop.parity.tolerance import SHARES, TOLERANCES

README = Path(__file__).resolve().parent.parent / "README.md"
COMMAND = "python tools/support_table.py --write"


def tolerances() -> Iterator[str]:
    """Lines of the tolerance table."""
    yield "| element type | rtol | atol |"
    yield "|---|---|---|"
    for dtype, tolerance in TOLERANCES.items():
        yield f"| {dtype} | {tolerance.rtol:g} | {tolerance.atol:g} |"
    for dtype, share in SHARES.items():
        yield f"| any, where quantised layers round activations to {dtype} | | + {share:g} of the root mean square |"


def support() -> Iterator[str]:
    """Lines of the support table: emitters by family, from the registry."""
    lowest, newest = min(IR_VERSIONS), max(IR_VERSIONS)
    tables = registry.registered()
    yield (
        f"ONNX opsets {lowest} to {newest} (default {DEFAULT_OPSET}), on JAX, TensorFlow and PyTorch. "
        "A layer needs no row of its own: its code runs, and it is captured if the operations it uses "
        "are. `(21+)` marks what needs a newer opset than the lowest."
    )
    finders = {
        "operation": ("Keras operations", registry.find_op),
        "layer": ("Layers with an emitter of their own", registry.find_layer),
        "function": ("Backend functions that layers call", registry.find_function),
    }
    for kind, (title, find) in finders.items():
        families: dict[str, list[str]] = defaultdict(list)
        for key, versions in tables[kind].items():
            emitter = find(key, newest)
            assert emitter is not None
            family = emitter.function.__module__.rpartition(".")[2]
            families[family].append(key if versions[0] <= lowest else f"{key} ({versions[0]}+)")
        yield ""
        yield f"| family | {title}: {len(tables[kind])} |"
        yield "|---|---|"
        for family, keys in sorted(families.items()):
            yield f"| {family} | {', '.join(sorted(keys))} |"
    yield ""
    yield f"| Functions of `keras.ops` that ONNX has no form for: {len(ABSENT)} | why |"
    yield "|---|---|"
    for name, why in sorted(ABSENT.items()):
        yield f"| {name} | {why} |"


def updated(text: str) -> str:
    """README's text with both tables made anew.

    Raises:
        SystemExit: a marker is missing.
    """
    for name, lines in (("tolerances", tolerances()), ("support", support())):
        begin, end = f"<!-- {name}: begin ({COMMAND}) -->", f"<!-- {name}: end -->"
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not found_begin or not found_end:
            raise SystemExit(f"README.md lacks the markers {begin} and {end}")
        text = f"{before}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{after}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--write", action="store_true", help="update README.md")
    choice.add_argument("--check", action="store_true", help="exit code 1 if README.md is stale")
    arguments = parser.parse_args()
    if not arguments.write and not arguments.check:
        print("\n".join([*tolerances(), "", *support()]))
        return 0
    text = README.read_text(encoding="utf-8")
    fresh = updated(text)
    if arguments.write:
        README.write_text(fresh, encoding="utf-8")
        return 0
    if text != fresh:
        print(f"README.md is stale: run `{COMMAND}`", file=sys.stderr)
        return 1
    print("README.md is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
