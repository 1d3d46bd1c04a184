"""A JAX function or a Flax module becomes a graph, through ``jax2onnx``.

Enters: a function of arrays; ``functools.partial(function, params)``, whose bound arrays are parameters; a bound
Flax linen module (``module.bind(variables)``); a Flax nnx module. Leaves: a ``ForeignCapture`` whose initializers
are named by the path of each parameter (``params/dense/kernel``).
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from interop.artifact.signature import Structure, pack
from interop.capture.foreign import (
    ForeignCapture,
    NamedInput,
    Parameter,
    lift_inputs,
    outward,
    quiet,
    structure_of,
)
from interop.capture.specs import legal_name, named_dims, structured
from interop.errors import BackendError, CaptureError, UnsupportedOp
from interop.graph.opsets import check_opset


@dataclass(frozen=True)
class _Function:
    """A pure function of parameters and inputs.

    Attributes:
        call: ``call(leaves, *args, **kwargs)`` with the parameters as flat leaves.
        names: path of each leaf.
        leaves: the parameters.
        arguments: names of the inputs, as far as they are known.
        trainable: whether a parameter is trained, by name.
    """

    call: Callable[..., Any]
    names: list[str]
    leaves: list[Any]
    arguments: list[str]
    trainable: Callable[[str], bool] = lambda name: True


def capture(model: Any, *, input_signature: Any = None, opset: int | None = None) -> ForeignCapture:
    """Capture a function or module.

    Args:
        model: what to capture; see the module's docstring for what counts as its parameters.
        input_signature: example inputs, shapes or specs of the inputs that are not bound: a tuple or list of
            positional arguments, a dict of arguments by name, or the only argument.
        opset: ONNX opset, 17 to 23; default 20.

    Raises:
        CaptureError: there is no signature, or the exporter failed; its reason is in the message.
        UnsupportedOp: a primitive has no ONNX form.
        BackendError: jax2onnx is not installed; names the extra.
    """
    opset = check_opset(opset)
    if input_signature is None:
        raise CaptureError(
            "a JAX function does not tell its inputs. Pass input_signature, such as input_signature=[(None, 32)]"
        )
    function = _function(model)
    structure, inputs = _inputs(function, input_signature)
    return _captured(function, structure, inputs, opset)


def capture_function(
    call: Callable[..., Any], inputs: Sequence[NamedInput], variables: Sequence[tuple[str, Any]], opset: int
) -> ForeignCapture:
    """Capture ``call(values, *inputs)``, a function of the values of Keras variables and of tensors.

    Args:
        call: what to capture; returns a tuple of tensors.
        inputs: specs of the tensors.
        variables: (key, Keras variable): the names of the initializers.
        opset: of the result.
    """
    trained = {key for key, variable in variables if variable.trainable}
    names, leaves = [key for key, _ in variables], [variable.value for _, variable in variables]
    function = _Function(call, names, leaves, [], trained.__contains__)
    structure = {"dict": {"args": {"list": list(range(len(inputs)))}, "kwargs": {"dict": {}}}}
    return _captured(function, structure, list(inputs), opset)


def _captured(
    function: _Function, structure: Structure, inputs: list[NamedInput], opset: int
) -> ForeignCapture:
    import jax
    import onnx_ir as ir

    try:
        import jax2onnx
    except ImportError as error:
        raise BackendError(
            "JAX functions are exported through jax2onnx, which is not installed: "
            "pip install 'interop[jax-export]'"
        ) from error
    specs = [jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype) for leaf in function.leaves]
    shapes: list[Any] = [
        jax.ShapeDtypeStruct(_symbolic(inputs, i), np.dtype(spec.dtype)) for i, spec in enumerate(inputs)
    ]
    outputs: list[Any] = []

    def flat(*arrays: Any) -> tuple[Any, ...]:
        count = len(function.leaves)
        nested = pack(structure, list(arrays[count:]))
        result = function.call(list(arrays[:count]), *nested["args"], **nested["kwargs"])
        tree, leaves, names = structure_of(_plain(result))
        outputs[:] = [tree, names]
        return tuple(leaves)

    def exported(call: Callable[..., Any]) -> Any:
        return jax2onnx.to_onnx(
            call,
            inputs=[*specs, *shapes],
            opset=opset,
            return_mode="ir",
            input_names=[*function.names, *(f"{spec.name}#given" for spec in inputs)],
            enable_double_precision=any(spec.dtype in ("float64", "int64") for spec in inputs),
        )

    try:
        with quiet():
            made = _exported(exported, flat, lambda: _traced(flat, [*specs, *shapes]))
    except Exception as error:
        kind = UnsupportedOp if isinstance(error, NotImplementedError | KeyError) else CaptureError
        text = f"{type(error).__name__}: {error}"
        raise kind(f"jax2onnx cannot export the function. It says: {text:.600}") from error
    if not isinstance(made, ir.Model):
        made = ir.from_proto(made)
    contents = {name: np.asarray(leaf) for name, leaf in zip(function.names, function.leaves, strict=True)}
    lift_inputs(made, contents)
    return ForeignCapture(
        made,
        source={"framework": "jax", "version": jax.__version__},
        opset=opset,
        inputs=inputs,
        input_structure=outward(structure),
        output_names=outputs[1],
        output_structure=outputs[0],
        parameters=[
            Parameter(name, functools.partial(np.asarray, array), function.trainable(name))
            for name, array in contents.items()
        ],
    )


def _exported(export: Callable[..., Any], call: Callable[..., Any], traced: Callable[[], Any]) -> Any:
    """The function exported as it is or, where that fails, as it was traced; else the first error, which says more."""
    try:
        return export(call)
    except Exception:
        with suppress(Exception):
            return export(traced())
        raise


def _traced(call: Callable[..., Any], specs: Sequence[Any]) -> Callable[..., Any]:
    """The function as JAX traces it, without what its results do not depend on, such as keys of random numbers.

    jax2onnx 0.17 traces with functions of its own in place of some of JAX's and Flax's; a recurrent layer of Flax does
    not run on these, others ask for fixed sizes, and a key among the constants is more than it can write.
    """
    import jax
    from jax.interpreters.partial_eval import dce_jaxpr

    closed = jax.make_jaxpr(call)(*specs)
    jaxpr, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    used = {
        variable for equation in jaxpr.eqns for variable in equation.invars if not hasattr(variable, "val")
    }
    used |= {variable for variable in jaxpr.outvars if not hasattr(variable, "val")}
    consts = [
        value if variable in used else np.zeros(())
        for variable, value in zip(jaxpr.constvars, closed.consts, strict=True)
    ]
    return lambda *arrays: tuple(_evaluated(jaxpr, consts, arrays))


def _evaluated(jaxpr: Any, consts: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    """The outputs of a jaxpr, with the remainder (which jax2onnx writes for fixed sizes only) taken apart."""
    import jax

    values = dict(zip(jaxpr.constvars, consts, strict=True)) | dict(zip(jaxpr.invars, arrays, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name == "rem":
            made = [_remainder(*given)]
        elif name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            made = _evaluated(inner.jaxpr, inner.consts, given)
        else:
            places = {
                atom: value
                for atom, value in zip(equation.invars, given, strict=True)
                if not hasattr(atom, "val")
            }
            alone = jaxpr.replace(
                constvars=[], invars=list(places), outvars=equation.outvars, eqns=[equation]
            )
            made = jax.core.eval_jaxpr(alone, [], *places.values())
        values.update(zip(equation.outvars, made, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _remainder(x: Any, y: Any) -> Any:
    """With the sign of x, as ``lax.rem``; floats for quotients that their type holds exactly."""
    import jax.numpy as jnp
    from jax import lax

    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x - lax.div(x, y) * y
    quotient = x / y
    whole = jnp.where(quotient < 0, jnp.ceil(quotient), jnp.floor(quotient))
    product, lost = _exact_product(whole, y)
    rest = (x - product) - lost
    # A quotient just below a whole number is rounded to it: then the rest has the wrong sign.
    return jnp.where(jnp.sign(rest) * jnp.sign(x) < 0, rest + jnp.sign(x) * jnp.abs(y), rest)


def _exact_product(a: Any, b: Any) -> tuple[Any, Any]:
    """A product as it is rounded, and what rounding lost (T. Dekker, A floating-point technique, 1971)."""
    import jax.numpy as jnp

    digits = -(-(jnp.finfo(a.dtype).nmant + 1) // 2)

    def halves(x: Any) -> tuple[Any, Any]:
        scaled = x * (2.0**digits + 1)
        high = scaled - (scaled - x)
        return high, x - high

    product = a * b
    (a_high, a_low), (b_high, b_low) = halves(a), halves(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def run(
    model: Any, structure: Structure, arrays: Sequence[np.ndarray[Any, Any]]
) -> list[np.ndarray[Any, Any]]:
    """The function's outputs, flat, for inputs in the order of ``structure``."""
    function = _function(model)
    nested = pack(structure, list(arrays))
    args, kwargs = _arguments(nested)
    _, leaves, _ = structure_of(_plain(function.call(function.leaves, *args, **kwargs)))
    return [np.asarray(leaf) for leaf in leaves]


def _function(model: Any) -> _Function:
    linen, nnx = sys.modules.get("flax.linen"), sys.modules.get("flax.nnx")
    if linen is not None and isinstance(model, linen.Module):
        return _linen(model)
    if nnx is not None and isinstance(model, nnx.Module):
        return _nnx(model, nnx)
    if isinstance(model, functools.partial):
        return _partial(model)
    return _Function(
        lambda leaves, *args, **kwargs: model(*args, **kwargs), [], [], _argument_names(model, 0)
    )


def _linen(module: Any) -> _Function:
    if module.scope is None:
        raise CaptureError(
            f"{type(module).__name__} is a Flax module without variables. Pass module.bind(variables)"
        )
    unbound, variables = module.unbind()
    names, leaves, rebuild = _flattened(variables)

    def call(values: list[Any], *args: Any, **kwargs: Any) -> Any:
        return unbound.apply(rebuild(values), *args, **kwargs)

    arguments = _argument_names(unbound.__call__, 0)
    return _Function(call, names, leaves, arguments, lambda name: name.startswith("params/"))


def _nnx(module: Any, nnx: Any) -> _Function:
    definition, state = nnx.split(module)
    names, leaves, rebuild = _flattened(state)

    def call(values: list[Any], *args: Any, **kwargs: Any) -> Any:
        return nnx.merge(definition, rebuild(values))(*args, **kwargs)

    trained = set(_flattened(nnx.state(module, nnx.Param))[0])
    return _Function(call, names, leaves, _argument_names(module.__call__, 0), trained.__contains__)


def _partial(bound: functools.partial[Any]) -> _Function:
    names, leaves, rebuild = _flattened((bound.args, bound.keywords))
    names = [name.split("/", 2)[-1] if name.count("/") > 1 else name.replace("/", "_") for name in names]

    def call(values: list[Any], *args: Any, **kwargs: Any) -> Any:
        given, keywords = rebuild(values)
        return bound.func(*given, *args, **{**keywords, **kwargs})

    return _Function(call, _unique(names), leaves, _argument_names(bound.func, len(bound.args)))


def _flattened(tree: Any) -> tuple[list[str], list[Any], Callable[[list[Any]], Any]]:
    """Paths and leaves of the arrays in a tree, and a function that puts others in their place.

    What is no array of numbers (a flag, a size, the key of a random generator) stays as it is.
    """
    import jax

    found, definition = jax.tree_util.tree_flatten_with_path(tree)
    arrays = [
        i
        for i, (_, leaf) in enumerate(found)
        if isinstance(leaf, jax.Array | np.ndarray)
        and not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]
    names = [legal_name("/".join(_key(part) for part in found[i][0])) for i in arrays]

    def rebuild(values: list[Any]) -> Any:
        leaves = [leaf for _, leaf in found]
        for i, value in zip(arrays, values, strict=True):
            leaves[i] = value
        return jax.tree_util.tree_unflatten(definition, leaves)

    names = [name.removesuffix("/value") for name in names]
    return _unique(names), [found[i][1] for i in arrays], rebuild


def _key(part: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(part, attribute):
            return str(getattr(part, attribute))
    return str(part)


def _unique(names: list[str]) -> list[str]:
    made: list[str] = []
    for index, name in enumerate(names):
        made.append(f"{name}_{index}" if name in made else name)
    return made


def _argument_names(function: Any, skipped: int) -> list[str]:
    try:
        declared = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = [p.name for p in declared if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
    return positional[skipped:]


def _inputs(function: _Function, input_signature: Any) -> tuple[Structure, list[NamedInput]]:
    """Structure ``{"args": [...], "kwargs": {...}}`` of the inputs, and each input."""
    nested = structured(input_signature)
    if isinstance(nested, Mapping) and set(nested) <= set(function.arguments):
        tree: dict[str, Any] = {"args": [], "kwargs": dict(nested)}
    else:
        tree = {"args": list(nested) if isinstance(nested, list | tuple) else [nested], "kwargs": {}}
    structure, leaves, keys = structure_of(tree)
    flat = len(leaves) == len(tree["args"])
    inputs: list[NamedInput] = []
    for index, (leaf, key) in enumerate(zip(leaves, keys, strict=True)):
        known = function.arguments[index] if flat and index < len(function.arguments) else f"input_{index}"
        name = legal_name(leaf.name or key or known)
        inputs.append(NamedInput(name, leaf.dtype or "float32", named_dims(name, leaf.shape)))
    return structure, inputs


def _symbolic(inputs: Sequence[NamedInput], index: int) -> tuple[Any, ...]:
    """The shape of an input with jax's symbolic dimensions; those of all inputs share one scope."""
    import jax

    scope = _scope(tuple(inputs))
    text = ", ".join(dim if isinstance(dim, str) else str(dim) for dim in inputs[index].shape)
    return tuple(jax.export.symbolic_shape(f"({text},)" if text else "()", scope=scope))


@functools.lru_cache(maxsize=1)
def _scope(inputs: tuple[NamedInput, ...]) -> Any:
    from jax import export

    return export.SymbolicScope()


def _arguments(nested: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(nested, dict):
        return (), nested
    return (nested if isinstance(nested, tuple) else (nested,)), {}


def _plain(result: Any) -> Any:
    """An output in plain containers: dataclasses and named tuples as JAX takes them apart."""
    import jax

    if isinstance(result, Mapping):
        return {str(key): _plain(item) for key, item in result.items()}
    if isinstance(result, list | tuple):
        return (
            type(result)(_plain(i) for i in result)
            if type(result) in (list, tuple)
            else tuple(map(_plain, result))
        )
    leaves = jax.tree_util.tree_leaves(result)
    return result if len(leaves) == 1 and leaves[0] is result else tuple(leaves)


def named_leaves(model: Any) -> dict[str, Any]:
    """The arrays of a module or partial function by the names that its capture gives them."""
    function = _function(model)
    return dict(zip(function.names, function.leaves, strict=True))


def with_leaves(model: Any, values: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """The model with other arrays: an nnx module is changed, of a linen module or partial there is a new one."""
    import jax.numpy as jnp

    linen, nnx = sys.modules.get("flax.linen"), sys.modules.get("flax.nnx")
    if linen is not None and isinstance(model, linen.Module):
        unbound, tree = model.unbind()
    elif nnx is not None and isinstance(model, nnx.Module):
        tree = nnx.state(model)
    elif isinstance(model, functools.partial):
        tree = (model.args, model.keywords)
    else:
        raise CaptureError(
            f"{model!r:.80} has no parameters to set: pass functools.partial(function, params)"
        )
    names, leaves, rebuild = _flattened(tree)
    if isinstance(model, functools.partial):
        names = list(named_leaves(model))
    made = rebuild(
        [
            jnp.asarray(values[name], leaf.dtype) if name in values else leaf
            for name, leaf in zip(names, leaves, strict=True)
        ]
    )
    if isinstance(model, functools.partial):
        return functools.partial(model.func, *made[0], **made[1])
    if nnx is not None and isinstance(model, nnx.Module):
        nnx.update(model, made)
        return model
    return unbound.bind(made)
