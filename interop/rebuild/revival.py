"""What a lost class is made of: its functions, the layers inside it, its variables.

Enters: the config of an artifact and its graph. Leaves: for a layer that cannot be made from its config, a config that
can: of a ``RevivedLayer`` or ``RevivedModel``. A layer is revived where all that is known of it is enough: it is in the
graph, every tensor its function takes is an argument or a variable, and every variable belongs to it or to a layer
inside it. Where that is not so, the layer around it is revived, at last the model itself.

Invariants: a layer inside whose class is known stays that layer; keys of variables are those of the saved model.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx
import onnx_ir as ir

from interop.artifact.signature import Signature
from interop.errors import UnsupportedNodes
from interop.graph.assemble import FUNCTION_DOMAIN
from interop.graph.invocations import UNUSED, decode, leaves, places_of
from interop.rebuild.revived import RevivedLayer, RevivedModel
from interop.rebuild.source import check_supported
from interop.status import Revived

_MODEL = "model"
_POSITIONAL = ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")
_OF_THE_CLASS = ("module", "class_name", "registered_name", "config", "build_config")

# Of a layer's description and its path: the config to make it from, or None if its class is not there.
Prepare = Callable[[Mapping[str, Any]], "Mapping[str, Any] | None"]


class Reviver:
    """Makes configs of what is lost in one artifact.

    Attributes:
        problems: why layers could not be revived, by path.
    """

    def __init__(self, config: Mapping[str, Any], graph: bytes) -> None:
        self.problems: dict[str, str] = {}
        self._graph = onnx.load_from_string(graph)
        self._functions = {function.name: function for function in self._graph.functions}
        self._records = {record["path"]: record for record in config["model"]["layers"]}
        self._variables = {record["key"]: record for record in config["variables"]}
        self._signature = Signature.from_json(config["signature"])
        self._descriptions = dict(_labelled([config["model"]["object"], *self._objects()]))

    def _objects(self) -> list[Any]:
        return [record["object"] for record in self._records.values() if "object" in record]

    def revive(
        self, described: Mapping[str, Any], path: str, lost: tuple[str, ...], prepare: Prepare
    ) -> tuple[dict[str, Any], Revived] | None:
        """A config to make a layer from without its class, and what to report; None if it cannot be.

        Args:
            described: what the artifact says of the layer.
            path: of the layer.
            lost: names of the classes and functions that are missing.
            prepare: makes the config of a layer inside it.
        """
        record = self._records.get(path)
        if record is None or not record.get("invocations"):
            return None
        if not path:  # the artifact says what a model returns
            results = self._signature.output_structure
            record = {
                **record,
                "invocations": [{**record["invocations"][0], "results": results, "masks": []}],
            }
        problem = next((_problem(entry) for entry in record["invocations"] if _problem(entry)), None)
        if problem is not None:
            self.problems[path] = problem
            return None
        children = self._children(path, record, prepare)
        own = [r for key, r in self._variables.items() if self._is_own(key, path, children)]
        places = {child: self._segment(child, path, i) for i, child in enumerate(children)}
        places |= {r["key"]: _below(r["key"], path) for r in own}
        missing = [
            key
            for entry in record["invocations"]
            for key in entry["variables"]
            if key not in places and not any(key.startswith(f"{child}/") for child in children)
        ]
        if missing:
            self.problems[path] = f"it uses {missing[0]!r}, which does not belong to it"
            return None
        entries = [self._entry(entry, places, children) for entry in record["invocations"]]
        try:
            functions = self._program(entries)
        except UnsupportedNodes as error:
            self.problems[path] = str(error)
            return None
        revived = {
            "original": {key: described[key] for key in _OF_THE_CLASS if key in described},
            "how": record["call"],
            "functions": base64.b64encode(functions).decode(),
            "invocations": [entry for i, entry in enumerate(entries) if entry not in entries[:i]],
            "variables": [_variable(r, path) for r in own],
            "places": places,
            "input_specs": self._input_specs(record["invocations"][0]) if not path else None,
        }
        name = (
            (described.get("config") or {}).get("name") if isinstance(described.get("config"), dict) else None
        )
        config = {
            "name": name or path.rpartition("/")[2] or None,
            "trainable": record["trainable"],
            "revived": revived,
            "children": {places[child]: prepared for child, prepared in children.items()},
        }
        kind = (RevivedLayer if path else RevivedModel).__name__
        made = {
            **{key: item for key, item in described.items() if key not in (*_OF_THE_CLASS, "path")},
            "module": RevivedLayer.__module__,
            "class_name": kind,
            "registered_name": f"interop>{kind}",
            "config": config,
        }
        return made, Revived(path, str(described["class_name"]), lost, tuple(children), _notes(record, own))

    # Parts

    def _children(self, path: str, record: Mapping[str, Any], prepare: Prepare) -> dict[str, Any]:
        """Path to prepared config of the layers that are there: those it owns, and others that it calls or uses."""
        wanted = [inner for inner in self._records if inner and self._owner(inner) == path]
        for entry in record["invocations"]:
            wanted += [inner for inner, _ in entry["layers"]]
            wanted += [self._owner(key) for key in entry["variables"] if not _is_below(key, path)]
        found = {}
        for inner in dict.fromkeys(wanted):
            if inner in ("", path) or _is_below(path, inner) or inner not in self._descriptions:
                continue
            if _is_below(inner, path) and self._owner(inner) != path:
                continue  # a layer inside a layer inside
            prepared = prepare(self._descriptions[inner])
            if prepared is not None:
                found[inner] = prepared
        return found

    def _owner(self, path: str) -> str:
        """The path of the nearest layer around a layer or variable."""
        owner = path.rpartition("/")[0]
        while owner and owner not in self._records:
            owner = owner.rpartition("/")[0]
        return owner

    def _is_own(self, key: str, path: str, children: Mapping[str, Any]) -> bool:
        return (
            _is_below(key, path)
            and self._variables[key].get("role") != "constant"
            and not any(key.startswith(f"{child}/") for child in children)
        )

    def _segment(self, child: str, path: str, number: int) -> str:
        return _below(child, path) if _is_below(child, path) else f"shared/{number}"

    # Calls

    def _entry(
        self, entry: Mapping[str, Any], places: Mapping[str, str], children: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "function": entry["function"] or _MODEL,
            "inputs": entry["inputs"],
            "variables": entry["variables"],
            "arguments": {name: item for name, item in entry["arguments"].items() if name != "training"},
            "results": entry["results"],
            "masks": [
                [place, *mask]
                for place, mask in zip(places_of(entry["results"]), _present(entry), strict=False)
                if mask is not None
            ],
            "ends_masks": bool(entry.get("ends_masks")),
            "children": [
                self._call(inner, number, places[inner]) if inner in children else None
                for inner, number in entry["layers"]
            ],
        }

    def _call(self, path: str, number: int, part: str) -> dict[str, Any] | None:
        """How a node calls a layer; None if it can only be computed as a function."""
        record = self._records[path]
        entry = record["invocations"][number]
        if entry["arguments"] is None:
            return None
        results = list(places_of(entry["results"]))
        if len(results) != len([leaf for leaf in leaves(decode(entry["results"], int)) if leaf is not None]):
            return None
        masks = [[i, mask[1]] for i, mask in enumerate(_present(entry)) if mask and mask[0] == "output"]
        outputs = len(self._functions[entry["function"]].output)
        if {*results, *(place for _, place in masks)} != set(range(outputs)):
            return None
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        in_order = True
        for name, kind, *default in record["call"]["parameters"]:
            item = entry["arguments"].get(name)
            if name == "training":
                continue
            if kind == "VAR_POSITIONAL":
                positional += (item or {}).get("tuple", [])
            elif kind == "VAR_KEYWORD":
                keywords |= (item or {}).get("dict", {})
            elif _mentions_unused(item):
                if not default:
                    return None
            elif kind in _POSITIONAL and in_order and any(True for _ in places_of(item)):
                positional.append(item)
                continue
            elif item is not None:
                keywords[name] = item
            in_order = False
        flag = entry["arguments"].get("training")
        trains = isinstance(flag, dict) and flag.get("value") is False
        if flag is not None and not trains:
            keywords["training"] = flag
        if _mentions_unused([positional, keywords]):
            return None
        return {
            "part": part,
            "positional": positional,
            "keywords": keywords,
            "training": trains,
            "results": results,
            "masks": masks,
        }

    def _input_specs(self, entry: Mapping[str, Any]) -> Any:
        """Specs of the model's inputs, and whether they are by argument."""
        specs = [
            {"shape": list(spec.shape), "dtype": spec.dtype, "name": spec.name}
            for spec in self._signature.inputs
        ]
        by_name = {
            name: decode(item, lambda index: specs[index])
            for name, item in entry["arguments"].items()
            if any(True for _ in places_of(item))
        }
        return [next(iter(by_name.values())), False] if len(by_name) == 1 else [by_name, True]

    # Functions

    def _program(self, entries: list[dict[str, Any]]) -> bytes:
        """A model of nothing but the functions that are needed."""
        needed: dict[str, Any] = {}
        for entry in entries:
            name = entry["function"]
            needed[name] = self._whole() if name == _MODEL else self._functions[name]
            calls = [node for node in needed[name].node if node.domain == FUNCTION_DOMAIN]
            for node, call in zip(calls, entry["children"], strict=True):
                if call is None:
                    self._need(node.op_type, needed)
            for node in needed[name].node:
                for inner in _inside(node):
                    self._need(inner, needed)
        model = self._model_of(needed)
        read = ir.serde.deserialize_model(model)
        called = {node.op_type for function in needed.values() for node in function.node}
        for name in called & self._functions.keys() - needed.keys():  # the layer that is there computes it
            known = ir.Function(FUNCTION_DOMAIN, name, graph=ir.Graph([], [], nodes=[]), attributes=[])
            read.functions[known.identifier()] = known
        check_supported(read)
        for name in called & self._functions.keys():
            self._need(name, needed)
        return self._model_of(needed).SerializeToString(deterministic=True)  # type: ignore[no-any-return]

    def _model_of(self, functions: Mapping[str, Any]) -> Any:
        graph = onnx.GraphProto(name="functions")
        model = onnx.ModelProto(ir_version=self._graph.ir_version, producer_name="interop", graph=graph)
        model.opset_import.extend(self._graph.opset_import)
        model.functions.extend(functions.values())
        return model

    def _need(self, name: str, needed: dict[str, Any]) -> None:
        pending = [name]
        while pending:
            current = pending.pop()
            if current in needed:
                continue
            needed[current] = self._functions[current]
            for node in self._functions[current].node:
                pending += [node.op_type] if node.domain == FUNCTION_DOMAIN else []
                pending += _inside(node)

    def _whole(self) -> Any:
        """The graph itself as a function."""
        graph = self._graph.graph
        return onnx.FunctionProto(
            name=_MODEL,
            domain=FUNCTION_DOMAIN,
            input=[*(v.name for v in graph.input), *(t.name for t in graph.initializer)],
            output=[v.name for v in graph.output],
            node=graph.node,
            opset_import=self._graph.opset_import,
        )


def _inside(node: Any) -> list[str]:
    """Names of the functions that are called in the bodies of a loop or branch."""
    found: list[str] = []
    pending = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    while pending:
        for inner in pending.pop().node:
            found += [inner.op_type] if inner.domain == FUNCTION_DOMAIN else []
            pending += [attribute.g for attribute in inner.attribute if attribute.HasField("g")]
    return found


def _problem(entry: Mapping[str, Any]) -> str | None:
    """Why a function cannot be called with what the layer is given."""
    if entry["arguments"] is None:
        return "it is called with something that is neither a tensor nor a plain value"
    given = set(places_of({"dict": entry["arguments"]}))
    if not set(range(len(entry["inputs"]))) <= given:
        return "it computes with a tensor that it is not given as an argument"
    if _mentions_unused(entry["results"]):
        return "it returns something that is not in the graph"
    return None


def _present(entry: Mapping[str, Any]) -> list[Any]:
    """Masks of the leaves of the results that are tensors."""
    found = [leaf is not None for leaf in leaves(decode(entry["results"], int))]
    return [mask for mask, there in zip(entry["masks"], found, strict=False) if there]


def _mentions_unused(encoded: Any) -> bool:
    if isinstance(encoded, dict):
        return encoded == UNUSED or any(_mentions_unused(item) for item in encoded.values())
    return isinstance(encoded, list) and any(_mentions_unused(item) for item in encoded)


def _is_below(path: str, owner: str) -> bool:
    return not owner or path.startswith(f"{owner}/")


def _below(path: str, owner: str) -> str:
    return path.removeprefix(f"{owner}/") if owner else path


def _variable(record: Mapping[str, Any], path: str) -> dict[str, Any]:
    key = _below(record["key"], path)
    if record["role"] == "seed":
        key = key.removesuffix("/state")
    kept = {name: record[name] for name in ("dtype", "shape", "trainable", "role")}
    return {"key": key, **kept}


def _labelled(structure: Any) -> Iterator[tuple[str, Any]]:
    """(path, description) of every layer that a config describes."""
    pending = [structure]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(reversed(item))
        elif isinstance(item, dict):
            if isinstance(item.get("path"), str) and "class_name" in item:
                yield item["path"], item
            pending.extend(reversed(list(item.values())))


def _notes(record: Mapping[str, Any], own: list[Any]) -> tuple[str, ...]:
    """What the graph does not know about training."""
    notes = []
    if any(p[0] == "training" for p in record["call"]["parameters"]):
        notes.append("what its own code does when it trains is not known; layers inside it do as ever")
    if any(entry.get("adds_loss") for entry in record["invocations"]):
        notes.append("the loss that its own code adds (add_loss) is no part of training any more")
    fixed = [r["key"] for r in own if not r["trainable"] and r["role"] == "weight"]
    if fixed:
        notes.append(f"its own code no longer updates {', '.join(fixed)}")
    if any(r["role"] == "seed" for r in own):
        notes.append("it draws no random numbers of its own")
    return tuple(notes)
